"""PNG only: leave out the chunks that neither the pixels nor their orientation need.

Pillow reads every chunk, and gives up at a wrong checksum, a field that is too short, or a megabyte of compressed text.
libpng, OpenCV and browsers ignore such a chunk if it is ancillary: if bit 5 of its name's first byte is set. So only
the chunks that matter reach Pillow. Source: Portable Network Graphics (Third Edition), sections 5.4, 11.3 and 13.2.

=============  ======================================================================
critical       kept as they are: IHDR, PLTE, IDAT, IEND, and unknown ones
tRNS, eXIf     kept if the checksum is right; tRNS also needs the length of its kind
tEXt, zTXt     the first that holds EXIF is kept, as ImageMagick writes it
all others     left out, those of animations too: what remains is the first frame
=============  ======================================================================
"""

import struct
import zlib
from collections.abc import Iterator

from handler.errors import BadRequest

START = b"\x89PNG\r\n\x1a\n"
HEAD = struct.Struct(">I4s")  # length and name of a chunk; the content and four bytes of checksum follow
CHECKSUM_BYTES = 4
ANCILLARY = 0x20  # in the first byte of a name
COLOUR_AT = 9  # the colour type in IHDR
TRANSPARENCY_BYTES = {0: range(2, 3), 2: range(6, 7), 3: range(1, 257)}  # of tRNS, by colour type
TEXTS = b"tEXt", b"zTXt"
EXIF_AS_TEXT = b"Raw profile type exif\0"
MAX_TEXT_BYTES = 1 << 18  # of EXIF as text: two digits for each byte of at most 64 KiB, and line breaks
MAX_CHUNKS = 25_000  # 20 MiB in chunks of 1 KiB pass


def keep_needed_chunks(data: bytes) -> bytes:
    """Return a PNG without the chunks that decide nothing. Raises BadRequest if it has more than MAX_CHUNKS.

    A chunk that breaks off stays if it is critical, so that the decoder reports it.
    """
    content, colour, has_text = memoryview(data), -1, False
    kept = [slice(0, len(START))]
    for count, (name, start, end) in enumerate(_chunks(data)):
        if count == MAX_CHUNKS:
            raise BadRequest(f"a PNG must have at most {MAX_CHUNKS} chunks, got more: it is broken or hostile")
        body = content[start + HEAD.size : end - CHECKSUM_BYTES]
        if name == b"IHDR" and len(body) > COLOUR_AT:
            colour = body[COLOUR_AT]
        if name in TEXTS and body[: len(EXIF_AS_TEXT)] == EXIF_AS_TEXT:
            if has_text or not _is_intact(content[start:end]):  # each costs time to unpack
                continue
            has_text = True
        if name[0] & ANCILLARY and not (_is_used(name, body, colour) and _is_intact(content[start:end])):
            continue
        first = kept.pop().start if kept[-1].stop == start else start
        kept.append(slice(first, end))
    return data if kept == [slice(0, len(data))] else b"".join(content[part] for part in kept)


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start and end of each chunk up to IEND. The last one may break off."""
    start, name = len(START), b""
    while len(data) - start >= HEAD.size and name != b"IEND":
        length, name = HEAD.unpack_from(data, start)
        end = min(start + HEAD.size + length + CHECKSUM_BYTES, len(data))
        yield name, start, end
        start = end


def _is_used(name: bytes, body: memoryview, colour: int) -> bool:
    """Return True if an ancillary chunk holds transparency or EXIF."""
    if name == b"tRNS":
        return len(body) in TRANSPARENCY_BYTES.get(colour, ())
    if name in TEXTS and body[: len(EXIF_AS_TEXT)] == EXIF_AS_TEXT:
        return name == b"tEXt" or _is_small(body[len(EXIF_AS_TEXT) + 1 :])
    return name == b"eXIf"


def _is_small(compressed: memoryview) -> bool:
    unpacker = zlib.decompressobj()
    try:
        unpacker.decompress(compressed, MAX_TEXT_BYTES)
    except zlib.error:
        return False
    return not unpacker.unconsumed_tail


def _is_intact(chunk: memoryview) -> bool:
    """Return True if the checksum over name and content is right."""
    return zlib.crc32(chunk[4:-CHECKSUM_BYTES]) == int.from_bytes(chunk[-CHECKSUM_BYTES:])
