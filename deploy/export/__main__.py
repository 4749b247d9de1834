"""Export a Mask R-CNN for TensorFlow Serving, with an int8 boundary.

Without --builder, the bundled model of circles, squares and triangles is exported.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.model import bundled
from handler.config import MATTERPORT_MEAN
from handler.contract import AnchorInput, MatterportSettings, Resize
from handler.errors import ContractViolation

KINDS = {
    "boundary": "lossless int8 image up, each detection's int8 mask down, self-describing (the one to deploy)",
    "article": "the article's recipe: int8 casts that lose what does not fit (for clients that already run it)",
    "float32": "unchanged (the baseline to compare with)",
}

OWN: dict[str, Any] = {  # what the options say of a model of one's own where they are not given
    "labels": (),
    "mean": MATTERPORT_MEAN,
    "resize_mode": "square",
    "min_dim": 800,
    "max_dim": 1024,
    "min_scale": 0.0,
    "anchor_scales": (32, 64, 128, 256, 512),
    "anchor_ratios": (0.5, 1, 2),
    "strides": (4, 8, 16, 32, 64),
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m deploy.export", description=__doc__)
    commands = top.add_subparsers(dest="kind", required=True, metavar="KIND")
    for kind, text in KINDS.items():
        command = commands.add_parser(kind, help=text, description=text.capitalize() + ".")
        command.add_argument("--output", type=Path, required=True, help="folder that gets the next version, 1, 2, ...")
        command.add_argument("--builder", help="package.module:function that returns the Keras inference model")
        command.add_argument("--weights", type=Path, help="its weights, .weights.h5 (needed with --builder)")
        own = command.add_argument_group("a model of your own", "Only with --builder; the defaults are Matterport's.")
        own.add_argument("--labels", type=labels_file, metavar="FILE", help="class names, one a line, class 1 first")
        own.add_argument("--mean", type=float, nargs=3, metavar=("R", "G", "B"), help="MEAN_PIXEL (123.7 116.8 103.9)")
        own.add_argument("--resize-mode", choices=("square", "pad64"), help="IMAGE_RESIZE_MODE (square)")
        own.add_argument("--min-dim", type=int, metavar="PX", help="IMAGE_MIN_DIM (800)")
        own.add_argument("--max-dim", type=int, metavar="PX", help="IMAGE_MAX_DIM (1024)")
        own.add_argument("--min-scale", type=float, metavar="X", help="IMAGE_MIN_SCALE (0: none)")
        own.add_argument("--anchor-scales", type=float, nargs="+", metavar="PX", help="RPN_ANCHOR_SCALES (32 ... 512)")
        own.add_argument("--anchor-ratios", type=float, nargs="+", metavar="X", help="RPN_ANCHOR_RATIOS (0.5 1 2)")
        own.add_argument("--strides", type=int, nargs="+", metavar="PX", help="BACKBONE_STRIDES (4 8 16 32 64)")
    return top


def labels_file(path: str) -> tuple[str, ...]:
    """The names in a text file, one a line; empty lines do not count."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise argparse.ArgumentTypeError(f"must be a text file, got {path}: {error}") from error
    return tuple(line.strip() for line in lines if line.strip())


def main(arguments: list[str] | None = None) -> int:
    """Export and print the new folder; errors are one line on stderr, exit code 1."""
    top = parser()
    args = top.parse_args(arguments)
    if (args.builder is None) != (args.weights is None):
        top.error("--builder and --weights go together")
    given = {name: value for name in OWN if (value := getattr(args, name)) is not None}
    if args.builder is None and given:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        top.error(f"{options} must come with --builder: the bundled model has its own settings")
    print("loading TensorFlow ...", file=sys.stderr, flush=True)
    from deploy.export import signatures, write  # noqa: PLC0415  (TensorFlow takes seconds: --help must not)
    from deploy.export.source import ExportError, from_builder  # noqa: PLC0415

    try:
        if args.builder is None:
            source = from_builder(bundled.BUILDER, bundled.WEIGHTS, bundled.SETTINGS)
        else:
            source = from_builder(args.builder, args.weights, settings(OWN | given))
        print(f"exporting {source.description} as {args.kind} ...", file=sys.stderr, flush=True)
        print(write.write(getattr(signatures, args.kind)(source), args.output))
    except (ExportError, ContractViolation) as error:
        print(f"export: {error}", file=sys.stderr)
        return 1
    return 0


def settings(own: Mapping[str, Any]) -> MatterportSettings:
    """What the options named in OWN say of a model. Raises ContractViolation where they do not fit together."""
    return MatterportSettings(
        resize=Resize(
            mode=own["resize_mode"], min_dim=own["min_dim"], max_dim=own["max_dim"], min_scale=own["min_scale"]
        ),
        mean=tuple(own["mean"]),
        anchors=AnchorInput(
            scales=tuple(own["anchor_scales"]), ratios=tuple(own["anchor_ratios"]), strides=tuple(own["strides"])
        ),
        labels=own["labels"],
    )


if __name__ == "__main__":
    sys.exit(main())
