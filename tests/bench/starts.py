"""What starting costs: seconds to the first answer, resident memory, and what is installed."""

import statistics

from deploy.bundle import pins
from tests.bench import timing
from tests.bench.stack import FUNCTIONS, OURS, Function


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
