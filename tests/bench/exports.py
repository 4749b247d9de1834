"""Memory, time and size of an int8 export and of serving it, beside the source served as it is.

``python -m tests.bench.exports`` prints them for each network of resnets.py, by each route of ROUTES. Every
step is a process of its own; its memory is its peak (VmHWM).
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from skimage import data

from deploy.export.report.segment import Segmentation, encode_png, segment
from deploy.tools.tables import table
from handler.backend import wire
from handler.backend.channel import Channel
from handler.backend.client import ModelClient
from handler.config import Config
from tests.bench import resnets
from tests.support.processes import DIRECT, ROOT, StandIn

ROUTES = ("tensorflow-1", "tensorflow-2", "builder")
DEADLINE_S, LOOK_S = 600, 0.02
REQUESTS = 5  # after one, the peak varies by a tenth from start to start; after five, by 3 %
MB = 1e6
SAVE = "import sys; from tests.bench import resnets; getattr(resnets, sys.argv[1])(*sys.argv[2:])"


@dataclass(frozen=True)
class Usage:
    """Peak memory of a process, its time, and the processor time it took."""

    peak_bytes: int
    wall_s: float
    cpu_s: float


@dataclass(frozen=True)
class Served:
    """A model on the stand-in: once it is ready, after REQUESTS requests, and what the last one found."""

    ready: Usage
    answered: Usage
    size_bytes: int
    found: Segmentation


@dataclass(frozen=True)
class Measured:
    """A source and its int8 export."""

    export: Usage
    source: Served
    int8: Served


def usage(pid, started_s):
    """Return the usage of a running process so far. Raises OSError if it has ended."""
    status = Path(f"/proc/{pid}/status").read_text()
    if "VmHWM" not in status:
        raise ProcessLookupError(pid)
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    cpu_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return Usage(1024 * int(status.split("VmHWM:")[1].split()[0]), time.monotonic() - started_s, cpu_s)


def run(*command):
    """Run a program of Python; return its usage. Raises CalledProcessError if it fails."""
    started_s, last = time.monotonic(), None
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([sys.executable, *map(str, command)], cwd=ROOT, stdout=log, stderr=log)
        while process.poll() is None:
            with suppress(OSError):
                last = usage(process.pid, started_s)
            time.sleep(LOOK_S)
        log.seek(0)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command, log.read().decode())
    return last


def serve(base, log):
    """Start the stand-in with the model under ``base``, and send it a photograph, REQUESTS times."""
    picture = encode_png(np.asarray(data.astronaut()))
    os.environ["no_proxy"] = DIRECT
    started_s = time.monotonic()
    with StandIn("--model_name=model", f"--model_base_path={base}", log=log) as server:
        ready = usage(server.process.pid, started_s)
        channel = Channel(f"{server.host}:{server.port}", "model")
        client = ModelClient(channel, wire.ModelSpec("model"), DEADLINE_S, Config.from_environ({}).matterport)
        try:
            for _ in range(REQUESTS):
                found = client.run(partial(segment, picture))
        finally:
            client.close()
        return Served(ready, usage(server.process.pid, started_s), size(base), found)


def size(folder):
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measure(kind, route, work):
    """Save the network ``kind`` in ``work`` as users of a route have it, export it, and serve both."""
    saved = work / "source" / "1"
    saved.parent.mkdir(parents=True)
    run("-c", SAVE, f"save_{'tensorflow_1' if route == 'tensorflow-1' else 'tensorflow_2'}", saved, kind)
    source = ["--saved-model", saved]
    if route == "builder":
        run("-c", SAVE, "save_weights", work / "mine.weights.h5", kind)
        source = ["--builder", f"{resnets.__name__}:{kind}", "--weights", work / "mine.weights.h5"]
    export = run("-m", "deploy.export", "--output", work / "int8", *source)
    log = work / "log"
    return Measured(export, serve(work / "source", log), serve(work / "int8", log))


HEADER = ("", "", "s", "CPU s", "peak MB", "answered, MB", "disk MB")


def rows(name, one):
    """Return the rows of a table for one measured export."""
    lines = [
        (name, "export", *cells(one.export), "", ""),
        *(
            ("", what, *cells(side.ready), f"{side.answered.peak_bytes / MB:,.0f}", f"{side.size_bytes / MB:,.0f}")
            for what, side in (("source, ready", one.source), ("int8, ready", one.int8))
        ),
    ]
    return [list(line) for line in lines]


def cells(used):
    """Return seconds, processor seconds and megabytes of a process."""
    return f"{used.wall_s:.1f}", f"{used.cpu_s:.1f}", f"{used.peak_bytes / MB:,.0f}"


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", nargs="+", choices=resnets.BLOCKS, default=list(resnets.BLOCKS))
    parser.add_argument("--route", nargs="+", choices=ROUTES, default=ROUTES)
    args = parser.parse_args()
    lines = []
    for kind in args.model:
        for route in args.route:
            with tempfile.TemporaryDirectory() as work:
                lines += rows(f"{kind}, {route}", measure(kind, route, Path(work)))
            print(table(HEADER, lines[-3:], left=2), flush=True)
    print(table(HEADER, lines, left=2))


if __name__ == "__main__":
    main()
