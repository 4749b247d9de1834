"""The function with IMAGE_TRANSPORT=jpeg, in front of a stand-in whose graph decodes with TensorFlow."""

import io

import pytest
import skimage.data
from PIL import Image

from tests.http import model, raw, scenes
from tests.http.client import ok, problem
from tests.http.corpus import lenient, samples
from tests.http.mutations import hostile
from tests.support import counts
from tests.support.function import running
from tests.support.processes import StandIn

SAMPLES = [one for one in (*samples(), *lenient()) if one.data.startswith(b"\xff\xd8")]
REQUESTS = counts.pick(100, 6_000)
SECRET = b"52.5200 N 13.4050 E"


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    folder = tmp_path_factory.mktemp("jpeg")
    model.write(folder / scenes.NAME)
    flags = (f"--model_name={scenes.NAME}", f"--model_base_path={folder / scenes.NAME}")
    with StandIn(*flags, log=folder / "stand-in.log") as server:
        yield server


@pytest.fixture(scope="module")
def both(stand_in, tmp_path_factory):
    """Yield two functions: one that sends JPEGs, one that sends int8 alone."""
    settings = {"TF_SERVING_ADDRESS": f"{stand_in.host}:{stand_in.port}", "MODEL_NAME": scenes.NAME}
    with (
        running(tmp_path_factory.mktemp("as-jpeg"), IMAGE_TRANSPORT="jpeg", **settings) as jpeg,
        running(tmp_path_factory.mktemp("as-int8"), **settings) as int8,
    ):
        yield jpeg, int8


def test_the_corpus_is_answered_alike(both):
    jpeg, int8 = both
    for sample in SAMPLES:
        body = ok(jpeg.post(sample.data))
        assert body["instances"]
        if max(sample.displayed_hw) <= scenes.CONTRACT.resize.max_dim * 2:  # else int8 may decode at a reduced size
            assert body == ok(int8.post(sample.data)), sample.name
    ways = [line.get("image_transport") for line in jpeg.log_lines()]
    assert ways.count("jpeg") > 30


def photograph(**options):
    encoded = io.BytesIO()
    Image.fromarray(skimage.data.astronaut()).save(encoded, "JPEG", **options)
    return encoded.getvalue()


def test_the_log_says_which_way_and_why(both):
    jpeg, int8 = both
    photo = photograph()
    for function, data, way, why in (
        (jpeg, photo, "jpeg", "the model takes this JPEG"),
        (jpeg, scenes.png(), "int8", "the image is no JPEG"),
        (jpeg, photo[:-2], "int8", "the JPEG is not whole"),
        (int8, photo, "int8", "the setting IMAGE_TRANSPORT"),
    ):
        ok(function.post(data))
        line = function.log_lines()[-1]
        assert (line["image_transport"], line["image_transport_why"]) == (way, why)
        size = line["model_bytes_up"]
        assert size < len(photo) + 200 if way == "jpeg" else size > 3 * 300 * 400


def test_a_jpeg_that_no_decoder_takes_is_a_400(both):
    photo = photograph()
    for broken in (
        photo.replace(b"\xff\xdb", b"\xff\xfe"),  # no tables of quantization
        photo.replace(b"\xff\xc4", b"\xff\xfe")[:-2] + b"\xff\xd9",
        raw.with_segment(photo, 0xC4, b"\x00" + b"\xff" * 16),
        photo[: len(photo) // 2],
    ):
        for function in both:
            answer = function.post(broken)
            if answer.status != 200:  # libjpeg has tables of Huffman codes of its own
                assert "broken or truncated" in problem(answer, 400)
                assert function.log_lines()[-1]["image_transport"] == "int8"


@pytest.mark.counted
def test_every_hostile_request_gets_the_answer_of_int8(both, stand_in):
    """And the model server lives on."""
    jpeg, int8 = both
    refused = 0
    for number, one in enumerate(hostile(REQUESTS, seed=14)):
        answers = [function.post(one.body, f"?{one.query}", one.content_type, one.headers) for function in both]
        told = f"{number}: {one.kind}: {[answer.body[:300] for answer in answers]}"
        assert answers[0].status in (200, 400, 413, 415), told
        assert answers[0].status == answers[1].status, told
        if answers[0].status == 200:
            assert answers[0].body == answers[1].body, told
        else:
            assert answers[0].json()["detail"] == answers[1].json()["detail"], told
            refused += 1
    assert refused > REQUESTS // 2
    assert ok(jpeg.post(photograph())) == ok(int8.post(photograph()))
    assert stand_in.process.poll() is None
