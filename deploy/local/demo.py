"""The whole journey on one photograph: export, serve, ask over HTTP, draw the answer, count the bytes.

    python -m deploy.local.demo [--model people] [--image photo.jpg] [--port 8080]

Writes to ``build/demo``: result.json (the function's answer), overlay.png, coins.png or astronaut.png (the photograph,
unless one is given) and the programs' logs. Stops all that it started.
"""

import argparse
import json
import mimetypes
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.local import exports, models, stack, traffic
from deploy.local.photo import read_image, write_photo
from deploy.tools import overlay
from deploy.tools.processes import Programs, RunError, environment
from deploy.tools.signals import stop_signals
from deploy.tools.tables import table
from handler.errors import SegmentError
from handler.image.decode import Limits, decode_image

ROWS = 40  # instances listed; result.json has them all


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; return the exit code. An error is one line on stderr."""
    args = parser().parse_args(arguments)
    try:
        with stop_signals():
            demo(models.MODELS[args.model], args.image, args.port, args.build)
    except (RunError, SegmentError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted; everything is stopped", file=sys.stderr)
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    top = argparse.ArgumentParser(prog="python -m deploy.local.demo", description="Find objects in a photograph.")
    models.add_option(top)
    top.add_argument("--image", type=Path, help="a photograph (default: one of scikit-image)")
    top.add_argument("--port", type=stack.port_number, default=0, help="of the function (default: a free one)")
    top.add_argument("--build", type=Path, default=Path("build"), help="folder to write to (%(default)s)")
    return top


def demo(model: models.Model, image: Path | None, port: int, build: Path) -> None:
    """Run the demo in the folder ``build``. Raises RunError or SegmentError."""
    stack.check_port(port, "PORT")
    folder = build / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    path = image or write_photo(folder / f"{model.photo}.png")
    data = read_image(path)
    photo = decode_image(data, Limits()).upright()
    exports.ensure(build, folder, model.kinds, model)
    free_http, grpc_port = stack.free_ports(2)
    http_port, address = port or free_http, f"{stack.HOST}:{grpc_port}"
    names = {kind: model.name if kind == "int8" else kind for kind in model.kinds}  # that the exports are served by
    bases = {name: exports.base_path(build, kind, model) for kind, name in names.items()}
    with Programs(folder) as programs:
        print("starting the stand-in for TensorFlow Serving and the function ...", flush=True)
        stack.start(programs, folder, bases, grpc_port, http_port)
        answer = ask(programs, http_port, path, data)
        (folder / "result.json").write_bytes(answer)
        result = json.loads(answer)
        overlay.draw(photo, result["instances"]).save(folder / "overlay.png")
        print(f"\n{describe(result)}\n\nmeasuring the same photograph with each export ...", flush=True)
        os.environ.update(environment({}))
        measured = [traffic.measure(address, name, kind, data) for kind, name in names.items()]
        as_jpeg = traffic.as_jpeg(data)
        measured.append(traffic.measure(address, names["int8"], "int8, as JPEG", as_jpeg, "jpeg"))
    print(f"\nBetween function and model, for this photograph:\n{traffic.describe(measured)}")
    print(f"\nwrote {folder / 'result.json'} and {folder / 'overlay.png'}")


def ask(programs: Programs, http_port: int, path: Path, data: bytes) -> bytes:
    """POST the image to the function and return its answer. Raises RunError for any but 200."""
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    started = time.perf_counter()
    status, answer = stack.post(programs, http_port, data, kind)
    took_s = time.perf_counter() - started
    if status != 200:
        raise RunError(f"the function must answer 200, got {status}: {answer.decode(errors='replace')}")
    print(
        f"POST {path.name}, {len(data):,} bytes: {status} in {1000 * took_s:.0f} ms, {len(answer):,} bytes", flush=True
    )
    return answer


def describe(result: Mapping[str, Any]) -> str:
    """Return the instances of an answer as a table, and their count by label."""
    instances = result["instances"]
    counts = Counter(overlay.name(instance) for instance in instances)
    total = ", ".join(_count(count, label) for label, count in counts.most_common())
    rows = [
        [
            overlay.name(one),
            f"{one['score']:.3f}",
            *(str(one["box"][side]) for side in ("x", "y", "width", "height")),
            str(one["area"]),
        ]
        for one in instances[:ROWS]
    ]
    more = f"\n... and {len(instances) - ROWS} more" if len(instances) > ROWS else ""
    return f"{table(['label', 'score', 'x', 'y', 'width', 'height', 'area'], rows)}{more}\n\n{total or 'no objects'}"


def _count(count: int, label: str) -> str:
    return f"{count} {label}s" if count != 1 and label.isalpha() else f"{count} {label}"


if __name__ == "__main__":
    sys.exit(main())
