"""What clients send: scikit-image's photographs as the web and phones upload them, and the options they ask for."""

import functools
import io
import os
import random
from dataclasses import dataclass

import skimage.data
from PIL import Image

from tests.bench import photos

KEY, TOKEN = "SEGMENT_KEY", "SEGMENT_ID_TOKEN"  # environment variables; nothing prints what they hold
QUALITY = 85
ROTATED = 6  # EXIF: the sensor's top is the picture's right side, as phones write when they are held upright
ORIENTATION = 0x0112


@dataclass(frozen=True)
class Photo:
    """An encoded photograph; ``size_wh`` as it is displayed."""

    data: bytes
    kind: str
    size_wh: tuple[int, int]


@dataclass(frozen=True)
class Request:
    """One of the mix: how often it is sent, which photograph, and the masks that it asks for."""

    weight: int
    photo: str
    mask: str

    @property
    def name(self):
        return f"{self.photo}, mask={self.mask}"

    @property
    def path(self):
        return f"/?mask={self.mask}"


# A page draws outlines, an app keeps masks, a gallery counts what its thumbnails hold.
MIX = (
    Request(4, "web", "polygon"),
    Request(2, "web", "rle"),
    Request(2, "phone", "rle"),
    Request(1, "phone, upright", "polygon"),
    Request(2, "thumbnail", "none"),
    Request(1, "scan", "rle"),
)


def choose():
    """Return one of the mix at random, by weight."""
    return random.choices(MIX, [request.weight for request in MIX])[0]


@functools.cache
def photo(name):
    """Return a photograph by its name in the mix."""
    return {
        "web": lambda: Photo(photos.small(), "image/jpeg", photos.SMALL_HW[::-1]),
        "phone": lambda: Photo(photos.phone(), "image/jpeg", photos.PHONE_HW[::-1]),
        "phone, upright": _upright,
        "thumbnail": lambda: _encode(Image.fromarray(skimage.data.chelsea()), "JPEG", quality=QUALITY),
        "scan": lambda: _encode(Image.fromarray(skimage.data.coins()), "PNG"),
    }[name]()


def _upright():
    """Return the phone's photograph stored sideways, to be turned by whoever shows it."""
    exif = Image.Exif()
    exif[ORIENTATION] = ROTATED
    sideways = _encode(Image.open(io.BytesIO(photo("phone").data)), "JPEG", quality=QUALITY, exif=exif)
    return Photo(sideways.data, sideways.kind, sideways.size_wh[::-1])


def _encode(image, kind, **settings):
    body = io.BytesIO()
    image.save(body, kind, **settings)
    return Photo(body.getvalue(), f"image/{kind.lower()}", image.size)


def headers():
    """Return the headers that open the function; ValueError, without the value, where one cannot be a header."""
    found = {}
    for variable, header, before in ((KEY, "X-API-Key", ""), (TOKEN, "Authorization", "Bearer ")):
        value = os.environ.get(variable, "").strip()
        if not (value.isascii() and value.isprintable()):
            raise ValueError(f"{variable} must be one line of printable ASCII, got something else")
        if value:
            found[header] = f"{before}{value}"
    return found
