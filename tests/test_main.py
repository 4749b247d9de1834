import io
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import functions_framework
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from tests.handler.backend import Backend, serve

ROOT = Path(__file__).parent.parent


def png(width=64, height=64):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def backend():
    return Backend()


@pytest.fixture
def http(backend, monkeypatch):
    with serve(backend) as address:
        monkeypatch.setenv("TF_SERVING_ADDRESS", address)
        monkeypatch.setenv("MAX_BODY_BYTES", "100000")
        app = functions_framework.create_app("segment", str(ROOT / "main.py"))
        yield app.test_client()
        sys.modules["main"].SERVICE.client.close()


def problem(answer, status):
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/problem+json"
    body = json.loads(answer.data)
    assert body["status"] == status
    assert set(body) == {"type", "title", "status", "detail", "request_id"}
    assert body["request_id"] == answer.headers["X-Request-Id"]
    return body["detail"]


def test_an_image_becomes_instances(http, backend):
    answer = http.post("/", data=png(), headers={"X-Request-Id": "abc-1"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["X-Request-Id"] == "abc-1"
    stages = [stage.split(";")[0].strip() for stage in answer.headers["Server-Timing"].split(",")]
    assert stages == ["decode", "mold", "predict", "unmold", "encode"]
    body = answer.json
    assert body["image"] == {"width": 64, "height": 64}
    assert body["model"] == {"name": "shapes", "version": 1}
    first, second = body["instances"]
    assert (first["class_id"], first["label"], first["score"]) == (2, "square", 0.95)
    assert second["box"] == {"x": 16, "y": 8, "width": 32, "height": 16}
    assert second["area"] == 32 * 16
    expected = np.zeros((64, 64), np.uint8, order="F")
    expected[8:24, 16:48] = 1
    assert second["mask"] == {"format": "rle", "size": [64, 64], "counts": coco.encode(expected)["counts"].decode()}
    sent = backend.request.inputs["input_image"]
    pixels = np.asarray(Image.open(io.BytesIO(png())))
    assert np.array_equal(np.frombuffer(sent.tensor_content, np.int8), (pixels.astype(int) - 128).ravel())


def test_multipart_with_options(http):
    data = {"image": (io.BytesIO(png()), "x.png"), "classes": "circle", "mask": "none"}
    answer = http.post("/any/path?threshold=0.5", data=data, content_type="multipart/form-data")
    assert answer.status_code == 200, answer.text
    assert [(i["label"], i["mask"]) for i in answer.json["instances"]] == [("circle", None)]


@pytest.mark.parametrize(
    ("query", "labels"),
    [
        ("threshold=0.92", ["square"]),
        ("max_instances=1", ["square"]),
        ("classes=1", ["circle"]),
        ('classes=["circle", 2]', ["square", "circle"]),
        ("threshold=1", []),
    ],
)
def test_options_select(http, query, labels):
    answer = http.post(f"/?{query}", data=png())
    assert [instance["label"] for instance in answer.json["instances"]] == labels


def test_no_instances_is_an_answer(http, backend):
    backend.outputs["mrcnn_detection"][:] = 0
    answer = http.post("/", data=png())
    assert answer.status_code == 200
    assert answer.json["instances"] == []


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("colour=1", "'colour'"),
        ("threshold=nan", "'nan'"),
        ("threshold=1.01", "'1.01'"),
        ("threshold=.1&threshold=.2", "'.2'"),
        ("max_instances=0", "1..1000"),
        ("max_instances=1001", "'1001'"),
        ("classes=dog", "circle, square"),
        ("classes=", "classes"),
        ("classes=" + "9" * 5000, "circle, square"),
        ("classes=3", "ids in 1..2, got '3'"),
        ("classes=circle,0", "got '0'"),
        ("classes=[", "classes"),
        ("mask=polygon", "rle, none, got 'polygon'"),
        ("format=coco", "instances, got 'coco'"),
        ("mask_threshold=x", "mask_threshold"),
    ],
)
def test_bad_options_are_named(http, query, named):
    assert named in problem(http.post(f"/?{query}", data=png()), 400)


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"", "image/png", 400),
        (b"hello", "image/png", 415),
        (b"GIF89a" + bytes(100), "image/gif", 415),
        (png()[:2000], "image/png", 400),
        (b"{}", "application/json", 415),
        (b"x", "multipart/form-data", 400),
        (b"x", "multipart/form-data; boundary=x", 400),
        (b"x" * 100_001, "image/png", 413),
    ],
)
def test_bad_bodies(http, body, content_type, status):
    problem(http.post("/", data=body, content_type=content_type), status)


@pytest.mark.parametrize(("method", "path"), [("POST", "/health"), ("PUT", "/"), ("GET", "/model")])
def test_a_body_too_long_is_refused_everywhere_and_not_read_to_its_end(http, method, path):
    body = io.BytesIO(bytes(10_000_000))
    answer = http.open(path, method=method, input_stream=body, content_length=10_000_000)
    assert "at most 100000 bytes, got 10000000" in problem(answer, 413)
    assert body.tell() < 1_000_000


def test_a_body_that_breaks_off(http):
    answer = http.post("/", input_stream=io.BytesIO(png()[:500]), content_length=1000)
    problem(answer, 400)


def test_routes(http):
    assert http.get("/health").json == {"status": "ok"}
    assert http.get("/ready").json["model"] == {"name": "shapes", "version": 1}
    assert http.get("/model").json["contract"]["labels"] == {"1": "circle", "2": "square"}
    assert http.get("/").json["service"] == "segment"
    problem(http.get("/nothing"), 404)
    denied = http.post("/health", data=b"x")
    problem(denied, 405)
    assert denied.headers["Allow"] == "GET, HEAD"
    problem(http.put("/x", data=b"x"), 405)


def test_a_broken_contract_is_a_502(http, backend):
    backend.outputs["mrcnn_mask"] = np.zeros((1, 100, 33), np.float32)
    assert "mrcnn_mask must be int8 [1, any, any, any], got float32 [1, 100, 33]" in problem(
        http.post("/", data=png()), 502
    )


def test_a_loading_model_is_a_503(http, backend):
    backend.available = False
    answer = http.get("/ready")
    problem(answer, 503)
    assert answer.headers["Retry-After"] == "5"


def test_a_defect_is_a_500_without_its_traceback(http, monkeypatch):
    def boom(*_):
        raise RuntimeError("secret")

    monkeypatch.setattr(sys.modules["main"].SERVICE, "segment", boom)
    assert "secret" not in problem(http.post("/", data=png()), 500)


def run(code):
    code = "import sys\nsys.path.insert(0, '.')\n" + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=240, cwd=ROOT
    )


ANSWER = """
    import os
    from tests.handler.backend import Backend, serve
    from tests.test_main import png
    backend = Backend()
    with serve(backend) as address:
        os.environ["TF_SERVING_ADDRESS"] = address
        import functions_framework
        http = functions_framework.create_app("segment", "main.py").test_client()
        {extra}
        answer = http.post("/", data=png())
        assert answer.status_code == 200, answer.text
        sys.modules["main"].SERVICE.client.close()
    loaded = [name for name in sys.modules if name.split(".")[0] in ("tensorflow", "keras")]
    assert not loaded, f"loaded {{len(loaded)}}"
"""


def test_tensorflow_stays_out_of_the_whole_request():
    done = run(ANSWER.format(extra="pass"))
    assert done.returncode == 0, done.stderr


def test_that_check_can_fail():
    done = run(ANSWER.format(extra="import tensorflow"))
    assert done.returncode == 1
    assert "AssertionError: loaded" in done.stderr
