"""The benchmark itself: all paths must find the same objects, or their times say nothing; and it must run."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco

from deploy.tools.processes import Programs
from tests.bench import __main__ as bench
from tests.bench import messages, photos, report, timing
from tests.bench.stack import Stack

RATIOS = {
    "adapter_over_floor_10",
    "adapter_over_floor_100",
    "adapter_jpeg_over_floor_10",
    "jpeg_over_int8_cpu_10",
    "jpeg_over_int8_up_bytes",
    "int8_over_jpeg_1_gbit",
    "int8_over_jpeg_100_mbit",
    "recipe_over_adapter_100",
    "competent_over_adapter_100",
    "scaled_decode_12mp",
    "response_decode_speedup",
    "cold_start_over_plain",
    "throughput_16_over_1",
    "throughput_16_over_1_one_worker",
    "p99_over_p50_16",
    "memory_1000_over_100",
}
ABSOLUTE = {"cold_start_s", "rss_mb", "bundle_mb", "plain_mb", "ms_per_instance"}
OBJECTS = 10


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def answers(build):
    """Return name -> what each path answers for ten objects, on a small photograph and on a phone's."""
    found = {}
    with Programs(build) as programs:
        stack = Stack(build / "bench", programs)
        stack.count(OBJECTS)
        for name, (source, model) in bench.PATHS.items():
            function = stack.start(name, source, model, **bench.SETTINGS.get(name, {}))
            try:
                found[name] = json.loads(function.post(photos.small()))
                if name in ("adapter", bench.JPEG, "adapter, whole decode", "competent path"):
                    found[f"{name}, phone"] = json.loads(function.post(photos.phone()))
            finally:
                function.stop()
    return found


def masks(answer):
    """Return the masks as pycocotools takes them."""
    if "instances" in answer:
        return [instance["mask"] | {"counts": instance["mask"]["counts"].encode()} for instance in answer["instances"]]
    return [coco.encode(np.asfortranarray(np.array(mask, np.uint8))) for mask in answer["masks"]]


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("path", "against", "overlap"),
    [
        ("competent path", "adapter", 0.99),
        ("adapter, int8-cast model", "adapter", 0.95),
        ("adapter, int8-cast model, wrapped", "adapter", 0.99),
        ("adapter, float32 model", "adapter", 0.98),
        ("recipe path", "adapter", 0.75),  # it cuts what the cast saturated at half of the threshold
        ("TF Serving REST", "adapter", 0.98),
        ("adapter, whole decode", "adapter", 1.0),
        ("adapter, jpeg", "adapter", 1.0),
        ("competent path, phone", "adapter, phone", 0.98),  # it squeezes what its frame cuts off
        ("adapter, whole decode, phone", "adapter, phone", 1.0),
        ("adapter, jpeg, phone", "adapter, phone", 1.0),
    ],
)
def test_the_paths_see_the_same(answers, path, against, overlap):
    mine, theirs = masks(answers[path]), masks(answers[against])
    assert len(mine) == len(theirs) == OBJECTS
    overlaps = np.diag(coco.iou(mine, theirs, [0] * OBJECTS))
    assert np.median(overlaps) >= overlap, overlaps


@pytest.mark.campaign
def test_reading_the_masks_is_compared_on_equal_results(build, answers):
    (folder,) = (build / "bench").glob("recorded-*")
    for model in ("int8-cast", "wrapped"):
        assert set(messages.decoding(folder, model, rounds=1)) == {"ours", "fromiter"}
    wrapped = messages.contracts(folder)["int8-cast"]
    assert wrapped.masks.naive_cast
    assert (folder / "wrapped-100.pb").stat().st_size > (folder / "int8-cast-100.pb").stat().st_size


@pytest.mark.campaign
def test_it_runs_and_writes_its_figures(build, answers, capsys):
    bench.main(["--quick", "--build", str(build)])
    figures = json.loads((build / "bench.json").read_text())
    assert set(figures["ratios"]) >= RATIOS
    assert set(figures["absolute"]) >= ABSOLUTE
    assert set(figures["wire_bytes"]) == {"float32", "int8-cast", "int8", "int8, jpeg"}
    assert all(set(one) == {"up", "down"} for one in figures["wire_bytes"].values())
    numbers = [*figures["ratios"].values(), *figures["absolute"].values()]
    assert all(
        np.isfinite(number) and number > 0 for number in numbers if number != figures["absolute"]["ms_per_instance"]
    )
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("floor", "TF Serving REST", "a worker a core, 16", "adapter_over_floor_10"))
    assert (build / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_spread_and_slope_by_hand():
    assert timing.summary([1, 2, 3, 4, 5]) == {"median": 3, "low": 2, "high": 4, "runs": 5}
    assert timing.slope([(0, 1), (1, 3), (2, 5)]) == (2, 1)


def test_ratios_are_of_medians():
    paths = {name: [20.0] for name in bench.PATHS} | {"floor": [10.0]}
    load = {"rps": 10.0, "p50_ms": 5.0, "p99_ms": 10.0}
    figures = report.figures(
        {
            "times": {
                "0 objects": paths,
                "10 objects": paths | {"adapter, jpeg": [14.0]},
                "10 objects, 1 Gbit/s": paths | {"adapter, jpeg": [10.0]},
                "10 objects, 100 Mbit/s": paths | {"adapter, jpeg": [4.0]},
                "100 objects": paths | {"adapter": [16.0, 15.0, 90.0], "recipe path": [1600.0]},
                "12 megapixels": paths | {"adapter": [12.0]},
            },
            "cpu_s": {10: {"adapter": 0.01, "adapter, jpeg": 0.004}, 100: {}},
            "jpeg_cost": {report.SMALL: {"wall_ms": 5.0, "cpu_ms": 6.0}},
            "curves": {"instances": [[0, 1, 10], [100, 1, 14]], "megapixels": []},
            "load": {
                "one worker, 1": load,
                "one worker, 16": load | {"rps": 13.0},
                "a worker a core, 1": load,
                "a worker a core, 16": load | {"rps": 17.0},
            },
            "memory": {100: 50, 1000: 51},
            "cold_s": {"function": timing.summary([0.5]), "plain import": timing.summary([2.0])},
            "imports": {"numpy": 80.0},
            "resident": {"function": 60e6, "plain import": 500e6},
            "decoding": {model: {"ours": [2.0], "fromiter": [200.0]} for model in ("int8-cast", "wrapped")},
            "wire": {"int8": {"up": 3_000_000, "down": 1}, "int8, jpeg": {"up": 240_000, "down": 1}},
            "sizes": {"bundle": 130e6, "plain": 2e9},
            "photos": {},
        }
    )
    ratios = figures["ratios"]
    assert ratios["adapter_over_floor_10"] == 2
    assert ratios["adapter_over_floor_100"] == 1.6
    assert ratios["adapter_jpeg_over_floor_10"] == 0.9  # (14 - 5) / 10
    assert ratios["jpeg_over_int8_cpu_10"] == 0.4
    assert ratios["jpeg_over_int8_up_bytes"] == 0.08
    assert (ratios["int8_over_jpeg_1_gbit"], ratios["int8_over_jpeg_100_mbit"]) == (2, 5)
    assert ratios["recipe_over_adapter_100"] == 100
    assert ratios["scaled_decode_12mp"] == 0.6
    assert ratios["response_decode_speedup"] == 100
    assert ratios["cold_start_over_plain"] == 0.25
    assert (ratios["throughput_16_over_1_one_worker"], ratios["throughput_16_over_1"]) == (1.3, 1.7)
    assert ratios["memory_1000_over_100"] == 1.02
    assert figures["absolute"]["ms_per_instance"] == pytest.approx(0.04)
