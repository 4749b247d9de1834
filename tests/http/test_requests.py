"""Every form of request and every option, with the answer in its plain format."""

import base64
import gzip
import http.client
import io
import json
import re
import socket
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from tests.http.client import PNG, encoded, form, ok, post_form, post_json, problem
from tests.http.scenes import OBJECTS, SIZE_HW
from tests.http.service import MODEL

LABELS = {1: "circle", 2: "square", 3: "ring"}


def test_the_plain_answer(function):
    answer = function.post(PNG)
    body = ok(answer)
    assert list(body) == ["image", "model", "instances"]
    assert body["image"] == {"width": 400, "height": 300}
    assert body["model"] == MODEL
    assert [set(one) for one in body["instances"]] == 7 * [{"class_id", "label", "score", "area", "box", "mask"}]
    for one, (box, class_id, score, _) in zip(body["instances"], OBJECTS, strict=True):
        y1, x1, y2, x2 = np.clip(box, 0, [*SIZE_HW, *SIZE_HW]).tolist()
        assert one["box"] == {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1}
        assert (one["class_id"], one["label"], one["score"]) == (class_id, LABELS[class_id], score)
    assert re.fullmatch(r"up=\d{3,}, down=\d{3,}", answer.headers["x-model-bytes"])
    stages = re.findall(r"(\w+);dur=\d+\.\d+", answer.headers["server-timing"])
    assert stages == ["decode", "mold", "predict", "unmold", "encode"]
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("kind", ["image/png", "image/jpeg", "application/octet-stream", "text/plain", "a/b; c=d"])
def test_the_declared_type_of_a_raw_body_does_not_matter(function, kind):
    assert len(ok(function.post(PNG, content_type=kind))["instances"]) == 7


def test_all_forms_give_the_same_answer(function):
    plain = ok(function.post(PNG, "?threshold=0.78&classes=square"))
    assert len(plain["instances"]) == 2
    options = [("threshold", None, b"0.78"), ("classes", None, b"square")]
    assert ok(post_form(function, ("image", "a.png", PNG), *options)) == plain
    assert ok(post_form(function, options[1], ("image", "a.png", PNG), query="?threshold=0.78")) == plain
    for image in (encoded(), f"data:image/png;base64,{encoded()}", base64.encodebytes(PNG).decode()):
        assert ok(post_json(function, {"image": image, "threshold": 0.78, "classes": ["square"]})) == plain
    assert ok(post_json(function, {"image": encoded(), "classes": "square"}, "?threshold=0.78")) == plain


def test_any_path_takes_an_image(function):
    assert function.ask("POST", "/v1/segment/anything?max_instances=1", PNG).status == 200


@pytest.mark.parametrize(
    ("options", "scores"),
    [
        ({"threshold": 0.85}, [0.95, 0.9, 0.85]),
        ({"threshold": 1}, []),
        ({"max_instances": 2}, [0.95, 0.9]),
        ({"max_instances": 1000}, [0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6]),
        ({"classes": "ring"}, [0.9]),
        ({"classes": "ring, 1"}, [0.95, 0.9, 0.75, 0.6]),
        ({"classes": ["ring", 1]}, [0.95, 0.9, 0.75, 0.6]),
        ({"classes": [2], "max_instances": 1}, [0.85]),
        ({"classes": 3}, [0.9]),
        ({"classes": [3.0]}, [0.9]),
    ],
)
def test_options_select(function, options, scores):
    text = {name: value if isinstance(value, str) else json.dumps(value) for name, value in options.items()}
    query = "&".join(f"{name}={value}" for name, value in text.items()).replace(" ", "%20").replace('"', "%22")
    typed = ok(post_json(function, {"image": encoded(), **options}))
    assert [one["score"] for one in typed["instances"]] == scores
    assert ok(function.post(PNG, f"?{query}")) == typed


@pytest.mark.scripted
def test_no_instances_is_an_answer(function):
    function.backend.outputs["mrcnn_detection"][:] = 0
    for form_ in ("instances", "coco", "cvat", "roboflow"):
        body = ok(function.post(PNG, f"?format={form_}"))
        assert (body if isinstance(body, list) else body.get("instances", body.get("predictions"))) == []


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("colour", 1, "mask_threshold, format, image_id, got 'colour'"),
        ("threshold", 1.01, "threshold must be a number in 0..1, got"),
        ("threshold", -0.1, "threshold must be a number in 0..1, got"),
        ("threshold", "much", "got 'much'"),
        ("threshold", "", "got ''"),
        ("mask_threshold", 2, "mask_threshold must be a number in 0..1"),
        ("max_instances", 0, "max_instances must be a whole number in 1..1000"),
        ("max_instances", 1001, "in 1..1000, got"),
        ("max_instances", 2.5, "in 1..1000, got"),
        ("image_id", -1, "image_id must be a whole number in 0..9007199254740991"),
        ("classes", "dog", "circle, square, ring"),
        ("classes", "4", "ids in 1..3, got '4'"),
        ("classes", ["circle", 0], "classes must be labels or ids"),
        ("classes", [], "classes must be labels or ids"),
        ("classes", "circle,,ring", "classes must be labels or ids"),
        ("mask", "bitmap", "mask must be one of rle, polygon, png, float32, none, got 'bitmap'"),
        ("format", "pascal", "format must be one of instances, coco, cvat, roboflow, got 'pascal'"),
    ],
)
def test_bad_options_are_named_with_what_is_allowed(function, name, value, named):
    text = value if isinstance(value, str) else json.dumps(value).replace('"', "%22").replace(" ", "%20")
    assert named in problem(function.post(PNG, f"?{name}={text}"), 400)
    assert named in problem(post_json(function, {"image": encoded(), name: value}), 400)
    field = value if isinstance(value, str) else json.dumps(value)
    assert named in problem(post_form(function, ("image", "a.png", PNG), (name, None, field.encode())), 400)


def test_json_may_start_with_a_mark_of_its_encoding(function):
    text = json.dumps({"image": encoded(), "max_instances": 1})
    for body in (b"\xef\xbb\xbf" + text.encode(), text.encode("utf-16")):
        assert len(ok(function.post(body, content_type="application/json"))["instances"]) == 1


@pytest.mark.parametrize("value", ["nan", "inf", "1_0", "0x1", "true", "null", "%D9%A3"])
def test_numbers_are_plain(function, value):
    assert f"got '{unquote(value)}'" in problem(function.post(PNG, f"?threshold={value}"), 400)


@pytest.mark.parametrize("value", [".8", "0.8", "8e-1", "%2B0.80"])
def test_numbers_may_be_written_in_any_usual_way(function, value):
    assert len(ok(function.post(PNG, f"?threshold={value}&max_instances=1e3"))["instances"]) == 4


@pytest.mark.parametrize(("name", "value"), [("threshold", "0.5"), ("max_instances", True), ("max_instances", None)])
def test_json_has_types(function, name, value):
    assert f"option {name} must be" in problem(post_json(function, {"image": encoded(), name: value}), 400)


def test_options_are_given_once(function):
    again = "option threshold must be given once, got it again as"
    assert again in problem(function.post(PNG, "?threshold=.1&threshold=.2"), 400)
    twice = [("threshold", None, b"0.1"), ("image", "a.png", PNG)]
    assert again in problem(post_form(function, *twice, query="?threshold=.2"), 400)
    assert again in problem(post_json(function, {"image": encoded(), "threshold": 0.1}, "?threshold=.1"), 400)
    doubled = b'{"image": "%s", "threshold": 0.1, "threshold": 0.1}' % encoded().encode()
    assert again in problem(function.post(doubled, content_type="application/json"), 400)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "character 0"),
        (b"{", "character 1"),
        (b"[]", "must be an object with 'image'"),
        (b"{}", "'image' once, got it 0 times"),
        (b'{"image": "aGk=", "image": "aGk="}', "'image' once, got it 2 times"),
        (
            b'{"image": null}',
            "image must be base64 (A-Z, a-z, 0-9, + and /, padded with =) or a data: URL with base64, got null",
        ),
        (b'{"image": {"a": 1}}', 'got {"a": 1}'),
        (b'{"image": "' + b"a" * 101 + b'"}', "got 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' ..."),
        (b'{"image": "not base64!"}', "got 'not base64!'"),
        (b'{"image": "abcde"}', "got 'abcde' with 5 characters, which is one too many or too few"),
        (b'{"image": "abc!d"}', "got 'abc!d' with '!' as character 3"),
        (b'{"image": "data:image/png,abc"}', "got 'data:image/png,abc'"),
        (b'{"image": "https://example.com/a.png"}', "base64"),
        (b'{"image": "aGk=", "threshold": NaN}', "must be JSON"),
        (b"\xff\xfe\xfd", "must be JSON"),
        (b"[" * 200_000, "at most 100 lists and objects and 10000 values"),
        (b'{"image": [' + b"1," * 20_000 + b"1]}", "at most 100 lists and objects and 10000 values"),
        (b'{"image": ""}', "no bytes"),
    ],
)
def test_bad_json(function, body, named):
    assert named in problem(function.post(body, content_type="application/json"), 400)


@pytest.mark.parametrize("depth", [1, 50, 98, 99, 300, 500, 900, 990])
def test_json_of_any_depth(function, depth):
    lists, objects = b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth
    for value in (lists, objects):
        for body in (b'{"image": "aGk=", "classes": %s}' % value, b'{"image": %s}' % value):
            assert "got" in problem(function.post(body, content_type="application/json"), 400)


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        ([], "got no file part"),
        ([("picture", "a.png", PNG)], "got 'picture'"),
        ([("image", None, PNG), ("other", "b.png", PNG)], "got 'image', 'other'"),
    ],
)
def test_bad_forms(function, parts, named):
    assert named in problem(post_form(function, *parts), 400)


def test_a_form_without_a_boundary(function):
    assert "boundary" in problem(function.post(form(), content_type="multipart/form-data"), 400)


def test_a_form_of_too_many_parts(function):
    parts = [("threshold", None, b"1")] * 2000
    assert "at most 100 parts" in problem(post_form(function, *parts), 413)


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        (b"", 400, "must carry an image"),
        (b"hello", 415, "jpeg, png, webp, got 5 bytes"),
        (b"GIF89a" + bytes(100), 415, "a GIF"),
        (PNG[:5000], 400, "truncated"),
    ],
)
def test_bad_images(function, body, status, named):
    assert named in problem(function.post(body), status)


def test_a_compressed_body_is_refused_by_name(function):
    answer = function.post(gzip.compress(PNG), headers={"Content-Encoding": "gzip"})
    assert "Content-Encoding, got 'gzip'" in problem(answer, 415)


def test_too_many_pixels_and_too_many_bytes(function):
    bomb = io.BytesIO()
    Image.new("1", (9000, 10000)).save(bomb, "PNG", optimize=True)
    assert len(bomb.getvalue()) < 15_000
    assert "at most 65482752 pixels, got 9000 x 10000" in problem(function.post(bomb.getvalue()), 413)
    assert "at most 20971520 bytes, got 20971521" in problem(function.post(bytes(20 * 2**20 + 1)), 413)


def exchange(function, *sent):
    """Return status and body that a raw connection answers; it sends and then says that it will send no more."""
    with socket.create_connection(("127.0.0.1", function.port), timeout=20) as connection:
        for part in sent:
            connection.sendall(part)
        connection.shutdown(socket.SHUT_WR)
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.status, response.read()


HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"


def chunked(body, size=1000):
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)


def test_a_body_in_chunks(function):
    status, body = exchange(function, HEAD, b"Transfer-Encoding: chunked\r\n\r\n", chunked(PNG), b"0\r\n\r\n")
    assert (status, len(json.loads(body)["instances"])) == (200, 7)


@pytest.mark.parametrize(
    ("header", "body"),
    [
        (b"Content-Length: 1000000\r\n\r\n", PNG[:500]),
        (b"Transfer-Encoding: chunked\r\n\r\n", chunked(PNG)[:5000]),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"nonsense\r\n"),
    ],
)
def test_a_body_that_breaks_off(function, header, body):
    status, told = exchange(function, HEAD, header, body)
    assert status == 400
    assert "got" in json.loads(told)["detail"]
