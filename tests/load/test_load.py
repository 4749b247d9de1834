"""`make load` against real functions on this machine: it passes if all answers are right, and it can fail.

Locust runs in a process of its own, because it replaces the sockets of the process that imports it.
"""

import copy
import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.bench import photos
from tests.http.conftest import KEYS, running, show_scene
from tests.load import answers
from tests.support.backend import Backend, serve

ROOT = Path(__file__).parents[2]
KEY, TOKEN = KEYS[0], "an.id.token"
SIZE_WH = 1024, 1024
MOST_S = 120


def load(url, users=2, **secrets):
    """Return exit code, stdout and stderr of `make load`; none may hold a secret."""
    secrets = {"SEGMENT_KEY": KEY, "SEGMENT_ID_TOKEN": TOKEN, **secrets}
    outside = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    run = subprocess.run(
        ["make", "-o", "setup", "load", f"RUN={sys.executable} -m", f"URL={url}", f"USERS={users}", "TIME=3s", "ARGS="],
        cwd=ROOT,
        env={**outside, **secrets},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=MOST_S,
        check=False,
    )
    for secret in secrets.values():
        assert secret not in run.stdout + run.stderr
    return run.returncode, run.stdout, run.stderr


@pytest.fixture(scope="module")
def function(tmp_path_factory):
    folder = tmp_path_factory.mktemp("function")
    with (
        serve(show_scene(Backend())) as address,
        running(folder, "gunicorn", TF_SERVING_ADDRESS=address, API_KEYS=KEY) as one,
    ):
        yield one


@pytest.fixture(scope="module")
def right(function):
    """Return the answer of the function to the photograph `web`, for each mask."""
    return {
        mask: function.post(photos.small(), f"?mask={mask}", headers={"X-API-Key": KEY}).json()
        for mask in answers.MASKS
    }


@contextmanager
def liar(body):
    """Yield the URL and the headers of the requests of a server that gives every photograph the same answer."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.do_POST(b"ok")

        def do_POST(self, body=body):
            seen.append(self.headers)
            self.rfile.read(int(self.headers["Content-Length"] or 0))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", seen
        server.shutdown()


def test_a_function_that_answers_rightly_passes(function):
    before = len(function.log_lines())
    code, out, err = load(f"{function.url}/")
    assert code == 0, out + err
    found = re.fullmatch(r"PASS: 0 wrong of (\d+) answers, [\d.]+/s, p50 \d+ ms, p95 \d+ ms, p99 \d+ ms\n", out)
    sent = [line for line in function.log_lines()[before:] if line["message"] == "POST / 200"]
    assert len(sent) == int(found[1]) + 1 > 2  # one before the load
    assert len({line["bytes_up"] for line in sent}) > 1


def test_a_function_that_lies_fails(right):
    with liar(json.dumps(right["rle"]).encode()) as (url, seen):
        code, out, err = load(url)
    assert code == 2  # of make; 1 of Locust
    assert re.match(r"FAIL: [1-9]\d* wrong of \d+ answers, ", out)
    assert "width and height must be (4032, 3024), got (1024, 1024)" in err
    assert {(one["X-API-Key"], one["Authorization"]) for one in seen} == {(KEY, f"Bearer {TOKEN}")}


@pytest.mark.campaign
def test_a_run_without_answers_fails(function):
    code, out, _ = load(function.url, users=0)
    assert (code, out) == (2, "FAIL: 0 wrong of 0 answers, 0.0/s, p50 0 ms, p95 0 ms, p99 0 ms\n")


@pytest.mark.parametrize(
    ("url", "key", "reason"),
    [
        ("segment.example.com", KEY, "--host must begin with http:// or https://, got segment.example.com"),
        (None, "wrong-key-0123456789", "the first photograph: the status must be 200, got 401"),
        *(
            pytest.param(*case, marks=pytest.mark.campaign)
            for case in (
                ("http://127.0.0.1:1", KEY, "http://127.0.0.1:1/health must answer 200, got ConnectionRefusedError"),
                (None, "first\nsecond", "SEGMENT_KEY must be one line of printable ASCII, got something else"),
            )
        ),
    ],
)
def test_a_function_that_is_not_right_at_first_is_not_loaded(function, url, key, reason):
    before = len(function.log_lines())
    code, out, _ = load(url or function.url, SEGMENT_KEY=key)
    assert code == 2
    assert out.startswith(f"FAIL: {reason}")
    assert sum(line["message"].startswith("POST") for line in function.log_lines()[before:]) <= 1


def test_what_the_function_answers_is_right(right):
    for mask, answer in right.items():
        assert len(answer["instances"]) > 3
        answers.check(200, json.dumps(answer).encode(), SIZE_WH, mask)


@pytest.mark.parametrize(
    ("mask", "keys", "wrong", "message"),
    [
        ("rle", ["image", "width"], 1023, "width and height must be (1024, 1024), got (1023, 1024)"),
        ("rle", ["instances", 0, "area"], 5, "a mask must have the area 5, got "),
        ("rle", ["instances", 0, "area"], -1, "an area must be within its box "),
        ("rle", ["instances", 0, "score"], 1.5, "a score must be in 0..1, got 1.5"),
        ("rle", ["instances", 0, "mask", "size"], [512, 1024], "a mask must have the size [1024, 1024], got [512, "),
        ("rle", ["instances", 0, "box", "x"], 1020, "a box must be within (1024, 1024), got "),
        ("rle", ["instances"], [{}], "the body must be an answer, got KeyError: "),
        ("rle", ["image"], None, "the body must be an answer, got TypeError: "),
        ("polygon", ["instances", 0, "mask", "polygons"], [], "rings must enclose about "),
        ("polygon", ["instances", 0, "mask", "polygons"], [[0, 0, 9, 9]], "a ring must have three points or more "),
        ("polygon", ["instances", 0, "mask", "polygons"], [[0, 0, 9, 0, 2000, 9]], "a ring must have three points "),
        ("none", ["instances", 0, "mask"], {"format": "rle"}, "a mask must be null, got "),
    ],
)
def test_an_answer_that_is_wrong_in_one_place_is_wrong(right, mask, keys, wrong, message):
    answer = inner = copy.deepcopy(right[mask])
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = wrong
    with pytest.raises(answers.AnswerError, match=f"^{re.escape(message)}"):
        answers.check(200, json.dumps(answer).encode(), SIZE_WH, mask)
