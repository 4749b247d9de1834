"""Many requests at once, each of a few kilobytes that hold millions of pixels: what they cost the function.

``python -m tests.http.crowd`` prints a row for each crowd. ``--tree`` names a folder with another version of the
function, to compare with. The function decodes within what ``default_bytes`` gives for a limit of 1 GiB.
"""

import argparse
import functools
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from handler.memory import default_bytes
from tests.http.request import encode
from tests.http.service import running
from tests.support.processes import ROOT

LIMIT_BYTES = 1 << 30
THREADS = {"WORKERS": "1", "THREADS": "80"}  # more than requests come at once, as deploy/README.md asks
ANSWER_S = 120  # at most, on a busy machine
HEALTH_EVERY_S = 0.1
SIDE, SMALL_SIDE = 7000, 4000


@dataclass(frozen=True)
class Crowd:
    """How many answers had each status, the slowest /health and answer in s, the peak of all processes, bytes."""

    statuses: Counter
    health_s: float
    slowest_s: float
    peak_bytes: int


@functools.cache
def sixteen():
    """Return sixteen PNGs of 49 megapixels and about 150 kB."""
    return [encode(Image.new("RGB", (SIDE, SIDE), (10, 20, 30)), "PNG")] * 16


@functools.cache
def worst():
    """Return 64 images of the kinds that take the most memory, of 1.2 MB at most."""
    kinds = [
        *(encode(Image.new(mode, (SIDE, SIDE), 1), "PNG") for mode in ("RGB", "RGBA", "LA", "I;16")),
        encode(Image.new("P", (SIDE, SIDE)), "PNG", transparency=0),
        encode(Image.new("RGB", (SIDE, SIDE)), "PNG", transparency=(0, 0, 0)),
        encode(Image.new("RGB", (SIDE, SIDE)), "JPEG", progressive=True, subsampling=0),
        encode(Image.new("CMYK", (SIDE, SIDE)), "JPEG", progressive=True),
        encode(Image.new("RGB", (SIDE, SIDE)), "JPEG")[:-2],
        encode(Image.new("RGB", (SIDE, SIDE)), "JPEG")[:-99],
        encode(Image.new("RGB", (SIDE, SIDE)), "WEBP", lossless=True, quality=0, method=0),
        *(encode(Image.new(mode, (SMALL_SIDE, SMALL_SIDE), 1), "WEBP", method=0) for mode in ("RGB", "RGBA")),
        encode(Image.new("RGB", (SMALL_SIDE, SMALL_SIDE)), "JPEG", progressive=True, subsampling=0),
        encode(Image.new("CMYK", (SMALL_SIDE, SMALL_SIDE)), "JPEG", progressive=True),
        encode(Image.new("RGB", (640, 480)), "JPEG"),
    ]
    return kinds * 4


@contextmanager
def limited(folder, tree=ROOT):
    """Yield the function with the budget that it would have in a container of LIMIT_BYTES."""
    budget = str(default_bytes(LIMIT_BYTES, int(THREADS["WORKERS"]), int(THREADS["THREADS"])))
    with running(folder, cwd=tree, DECODE_MEMORY_BYTES=budget, **THREADS) as function:
        function.answer_s = ANSWER_S
        yield function


def send(function, bodies):
    """Send all bodies at once, and ask for /health all the while."""
    waits_s, done = [], threading.Event()

    def watch():
        while not done.is_set():
            started_s = time.perf_counter()
            assert function.get("/health").status == 200
            waits_s.append(time.perf_counter() - started_s)
            done.wait(HEALTH_EVERY_S)

    def post(body):
        started_s = time.perf_counter()
        status = function.post(body).status
        return status, time.perf_counter() - started_s

    function.forget_peak()
    with ThreadPoolExecutor(1) as watcher, ThreadPoolExecutor(len(bodies)) as pool:
        watching = watcher.submit(watch)
        try:
            answers = list(pool.map(post, bodies))
        finally:
            done.set()
        watching.result()
    statuses, took_s = zip(*answers, strict=True)
    return Crowd(Counter(statuses), max(waits_s), max(took_s), function.peak_bytes_of_all())


def main():
    """Print what each crowd costs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tree", type=Path, default=ROOT, help="folder with main.py of the function")
    tree = parser.parse_args().tree
    print("| at once | answers | peak, MB | slowest /health, s | slowest answer, s |\n|---|---|---|---|---|")  # noqa: T201
    for name, bodies in (("16 PNGs of 49 megapixels", sixteen()), ("64 of the worst kinds", worst())):
        with TemporaryDirectory() as folder, limited(Path(folder), tree) as function:
            found = send(function, bodies)
        told = ", ".join(f"{count} x {status}" for status, count in sorted(found.statuses.items()))
        peak = round(found.peak_bytes / 1e6)
        print(f"| {name} | {told} | {peak} | {found.health_s:.2f} | {found.slowest_s:.1f} |", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
