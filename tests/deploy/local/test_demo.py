"""`make demo` and `make serve` as a person runs them: programs, ports, files."""

import http.client
import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image
from skimage import data

from deploy.models.shapes import coins, evaluate
from tests.support import counts
from tests.support.answers import instances
from tests.support.processes import ROOT, free_port

pytestmark = pytest.mark.counted  # with nothing exported and with all


def run(module, *flags, timeout_s=240):
    command = [sys.executable, "-m", f"deploy.local.{module}", *map(str, flags)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False)


@pytest.fixture(scope="module")
def build(tmp_path_factory, exported):
    """Return a folder for what the commands make: every day with the exports in it, in the campaigns with nothing."""
    folder = tmp_path_factory.mktemp("build")
    if not counts.CAMPAIGN:
        (folder / "models").symlink_to(exported("float32").parent)
    return folder


@pytest.fixture(scope="module")
def demo(build):
    return run("demo", "--build", build)


@pytest.fixture(scope="module")
def coins_answer(demo, build):
    return (build / "demo" / "result.json").read_bytes() if demo.returncode == 0 else demo.stderr.encode()


@pytest.fixture
def taken():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_the_demo_finds_the_coins(demo, coins_answer):
    assert demo.returncode == 0, demo.stderr
    answer = json.loads(coins_answer)
    assert answer["image"] == {"width": 384, "height": 303}
    found = evaluate.count_coins(tuple(instances(answer)), coins.truth((303, 384)))
    assert found["found"] >= 23, found
    assert found["false"] <= 1, found
    assert f"{len(answer['instances'])} circles" in demo.stdout


def test_the_demo_prints_bytes_for_each_export(demo):
    pattern = re.compile(
        r"^(float32|int8-cast|int8|int8, as JPEG) +([\d,]+) +\S+ +([\d,]+) +\S+ +\d+ ms +\d+$", re.MULTILINE
    )
    rows = {kind: (up, down) for kind, up, down in pattern.findall(demo.stdout)}
    up, down = ({kind: int(pair[i].replace(",", "")) for kind, pair in rows.items()} for i in (0, 1))
    frame = 320 * 384 * 3  # the photograph, 303 x 384, in a frame of multiples of 64
    assert up["float32"] > 4 * frame
    assert up["int8-cast"] > frame
    assert 303 * 384 * 3 < up["int8"] < 303 * 384 * 3 + 1000
    assert up["int8, as JPEG"] < up["int8"] / 5
    assert down["int8"] < down["int8-cast"] < down["float32"]


def test_the_demo_draws_what_it_found(demo, build):
    photo = Image.open(io.BytesIO((build / "demo" / "coins.png").read_bytes())).convert("RGB")
    overlay = Image.open(build / "demo" / "overlay.png")
    assert overlay.size == (2 * photo.width, 2 * photo.height)
    drawn = np.asarray(overlay.resize(photo.size, Image.Resampling.BOX), np.int16)
    changed = np.abs(drawn - np.asarray(photo, np.int16)).max(-1) > 40
    truth = coins.truth((303, 384)).any(0)
    assert changed[truth].mean() > 0.8
    assert changed[~truth].mean() < 0.4


@pytest.mark.campaign
def test_a_second_demo_exports_nothing_and_takes_a_given_image(demo, build, tmp_path):
    picture = tmp_path / "cup.jpg"
    Image.fromarray(data.coffee()).save(picture)
    again = run("demo", "--build", build, "--image", picture)
    assert again.returncode == 0, again.stderr
    assert "exporting" not in again.stdout
    assert "POST cup.jpg" in again.stdout


@pytest.mark.parametrize(("module", "flag"), [("demo", "--port"), ("serve", "--port"), ("serve", "--grpc-port")])
def test_a_taken_port_is_told_in_a_line(build, taken, module, flag):
    ended = run(module, "--build", build, flag, taken)
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert str(taken) in ended.stderr
    assert ("GRPC_PORT=" if flag == "--grpc-port" else " PORT=") in ended.stderr


def test_one_port_for_both_is_told_in_a_line(build):
    ended = run("serve", "--build", build, "--port", 9000, "--grpc-port", 9000)
    assert (ended.returncode, ended.stderr) == (1, "serve: PORT and GRPC_PORT must differ, got 9000 for both\n")


@pytest.mark.parametrize("content", [None, b"no image", b""])
def test_an_image_that_cannot_be_read_is_told_in_a_line(build, tmp_path, content):
    picture = tmp_path / "picture.png"
    if content is not None:
        picture.write_bytes(content)
    ended = run("demo", "--build", build, "--image", picture)
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert ended.stderr.startswith("demo: the image ")


def test_serve_answers_as_the_demo_until_it_is_stopped(coins_answer, build):
    port, grpc_port = free_port(), free_port()
    command = [sys.executable, "-m", "deploy.local.serve", f"--build={build}", f"--port={port}"]
    with subprocess.Popen(
        [*command, f"--grpc-port={grpc_port}"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as serve:
        watchdog = threading.Timer(200, serve.kill)
        watchdog.start()
        try:
            assert any("curl" in line for line in iter(serve.stdout.readline, "")), serve.stderr.read()
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("POST", "/", (build / "serve" / "coins.png").read_bytes(), {"Content-Type": "image/png"})
            answer = connection.getresponse().read()
            connection.close()
            serve.send_signal(signal.SIGTERM)
            out, err = serve.communicate(timeout=60)
        finally:
            watchdog.cancel()
            serve.kill()
    assert answer == coins_answer
    assert (serve.returncode, err) == (0, "")
    assert "serve: stopped" in out
    for closed in (port, grpc_port):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", closed)) != 0
