"""`make faults`: what the function answers while its model servers and its clients misbehave.

Prints a table, and writes it to BUILD/faults.md, its figures to BUILD/faults.json. Exits with 1 unless all rows are
right.
"""

import argparse
import json
import os
import random
import re
import sys
import traceback
from contextlib import ExitStack
from pathlib import Path

from deploy.tools.signals import stop_signals
from tests.faults import report
from tests.faults.row import Row
from tests.faults.scenarios import SCENARIOS
from tests.faults.stage import Stage

UNITS_S = {"s": 1, "m": 60, "h": 3600}


def seconds(text):
    """Read a time such as 90s, 60m or 1h."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if not match:
        raise argparse.ArgumentTypeError(f"a time must be a number and s, m or h, such as 60m, got {text!r}")
    return float(match[1]) * UNITS_S[match[2]]


def arguments(argv):
    names = [one.name for one in SCENARIOS]
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--build", type=Path, default=Path("build"), help="folder for the results (%(default)s)")
    parser.add_argument("--minutes", type=float, default=30.0, help="of all scenarios together (%(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="of when and whom faults meet; printed")
    parser.add_argument("--soak", type=seconds, default=os.environ.get("SOAK") or None, help="of the soak, such as 60m")
    parser.add_argument("--only", action="append", choices=names, metavar="SCENARIO", help=f"one of {', '.join(names)}")
    return parser.parse_args(argv)


def play(scenario, stage, row):
    """Run a scenario; what ends it is a fault of its row."""
    try:
        scenario.run(stage, row)
    except Exception as error:  # noqa: BLE001 - the other scenarios run nevertheless
        traceback.print_exc()
        row.other_faults.append(f"{type(error).__name__}: {error}".splitlines()[0])


def main(argv):
    options = arguments(argv)
    seed = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    chosen = [one for one in SCENARIOS if options.only is None or one.name in options.only]
    folder = (options.build / "faults").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    shares = sum(one.share for one in chosen)
    rows = []
    print(f"--seed={seed}", flush=True)
    with stop_signals(), ExitStack() as stack:
        stage = Stage(options.build, folder, stack)
        for place, scenario in enumerate(chosen, 1):
            takes_s = 60 * options.minutes * scenario.share / shares
            if scenario.name == "soak" and options.soak:
                takes_s = options.soak
            print(f"{place}/{len(chosen)} {scenario.name}, {takes_s:.0f} s ...", flush=True)
            rows.append(Row(scenario, takes_s, seed))
            play(scenario, stage, rows[-1])
            print(report.line(rows[-1]), flush=True)
            write(options, seed, rows)
    print(f"\n{report.markdown(rows)}\n\nwrote {options.build / 'faults.md'} and {options.build / 'faults.json'}")
    return int(any(row.faults() for row in rows))


def write(options, seed, rows):
    """Write what is known so far."""
    found = {"seed": seed, "minutes": options.minutes, "rows": [report.figures(row) for row in rows]}
    (options.build / "faults.json").write_text(json.dumps(found, indent=1) + "\n")
    (options.build / "faults.md").write_text(f"Seed {seed}, {options.minutes:g} minutes.\n\n{report.markdown(rows)}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
