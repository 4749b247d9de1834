"""Export an instance-segmentation model for TensorFlow Serving, with int8 inputs and outputs.

Without a KIND, int8 is exported. Without a source, the bundled model of circles, squares and triangles is exported.
Exit codes: 0 done, 1 not possible, 2 options that do not fit together.
"""

import argparse
import importlib
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from deploy.export.kinds import DEFAULT, DIALECTS, KINDS, Channels, YoloBoxes, YoloOptions
from deploy.export.labels import read_labels
from deploy.tools.signals import stop_signals
from handler.config import Config
from handler.errors import ContractViolation
from handler.model.contract import AnchorInput, MatterportSettings, Resize

if TYPE_CHECKING:
    from deploy.export.source import Source

EXAMPLE = "deploy.models.shapes.export:source"  # found by name: nothing here imports the bundled model
MATTERPORT = Config.from_environ({}).matterport
MATTERPORT_OPTIONS: dict[str, Any] = {  # the options that say how a Matterport model was trained, and their defaults
    "mean": MATTERPORT.mean,
    "resize_mode": MATTERPORT.resize.mode,
    "min_dim": MATTERPORT.resize.min_dim,
    "max_dim": MATTERPORT.resize.max_dim,
    "min_scale": MATTERPORT.resize.min_scale,
    "anchor_scales": MATTERPORT.anchors.scales,
    "anchor_ratios": MATTERPORT.anchors.ratios,
    "strides": MATTERPORT.anchors.strides,
}
SHARED_OPTIONS = ("max_dim",)  # those of them that the other dialects have, too, but for a YOLO, whose size is fixed
YOLO_OPTIONS = tuple(option.name for option in fields(YoloOptions))


def parser(prog: str, *, with_source: bool) -> argparse.ArgumentParser:
    """Return the command line, with the options that name a source or without."""
    summary, _, rest = str(__doc__).partition("\n\n")
    top = argparse.ArgumentParser(prog=prog, description=summary, epilog=rest)
    commands = top.add_subparsers(dest="kind", required=True, metavar="KIND")
    for kind, text in KINDS.items():
        command = commands.add_parser(kind, help=text, description=text)
        add = command.add_argument
        if kind == "report":
            photos = "folder of photographs, JPEG, PNG or WebP"
            add("--images", type=Path, required=True, metavar="FOLDER", help=photos)
            add("--output", type=Path, required=True, metavar="FILE", help="the page, .html; its figures go to a .json")
        else:
            base = "base path of the model: a folder that gets the next version, 1, 2, ..."
            add("--output", type=Path, required=True, metavar="FOLDER", help=base)
        if with_source:
            _add_source(command)
            _add_matterport(command)
            _add_yolo(command)
    return top


def _add_source(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group(
        "the source",
        "Either a SavedModel of TensorFlow 1 or 2 (Matterport's Mask R-CNN, the Object Detection API, TensorFlow Hub, "
        "the Model Garden, YOLO), or a Keras builder and its weights.",
    )
    add = group.add_argument
    add("--saved-model", type=Path, metavar="FOLDER", help="a float32 SavedModel: the folder with saved_model.pb")
    add("--signature", default="serving_default", metavar="NAME", help="its signature (%(default)s)")
    add("--dialect", choices=DIALECTS, help="its inputs and outputs (default: read from the signature)")
    add("--builder", metavar="MODULE:FUNCTION", help="package.module:function that returns a Keras inference model")
    add("--weights", type=Path, metavar="FILE", help="its weights, .h5 (needed with --builder)")
    names = "class names: one a line, class 1 first; or JSON, id -> name; or COCO categories"
    add("--labels", type=_labels_file, metavar="FILE", help=names)


def _add_matterport(command: argparse.ArgumentParser) -> None:
    """Add MATTERPORT_OPTIONS, each with the setting of the function that means the same."""
    group = command.add_argument_group(
        "a Matterport model of your own", "How it was trained; the defaults are Matterport's."
    )
    add = group.add_argument
    add("--mean", type=float, nargs=3, metavar=("R", "G", "B"), help="MEAN_PIXEL" + _default("mean"))
    add("--resize-mode", choices=("square", "pad64"), help="IMAGE_RESIZE_MODE" + _default("resize_mode"))
    add("--min-dim", type=int, metavar="PX", help="IMAGE_MIN_DIM" + _default("min_dim"))
    others = "; for every dialect but yolo: the longest side of an image that is sent"
    add("--max-dim", type=int, metavar="PX", help="IMAGE_MAX_DIM" + _default("max_dim") + others)
    add("--min-scale", type=float, metavar="X", help="IMAGE_MIN_SCALE" + _default("min_scale"))
    add("--anchor-scales", type=float, nargs="+", metavar="PX", help="RPN_ANCHOR_SCALES" + _default("anchor_scales"))
    add("--anchor-ratios", type=float, nargs="+", metavar="X", help="RPN_ANCHOR_RATIOS" + _default("anchor_ratios"))
    add("--strides", type=int, nargs="+", metavar="PX", help="BACKBONE_STRIDES" + _default("strides"))


def _add_yolo(command: argparse.ArgumentParser) -> None:
    """Add the fields of YoloOptions."""
    group = command.add_argument_group("a YOLO", "What its export does; the defaults are upstream's.")
    add = group.add_argument
    add("--confidence", type=_share, metavar="X", help="the score that a detection must exceed, 0..1 (0.25)")
    add("--iou", type=_share, metavar="X", help="overlap from which the better of two boxes of a class stays (0.7)")
    add("--max-detections", type=_count, metavar="N", help="the most detections of an image (300)")
    add("--boxes", choices=get_args(YoloBoxes), help="unit of the boxes (default: seen in a trial run)")
    add("--prototypes", choices=get_args(Channels), help="place of their channels (default: read from their shape)")


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be 0..1, got {text}")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value


def _default(name: str) -> str:
    """Return the default of one of MATTERPORT_OPTIONS as its help shows it."""
    value = MATTERPORT_OPTIONS[name]
    return f" ({' '.join(f'{part:g}' for part in value) if isinstance(value, tuple) else value})"


def _labels_file(path: str) -> dict[int, str]:
    try:
        return read_labels(Path(path))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def main(
    arguments: Sequence[str] | None = None,
    *,
    prog: str = "python -m deploy.export",
    source: "Callable[[], Source] | None" = None,
) -> int:
    """Export and print the new folder; return the exit code. An error is one line on stderr.

    ``source`` returns the model to export. Without it, the command line names one, or the bundled model is exported.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or (given[0].startswith("-") and given[0] not in ("-h", "--help")):
        given.insert(0, DEFAULT)
    top = parser(prog, with_source=source is None)
    args = top.parse_args(given)
    if source is None:
        trained, wanted = _given(args, MATTERPORT_OPTIONS), _given(args, YOLO_OPTIONS)
        if _is_bare(args, trained | wanted):
            source = _read_example
        elif problem := _misfit(args):
            top.error(problem)
        else:
            source = partial(_read_source, args, trained, wanted)
    try:
        with stop_signals():
            return _run(args, source)
    except KeyboardInterrupt:
        print("export: interrupted; nothing is left behind", file=sys.stderr)
        return 1


def _given(args: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    """Return those of the options that are given."""
    return {name: value for name in names if (value := getattr(args, name)) is not None}


def _is_bare(args: argparse.Namespace, options: Mapping[str, Any]) -> bool:
    """Tell whether no option says anything of a source; ``options`` are given ones of some dialect."""
    named = (args.builder, args.weights, args.saved_model, args.dialect, args.labels)
    return all(value is None for value in named) and args.signature == "serving_default" and not options


def _read_example() -> "Source":
    module, _, function = EXAMPLE.partition(":")
    example: Source = getattr(importlib.import_module(module), function)()
    return example


def _misfit(args: argparse.Namespace) -> str | None:
    """Return what is wrong with options that do not fit together."""
    if (args.builder is None) != (args.weights is None):
        return "--builder and --weights go together"
    if args.builder is not None and args.saved_model is not None:
        return "the source must be --saved-model or --builder, got both"
    if args.builder is None and args.saved_model is None:
        return "the source must be --saved-model, or --builder and --weights, got neither"
    if args.saved_model is None and (args.dialect or args.signature != "serving_default"):
        return "--signature and --dialect are for --saved-model"
    return None


def _run(args: argparse.Namespace, read_source: "Callable[[], Source]") -> int:
    with _step("loading TensorFlow"):  # seconds, which --help must not take
        from deploy.export import signatures, write  # noqa: PLC0415
        from deploy.export.graphs import ExportError  # noqa: PLC0415

        logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it calls the loader of old models deprecated
    try:
        with _step("reading the source"):
            source = read_source()
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


def _read_source(args: argparse.Namespace, trained: Mapping[str, Any], wanted: Mapping[str, Any]) -> "Source":
    """Read the model that the options name; ``trained`` holds those of MATTERPORT_OPTIONS, ``wanted`` a YOLO's.

    Raises ExportError or ContractViolation.
    """
    from deploy.export import graphs, source  # noqa: PLC0415

    if args.builder is not None:
        graph = graphs.from_builder(args.builder, args.weights)
    else:
        graph = graphs.from_saved_model(args.saved_model, args.signature)
    found = source.of_graph(graph, _settings(trained), args.labels or {}, args.dialect, YoloOptions(**wanted))
    shared = () if found.dialect == "yolo" else SHARED_OPTIONS
    _check_unfit("Matterport", found.dialect, [] if found.dialect == "matterport" else set(trained) - set(shared))
    _check_unfit("YOLO", found.dialect, [] if found.dialect == "yolo" else wanted)
    return found


def _check_unfit(family: str, dialect: str, unfit: Iterable[str]) -> None:
    from deploy.export.graphs import ExportError  # noqa: PLC0415

    if names := ", ".join(f"--{name.replace('_', '-')}" for name in sorted(unfit)):
        raise ExportError(f"{names} must come with a {family} model, got {dialect}")


def _settings(trained: Mapping[str, Any]) -> MatterportSettings:
    """Return the settings of a model. Raises ContractViolation if they do not fit together."""
    values = {**MATTERPORT_OPTIONS, **trained}
    min_dim = trained.get("min_dim", min(values["min_dim"], values["max_dim"]))  # --max-dim alone lowers its default
    resize = Resize(
        mode=values["resize_mode"], min_dim=min_dim, max_dim=values["max_dim"], min_scale=values["min_scale"]
    )
    anchors = AnchorInput(
        scales=tuple(values["anchor_scales"]), ratios=tuple(values["anchor_ratios"]), strides=tuple(values["strides"])
    )
    return MatterportSettings(resize=resize, mean=tuple(values["mean"]), anchors=anchors)


@contextmanager
def _step(text: str) -> Iterator[None]:
    """Print what is being done, and how long it took."""
    started_s = time.monotonic()
    print(f"{text} ...", file=sys.stderr, flush=True)
    yield
    print(f"  {time.monotonic() - started_s:.1f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
