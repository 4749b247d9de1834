"""Export an instance-segmentation model for TensorFlow Serving, with int8 inputs and outputs.

The source is --saved-model (TensorFlow 1 or 2: Matterport's Mask R-CNN, TensorFlow's Object Detection API and Hub, or
the Model Garden), or --builder and --weights (Keras), or, without either, the bundled model of circles, squares and
triangles. Without a KIND, int8 is exported. Exit codes: 0 done, 1 not possible, 2 options that do not fit.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.export.kinds import DEFAULT, DIALECTS, KINDS
from deploy.export.labels import read_labels
from deploy.models.shapes import bundled
from deploy.tools.signals import stop_signals
from handler.config import Config
from handler.errors import ContractViolation
from handler.model.contract import AnchorInput, MatterportSettings, Resize

if TYPE_CHECKING:
    from deploy.export.source import Source

MATTERPORT = Config.from_environ({}).matterport
OWN: dict[str, Any] = {  # the options that describe a Matterport model of one's own, and what holds without them
    "mean": MATTERPORT.mean,
    "resize_mode": MATTERPORT.resize.mode,
    "min_dim": MATTERPORT.resize.min_dim,
    "max_dim": MATTERPORT.resize.max_dim,
    "min_scale": MATTERPORT.resize.min_scale,
    "anchor_scales": MATTERPORT.anchors.scales,
    "anchor_ratios": MATTERPORT.anchors.ratios,
    "strides": MATTERPORT.anchors.strides,
}
EVERYONES = ("max_dim",)  # of those, what the other dialects have too


def parser() -> argparse.ArgumentParser:
    """The command line."""
    summary, _, rest = str(__doc__).partition("\n\n")
    top = argparse.ArgumentParser(prog="python -m deploy.export", description=summary, epilog=rest)
    commands = top.add_subparsers(dest="kind", required=True, metavar="KIND")
    for kind, text in KINDS.items():
        command = commands.add_parser(kind, help=text, description=text)
        add = command.add_argument
        if kind == "report":
            photos = "folder of photographs, JPEG, PNG or WebP"
            add("--images", type=Path, required=True, metavar="FOLDER", help=photos)
            add("--output", type=Path, required=True, metavar="FILE", help="the page, .html; beside it goes a .json")
        else:
            where = "base path of the model: a folder that gets the next version, 1, 2, ..."
            add("--output", type=Path, required=True, metavar="FOLDER", help=where)
        _add_source(command.add_argument_group("the source"))
        _add_own(
            command.add_argument_group(
                "a Matterport model of your own", "What it was trained with; the defaults are Matterport's."
            )
        )
    return top


def _add_source(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--saved-model", type=Path, metavar="FOLDER", help="a float32 SavedModel: the folder with saved_model.pb")
    add("--signature", default="serving_default", metavar="NAME", help="its signature (%(default)s)")
    add("--dialect", choices=DIALECTS, help="which inputs and outputs it has (default: as its signature looks)")
    add("--builder", metavar="MODULE:FUNCTION", help="package.module:function that returns a Keras inference model")
    add("--weights", type=Path, metavar="FILE", help="its weights, .h5 (needed with --builder)")
    what = "class names: one a line, class 1 first; or JSON, id -> name; or COCO categories"
    add("--labels", type=_labels_file, metavar="FILE", help=what)


def _add_own(group: argparse._ArgumentGroup) -> None:
    """Add the options in OWN, each named after the setting of the function that says the same."""
    add = group.add_argument
    add("--mean", type=float, nargs=3, metavar=("R", "G", "B"), help="MEAN_PIXEL" + _default("mean"))
    add("--resize-mode", choices=("square", "pad64"), help="IMAGE_RESIZE_MODE" + _default("resize_mode"))
    add("--min-dim", type=int, metavar="PX", help="IMAGE_MIN_DIM" + _default("min_dim"))
    others = "; of every dialect: the longer side of the image that is sent, at most"
    add("--max-dim", type=int, metavar="PX", help="IMAGE_MAX_DIM" + _default("max_dim") + others)
    add("--min-scale", type=float, metavar="X", help="IMAGE_MIN_SCALE" + _default("min_scale"))
    add("--anchor-scales", type=float, nargs="+", metavar="PX", help="RPN_ANCHOR_SCALES" + _default("anchor_scales"))
    add("--anchor-ratios", type=float, nargs="+", metavar="X", help="RPN_ANCHOR_RATIOS" + _default("anchor_ratios"))
    add("--strides", type=int, nargs="+", metavar="PX", help="BACKBONE_STRIDES" + _default("strides"))


def _default(name: str) -> str:
    """The default of an option in OWN, as its help shows it."""
    value = OWN[name]
    return f" ({' '.join(f'{part:g}' for part in value) if isinstance(value, tuple) else value})"


def _labels_file(path: str) -> dict[int, str]:
    try:
        return read_labels(Path(path))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Export and print the new folder; what is wrong is told in one line on stderr. Return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or (given[0].startswith("-") and given[0] not in ("-h", "--help")):
        given.insert(0, DEFAULT)
    top = parser()
    args = top.parse_args(given)
    own = {name: value for name in OWN if (value := getattr(args, name)) is not None}
    if problem := _misfit(args, own):
        top.error(problem)
    try:
        with stop_signals():
            return _run(args, own)
    except KeyboardInterrupt:
        print("export: interrupted; nothing is left behind", file=sys.stderr)
        return 1


def _misfit(args: argparse.Namespace, own: Mapping[str, Any]) -> str | None:
    """Return what is wrong with options that do not go together."""
    if (args.builder is None) != (args.weights is None):
        return "--builder and --weights go together"
    if args.builder is not None and args.saved_model is not None:
        return "the source must be --saved-model or --builder, got both"
    if args.saved_model is None and (args.dialect or args.signature != "serving_default"):
        return "--signature and --dialect are for --saved-model"
    if args.builder is None and args.saved_model is None:
        options = [f"--{name.replace('_', '-')}" for name in own] + ["--labels"] * (args.labels is not None)
        if options:
            return f"{', '.join(options)} must come with --saved-model or --builder: the bundled model has its own"
    return None


def _run(args: argparse.Namespace, own: Mapping[str, Any]) -> int:
    with _step("loading TensorFlow"):  # it takes seconds: --help must not
        from deploy.export import signatures, write  # noqa: PLC0415
        from deploy.export.graphs import ExportError  # noqa: PLC0415

        logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it calls the loader of old models deprecated
    try:
        with _step("reading the source"):
            source = _source(args, own)
        if args.kind == "report":
            from deploy.export.report.folder import write_report  # noqa: PLC0415 - it draws, the others do not

            print(write_report(source, args.images, args.output))
            return 0
        with _step(f"exporting {source.graph.description}, {source.dialect}, as {args.kind}"):
            folder = write.write(getattr(signatures, args.kind.replace("-", "_"))(source), args.output)
        print(folder)
    except (ExportError, ContractViolation) as error:
        print(f"export: {error}", file=sys.stderr)
        return 1
    return 0


def _source(args: argparse.Namespace, own: Mapping[str, Any]) -> Source:
    """Read what the options name. Raises ExportError or ContractViolation."""
    from deploy.export import graphs, source  # noqa: PLC0415

    if args.builder is None and args.saved_model is None:
        return source.the_bundled_model()
    if args.builder is not None:
        graph, labels = graphs.from_builder(args.builder, args.weights), args.labels
        if args.builder == bundled.BUILDER and labels is None:
            labels = dict(enumerate(bundled.SETTINGS.labels, start=1))
    else:
        graph, labels = graphs.from_saved_model(args.saved_model, args.signature), args.labels
    found = source.of_graph(graph, settings(_complete(own)), labels or {}, args.dialect)
    strange = [f"--{name.replace('_', '-')}" for name in own if name not in EVERYONES]
    if found.dialect != "matterport" and strange:
        raise graphs.ExportError(f"{', '.join(strange)} must come with a Matterport model, got {found.dialect}")
    return found


def _complete(own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with what holds without them; max_dim alone lowers the default of min_dim too."""
    whole = {**OWN, **own}
    return {**whole, "min_dim": own.get("min_dim", min(OWN["min_dim"], whole["max_dim"]))}


def settings(own: Mapping[str, Any]) -> MatterportSettings:
    """What the options named in OWN say of a model. Raises ContractViolation where they do not fit together."""
    return MatterportSettings(
        resize=Resize(
            mode=own["resize_mode"],
            min_dim=own["min_dim"],
            max_dim=own["max_dim"],
            min_scale=own["min_scale"],
        ),
        mean=tuple(own["mean"]),
        anchors=AnchorInput(
            scales=tuple(own["anchor_scales"]), ratios=tuple(own["anchor_ratios"]), strides=tuple(own["strides"])
        ),
    )


@contextmanager
def _step(text: str) -> Iterator[None]:
    """Tell what is being done, and how long it took."""
    started_s = time.monotonic()
    print(f"{text} ...", file=sys.stderr, flush=True)
    yield
    print(f"  {time.monotonic() - started_s:.1f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
