"""Several images in one request: each answer is that of the image alone, an error stands in the place of its image."""

import json
import socket

import pytest

from tests.http import client
from tests.http.client import encoded, form, ok, post_json, problem
from tests.http.scenes import SIZE_HW, png
from tests.support.images import noise
from tests.support.processes import HOST
from tests.support.waiting import wait_for

IMAGES = (png(), noise(), noise(120, 90, "JPEG"), noise(33, 77, "WEBP"))
LINES = {"Accept": "application/x-ndjson"}


def post_form(function, images, query="", headers=()):
    return client.post_form(function, *(("image", "photo", image) for image in images), query=query, headers=headers)


def alone(function, images, query=""):
    return [ok(function.post(image, query)) for image in images]


@pytest.mark.parametrize("query", ["", "?mask=png&threshold=0.8", "?format=coco"])
def test_answers_are_those_of_each_image_in_order(function, query):
    expected = alone(function, IMAGES, query)
    assert ok(post_form(function, IMAGES, query)) == expected
    assert ok(post_json(function, {"image": [encoded(image) for image in IMAGES]}, query)) == expected
    answer = post_form(function, IMAGES, query, LINES)
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line) for line in answer.body.splitlines()] == expected


def test_one_image_in_a_list_or_as_lines(function):
    expected = alone(function, IMAGES[:1])
    assert ok(post_json(function, {"image": [encoded(IMAGES[0])]})) == expected
    assert ok(post_form(function, IMAGES[:1])) == expected[0]
    lines = function.post(IMAGES[0], headers=LINES).body.splitlines()
    assert [json.loads(line) for line in lines] == expected


def test_more_images_than_are_worked_on_at_once(function):
    images = [IMAGES[place % len(IMAGES)] for place in range(16)]
    assert ok(post_form(function, images)) == alone(function, IMAGES) * 4


@pytest.mark.parametrize("headers", [(), LINES])
def test_a_bad_image_is_a_problem_in_its_place(function, headers):
    images = [IMAGES[0], IMAGES[1][:200], b"\0" * 100, IMAGES[2]]
    answer = post_form(function, images, headers={"X-Request-Id": "several", **dict(headers)})
    assert answer.status == 200
    found = [json.loads(line) for line in answer.body.splitlines()] if headers else answer.json()
    assert [found[0], found[3]] == alone(function, [IMAGES[0], IMAGES[2]])
    for place, status in ((1, 400), (2, 415)):
        expected = function.post(images[place], headers={"X-Request-Id": "several"})
        assert expected.status == status
        assert found[place] == expected.json()


@pytest.mark.parametrize(
    ("images", "status", "detail"),
    [
        (17 * IMAGES[1:2], 413, "a request must have at most 16 images, got 17"),
        ((), 400, "image must be an image, or a list of at least one, got []"),
    ],
)
def test_too_many_and_none(function, images, status, detail):
    assert problem(post_json(function, {"image": [encoded(image) for image in images]}), status) == detail


def test_what_concerns_the_whole_request_is_an_error_of_it(function):
    assert "threshold must be" in problem(post_form(function, IMAGES, "?threshold=2"), 400)
    assert "classes must be labels" in problem(post_form(function, IMAGES, "?classes=nobody"), 400)
    given = [encoded(IMAGES[0]), "no base64!"]
    assert "image must be base64" in problem(post_json(function, {"image": given}), 400)
    assert "image must be base64" in problem(post_json(function, {"image": [{}]}), 400)
    assert "got an empty one" in problem(post_json(function, {"image": [encoded(IMAGES[0]), ""]}), 400)


def test_a_client_that_goes_away_leaves_nothing_behind(function):
    body = form(*(("image", "photo", image) for image in IMAGES * 4))
    head = (
        f"POST / HTTP/1.1\r\nHost: a\r\nAccept: {LINES['Accept']}\r\nX-Request-Id: gone\r\nContent-Type: {client.FORM}"
    )
    with socket.create_connection((HOST, function.port)) as connection:
        connection.sendall(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
    wait_for(lambda: lines_of(function, "gone"))
    assert ok(post_form(function, IMAGES * 4)) == alone(function, IMAGES) * 4


def lines_of(function, request_id):
    return [line for line in function.log_lines() if line.get("request_id") == request_id]


@pytest.mark.parametrize("headers", [{}, LINES])
def test_the_log_and_the_headers_have_sums(function, headers):
    request_id = f"sums-{len(headers)}"
    images = (IMAGES[0], b"nothing", IMAGES[0])
    answer = post_form(function, images, headers={"X-Request-Id": request_id, **headers})
    wait_for(lambda: lines_of(function, request_id))  # written once the client has all
    (line,) = lines_of(function, request_id)
    assert (line["status"], line["images"], line["images_failed"]) == (200, 3, 1)
    assert line["bytes_down"] == int(answer.headers.get("content-length", len(answer.body)))
    assert line["model_bytes_up"] > 2 * SIZE_HW[0] * SIZE_HW[1] * 3
    assert "none of them" in line["detail"]
    assert set(line["stages_ms"]) == {"decode", "mold", "predict", "unmold", "encode"}
    bytes_told = f"up={line['model_bytes_up']}, down={line['model_bytes_down']}"
    assert answer.headers.get("x-model-bytes") == (None if headers else bytes_told)
