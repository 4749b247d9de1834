"""Export a Mask R-CNN for TensorFlow Serving, with an int8 boundary.

Without --builder, the bundled model of circles, squares and triangles is exported.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from deploy.model import bundled
from handler.contract import AnchorInput, MatterportSettings, Resize

KINDS = {
    "boundary": "lossless int8 image up, each detection's int8 mask down, self-describing (the one to deploy)",
    "article": "the article's recipe: int8 casts that lose what does not fit (for clients that already run it)",
    "float32": "unchanged (the baseline to compare with)",
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
        command.add_argument("--labels", type=Path, help="class names, one a line, class 1 first")
        command.add_argument("--resize-mode", choices=("square", "pad64"), default="square")
        command.add_argument("--min-dim", type=int, default=800, help="Matterport's IMAGE_MIN_DIM (%(default)s)")
        command.add_argument("--max-dim", type=int, default=1024, help="Matterport's IMAGE_MAX_DIM (%(default)s)")
        command.add_argument("--anchor-scales", type=float, nargs="+", default=[32, 64, 128, 256, 512])
    return top


def main(arguments: list[str] | None = None) -> int:
    """Export and print the new folder; errors are one line on stderr, exit code 1."""
    top = parser()
    args = top.parse_args(arguments)
    if (args.builder is None) != (args.weights is None):
        top.error("--builder and --weights go together")
    print("loading TensorFlow ...", file=sys.stderr, flush=True)
    from deploy.export import signatures, write  # noqa: PLC0415  (TensorFlow takes seconds: --help must not)
    from deploy.export.source import ExportError, from_builder  # noqa: PLC0415

    try:
        if args.builder is None:
            source = from_builder(bundled.BUILDER, bundled.WEIGHTS, bundled.SETTINGS)
        else:
            source = from_builder(args.builder, args.weights, settings(args))
        print(f"exporting {source.description} as {args.kind} ...", file=sys.stderr, flush=True)
        print(write.write(getattr(signatures, args.kind)(source), args.output))
    except ExportError as error:
        print(f"export: {error}", file=sys.stderr)
        return 1
    return 0


def settings(args: argparse.Namespace) -> MatterportSettings:
    """What the options say of a model; Matterport's own settings by default."""
    labels = tuple(args.labels.read_text().split("\n")) if args.labels else ()
    return MatterportSettings(
        resize=Resize(mode=args.resize_mode, min_dim=args.min_dim, max_dim=args.max_dim),
        mean=bundled.SETTINGS.mean,
        anchors=AnchorInput(scales=tuple(args.anchor_scales)),
        labels=tuple(label.strip() for label in labels if label.strip()),
    )


if __name__ == "__main__":
    sys.exit(main())
