"""What decoding takes at most is known before: a process that decodes each kind never takes more."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.handler.image.kinds import extremes, make
from tests.support import counts

ROOT = Path(__file__).parents[3]
SIDES = counts.pick((1600, 1200), (4000, 3000))
MEASURE = """
import json, os, re, sys
from pathlib import Path
from typing import get_args
from handler import malloc
from handler.image.decode import Limits, decode_image
from handler.image.kinds import Kind
from handler.model import mold
from handler.model.contract import Resize

LIMITS = Limits(kinds=tuple(kind for kind in get_args(Kind) if kind != "heic"))

def resident(name):
    return 1024 * int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

def decode(data, max_dim):
    costs, resize = [], Resize(mode="fit", min_dim=0, max_dim=max_dim)
    photo = decode_image(data, LIMITS, lambda size_hw: mold.resize_rule(size_hw, resize).resized_hw, costs.append)
    mold.mold(photo, resize, padded=False)
    return max(costs)

malloc.keep_freed_blocks()
for path in map(Path, sys.argv[1:]):
    reader, writer = os.pipe()
    if not os.fork():
        decode(path.with_name("small").read_bytes(), 8)  # what is imported or made once
        data = path.read_bytes()
        before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        cost = decode(data, 512)
        os.write(writer, json.dumps([resident("VmHWM") - before, cost]).encode())
        os._exit(0)
    os.wait()
    print(json.dumps([path.name, *json.loads(os.read(reader, 100))]))
"""


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Return the peak and the estimate, bytes, by the name of the image."""
    folder = tmp_path_factory.mktemp("kinds")
    (folder / "small").write_bytes(next(make(16, 16))[1])
    paths = []
    for name, data in (*make(*SIDES), *extremes(SIDES[0] * SIDES[1])):
        paths.append(folder / name)
        paths[-1].write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *paths], cwd=ROOT, capture_output=True, text=True, check=True, timeout=300
    )
    return {name: (peak, cost) for name, peak, cost in map(json.loads, done.stdout.splitlines())}


@pytest.mark.counted
def test_no_kind_takes_more_than_the_estimate(measured):
    assert len(measured) > 30
    assert {name: found for name, found in measured.items() if found[0] > found[1]} == {}


@pytest.mark.counted
def test_the_kinds_that_are_always_allowed_take_most_of_the_estimate(measured):
    pixels = SIDES[0] * SIDES[1]
    usual = {name: found for name, found in measured.items() if name.startswith(("PNG", "JPEG", "WEBP"))}
    slack = {name: (cost - peak) / pixels for name, (peak, cost) in usual.items()}
    assert {name: found for name, found in slack.items() if found > counts.pick(8, 4)} == {}


@pytest.mark.counted
def test_colours_and_turns_cost_no_copy(measured):
    plain = measured["PNG RGB"][0]
    for name in ("PNG RGB turned", "PNG RGBA", "PNG LA", "PNG RGB transparent", "PNG P transparent", "PNG I;16"):
        assert measured[name][0] < 1.2 * plain, name
