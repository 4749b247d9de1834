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
from handler.config import Config
from handler.contract import AnchorInput, MatterportSettings, Resize
from handler.errors import ContractViolation

KINDS = {
    "boundary": "lossless int8 image up, each detection's int8 mask down, self-describing (the one to deploy)",
    "article": "the article's recipe: int8 casts that lose what does not fit (for clients that already run it)",
    "float32": "unchanged (the baseline to compare with)",
}

MATTERPORT = Config.from_environ({}).matterport
OWN: dict[str, Any] = {  # the options that describe a model of one's own, and what holds where they are not given
    "labels": MATTERPORT.labels,
    "mean": MATTERPORT.mean,
    "resize_mode": MATTERPORT.resize.mode,
    "min_dim": MATTERPORT.resize.min_dim,
    "max_dim": MATTERPORT.resize.max_dim,
    "min_scale": MATTERPORT.resize.min_scale,
    "anchor_scales": MATTERPORT.anchors.scales,
    "anchor_ratios": MATTERPORT.anchors.ratios,
    "strides": MATTERPORT.anchors.strides,
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
        add_own(
            command.add_argument_group("a model of your own", "Only with --builder; the defaults are Matterport's.")
        )
    return top


def add_own(group: argparse._ArgumentGroup) -> None:
    """Add the options in OWN, each named after the setting of the function that says the same."""
    add = group.add_argument
    add("--labels", type=labels_file, metavar="FILE", help="class names, one a line, class 1 first")
    add("--mean", type=float, nargs=3, metavar=("R", "G", "B"), help="MEAN_PIXEL" + default("mean"))
    add("--resize-mode", choices=("square", "pad64"), help="IMAGE_RESIZE_MODE" + default("resize_mode"))
    add("--min-dim", type=int, metavar="PX", help="IMAGE_MIN_DIM" + default("min_dim"))
    add("--max-dim", type=int, metavar="PX", help="IMAGE_MAX_DIM" + default("max_dim"))
    add("--min-scale", type=float, metavar="X", help="IMAGE_MIN_SCALE" + default("min_scale"))
    add("--anchor-scales", type=float, nargs="+", metavar="PX", help="RPN_ANCHOR_SCALES" + default("anchor_scales"))
    add("--anchor-ratios", type=float, nargs="+", metavar="X", help="RPN_ANCHOR_RATIOS" + default("anchor_ratios"))
    add("--strides", type=int, nargs="+", metavar="PX", help="BACKBONE_STRIDES" + default("strides"))


def default(name: str) -> str:
    """The default of an option in OWN, as its help shows it."""
    value = OWN[name]
    return f" ({' '.join(f'{part:g}' for part in value) if isinstance(value, tuple) else value})"


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
