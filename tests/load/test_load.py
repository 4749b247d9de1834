"""The load scenario against real functions on this machine: it passes where it should, and it can fail.

Locust runs in processes of its own: it replaces the sockets of the one that imports it.
"""

import copy
import json
import os
import re
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.http.conftest import KEYS, running, show_scene
from tests.load import __main__ as command
from tests.load import answers, traffic
from tests.support.backend import Backend, serve

ROOT = Path(__file__).parents[2]
TOKEN = "an.id.token"
MOST_S = 90
SMALL = ("--users=2", "--run-time=3s", "--progress-s=1")


@contextmanager
def started(*arguments, **variables):
    """Start the command and yield its process; it is ended at the latest when the block is left."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.load", *arguments],
        cwd=ROOT,
        env={**os.environ, "no_proxy": "127.0.0.1", traffic.KEY: KEYS[0], traffic.TOKEN: TOKEN, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def load(*arguments, **variables):
    """Return exit code, lines on stdout, and stderr; neither may hold what opens the function."""
    with started(*arguments, **variables) as process:
        out, err = process.communicate(timeout=MOST_S)
    for secret in (*KEYS, TOKEN, *variables.values()):
        assert secret not in out + err
    return process.returncode, out.splitlines(), err


@pytest.fixture(scope="module")
def backend():
    return show_scene(Backend())


@pytest.fixture(scope="module")
def function(tmp_path_factory, backend):
    folder = tmp_path_factory.mktemp("function")
    with serve(backend) as address, running(folder, "gunicorn", TF_SERVING_ADDRESS=address, API_KEYS=KEYS[0]) as one:
        yield one


@contextmanager
def stub(status, body):
    """Yield the URL of a server that is healthy where ``status`` is 200, and answers the same to every photograph."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.answer(b"ok")

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(body)

        def answer(self, data):
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_function_that_answers_rightly_passes(function):
    before = len(function.log_lines())
    code, lines, err = load("--host", function.url, *SMALL, "--p99-ms=60000", "--min-rate=0.1")
    assert code == 0, err
    assert lines[0] == f"2 users for 3s against {function.url} ..."
    assert re.fullmatch(r"PASS: [\d.]+/s, p50 [\d,]+ ms, p95 [\d,]+ ms, p99 [\d,]+ ms, 0 failed of \d+", lines[-1])
    assert any(re.match(r" +\d s, 2 users: [\d.]+/s, p50 ", line) for line in lines[1:-1])
    sent = [line for line in function.log_lines()[before:] if line["message"] == "POST / 200"]
    assert len(sent) >= int(lines[-1].rpartition(" ")[2]) > 1
    assert len({line["bytes_up"] for line in sent}) > 1


def test_a_bound_that_cannot_be_kept_fails(function):
    code, lines, _ = load("--host", function.url, *SMALL, "--p99-ms=0.5", "--min-rate=100000")
    assert code == 1
    assert re.fullmatch(
        r"FAIL: p99 must be at most 0.5 ms, got [\d,]+ ms; "
        r"right answers a second must be at least 100,000, got [\d.]+",
        lines[-1],
    )


def test_users_join_in_steps(function):
    code, lines, err = load("--host", function.url, "--users=2", "--run-time=6s", "--steps=2", "--progress-s=1")
    assert code == 0, err
    users = [int(found[1]) for line in lines if (found := re.search(r", (\d) users: ", line))]
    assert users == sorted(users)
    assert set(users) == {1, 2}


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ("backend", "the status must be 200, got 503: the model server cannot be reached"),
        ("function", "an answer must come, got ConnectionRefusedError: "),
    ],
)
def test_what_dies_meanwhile_fails_the_run(tmp_path, part, told):
    with ExitStack() as backend, ExitStack() as function:
        address = backend.enter_context(serve(show_scene(Backend())))
        one = function.enter_context(running(tmp_path, "gunicorn", TF_SERVING_ADDRESS=address, DEADLINE_S="1"))
        with started("--host", one.url, "--users=2", "--run-time=6s") as process:
            wait_for_answers(one, 5)
            {"backend": backend, "function": function}[part].close()
            out, err = process.communicate(timeout=MOST_S)
    assert process.returncode == 1
    last = out.splitlines()[-1]
    assert re.fullmatch(r"FAIL: failures must be at most 0.00%, got [\d.]+% \([\d,]+ of [\d,]+\)", last)
    assert told in err


def wait_for_answers(function, count):
    end_s = time.monotonic() + MOST_S
    while sum(line["message"] == "POST / 200" for line in function.log_lines()) < count:
        assert time.monotonic() < end_s, function.log.read_text()
        time.sleep(0.05)


def test_a_backend_that_is_dead_is_told_before_any_load(tmp_path):
    with running(tmp_path, "gunicorn", TF_SERVING_ADDRESS="127.0.0.1:1", DEADLINE_S="1") as function:
        code, lines, _ = load("--host", function.url, *SMALL)
        asked = [line for line in function.log_lines() if line["message"].startswith("POST")]
    assert code == 1
    assert [line.partition(" got ")[0] for line in lines] == [
        "FAIL: the first photograph, before any load: the status must be 200,"
    ]
    assert "503" in lines[0]
    assert len(asked) == 1


def test_a_wrong_key_is_told_before_any_load(function):
    code, lines, _ = load("--host", function.url, *SMALL, SEGMENT_KEY="wrong-key-0123456789")
    assert code == 1
    assert len(lines) == 1
    assert lines[0].startswith("FAIL: the first photograph, before any load: the status must be 200, got 401: ")


def test_answers_to_another_photograph_fail(function):
    web = traffic.photo("web")
    answer = function.post(web.data, "?mask=polygon", headers={"X-API-Key": KEYS[0]})
    with stub(200, answer.body) as url:
        code, lines, err = load("--host", url, *SMALL)
    assert code == 1
    assert lines[-1].startswith("FAIL: failures must be at most 0.00%, got ")
    assert "the image must be 4032 x 3024, got 1024 x 1024" in err


def test_wrong_answers_pass_only_where_they_are_allowed(function):
    web = traffic.photo("web")
    answer = function.post(web.data, "?mask=polygon", headers={"X-API-Key": KEYS[0]})
    with stub(200, answer.body) as url:
        code, lines, _ = load("--host", url, *SMALL, "--max-fail-ratio=1")
    assert code == 0
    assert lines[-1].startswith("PASS: ")
    assert not lines[-1].endswith(" 0 failed")


@pytest.mark.parametrize(
    ("status", "hint"), [(403, "; Cloud Run wants an ID token in SEGMENT_ID_TOKEN"), (302, ""), (404, "")]
)
def test_an_address_without_a_healthy_function_is_not_loaded(status, hint):
    with stub(status, b"") as url:
        code, lines, err = load("--host", url)
    assert (code, lines) == (2, [])
    assert err == f"load: not run: {url}/health must answer 200, got {status}{hint}\n"


def test_an_address_that_cannot_be_reached_is_told_at_once():
    started_s = time.monotonic()
    code, lines, err = load("--host=http://127.0.0.1:1")
    assert (code, lines) == (2, [])
    assert err == "load: not run: the function must answer at http://127.0.0.1:1, got [Errno 111] Connection refused\n"
    assert time.monotonic() - started_s < command.LOOK_S


def test_a_server_that_speaks_no_http_is_not_loaded(backend):
    with serve(backend) as address:
        code, lines, err = load("--host", f"http://{address}")
    assert (code, lines) == (2, [])
    assert err.startswith(f"load: not run: the function must answer at http://{address}, got ")
    assert err.count("\n") == 1


def test_a_key_that_no_header_can_hold_is_refused_without_being_shown():
    code, lines, err = load("--host=http://127.0.0.1:1", SEGMENT_KEY="first\nsecond")
    assert (code, lines) == (2, [])
    assert err == "load: not run: SEGMENT_KEY must be one line of printable ASCII, got something else\n"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--host=", "--host: must be such as https://segment.example.com, got "),
        ("--host=segment.example.com", "--host: must be such as https://segment.example.com, got segment.example.com"),
        ("--host=https://name:word@x", "--host: must be such as https://segment.example.com, got "),
        ("--host=https://x:port", "--host: must be such as https://segment.example.com, got https://x:port"),
        ("--users=0", "--users: must be a whole number from 1, got 0"),
        ("--steps=x", "--steps: must be a whole number from 1, got x"),
        ("--run-time=0s", "--run-time: must be such as 90s, 10m or 1h30m, got 0s"),
        ("--run-time=soon", "--run-time: must be such as 90s, 10m or 1h30m, got soon"),
        ("--p95-ms=0", "--p95-ms: must be a number above 0, got 0"),
        ("--min-rate=fast", "--min-rate: must be a number above 0, got fast"),
        ("--max-fail-ratio=1.5", "--max-fail-ratio: must be a number in 0..1, got 1.5"),
    ],
)
def test_a_bad_argument_is_told(capsys, argument, message):
    with pytest.raises(SystemExit, match="2"):
        command.main([argument])
    assert message in capsys.readouterr().err


@pytest.fixture(scope="module")
def right(function):
    """Return, for each mask of the mix, what the function answers to the web's photograph."""
    masks = {asked.mask for asked in traffic.MIX}
    key = {"X-API-Key": KEYS[0]}
    return {mask: function.post(traffic.photo("web").data, f"?mask={mask}", headers=key).json() for mask in masks}


def test_what_the_function_answers_is_right(right):
    for mask, answer in right.items():
        assert len(answer["instances"]) > 3
        answers.check(200, json.dumps(answer).encode(), traffic.photo("web"), mask)


def change(answer, *keys, to):
    for key in keys[:-1]:
        answer = answer[key]
    answer[keys[-1]] = to


@pytest.mark.parametrize(
    ("mask", "keys", "to", "message"),
    [
        ("rle", ("image", "width"), 1023, "the image must be 1024 x 1024, got 1023 x 1024"),
        ("rle", ("instances", 0, "area"), 5, "a mask must have its area, 5, got "),
        ("rle", ("instances", 0, "area"), -1, "an area must be within its box, got -1 "),
        ("rle", ("instances", 0, "score"), 1.5, "a score must be in 0..1, got 1.5"),
        ("rle", ("instances", 0, "mask", "size"), [512, 1024], "a mask must be of [1024, 1024], got [512, 1024]"),
        ("rle", ("instances", 0, "mask", "counts"), "", "a mask must have its area, "),
        ("rle", ("instances", 0, "box", "x"), 1020, "a box must lie within 1024 x 1024, got "),
        ("rle", ("instances", 0, "mask"), None, "the body must be an answer of the interface, got TypeError: "),
        ("rle", ("instances",), [{}], "the body must be an answer of the interface, got KeyError: "),
        ("polygon", ("instances", 0, "mask", "polygons"), [], "outlines must enclose about "),
        ("polygon", ("instances", 0, "mask", "polygons"), [[0, 0, 9, 9]], "a ring must be three points or more "),
        ("polygon", ("instances", 0, "mask", "polygons"), [[0, 0, 9, 0, 2000, 9]], "a ring must be three points "),
        ("none", ("instances", 0, "mask"), {"format": "rle"}, "a mask must be null, got "),
    ],
)
def test_an_answer_that_is_wrong_in_one_place_is_wrong(right, mask, keys, to, message):
    answer = copy.deepcopy(right[mask])
    change(answer, *keys, to=to)
    with pytest.raises(answers.AnswerError, match=f"^{re.escape(message)}"):
        answers.check(200, json.dumps(answer).encode(), traffic.photo("web"), mask)


def test_a_mask_beside_its_box_is_wrong(right):
    answer = copy.deepcopy(right["rle"])
    first, second = answer["instances"][:2]
    first["mask"], first["area"] = second["mask"], second["area"]
    first["box"] = {"x": 0, "y": 0, "width": 1024, "height": second["box"]["y"] + 1}
    with pytest.raises(answers.AnswerError, match=r"^a mask must lie within its box, "):
        answers.check(200, json.dumps(answer).encode(), traffic.photo("web"), "rle")


@pytest.mark.parametrize("body", [b"", b"no JSON", b"[]", b"{}", b'{"image": null}', b"\xff"])
def test_a_body_that_is_no_answer_is_wrong(body):
    with pytest.raises(answers.AnswerError, match=r"^the body must be an answer of the interface, got "):
        answers.check(200, body, traffic.photo("web"), "rle")
