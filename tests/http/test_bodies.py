"""Bodies as clients send them: taken where it is clear what they are, else named with the header that they need."""

import base64
import json

import pytest

from tests.http import bodies
from tests.http.client import BOUNDARY, FORM, PNG, encoded, form, ok, post_form, post_json, problem
from tests.support.images import noise

JPEG = noise(kind="JPEG")
OTHER_TYPES = ("application/x-www-form-urlencoded", "text/plain", "image/jpeg", "application/octet-stream", "")
A_FORM = f"got a form: its Content-Type must be 'multipart/form-data; boundary={BOUNDARY}'"
A_JSON = "got JSON: its Content-Type must be 'application/json'"
A_JPEG = "got a JPEG: its Content-Type must be 'image/jpeg'"
A_TEXT = "got base64 text: send it as 'image' in application/json, or send the bytes that it stands for"


def whole_form():
    return form(("image", "a.png", PNG), ("threshold", None, b"0.5"))


def as_json(data=JPEG):
    return json.dumps({"image": encoded(data), "threshold": 0.5}).encode()


@pytest.mark.parametrize("content_type", [*OTHER_TYPES, "application/json"])
@pytest.mark.parametrize("before", [b"", b"\r\n"])
def test_a_form_under_another_type(function, content_type, before):
    told = problem(function.post(before + whole_form(), content_type=content_type), 415)
    assert A_FORM in told
    assert content_type in told


def test_a_form_under_another_boundary(function):
    for parts in (whole_form(), form(("image", "a.png", noise(900, 900)))):
        told = problem(function.post(parts, content_type="multipart/form-data; boundary=X-other"), 400)
        assert "of its Content-Type, 'X-other', got 'a-boundary'" in told
        assert f"must be 'multipart/form-data; boundary={BOUNDARY}'" in told
    told = problem(function.post(whole_form(), content_type="multipart/form-data"), 400)
    assert f"boundary in Content-Type, got none; it must be 'multipart/form-data; boundary={BOUNDARY}'" in told


@pytest.mark.parametrize("content_type", OTHER_TYPES)
@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b"\n "])
def test_json_under_another_type(function, content_type, before):
    assert A_JSON in problem(function.post(before + as_json(), content_type=content_type), 415)


@pytest.mark.parametrize("content_type", ["application/json", FORM])
def test_an_image_under_the_type_of_another_form(function, content_type):
    assert A_JPEG in problem(function.post(JPEG, content_type=content_type), 415)
    for kind in ("PNG", "WEBP", "GIF"):
        told = problem(function.post(noise(kind=kind), content_type=content_type), 415)
        assert f"its Content-Type must be 'image/{kind.lower()}'" in told
    if content_type == FORM:
        assert A_JSON in problem(function.post(as_json(), content_type=content_type), 415)


@pytest.mark.parametrize("content_type", [*OTHER_TYPES, "application/json", FORM])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_base64_as_a_body(function, content_type, kind):
    data = noise(kind=kind)
    for text in (base64.b64encode(data), base64.encodebytes(data), base64.urlsafe_b64encode(data).rstrip(b"=")):
        assert A_TEXT in problem(function.post(text, content_type=content_type), 415)
    told = problem(function.post(b"data:image/png;base64," + base64.b64encode(data), content_type=content_type), 415)
    assert "got a data: URL: send it as 'image' in application/json" in told


def test_a_url_encoded_form(function):
    for text in (b"image=%2F9j%2F4AAQSkZJRg%3D%3D", b"threshold=0.5&image=" + base64.b64encode(JPEG)):
        told = problem(function.post(text, content_type="application/x-www-form-urlencoded"), 415)
        assert "got a URL-encoded form: send it as 'multipart/form-data', with the image as a file" in told


@pytest.mark.parametrize("text", [b"hello", b"[]", b"name", b"-- no boundary\n", b"abcdefghijklmnopqrst", b"{}"])
def test_other_text_is_no_image(function, text):
    assert "none of them" in problem(function.post(text), 415)


@pytest.mark.parametrize("size", [(64, 64), (600, 500)])
@pytest.mark.parametrize(
    "headers", [b"", b"\r\nContent-Type: application/octet-stream", b"\r\nContent-Type: image/png"]
)
def test_a_part_without_a_filename_is_the_image_at_any_size(function, size, headers):
    data = noise(*size)
    assert (len(data) > 500_000) == (size != (64, 64))
    body = bodies.form(
        (b'content-disposition: form-data; name="image"' + headers, data), bodies.field(b"mask", b"none")
    )
    answer = ok(function.post(body, content_type=bodies.FORM))
    assert answer["image"] == {"width": size[0], "height": size[1]}
    assert {one["mask"] for one in answer["instances"]} == {None}


def test_base64_in_a_part_is_named(function):
    assert A_TEXT.removeprefix("got ") in problem(post_form(function, ("image", None, encoded().encode())), 415)


def test_text_beside_the_image_is_limited(function):
    much = ("classes", None, b"circle," * 80_000)
    assert "500000 bytes of text" in problem(post_form(function, ("image", "a.png", PNG), much), 413)


def variants(data):
    text = base64.b64encode(data).decode()
    yield text.rstrip("=")
    yield base64.urlsafe_b64encode(data).decode()
    yield base64.urlsafe_b64encode(data).decode().rstrip("=")
    yield f"data:image/png;base64,{text}".rstrip("=")
    yield "\r\n ".join(text[at : at + 76] for at in range(0, len(text), 76))
    yield f" {text}\n"


@pytest.mark.parametrize("width", [64, 65, 66])
def test_base64_without_padding_or_of_the_other_alphabet(function, width):
    data = noise(width, 60) + bytes(width % 3)  # of each remainder by three; what follows a PNG does not count
    expected = ok(function.post(data))
    for text in variants(data):
        assert ok(post_json(function, {"image": text})) == expected


def test_a_lost_plus_is_named(function):
    text = base64.b64encode(PNG).decode()
    assert text.count("+") > 100
    for sent in (text.replace("+", " "), f"data:image/png;base64,{text.replace('+', ' ')}", text.replace("+", " ", 1)):
        told = problem(post_json(function, {"image": sent}), 400)
        lost = text.count("+") if sent.count(" ") > 1 else 1
        assert f"with spaces inside ({lost}): a form or a URL makes one of each +, so send + as %2B" in told


def test_a_wrong_character_is_named_with_its_place(function):
    text = encoded()
    told = problem(post_json(function, {"image": text[:5000] + "*" + text[5001:]}), 400)
    assert "with '*' as character 5000 of the base64" in told
