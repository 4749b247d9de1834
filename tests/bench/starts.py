"""What starting costs: seconds to the first answer, resident memory, and what is installed."""

import statistics
import subprocess
import sys
import time
from collections import defaultdict

from deploy.bundle import pins
from deploy.tools.processes import environment
from tests.bench import timing
from tests.bench.stack import FUNCTIONS, OURS, Function

NAMES = {"_cython": "grpc", "google": "protobuf", "handler": "this function", "main": "this function"}
LIBRARY = "Python's standard library"


def compile_sources():
    """Write the function's bytecode, as the build of a container does: some environments forbid Python to keep any."""
    subprocess.run([sys.executable, "-m", "compileall", "-q", OURS, OURS.parent / "handler"], check=True)


def cold(stack, photo, logs, runs):
    """Return seconds from starting the process to its first answer to a photograph, and bytes resident then.

    In turn: the function, and the same function that imports tensorflow_serving plainly.
    """
    sources = {"function": OURS, "plain import": FUNCTIONS / "plain.py"}
    times, memory = {name: [] for name in sources}, {name: [] for name in sources}
    for _ in range(runs):
        for name, source in sources.items():
            function = Function(f"cold {name}", source, stack.settings("int8"), logs)
            try:
                function.wait(lambda function=function: function.post(photo))
                times[name].append(timing.since_s(function.started_s))
                memory[name].append(function.resident_bytes())
            finally:
                function.stop()
    return (
        {name: timing.summary(values) for name, values in times.items()},
        {name: statistics.median(values) for name, values in memory.items()},
    )


def imports(stack, runs):
    """Return package -> milliseconds that its own modules take to import, and the start of Python; medians."""
    settings = environment(stack.settings("int8"))
    times = {}
    for _ in range(runs):
        took = defaultdict(float)
        started_s = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        took["Python itself"] = 1000 * timing.since_s(started_s)
        command = [sys.executable, "-X", "importtime", "-c", "import main"]
        told = subprocess.run(command, env=settings, cwd=OURS.parent, capture_output=True, text=True, check=True)
        for line in told.stderr.splitlines():
            if line.startswith("import time:") and "self [us]" not in line:
                own_us, _, module = line.removeprefix("import time:").split("|")
                package = module.strip().partition(".")[0]
                standard = package in sys.stdlib_module_names
                took[LIBRARY if standard else NAMES.get(package, package)] += int(own_us) / 1000
        for package, ms in took.items():
            times.setdefault(package, []).append(ms)
    return dict(sorted(((name, statistics.median(ms)) for name, ms in times.items()), key=lambda one: -one[1]))


def growth(function, photo, first, last):
    """Return the resident bytes after `first` and after `last` requests."""
    after = {}
    for count in range(1, last + 1):
        function.post(photo)
        if count in (first, last):
            after[count] = function.resident_bytes()
    return after


def sizes():
    """Return the bytes that the bundle's packages take, and those of the plain requirements."""
    return {"bundle": pins.installed_bytes(pins.slim()), "plain": pins.installed_bytes(pins.direct())}
