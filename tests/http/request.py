"""A hostile request, the pictures it starts from, and whether Pillow takes a body for an image."""

import functools
import io
import struct
import warnings
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

from tests.http import raw

FORMATS = ("JPEG", "PNG", "WEBP")
MAX_PIXELS = 9344 * 7008  # what is allowed where nothing is configured
BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
TYPES = ("image/jpeg", "image/png", "image/webp", "application/octet-stream")


@dataclass(frozen=True)
class Hostile:
    """A ``POST /``. ``harmless`` means that 200 is as good an answer as 4xx; all others deserve a 4xx."""

    kind: str
    body: bytes
    content_type: str
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    harmless: bool = False


def readings(data):
    """Return an image as it is, and as lenient readers see it: a PNG without ancillary chunks, a JPEG with an end."""
    if data.startswith(raw.PNG):
        return data, _critical_chunks(data)
    return (data, data + b"\xff\xd9") if data.startswith(b"\xff\xd8") else (data,)


def _critical_chunks(png):
    kept, at = [raw.PNG], len(raw.PNG)
    while at + 8 <= len(png):
        length, name = struct.unpack_from(">I4s", png, at)
        if not name[0] & 0x20:
            kept.append(png[at : at + 12 + length])
        at += 12 + length
    return b"".join(kept)


def valid(data):
    """Return whether Pillow decodes a JPEG, PNG or WebP in one of its readings, at most MAX_PIXELS pixels."""
    return any(map(_decodes, readings(data)))


def _decodes(data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    return False
                image.load()
        except BROKEN:
            return False
    return True


def encode(image, kind, **options):
    """Return the image in the bytes of the format ``kind``."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@functools.cache
def photos():
    """Return {format: [encoded photo-like picture of 96 x 64]}."""
    y, x = np.mgrid[:64, :96]
    scene = np.stack([96 + 80 * np.sin(x / 17), 120 + 70 * np.cos(y / 11), 2 * x + y], axis=-1)
    noise = np.random.default_rng(0).normal(0, 12, scene.shape)
    pixels = (scene + noise).clip(0, 255).astype(np.uint8)
    image, later = Image.fromarray(pixels), Image.fromarray(pixels[::-1].copy())
    rgba = Image.fromarray(np.dstack([pixels, 255 - 2 * x.astype(np.uint8)]))
    exif = b"Exif\0\0" + raw.exif(6)
    return {
        "JPEG": [
            encode(image, "JPEG"),
            encode(image, "JPEG", progressive=True),
            encode(image.convert("L"), "JPEG", exif=exif),
            encode(image.convert("CMYK"), "JPEG", restart_marker_blocks=4),
        ],
        "PNG": [
            encode(image, "PNG"),
            encode(image.convert("L"), "PNG"),
            encode(rgba, "PNG", exif=exif),
            encode(image.convert("P"), "PNG", transparency=3),
            raw.png(pixels, 8, 2, interlaced=True),
        ],
        "WEBP": [
            encode(image, "WEBP"),
            encode(image, "WEBP", lossless=True),
            encode(rgba, "WEBP", exif=exif),
            encode(image, "WEBP", save_all=True, append_images=[later], duration=40),
        ],
    }


def photo(rng):
    """Return one of the photos, whole."""
    return rng.choice(photos()[rng.choice(FORMATS)])
