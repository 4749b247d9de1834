"""Hostile bodies: no image at all, JSON and multipart that are wrong as such; their options are in ``faults``."""

import base64
import binascii
import functools
import gzip
import io
import json
import zipfile

from PIL import Image

from tests.http.request import TYPES, Hostile, encode, photo, photos, valid

JSON = "application/json"
FORM = "multipart/form-data; boundary=frontier"


def in_base64(data):
    """Return the bytes in base64, as bytes."""
    return base64.b64encode(data)


def json_with(data, *members):
    """Return (body, content type) of a JSON request; ``members`` are further members as JSON bytes."""
    return b"{" + b", ".join([b'"image": "%s"' % in_base64(data), *members]) + b"}", JSON


def form(*parts, boundary=b"frontier"):
    """Return a multipart body of (header lines, content) parts."""
    pieces = [b"--%s\r\n%s\r\n\r\n%s\r\n" % (boundary, header, content) for header, content in parts]
    return b"".join(pieces) + b"--%s--\r\n" % boundary


def field(name, text):
    """Return a part that is a form field."""
    return b'Content-Disposition: form-data; name="%s"' % name, text


def file(data, name=b"image", filename=b"photo.png"):
    """Return a part that is a file."""
    disposition = b'Content-Disposition: form-data; name="%s"; filename="%s"' % (name, filename)
    return disposition + b"\r\nContent-Type: image/png", data


def form_with(data, *parts):
    """Return (body, content type) of a multipart request with an image, ``parts`` after it."""
    return form(file(data), *parts), FORM


def _zipped(data):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("photo.png"), data)
    return buffer.getvalue()


def _no_image(rng):
    png, picture = photos()["PNG"][0], Image.new("RGB", (32, 32), "white")
    kind, body = rng.choice(
        [
            ("nothing", b""),
            ("random bytes", rng.randbytes(rng.randint(1, 5000))),
            ("zeros", bytes(rng.randint(1, 5000))),
            ("text", b"an image, honestly\n" * 20),
            ("HTML", b"<!doctype html><title>x</title><img src=x onerror=alert(1)>"),
            ("SVG", b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>'),
            ("PDF", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj<</Type/Catalog>>endobj\n"),
            ("HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + rng.randbytes(500)),
            ("WAV", b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0" + bytes(24)),
            ("Python pickle", b"\x80\x04\x95\x10\0\0\0\0\0\0\0\x8c\x05posix\x8c\x06system\x93."),
            ("PostScript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
            ("base64 of a PNG", in_base64(png)),
            ("gzip of a PNG", gzip.compress(png, mtime=0)),
            ("ZIP of a PNG", _zipped(png)),
            *[(name, encode(picture, name)) for name in ("GIF", "BMP", "TIFF", "ICO", "PPM", "TGA", "JPEG2000")],
        ]
    )
    types = (*TYPES, "text/plain", "image/gif", "application/x-www-form-urlencoded", "application/pdf")
    return Hostile(f"no image: {kind}", body, rng.choice(types))


def _signature(rng):
    found = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8\xff\xd9", b"RIFF\x04\0\0\0WEBP", b"\x89PN")
    body = rng.choice(found) + rng.choice((b"", bytes(50), rng.randbytes(50)))
    return Hostile("no image: a signature", body, rng.choice(TYPES), harmless=valid(body))


def _encoded(rng):
    data = photo(rng)
    body, harmless = rng.choice(
        [(gzip.compress(data, mtime=0), True), (data, True), (gzip.compress(b"text", mtime=0), False), (b"x", False)]
    )
    coding = rng.choice(("gzip", "deflate", "br", "gzip, gzip"))
    return Hostile("header: Content-Encoding", body, "image/png", "", (("Content-Encoding", coding),), harmless)


def _json(kind, *choices):
    """Return the builder of a JSON request; a choice is a body, or a function of a random generator that makes one."""

    def build(rng):
        choice = rng.choice(choices)
        return Hostile(f"json: {kind}", choice(rng) if callable(choice) else choice, JSON)

    return build


def _member(member):
    return lambda rng: json_with(photo(rng), member)[0]


def _image_text(change):
    return lambda rng: b'{"image": "%s"}' % change(in_base64(photo(rng)))


def _nested(opening, closing, depth=100_000):
    return opening * depth, opening * depth + b"1" + closing * depth


def _badly_padded(text):
    text = text.rstrip(b"=")
    return text[: len(text) // 4 * 4 - 3]


def _one_in(wrong, text):
    return text[:101] + wrong + text[101 + len(wrong) :]


def _json_flips(rng):
    whole = bytearray(json_with(photo(rng))[0])
    for _ in range(rng.randint(1, 3)):
        whole[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
    return Hostile("json: bit flips", bytes(whole), JSON, harmless=_readable(bytes(whole)))


def _readable(body):
    """Return whether the lenient find one image and nothing else in the JSON, though its base64 be of another kind."""
    try:
        members = json.loads(body)
        text = "".join(members["image"].split()).replace("-", "+").replace("_", "/")
        return set(members) == {"image"} and valid(base64.b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, TypeError, KeyError, AttributeError, binascii.Error):
        return False


def _json_or_not(rng):
    """Build what some readers take and others refuse."""
    whole, text = json_with(photos()["PNG"][0])[0], in_base64(photos()["PNG"][0])
    body = rng.choice(
        [
            b"\xef\xbb\xbf" + whole,
            whole.decode().encode("utf-16"),
            json_with(photo(rng), b'"threshold": null')[0],
            b'{"image": "data:text/plain;base64,%s"}' % text,
            b'{"image": "data:image/png;charset=utf-8;BASE64,%s"}' % text,
            b'{"image": " %s\\n"}' % text,
            b'{"image": "%s"}' % text.rstrip(b"="),
            b'{"image": ["%s", "%s"]}' % (text, text),
            b'{"image": "%s"}' % base64.urlsafe_b64encode(photos()["PNG"][0]),
        ]
    )
    return Hostile("json: read by some", body, JSON, harmless=True)


def _form(kind, *choices):
    """Return the builder of a multipart request; a choice is a function of the image that returns the parts."""

    def build(rng):
        return Hostile(f"multipart: {kind}", form(*rng.choice(choices)(photo(rng))), FORM)

    return build


def _boundary(rng):
    types = ("multipart/form-data", "multipart/form-data; boundary=", 'multipart/form-data; boundary=""')
    wrong = ("multipart/form-data; boundary=other", f"multipart/form-data; boundary={'frontier' * 800}")
    content_type = rng.choice((*types, *wrong, "multipart/form-data; boundary=frontier-"))
    return Hostile("multipart: boundary", rng.choice((form(file(photo(rng))), photo(rng))), content_type)


def _form_parts(rng):
    """Return an image, a multipart body of it, and the place in the body where it starts."""
    data = photo(rng)
    whole = form(file(data), field(b"threshold", b"0.5")) if rng.random() < 0.5 else form(file(data))
    return data, whole, whole.index(data)


def _form_truncated(rng):
    data, whole, start = _form_parts(rng)
    body = whole[: rng.choice((rng.randrange(len(whole)), len(whole) - rng.randint(1, 120)))]
    return Hostile("multipart: truncated", body, FORM, harmless=valid(body[start : start + len(data)]))


def _form_flips(rng):
    """Build a multipart body with a few bits flipped, in half of the cases none of the image."""
    data, whole, start = _form_parts(rng)
    body = bytearray(whole)
    around = [*range(start), *range(start + len(data), len(whole))]
    places = rng.choice((range(len(whole)), around))
    for _ in range(rng.randint(1, 5)):
        body[rng.choice(places)] ^= 1 << rng.randrange(8)
    kept = bytes(body[start : start + len(data)])
    return Hostile("multipart: bit flips", bytes(body), FORM, harmless=valid(kept))


def _form_or_not(rng):
    data = photo(rng)
    disposition = b'Content-Disposition: form-data; name="image"; filename="x.png"'
    body = rng.choice(
        [
            form(file(data, filename=b"x" * 100_000)),
            form((disposition + b"\r\nX-Long: " + b"x" * 100_000, data)),
            form((disposition + b"\r\nContent-Transfer-Encoding: base64", in_base64(data))),
            form(file(data)).replace(b"\r\n--frontier", b"\n--frontier"),
            form((b"Content-Disposition: attachment; name=image; filename=../../x", data)),
            form(field(b"image", data)),
            form(file(data), file(data)),
            b"a preamble\r\n" + form(file(data)) + b"an epilogue",
        ]
    )
    return Hostile("multipart: read by some", body, FORM, harmless=True)


def _mixed(data):
    inner = form((b'Content-Disposition: file; filename="x.png"\r\nContent-Type: image/png', data), boundary=b"inner")
    yield b'Content-Disposition: form-data; name="image"\r\nContent-Type: multipart/mixed; boundary=inner', inner


BUILDERS = [
    *[_no_image] * 6,
    _signature,
    _encoded,
    _json(
        "broken", b"", b" ", b"{", b'{"image"', b"image", b"{'image': 'x'}", b'{"image": "x",}', b'{"image": "x"} {}'
    ),
    _json("broken", lambda rng: json_with(photo(rng))[0] + b"{}", lambda rng: b"\xff" + json_with(photo(rng))[0]),
    _json("truncated", lambda rng: (whole := json_with(photo(rng))[0])[: rng.randrange(len(whole))]),
    _json("another type on top", b"null", b"true", b"1", b'"text"', b"[]", b'[{"image": "x"}]', b"-0.0", b'["image"]'),
    _json("no image", b"{}", b'{"threshold": 0.5}', b'{"Image": "x"}', b'{"image ": "x"}', b'{"images": []}'),
    _json("image of another type", *[b'{"image": %s}' % it for it in (b"null", b"1", b"true", b"[]", b"{}", b"1e9")]),
    _json("image of another type", lambda rng: b'{"image": ["%s", 1]}' % in_base64(photo(rng)), b'{"image": ""}'),
    _json("images of another type", b'{"image": [{}]}', b'{"image": [[""]]}', b'{"image": [""]}', b'{"image": [null]}'),
    _json("base64", *[_image_text(functools.partial(_one_in, wrong)) for wrong in (b"*", b"=", b"\\u0000")]),
    _json("base64", _image_text(_badly_padded), _image_text(lambda text: text[:300] + "é".encode() + text[300:])),
    _json("base64", b'{"image": "===="}', b'{"image": "A"}', b'{"image": "not base64!"}', b'{"image": "%89PNG"}'),
    _json("data URL", _image_text(lambda text: b"data:image/png;base64" + text), b'{"image": "data:"}'),
    _json("data URL", _image_text(lambda text: b"data:image/png," + text), b'{"image": "data:;base64,"}'),
    _json("URL", b'{"image": "http://127.0.0.1/x.png"}', b'{"image": "file:///etc/passwd"}', b'{"image": "data:,x"}'),
    _json("nested", *_nested(b"[", b"]"), *_nested(b'{"image":', b"}"), *_nested(b'[{"a":', b"}]")),
    _json("nested", *[_member(b'"%s": ' % name + _nested(b"[", b"]")[1]) for name in (b"classes", b"threshold", b"x")]),
    _json("invalid UTF-8", b'{"image": "\xff\xfe"}', _member(b'"mask": "\xc3("'), _member(b'"\xed\xa0\x80": 1')),
    _json("lone surrogates", b'{"image": "\\ud800"}', _image_text(lambda text: text + b"\\udfff"), b'{"\\udc00": 1}'),
    _json_flips,
    _json_or_not,
    _boundary,
    _form("no image", lambda data: [], lambda data: [field(b"threshold", b"0.5")]),
    _form("too many images", lambda data: [file(data)] * 17, lambda data: [file(data)] * 50),
    _form("nested", _mixed),
    _form("thousands of parts", lambda data: [file(data), *[field(b"a", b"")] * 5000], lambda data: [file(b"")] * 5000),
    _form("long part header", lambda data: [file(data, name=b"x" * 100_000)]),
    _form("base64 as a field", lambda data: [field(b"image", in_base64(data))]),
    _form("another file part", lambda data: [file(data), file(data, b"other")], lambda data: [file(data, b"photo")]),
    _form("no name", lambda data: [(b"Content-Type: image/png", data)], lambda data: [(b"X: y", data)]),
    _form("no image in the part", lambda data: [file(b"")], lambda data: [file(b"text")], lambda data: [file(form())]),
    _form_flips,
    _form_truncated,
    _form_or_not,
]
