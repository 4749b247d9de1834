"""The kinds of image, and what the first bytes of a file say that it is."""

from typing import Literal

import msgspec

Kind = Literal["jpeg", "png", "webp", "gif", "bmp", "tiff", "avif", "heic"]  # that IMAGE_KINDS may name


class Content(msgspec.Struct, frozen=True):
    """What a file seems to be, in words for an error. ``kind``: None if no setting can allow it."""

    name: str
    kind: Kind | None = None


HEIC = Content("a HEIC photo, the format of iPhones: send it as JPEG", "heic")
AVIF = Content("an AVIF", "avif")
TIFF = Content("a TIFF", "tiff")
BY_BRAND = {  # of a file in the ISO base media format
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"), HEIC),
    **dict.fromkeys((b"avif", b"avis"), AVIF),
}
BY_START = {
    b"\xff\xd8": Content("a JPEG", "jpeg"),
    b"\x89PNG": Content("a PNG", "png"),
    b"GIF8": Content("a GIF", "gif"),
    b"BM": Content("a BMP", "bmp"),
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), TIFF),
    b"%PDF": Content("a PDF"),
    b"\x1f\x8b": Content("a gzip"),
    b"PK\3\4": Content("a ZIP"),
    b"<": Content("markup such as SVG"),
}


def recognise(data: bytes) -> Content | None:
    """Return what a file seems to be from its first twelve bytes, None for anything unknown."""
    if data[4:8] == b"ftyp":
        return BY_BRAND.get(data[8:12], Content("a film, or a photo in a film format"))
    if data.startswith(b"RIFF"):
        return Content("a WebP", "webp") if data[8:12] == b"WEBP" else Content("a RIFF file such as WAV")
    return next((content for start, content in BY_START.items() if data.startswith(start)), None)
