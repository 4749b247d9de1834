import base64
import email
import functools
import http.client
import io
import json
import warnings

import numpy as np
import pytest
from PIL import Image, ImageOps, ImageSequence

from tests.http.bombs import FLOODS, flood
from tests.http.corpus import samples
from tests.http.mutations import hostile
from tests.http.request import MAX_PIXELS, readings

CORPUS = samples()


@functools.cache
def hostile_400():
    return tuple(hostile(400, seed=1))


def displayed(data):
    """Return the first frame, turned and laid over white, as uint8 [H, W, 3]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # damaged EXIF is reported, but does not matter
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP")) as image:
            image.load()
            if image.mode == "I;16":
                deep = np.asarray(image)
                grey = np.where(deep == image.info.get("transparency"), 255, deep >> 8)
                return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)
            layer = ImageOps.exif_transpose(image).convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB"))


def decodes(data):
    return any(map(decodes_as_it_is, readings(data)))


def decodes_as_it_is(data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP")) as image:
                return image.width * image.height <= MAX_PIXELS and np.asarray(image).size > 0
        except Exception:  # noqa: BLE001 - whatever Pillow raises, it is no image
            return False


@pytest.mark.parametrize("sample", CORPUS, ids=lambda sample: sample.name)
def test_a_sample_is_one_black_block_on_white(sample):
    pixels = displayed(sample.data)
    assert pixels.shape == (*sample.displayed_hw, 3)
    y1, x1, y2, x2 = sample.dark
    assert 0 <= y1 < y2 <= pixels.shape[0]
    assert 0 <= x1 < x2 <= pixels.shape[1]
    inside = np.zeros(sample.displayed_hw, bool)
    inside[y1:y2, x1:x2] = True
    assert pixels[inside].mean() < 60
    assert inside.all() or pixels[~inside].mean() > 200
    expected = np.where(inside, 0, 255)[..., None]
    assert (abs(pixels - expected) > 60).mean() < 0.01


def test_the_corpus_is_the_same_every_time_and_its_names_are_unique():
    assert samples() == CORPUS
    assert len({sample.name for sample in CORPUS}) == len(CORPUS)


def test_the_block_meets_none_of_its_turns_and_flips():
    (sample,) = (sample for sample in CORPUS if sample.name == "PNG RGB")
    dark = displayed(sample.data)[..., 0] < 128
    for turned in (dark[:, ::-1], dark[::-1], dark[::-1, ::-1]):
        assert not (dark & turned).any()
    assert dark.shape[0] != dark.shape[1]


def test_jpegs_store_what_their_names_say():
    by_name = {sample.name: sample.data for sample in CORPUS}
    assert Image.open(io.BytesIO(by_name["JPEG YCCK"])).info["adobe_transform"] == 2
    assert Image.open(io.BytesIO(by_name["JPEG CMYK, black ink"])).info["adobe_transform"] == 0
    assert len(list(ImageSequence.Iterator(Image.open(io.BytesIO(by_name["JPEG MPO"]))))) == 2
    assert Image.open(io.BytesIO(by_name["JPEG progressive"])).info["progressive"] == 1
    assert b"\xff\xdd\0\x04\0\x03" in by_name["JPEG restart markers"]
    for name, sampling in (("4:2:0", 0x22), ("4:2:2", 0x21), ("4:4:4", 0x11)):
        data = by_name[f"JPEG {name}"]
        assert data[data.index(b"\xff\xc0") + 11] == sampling


def test_hostile_requests_follow_from_the_seed():
    assert tuple(hostile(400, seed=1)) == hostile_400()
    assert tuple(hostile(150, seed=1)) == hostile_400()[:150]
    assert tuple(hostile(400, seed=2)) != hostile_400()


def test_four_hundred_requests_are_of_many_kinds_and_seldom_floods():
    kinds = [request.kind for request in hostile_400()]
    assert len(set(kinds)) > 90
    assert {kind.split(":")[0] for kind in kinds} == {
        *("image", "bomb", "flood", "no image", "json", "multipart", "query", "header")
    }
    assert sum(kind.startswith("flood:") for kind in kinds) == 2
    assert max(len(request.body) for request in hostile_400()) <= 3_000_000


def test_images_are_harmless_where_they_decode():
    of_images = [request for request in hostile_400() if request.kind.split(":")[0] in {"image", "no image", "bomb"}]
    wrong = {request.kind for request in of_images if decodes(request.body) and not request.harmless}
    assert wrong == set()
    damaged = [request for request in of_images if request.kind.startswith("image:")]
    assert {request.kind for request in damaged if request.harmless and not decodes(request.body)} == set()
    assert 0.2 < np.mean([request.harmless for request in damaged]) < 0.6


@pytest.mark.campaign
def test_every_flood_is_small_enough_and_harmless_where_it_decodes():
    for name in FLOODS:
        request = flood(name)
        assert len(request.body) <= 3_000_000, name
        assert decodes(request.body) == request.harmless, name


def carried(request):
    """Return the image in a request whose options alone are wrong."""
    if request.content_type.startswith("application/json"):
        start = request.body.index(b'"image": "') + 10
        return base64.b64decode(request.body[start : request.body.index(b'"', start)], validate=True)
    if request.content_type.startswith("multipart/"):
        head = f"Content-Type: {request.content_type}\r\n\r\n".encode()
        (image,) = [part for part in email.message_from_bytes(head + request.body).walk() if part.get_filename()]
        return image.get_payload(decode=True)
    return request.body


def test_the_option_is_the_only_fault():
    kinds = {"query: option", "query: as such", "query: read by some", "json: option", "json: members"}
    kinds |= {"multipart: option", "multipart: option twice or not text", "header: others"}
    chosen = [request for request in hostile_400() if request.kind in kinds]
    assert {request.kind for request in chosen} == kinds
    for request in chosen:
        assert decodes(carried(request)), request.kind


def test_json_that_is_broken_does_not_parse():
    broken = [
        request
        for request in hostile_400()
        if request.kind in {"json: broken", "json: truncated", "json: invalid UTF-8"}
    ]
    assert broken
    for request in broken:
        with pytest.raises(ValueError, match=r"."):
            json.loads(request.body.decode())


class Wire(io.BytesIO):
    """Takes what a connection sends."""

    sendall = io.BytesIO.write


def test_http_client_sends_each_and_gunicorn_would_read_it():
    for request in hostile_400():
        connection = http.client.HTTPConnection("localhost")
        connection.sock = wire = Wire()
        headers = {"Content-Type": request.content_type, **dict(request.headers)}
        connection.request("POST", f"/?{request.query}" if request.query else "/", request.body, headers)
        head, _, body = wire.getvalue().partition(b"\r\n\r\n")
        line, *fields = head.split(b"\r\n")
        assert body == request.body, request.kind
        assert len(line) <= 4094, request.kind
        assert len(fields) <= 100, request.kind
        assert max(map(len, fields)) <= 8190, request.kind
        assert len({name for name, _ in request.headers}) == len(request.headers)
