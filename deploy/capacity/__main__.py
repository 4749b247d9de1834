"""``python -m deploy.capacity``: instances, bandwidth, replicas and quantities for a rate of photographs."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from deploy.capacity import figures, page
from deploy.capacity.plan import Assumptions, PlanError
from deploy.tools.processes import RunError

FIGURES = Path("tests/bench/bench.json")  # the run that the documents quote
RATES = (1.0, 100.0, 10_000.0)
WIDTH = 110  # of the text above the tables, characters


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; return the exit code. What goes wrong is told in a line on stderr."""
    args = parser().parse_args(arguments)
    try:
        given = Assumptions(**{one.name: getattr(args, one.name) for one in fields(Assumptions)})
        requests = figures.read(args.figures, figures.Own(args.cpu_ms, args.float32_cpu_ms, args.photo_bytes))
        text = page.page(requests, args.rates, given)
        if args.picture:
            from deploy.capacity import picture  # noqa: PLC0415  (Matplotlib takes a second that the tables need not)

            picture.draw(requests, given, args.picture)
    except (RunError, PlanError, OSError) as error:
        print(f"capacity: {error}", file=sys.stderr)
        return 1
    assumed = ", ".join(f"{name} {value:g}" for name, value in asdict(given).items())
    print(f"Photographs of {figures.PHOTO} with {figures.OBJECTS}, by {args.figures}.")
    print(f"{textwrap.fill(f'Assumed: {assumed}.', WIDTH)}\n\n{text}")
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line: one option for each assumption."""
    top = argparse.ArgumentParser(prog="python -m deploy.capacity", description=__doc__)
    top.add_argument("--figures", type=Path, default=FIGURES, help="bench.json of `make bench` (%(default)s)")
    top.add_argument("--rates", type=rates, default=RATES, help="images a second, comma-separated (1,100,10000)")
    top.add_argument("--cpu-ms", type=float, help="processor milliseconds of a request in int8 (as measured)")
    top.add_argument(
        "--float32-cpu-ms", type=float, help="the same in float32 (as measured, or int8's as a lower bound)"
    )
    top.add_argument("--photo-bytes", type=float, help="bytes of a photograph (as measured)")
    top.add_argument("--picture", type=Path, help="also draw bandwidth and instances against the rate, as PNG")
    for one in fields(Assumptions):
        flag, meaning = f"--{one.name.replace('_', '-')}", one.metadata["help"].replace("%", "%%")
        top.add_argument(flag, type=float, default=one.default, help=f"{meaning} (%(default)s)")
    return top


def rates(text: str) -> list[float]:
    """Return the rates of the command line. Raises ArgumentTypeError: not numbers."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be numbers with commas between, got {text}") from None


if __name__ == "__main__":
    sys.exit(main())
