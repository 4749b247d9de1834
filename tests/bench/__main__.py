"""`make bench`: the function beside the least it could take and beside other ways, in one run.

Through real HTTP and real gRPC, against a backend that answers recorded responses at once, so that no time of a
model is in it. The floor decodes the same JPEG with Pillow and makes a bare gRPC call that moves the same bytes. With
the transport jpeg, the backend decodes as the model's graph does, and that time is shown.
"""

import argparse
import functools
import io
import json
import os
import platform
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import simplejpeg
from PIL import Image
from tqdm import tqdm

from deploy.tools.processes import Programs
from tests.bench import link, load, messages, photos, report, starts, timing
from tests.bench.stack import FUNCTIONS, OURS, Stack

CLIENTS = (1, 4, 16)
JPEG = "adapter, jpeg"
TURBO_FLOOR = "floor, simplejpeg"
SETTINGS = {JPEG: {"IMAGE_TRANSPORT": "jpeg"}}
LINKS = {"1 Gbit/s": 1.0, "100 Mbit/s": 0.1}  # between function and backend
SLOPE_COUNTS = (0, 1, 3, 10, 30, 60, 100)
MEGAPIXELS = (1, 2, 4, 8, 12)
PATHS = {  # of the table, in its order; the source of each, the model it asks for
    "adapter": (OURS, "int8"),
    JPEG: (OURS, "int8"),
    "adapter, int8-cast model": (OURS, "int8-cast"),
    "adapter, int8-cast model, wrapped": (OURS, "wrapped"),
    "adapter, float32 model": (OURS, "float32"),
    "recipe path": (FUNCTIONS / "recipe.py", "int8-cast"),
    "competent path": (FUNCTIONS / "competent.py", "int8"),
    "TF Serving REST": (FUNCTIONS / "rest.py", "float32"),
    "adapter, whole decode": (FUNCTIONS / "whole.py", "int8"),
}
SLOW = ("recipe path", "TF Serving REST")


@dataclass(frozen=True)
class Plan:
    """How often what is measured; `slow`: paths that take seconds; `growth`: requests before each look at memory."""

    rounds: int = 60
    warmup: int = 10
    slow: int = 3
    slow_warmup: int = 1
    load_s: float = 8.0
    growth: tuple[int, int] = (100, 1000)
    starts: int = 9


QUICK = Plan(rounds=3, warmup=1, slow=1, slow_warmup=0, load_s=0.5, growth=(10, 30), starts=1)


def main(arguments):
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--build", type=Path, default=Path("build"), help="folder to write bench.json to (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="a few rounds, to see that it works")
    options = parser.parse_args(arguments)
    folder = options.build / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    with Programs(folder) as programs, tempfile.TemporaryDirectory() as logs:
        figures = measure(Stack(folder, programs), Path(logs), QUICK if options.quick else Plan())
    figures["machine"] = {
        "cpus": os.cpu_count(),
        "processor": platform.processor(),
        "python": platform.python_version(),
    }
    (options.build / "bench.json").write_text(json.dumps(figures, indent=1) + "\n")
    report.plot(figures, options.build / "bench.png")
    print(report.table(figures))
    print(f"\nwrote {options.build / 'bench.json'} and {options.build / 'bench.png'}")


def measure(stack, logs, plan):
    """Return all figures."""
    small, phone = photos.small(), photos.phone()
    functions = {}
    try:
        print("starting the functions ...", flush=True)
        for name, (source, model) in PATHS.items():
            functions[name] = stack.start(name, source, model, **SETTINGS.get(name, {}))
        times = paths(stack, functions, small, phone, plan)
        cpu = {objects: processor(stack, functions, small, plan.rounds // 3, objects) for objects in (10, 100)}
        jpeg_cost = backend_cost(stack, functions[JPEG], small, phone, plan.rounds // 3)
        times |= links(stack, small, plan)
        curves = {
            "instances": instances(stack, functions["adapter"], small, plan.rounds),
            "megapixels": megapixels(stack, functions, plan.rounds // 3),
        }
        stack.count(10)
        per_core = functions["a worker a core"] = stack.start("a worker a core", WORKERS=str(os.cpu_count()))
        under_load = {}
        for name, function in (("one worker", functions["adapter"]), ("a worker a core", per_core)):
            for clients in tqdm(CLIENTS, desc=f"under load, {name}", unit="load", leave=False):
                under_load[f"{name}, {clients}"] = load.run(function, small, clients, plan.load_s)
        stack.count(100)
        fresh = functions["growing"] = stack.start("growing")
        print("a thousand requests ...", flush=True)
        memory = starts.growth(fresh, small, *plan.growth)
    finally:
        for function in functions.values():
            function.stop()
    print("starting the function cold, again and again ...", flush=True)
    starts.compile_sources()
    cold, resident = starts.cold(stack, small, logs, plan.starts)
    decoding = {model: messages.decoding(stack.folder, model) for model in ("int8-cast", "wrapped")}
    return report.figures(
        {
            "times": times,
            "cpu_s": cpu,
            "jpeg_cost": jpeg_cost,
            "curves": curves,
            "load": under_load,
            "memory": memory,
            "cold_s": cold,
            "imports": starts.imports(stack, plan.starts),
            "resident": resident,
            "decoding": decoding,
            "wire": messages.wire_bytes(stack.folder, small),
            "sizes": starts.sizes(),
            "photos": {report.SMALL: len(small), report.PHONE: len(phone)},
        }
    )


def by_pillow(photo):
    Image.open(io.BytesIO(photo)).load()


def floor(stack, photo, predict=None, decode=by_pillow):
    """Return the least work for a photograph: decode it, and move the same bytes to the backend and back.

    ``predict`` calls the backend behind a link; without it, there is none.
    """
    sent = messages.request(photo, messages.contracts(stack.folder)["int8"], "int8")

    def run():
        decode(photo)
        (predict or stack.predict)(sent)

    return run


def floors(stack, photo):
    """Return the floor by its name, with Pillow and with the decoder that the function has for ordinary JPEGs."""
    return {"floor": floor(stack, photo), TURBO_FLOOR: floor(stack, photo, decode=simplejpeg.decode_jpeg)}


def paths(stack, functions, small, phone, plan):
    """Return situation -> path -> milliseconds of each round."""
    times = {}
    for objects in (0, 10, 100):
        stack.count(objects)
        fast = floors(stack, small)
        fast |= {name: _post(functions[name], small) for name in PATHS if name not in (*SLOW, "adapter, whole decode")}
        slow = {name: _post(functions[name], small) for name in SLOW}
        what = f"1024 x 1024, {objects} objects"
        times[f"{objects} objects"] = timing.side_by_side(fast, plan.rounds, plan.warmup, what)
        times[f"{objects} objects"] |= timing.side_by_side(slow, plan.slow, plan.slow_warmup, f"{what}, slow paths")
    stack.count(10)
    twelve = floors(stack, phone)
    twelve |= {
        name: _post(functions[name], phone) for name in ("adapter", JPEG, "adapter, whole decode", "competent path")
    }
    times["12 megapixels"] = timing.side_by_side(twelve, plan.rounds, 3, "4032 x 3024, 10 objects")
    return times


def backend_cost(stack, function, small, phone, rounds):
    """Return what decoding costs the backend with the transport jpeg, by photograph: milliseconds by kind of time."""
    costs = {}
    for name, photo in ((report.SMALL, small), (report.PHONE, phone)):
        stack.jpeg_cost()
        for _ in range(rounds):
            function.post(photo)
        costs[name] = stack.jpeg_cost()
    return costs


def links(stack, small, plan):
    """Return situation -> path -> milliseconds of each round, behind links of a certain rate."""
    stack.count(10)
    times = {}
    for name, gbit_per_s in LINKS.items():
        with link.link(stack.address, gbit_per_s) as slow:
            behind = {
                path: stack.start(f"{path}, {name}", TF_SERVING_ADDRESS=slow.address, **SETTINGS.get(path, {}))
                for path in ("adapter", JPEG)
            }
            try:
                timed = {"floor": floor(stack, small, stack.predict_at(slow.address))}
                timed |= {path: _post(function, small) for path, function in behind.items()}
                what = f"10 objects, {name}"
                times[what] = timing.side_by_side(timed, plan.rounds // 3, plan.slow_warmup, what)
            finally:
                for function in behind.values():
                    function.stop()
    return times


def processor(stack, functions, small, rounds, objects):
    """Return the processor seconds a request, by path."""
    stack.count(objects)
    used = {}
    for name in PATHS:
        count = 1 if name in SLOW else rounds
        before = functions[name].cpu_s()
        for _ in range(count):
            functions[name].post(small)
        used[name] = (functions[name].cpu_s() - before) / count
    return used


def instances(stack, adapter, small, rounds):
    """Return [objects, floor ms, adapter ms], medians; all numbers of objects in turn."""
    least, timed = floor(stack, small), {}
    for objects in SLOPE_COUNTS:
        timed |= {
            ("set", objects): functools.partial(stack.count, objects),
            ("floor", objects): least,
            ("adapter", objects): _post(adapter, small),
        }
    times = timing.side_by_side(timed, rounds, 3, "1024 x 1024, by objects")
    medians = {key: timing.summary(values)["median"] for key, values in times.items()}
    return [[objects, medians["floor", objects], medians["adapter", objects]] for objects in SLOPE_COUNTS]


def megapixels(stack, functions, rounds):
    """Return [megapixels, floor ms, adapter ms, adapter with whole decode ms], medians."""
    stack.count(10)
    points = []
    for size in MEGAPIXELS:
        photo = photos.sized(size)
        timed = {"floor": floor(stack, photo)}
        timed |= {name: _post(functions[name], photo) for name in ("adapter", "adapter, whole decode")}
        times = timing.side_by_side(timed, rounds, 2, f"{size} megapixels")
        points.append([size, *(timing.summary(values)["median"] for values in times.values())])
    return points


def _post(function, photo):
    return lambda: function.post(photo)


if __name__ == "__main__":
    main(sys.argv[1:])
