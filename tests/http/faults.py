"""Hostile options, headers and content types, each with a sound image so that nothing else is at fault."""

from urllib.parse import quote

from tests.http.bodies import FORM, JSON, field, file, form, form_with, json_with
from tests.http.request import Hostile, photo

NO_SHARE = ("", "abc", "nan", "NaN", "inf", "-inf", "1e400", "-0.1", "1.0001", "0,5", "0.5.5", "[0.5]", "0x1", "true")
TEXT = {  # option: values that are refused as text
    "threshold": (*NO_SHARE, "9" * 2000, "0.5\0", "\0"),
    "mask_threshold": (*NO_SHARE, "0." * 1000, "½"),
    "max_instances": ("", "0", "-1", "1001", "1.5", "nan", "inf", "abc", "9" * 3000, "1e400", "\0", "null", "1,2"),
    "classes": (
        "",
        ",",
        "[",
        "[[]]",
        '["circle"',
        "no such label",
        "999999999",
        "-1",
        "x" * 3000,
        "[null]",
        "[true]",
        "\0",
    ),
    "mask": ("", "RLE", "bitmap", "rle,none", "x" * 3000, "\0", "null", '"rle"', "☃"),
    "format": ("", "COCO", "yolo", "../coco", "x" * 3000, "\0", "null", "<script>alert(1)</script>"),
    "colour": ("1",),
    "Threshold": ("0.5",),
    "threshold[]": ("0.5",),
    "image": ("x", "http://127.0.0.1:8500/"),
    "url": ("http://169.254.169.254/latest/meta-data/",),
    "": ("1",),
    "\0": ("1",),
    "x" * 2000: ("1",),
    "../../etc/passwd": ("1",),
    "__class__": ("1",),
}
NO_SHARE_JSON = (
    '"abc"',
    '""',
    "[]",
    "{}",
    "true",
    "-0.1",
    "1.1",
    "2",
    "1e400",
    "-1e400",
    "9" * 5000,
    "[0.5]",
    '"\\ud800"',
)
VALUES = {  # option: values that are refused as JSON
    "threshold": NO_SHARE_JSON,
    "mask_threshold": NO_SHARE_JSON,
    "max_instances": ('"abc"', "[]", "{}", "true", "0", "-1", "1001", "1.5", "1e400", "9" * 5000, "-" + "9" * 5000),
    "classes": ("{}", "true", "[[]]", "[null]", "[true]", "[1.5]", "[{}]", '""', '[""]', '"no such label"', "[999999]"),
    "mask": ("1", "[]", "{}", "true", '""', '"RLE"', '"bitmap"', '"\\ud800"', '["rle"]', '"rle\\u0000"'),
    "format": ("1", "[]", "{}", "true", '""', '"yolo"', '"\\udfff"', '["coco"]'),
    "colour": ("1", "null"),
    "Threshold": ("0.5",),
    "": ("1",),
    "\\ud800": ("1",),
    "\\u0000": ("1",),
    "__proto__": ("{}",),
}
QUERIES = (
    "threshold",
    "threshold=0.5%",
    "threshold=%zz",
    "threshold=0.5;mask=none",
    "threshold%20=0.5",
    "threshold=.1&threshold=.1",
    "threshold=.1&%74hreshold=.1",
    "mask=rle&format=instances&mask=none",
    "mask=%ff%fe",
    "mask=%c3(",
    "mask=%ed%a0%80",
    "classes=%ff",
    "format=%00",
    "%ff=1",
    "=",
    "&".join(["a=1"] * 800),
    "&".join(f"{index}=1" for index in range(400)),
    "classes=" + "circle," * 400 + "no such label".replace(" ", "%20"),
    "classes=" + "[" * 3000,
)
LENIENT = ("threshold=0_1", "threshold=%EF%BC%91", "threshold=%D9%A0", "threshold=+.5", "max_instances=%D9%A3", "&&&")
MEMBERS = (
    b'"threshold": NaN',
    b'"threshold": Infinity',
    b'"mask_threshold": -Infinity',
    b'"max_instances": NaN',
    b'"threshold": 0.1, "threshold": 0.1',
    b'"mask": "rle", "\\u006dask": "none"',
    b'"image": "x"',
    b'"threshold": .5',
    b'"threshold": 00.5',
    b'"format": "coco", "image_id": [1]',
    b'"format": "coco", "image_id": {}',
)
CONTENT_TYPES = (  # with an image as the body
    "",
    "image",
    "image/",
    "/png",
    ";;;",
    "image/png; charset=",
    "image/png; charset=utf-16; charset=\xfc",
    'image/png; name="unclosed',
    "image/png; a=b" * 100,
    "image/x-" + "x" * 7000,
    "text/plain",
    "text/html; charset=no-such-charset",
    "image/svg+xml",
    "multipart/mixed; boundary=x",
    "application/x-www-form-urlencoded",
    "IMAGE/PNG, application/json",
)
HEADERS = (
    [(f"X-Header-{index}", "x" * 40) for index in range(85)],
    [("X-Long", "x" * 7000)],
    [("Cookie", "a=b; " * 1000)],
    [("X-Request-Id", "x" * 5000)],
    [("X-Request-Id", "<script>alert(1)</script>")],
    [("X-Request-Id", "\xff\xfe\xe9")],
    [("X-Request-Id", "")],
    [("Accept", "application/xml;q=nan, */*;q=1e400, ;;;")],
    [("Accept-Encoding", "gzip;q=abc, *;q=0, br;q=9999")],
    [("Accept-Encoding", "gzip, " * 1000)],
    [("Origin", "null"), ("Referer", "javascript:alert(1)")],
    [("Origin", "https://" + "x" * 5000)],
    [("Authorization", "Bearer " + "x" * 5000)],
    [("Authorization", "Basic \xff==")],
    [("X-Api-Key", "\xe9" * 100)],
    [("Range", "bytes=0-0"), ("If-Match", '"x"'), ("If-Modified-Since", "never")],
    [("X-Forwarded-For", "1.2.3.4, " * 500)],
    [("traceparent", "00-" + "z" * 300), ("X-Cloud-Trace-Context", "/;o=")],
    [("Content-Language", "x" * 5000), ("Content-Location", "http://["), ("Content-MD5", "x")],
)


def _pair(rng, options):
    name = rng.choice(list(options))
    return name, rng.choice(options[name])


def _query(rng):
    name, text = _pair(rng, TEXT)
    query = f"{quote(name, safe='')}={quote(text, safe='')}"
    return Hostile("query: option", photo(rng), "image/png", query)


def _raw_query(rng):
    return Hostile("query: as such", photo(rng), "image/png", rng.choice(QUERIES))


def _lenient_query(rng):
    return Hostile("query: read by some", photo(rng), "image/png", rng.choice(LENIENT), harmless=True)


def _json_value(rng):
    name, text = _pair(rng, VALUES)
    return Hostile("json: option", *json_with(photo(rng), f'"{name}": {text}'.encode()))


def _json_members(rng):
    return Hostile("json: members", *json_with(photo(rng), rng.choice(MEMBERS)))


def _form_field(rng):
    options = {name: texts for name, texts in TEXT.items() if name != "image"}  # a second image has its own answer
    name, text = _pair(rng, options)
    return Hostile("multipart: option", *form_with(photo(rng), field(name.encode(), text.encode())))


def _form_twice(rng):
    half = field(b"threshold", b"0.5")
    body, query = rng.choice([((half, half), ""), ((half,), "threshold=0.5"), ((field(b"mask", b"\xff\xfe"),), "")])
    return Hostile("multipart: option twice or not text", form(*body, file(photo(rng))), FORM, query)


def _content_type(rng):
    return Hostile("header: Content-Type", photo(rng), rng.choice(CONTENT_TYPES), harmless=True)


def _json_type(rng):
    types = (
        JSON + "; charset=utf-16",
        JSON + "; charset=no-such",
        JSON + ";;;",
        "application/problem+json",
        "text/json",
    )
    body, content_type = json_with(photo(rng))[0], rng.choice((*types, "APPLICATION/JSON", JSON + "; x=" + "y" * 7000))
    return Hostile("header: Content-Type of JSON", body, content_type, harmless=True)


def _image_as_json(rng):
    return Hostile("json: an image without JSON", photo(rng), rng.choice((JSON, "Application/JSON;charset=latin-1")))


def _headers(rng):
    return Hostile("header: others", photo(rng), "image/png", "", tuple(rng.choice(HEADERS)), harmless=True)


def _headers_without_image(rng):
    return Hostile("header: others, no image", b"text", "image/png", "", tuple(rng.choice(HEADERS)))


BUILDERS = [
    *[_query] * 4,
    *[_raw_query] * 2,
    _lenient_query,
    *[_json_value] * 4,
    *[_json_members] * 2,
    *[_form_field] * 4,
    _form_twice,
    _content_type,
    _json_type,
    _image_as_json,
    *[_headers] * 2,
    _headers_without_image,
]
