"""What a rate of photographs needs, computed from the figures of `make bench`: `python -m deploy.capacity`.

A photograph passes an instance of the function and a replica of TensorFlow Serving. Each carries what the least of its
limits lets through.
"""

import argparse
import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import product
from pathlib import Path
from typing import Any

from deploy.tools.tables import table

FIGURES = Path("tests/bench/bench.json")  # the committed run
RATES = (1.0, 100.0, 10_000.0)
PHOTO, OBJECTS = "1024 x 1024", "100 objects"  # the case of the benchmark that is read
NUMBERS = (  # what crosses to the model, and the rows of the benchmark
    ("JPEG", "int8, jpeg", "adapter, jpeg"),
    ("int8", "int8", "adapter"),
    ("float32", "float32", "adapter, float32 model"),
)
MONTH_H = 730
GBIT = 8e-9  # of a byte
WIDTH = 110  # of the text above the tables, characters


@dataclass(frozen=True)
class Request:
    """What one photograph costs: bytes of each message, seconds in the function, seconds of its processor.

    ``decode_s``: seconds that the model server decodes it, with the transport jpeg.
    """

    numbers: str
    photo_bytes: float
    up_bytes: float
    down_bytes: float
    function_s: float
    cpu_s: float
    decode_s: float = 0.0


def assumed(default: float, meaning: str) -> float:
    """Return the field of an assumption with its default and its help."""
    return field(default=default, metadata={"help": meaning})


@dataclass(frozen=True)
class Assumptions:
    """What the benchmark does not know; each is an option."""

    utilisation: float = assumed(0.6, "planned share of any limit, at most 1; the autoscaler of Cloud Run aims at 0.6")
    vcpus: float = assumed(2, "vCPUs of an instance, each as fast as a core of the machine of the benchmark")
    memory_gib: float = assumed(1, "memory of an instance, GiB")
    concurrency: float = assumed(16, "requests that an instance takes at once")
    max_instances: float = assumed(100, "most instances that may run; 100 is the default of Cloud Run")
    gbit_per_instance: float = assumed(1, "network of an instance each way, Gbit/s; measure yours")
    answer_bytes: float = assumed(39_000, "bytes of an answer; 100 objects as RLE take 38,985")
    model_ms: float = assumed(100, "milliseconds of the model for an image; measure yours")
    models_at_once: float = assumed(1, "images that a replica works on at once, each within --model-ms")
    gbit_per_replica: float = assumed(10, "network of a replica each way, Gbit/s; measure yours")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables. Exits with code 2 and an error on stderr for a bad option or file."""
    top = argparse.ArgumentParser("python -m deploy.capacity", "%(prog)s [options]", __doc__)
    top.add_argument("--figures", type=Path, default=FIGURES, help="bench.json of `make bench` (%(default)s)")
    top.add_argument(
        "--rates",
        type=lambda text: [above_0(part) for part in text.split(",")],
        default=RATES,
        help="images a second, with commas (1,100,10000)",
    )
    for one in fields(Assumptions):
        flag = f"--{one.name.replace('_', '-')}"
        top.add_argument(flag, type=above_0, default=one.default, help=f"{one.metadata['help']} (%(default)s)")
    args = top.parse_args(arguments)
    if args.utilisation > 1:
        top.error(f"--utilisation must be at most 1, got {args.utilisation:g}")
    try:
        requests = read(args.figures)
    except (OSError, ValueError, KeyError, TypeError) as error:
        top.error(f"--figures must be a file of `make bench`, got {args.figures}: {type(error).__name__}: {error}")
    given = Assumptions(**{one.name: getattr(args, one.name) for one in fields(Assumptions)})
    values = ", ".join(f"{name} {value:g}" for name, value in asdict(given).items())
    print(f"Photographs of {PHOTO} with {OBJECTS}, from {args.figures}.")
    print(f"{textwrap.fill(f'Assumed: {values}.', WIDTH)}\n")
    print(limits_table(requests, given), rate_tables(requests, args.rates, given), sep="\n\n")


def above_0(text: str) -> float:
    """Return the number of an option. Raises ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text}")
    return value


def read(path: Path) -> list[Request]:
    """Return the request as JPEG, in int8 and in float32; an earlier file has none as JPEG.

    Raises OSError, ValueError, KeyError, TypeError for another file.
    """
    found = json.loads(path.read_bytes())
    return [_read_request(found, *names) for names in NUMBERS if names[1] in found["wire_bytes"] or names[0] != "JPEG"]


def _read_request(found: Mapping[str, Any], numbers: str, export: str, way: str) -> Request:
    decode_s = float(found["jpeg_backend_ms"][PHOTO]["wall_ms"]) / 1000 if numbers == "JPEG" else 0.0
    return Request(
        numbers=numbers,
        photo_bytes=float(found["photo_bytes"][PHOTO]),
        up_bytes=float(found["wire_bytes"][export]["up"]),
        down_bytes=float(found["wire_bytes"][export]["down"]),
        function_s=float(found["times_ms"][OBJECTS][way]["median"]) / 1000 - decode_s,
        cpu_s=float(found["cpu_s_per_request_100"][way]),
        decode_s=decode_s,
    )


def instance_limits(request: Request, given: Assumptions) -> dict[str, float]:
    """Return limit -> images a second that one instance of the function carries."""
    messages_s = GBIT * (request.up_bytes + request.down_bytes) / given.gbit_per_instance
    held_s = request.function_s + messages_s + given.model_ms / 1000 + request.decode_s
    return {
        "CPU": given.utilisation * given.vcpus / request.cpu_s,
        "network out": given.utilisation * given.gbit_per_instance / (GBIT * (request.up_bytes + given.answer_bytes)),
        "network in": given.utilisation * given.gbit_per_instance / (GBIT * (request.down_bytes + request.photo_bytes)),
        "requests at once": given.utilisation * given.concurrency / held_s,  # Little's law
    }


def replica_limits(request: Request, given: Assumptions) -> dict[str, float]:
    """Return limit -> images a second that one replica of TensorFlow Serving carries."""
    return {
        "model": given.utilisation * given.models_at_once / (given.model_ms / 1000 + request.decode_s),
        "network in": given.utilisation * given.gbit_per_replica / (GBIT * request.up_bytes),
        "network out": given.utilisation * given.gbit_per_replica / (GBIT * request.down_bytes),
    }


def limits_table(requests: Sequence[Request], given: Assumptions) -> str:
    """Return the table of what each limit of one instance and of one replica lets through."""
    rows = []
    for machine, carried in (("instance", instance_limits), ("replica", replica_limits)):
        each = [carried(request, given) for request in requests]
        for name in each[0]:
            marks = ["*" if one[name] == min(one.values()) else " " for one in each]
            cells = [f"{digits(one[name])} {mark}" for one, mark in zip(each, marks, strict=True)]
            rows.append([f"{machine}: {name}", *cells])
    return table([f"images/s at {given.utilisation:.0%}; * least", *(f"{one.numbers}  " for one in requests)], rows)


def rate_tables(requests: Sequence[Request], rates: Sequence[float], given: Assumptions) -> str:
    """Return the tables of what each rate needs, and of what a month of 730 hours at it is billed by."""
    speeds = ["Gbit/s to model", "from model", "from clients", "to clients"]
    head = ["images/s", "numbers", "instances", "replicas", *speeds, "first limit of the function"]
    bill = ["a month at images/s", "numbers", "vCPU-h busy", "vCPU-h up", "GiB-h up", "GB to clients", "GB with model"]
    needs, months = [], []
    for rate, one in product(rates, requests):
        carried, name = min((carried, name) for name, carried in instance_limits(one, given).items())
        instances = max(1, math.ceil(rate / carried))
        replicas = max(1, math.ceil(rate / min(replica_limits(one, given).values())))
        if instances > given.max_instances:
            name = f"{given.max_instances:,g} instances, at {given.max_instances * carried:,.0f}/s"
        links = [rate * GBIT * size for size in (one.up_bytes, one.down_bytes, one.photo_bytes, given.answer_bytes)]
        first = [f"{rate:,.10g}", one.numbers]
        needs.append([*first, f"{instances:,}", f"{replicas:,}", *map(digits, links), name])
        hours = [rate * one.cpu_s, instances * given.vcpus, instances * given.memory_gib]
        gb_h = [rate * 3.6e-6 * size for size in (given.answer_bytes, one.up_bytes + one.down_bytes)]
        months.append([*first, *(f"{MONTH_H * value:,.0f}" for value in hours + gb_h)])
    return f"{table(head, needs, left=0)}\n\n{table(bill, months, left=0)}"


def digits(value: float) -> str:
    """Return a number above 0 to three digits, with all digits before the point."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:#.3g}"


if __name__ == "__main__":
    main()
