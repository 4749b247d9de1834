"""What shows only inside the process: what is imported, what a defect becomes. All else is in tests/http."""

import gc
import io
import json
import logging
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import functions_framework
import grpc
import numpy as np
import pytest
from PIL import Image

from tests.support.backend import Backend, serve
from tests.support.images import noise

ROOT = Path(__file__).parent.parent


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
    assert body["request_id"] == answer.headers["X-Request-Id"]
    return body["detail"]


@pytest.mark.usefixtures("http")
def test_the_garbage_collector_works_again_after_the_start():
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0


def test_what_the_model_is_sent(http, backend):
    assert http.post("/", data=noise()).status_code == 200
    sent = backend.request.inputs["input_image"]
    pixels = np.asarray(Image.open(io.BytesIO(noise())))
    assert np.array_equal(np.frombuffer(sent.tensor_content, np.int8), (pixels.astype(int) - 128).ravel())


@pytest.mark.parametrize(("method", "path"), [("POST", "/health"), ("PUT", "/"), ("GET", "/model"), ("OPTIONS", "/")])
def test_a_body_too_long_is_refused_everywhere_and_not_read_to_its_end(http, method, path):
    body = io.BytesIO(bytes(10_000_000))
    answer = http.open(path, method=method, input_stream=body, content_length=10_000_000)
    assert "at most 100000 bytes, got 10000000" in problem(answer, 413)
    assert body.tell() < 1_000_000


def restarted(**settings):
    """Return the function as it starts with other settings."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        return functions_framework.create_app("segment", str(ROOT / "main.py")).test_client()


def test_the_limits_of_images_are_those_of_the_settings(http):
    assert http.post("/", data=noise()).status_code == 200
    few = restarted(MAX_PIXELS="1000")
    assert "at most 1000 pixels, got 64 x 64" in problem(few.post("/", data=noise()), 413)
    other = restarted(IMAGE_KINDS="webp,gif")
    assert "the image must be webp, gif, got a PNG" in problem(other.post("/", data=noise()), 415)
    assert "image/gif" in other.get("/openapi.json").json["paths"]["/"]["post"]["requestBody"]["content"]


def test_the_memory_for_decoding_is_the_one_of_the_settings(http, capsys):
    little = restarted(DECODE_MEMORY_BYTES="4000000")
    assert "at most 4000000 bytes of memory to decode, got one of " in problem(little.post("/", data=noise()), 413)
    busy = restarted(DECODE_MEMORY_BYTES="6000000", DEADLINE_S="0.4")
    assert busy.post("/", data=noise()).status_code == 200
    with sys.modules["main"].SERVICE.memory.room(time.monotonic() + 1) as reserve:
        reserve(5_000_000)
        answer = busy.post("/", data=noise())
    assert "bytes of memory to decode, got 1000000 beside other images" in problem(answer, 503)
    assert answer.headers["Retry-After"] == "5"
    assert busy.post("/", data=noise()).status_code == 200
    stated = [json.loads(line)["message"] for line in capsys.readouterr().err.splitlines()]
    assert any("decoding may take 6000000 bytes of memory in each worker, as set" in line for line in stated)


def test_the_deadline_is_the_one_of_the_settings(http, backend):
    slow = restarted(DEADLINE_S="0.2")

    def see(image):
        time.sleep(1)
        return backend.outputs

    backend.see = see
    assert "within the deadline" in problem(slow.post("/", data=noise()), 504)


def test_a_request_that_waits_too_long_for_its_turn_is_a_503(http, backend):
    application = restarted(THREADS="1", DEADLINE_S="0.4").application
    backend.takes_s = 1.0
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: application.test_client().post("/", data=noise()), range(4)))
    assert {answer.status_code for answer in answers} == {503, 504}
    (detail, *_) = [problem(answer, 503) for answer in answers if answer.status_code == 503]
    assert detail == "the function must come to a request within 0.4 s, got too many of them"
    assert all(answer.headers["Retry-After"] == "5" for answer in answers if answer.status_code == 503)


def test_any_origin_may_read_where_all_are_allowed(http):
    every = restarted(CORS_ORIGINS="*")
    for headers in ({"Origin": "https://any.example"}, {}):
        answer = every.get("/health", headers=headers)
        assert answer.headers["Access-Control-Allow-Origin"] == answer.headers["Timing-Allow-Origin"] == "*"
        assert "Vary" not in answer.headers


def test_a_defect_is_a_500_with_its_traceback_in_the_log_alone(http, monkeypatch, capsys):
    def boom(*_):
        raise RuntimeError("secret")

    monkeypatch.setattr(sys.modules["main"].SERVICE, "segment", boom)
    answer = http.post("/", data=noise())
    assert "secret" not in problem(answer, 500)
    (line,) = [json.loads(text) for text in capsys.readouterr().err.splitlines() if answer.json["request_id"] in text]
    assert line["severity"] == "ERROR"
    assert "RuntimeError: secret" in line["stack_trace"]


def test_what_the_backend_said_is_in_the_log_alone(http, backend, capsys):
    backend.errors = [(grpc.StatusCode.INTERNAL, "at 10.0.0.7: out of memory")]
    assert "10.0.0.7" not in problem(http.post("/", data=noise()), 502)
    logged = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    (line,) = [line for line in logged if line.get("status") == 502]
    assert line["reason"] == "INTERNAL: at 10.0.0.7: out of memory"
    assert line["severity"] == "ERROR"


def test_the_log_is_set_up_once(http):
    functions_framework.create_app("segment", str(ROOT / "main.py"))
    assert [type(handler).__name__ for handler in logging.getLogger("segment").handlers].count("JsonLines") == 1


def run(code):
    code = "import sys\nsys.path.insert(0, '.')\n" + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=240, cwd=ROOT
    )


ANSWER = """
    import os
    from tests.support.backend import Backend, serve
    from tests.support.images import noise
    backend = Backend()
    with serve(backend) as address:
        os.environ["TF_SERVING_ADDRESS"] = address
        import functions_framework
        http = functions_framework.create_app("segment", "main.py").test_client()
        {extra}
        for option in ("mask=rle", "mask=polygon", "mask=png", "mask=float32", "format=cvat", "format=roboflow"):
            answer = http.post("/?" + option, data=noise())
            assert answer.status_code == 200, answer.text
        assert http.get("/openapi.json").status_code == 200
        sys.modules["main"].SERVICE.client.close()
    loaded = [name for name in sys.modules if name.split(".")[0] in ("tensorflow", "keras")]
    assert not loaded, f"loaded {{len(loaded)}}"
"""


def test_tensorflow_stays_out_of_the_whole_request():
    done = run(ANSWER.format(extra="pass"))
    assert done.returncode == 0, done.stderr


def test_that_check_can_fail():
    done = run(ANSWER.format(extra="sys.modules['tensorflow'] = sys"))
    assert done.returncode == 1
    assert "AssertionError: loaded" in done.stderr


def test_what_few_requests_need_is_not_imported_at_the_start():
    done = run("""
        import functions_framework
        functions_framework.create_app("segment", "main.py")
        rare = ("contourpy", "handler.masks.polygons", "handler.page", "handler.web.openapi", "matplotlib")
        rare += ("scipy", "pytest")
        loaded = [name for name in rare if name in sys.modules]
        assert not loaded, f"loaded {loaded}"
    """)
    assert done.returncode == 0, done.stderr


def test_a_wrong_setting_stops_the_start_and_is_named():
    done = run("""
        import os
        os.environ["IMAGE_KINDS"] = "jpeg,psd"
        import functions_framework
        functions_framework.create_app("segment", "main.py")
    """)
    assert done.returncode == 1
    assert "IMAGE_KINDS must be some of jpeg, png, webp, gif, bmp, tiff, avif, heic, comma-separated" in done.stderr
    assert "got 'jpeg,psd'" in done.stderr
