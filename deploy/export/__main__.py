"""Export an instance-segmentation model for TensorFlow Serving, with int8 inputs and outputs.

Without a KIND, int8 is exported. Without a source, the bundled model of circles, squares and triangles is exported.
Exit codes: 0 done, 1 not possible, 2 options that do not fit together.
"""

import argparse
import importlib
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from deploy.export.kinds import DEFAULT, DIALECTS, KINDS
from deploy.export.labels import read_labels
from deploy.export.reading import Fit, MaskOf, MaskValues, Reading, Scale, ScoreValues
from deploy.tools.signals import stop_signals
from deploy.tools.steps import step
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
RESIZE_MODES = ("square", "pad64", "none", "crop")  # crop is refused, with what to do
SHARED_OPTIONS = ("max_dim",)  # those of them that every dialect has


def parser(prog: str, *, with_source: bool) -> argparse.ArgumentParser:
    """Return the command line, with the options that name a source or without."""
    summary, _, rest = str(__doc__).partition("\n\n")
    top = argparse.ArgumentParser(prog=prog, description=summary, epilog=rest)
    commands = top.add_subparsers(dest="kind", required=True, metavar="KIND")
    for kind, text in KINDS.items():
        command = commands.add_parser(kind, help=text, description=text)
        add = command.add_argument
        if kind in ("check", "report"):
            photos = "folder of photographs, JPEG, PNG or WebP"
            add("--images", type=Path, required=kind == "report", metavar="FOLDER", help=photos)
        if kind == "report":
            add("--output", type=Path, required=True, metavar="FILE", help="the page, .html; its figures go to a .json")
        elif kind != "check":
            photos = "folder of photographs to try the model on, JPEG, PNG or WebP (default: the exporter's own eight)"
            add("--images", type=Path, metavar="FOLDER", help=photos)
            base = "base path of the model: a folder that gets the next version, 1, 2, ..."
            add("--output", type=Path, required=True, metavar="FOLDER", help=base)
        if with_source:
            _add_source(command)
            _add_reading(command)
            _add_matterport(command)
    return top


def _add_source(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group(
        "the source",
        "Either a SavedModel of TensorFlow 1 or 2 (Matterport's Mask R-CNN, the Object Detection API, TensorFlow Hub, "
        "the Model Garden), or a Keras builder and its weights.",
    )
    add = group.add_argument
    add("--saved-model", type=Path, metavar="FOLDER", help="a float32 SavedModel: the folder with saved_model.pb")
    add("--signature", default="serving_default", metavar="NAME", help="its signature (%(default)s)")
    add("--dialect", choices=DIALECTS, help="its inputs and outputs (default: read from the signature)")
    add("--builder", metavar="MODULE:FUNCTION", help="package.module:function that returns a Keras inference model")
    add("--weights", type=Path, metavar="FILE", help="its weights, .h5 (needed with --builder)")
    ops = "a library (.so) of TensorFlow ops that the model needs and TensorFlow does not have; may be given again"
    add("--op-library", type=Path, action="append", metavar="FILE", help=ops)
    names = "class names: one a line, class 1 first; or JSON, id -> name; or COCO categories"
    add("--labels", type=_labels_file, metavar="FILE", help=names)


def _add_reading(command: argparse.ArgumentParser) -> None:
    """Add the fields of Reading."""
    group = command.add_argument_group(
        "how its tensors are meant",
        "The exporter runs the model on pictures to find this. It asks for an option where they leave a doubt.",
    )
    add = group.add_argument
    add("--detections", metavar="NAME", help="a Matterport model's output with detections (default: by name and shape)")
    add("--masks", metavar="NAME", help="its output with masks (default: by name and shape)")
    fixed = "how an image comes into a fixed size: with its aspect and black below or right, or squeezed (default: pad)"
    add("--resize", choices=get_args(Fit), help=fixed)
    pixels = "range of the pixels of a float image; imagenet: (pixel / 255 - mean) / deviation (default: 0..255)"
    add("--scale", choices=get_args(Scale), help=f"{pixels}; write --scale=-1..1")
    add("--bgr", action="store_true", help="the model takes BGR, as OpenCV reads images")
    add("--first-class", type=int, choices=(0, 1), help="id of the first class; 1: 0 is the background")
    add("--score-values", choices=get_args(ScoreValues), help="what scores are (default: 0..1)")
    add("--mask-values", choices=get_args(MaskValues), help="what the values of masks are (default: found)")
    add("--mask-of", choices=get_args(MaskOf), help="what a mask covers (default: found)")


def _add_matterport(command: argparse.ArgumentParser) -> None:
    """Add MATTERPORT_OPTIONS, each with the setting of the function that means the same."""
    group = command.add_argument_group(
        "a Matterport model of your own", "How it was trained; the defaults are Matterport's."
    )
    add = group.add_argument
    grey = "; one number is for all channels"
    add("--mean", type=float, nargs="+", metavar="X", help="MEAN_PIXEL, R G B" + _default("mean") + grey)
    add("--resize-mode", choices=RESIZE_MODES, help="IMAGE_RESIZE_MODE" + _default("resize_mode"))
    add("--min-dim", type=int, metavar="PX", help="IMAGE_MIN_DIM" + _default("min_dim"))
    others = "; for every dialect: the longest side of an image that is sent"
    add("--max-dim", type=int, metavar="PX", help="IMAGE_MAX_DIM" + _default("max_dim") + others)
    add("--min-scale", type=float, metavar="X", help="IMAGE_MIN_SCALE" + _default("min_scale"))
    add("--anchor-scales", type=float, nargs="+", metavar="PX", help="RPN_ANCHOR_SCALES" + _default("anchor_scales"))
    add("--anchor-ratios", type=float, nargs="+", metavar="X", help="RPN_ANCHOR_RATIOS" + _default("anchor_ratios"))
    add("--strides", type=int, nargs="+", metavar="PX", help="BACKBONE_STRIDES" + _default("strides"))


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
        trained = {name: value for name in MATTERPORT_OPTIONS if (value := getattr(args, name)) is not None}
        reading = Reading(**{field.name: getattr(args, field.name) for field in fields(Reading)})
        if _is_bare(args, trained, reading):
            source = _read_example
        elif problem := _misfit(args):
            top.error(problem)
        else:
            source = partial(_read_source, args, trained, reading)
    try:
        with stop_signals():
            return _run(args, source)
    except KeyboardInterrupt:
        print("export: interrupted; nothing is left behind", file=sys.stderr)
        return 1


def _is_bare(args: argparse.Namespace, trained: Mapping[str, Any], reading: Reading) -> bool:
    """Tell whether no option says anything of a source."""
    named = (args.builder, args.weights, args.saved_model, args.dialect, args.labels, args.op_library)
    unsaid = args.signature == "serving_default" and not trained and reading == Reading()
    return unsaid and all(value is None for value in named)


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
    return _unusable(args)


def _unusable(args: argparse.Namespace) -> str | None:
    """Return what is wrong with an option by itself."""
    if args.resize_mode == "crop":
        return (
            "--resize-mode crop cuts random parts out of training images, which no photograph can be sent as: give the "
            "mode of the model's inference config, square, pad64 or none"
        )
    if args.mean is not None and len(args.mean) not in (1, 3):
        return f"--mean must be 3 numbers, or one for all channels, got {len(args.mean)}"
    return None


def _run(args: argparse.Namespace, read_source: "Callable[[], Source]") -> int:
    with step("loading TensorFlow"):  # seconds, which --help must not take
        from deploy.export import signatures, write  # noqa: PLC0415
        from deploy.export.graphs import ExportError  # noqa: PLC0415
        from deploy.export.settle import settle  # noqa: PLC0415

        logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it calls the loader of old models deprecated
    try:
        with step("reading the source"):
            source = read_source()
        with step("running the source on pictures"):
            settled = settle(source, args.images)
        source = settled.source
        for line in settled.lines:
            print(f"  {line}", file=sys.stderr)
        if args.kind == "report":
            from deploy.export.report.folder import write_report  # noqa: PLC0415 - it draws, the others do not

            print(write_report(source, args.images, args.output))
            return 0
        if args.kind == "check":
            from deploy.export.check import check  # noqa: PLC0415

            print(check(source, args.images))
            return 0
        with step(f"exporting {source.graph.description}, {source.dialect}, as {args.kind}"):
            exported = getattr(signatures, args.kind.replace("-", "_"))(source)
            folder = write.write(exported, args.output, settled.examples if args.kind == "int8" else ())
        print(folder)
    except (ExportError, ContractViolation) as error:
        print(f"export: {error}", file=sys.stderr)
        return 1
    return 0


def _read_source(args: argparse.Namespace, trained: Mapping[str, Any], reading: Reading) -> "Source":
    """Read the model that the options name; ``trained`` holds the given ones of MATTERPORT_OPTIONS.

    A SavedModel that cannot be exported is refused before it is loaded. Raises ExportError or ContractViolation.
    """
    from deploy.export import graphs, source  # noqa: PLC0415

    settings = _settings(trained)

    def understood(graph: graphs.Graph) -> source.Source:
        found = source.of_graph(graph, settings, args.labels or {}, args.dialect, reading)
        unfit = [f"--{name.replace('_', '-')}" for name in trained if name not in SHARED_OPTIONS]
        if found.dialect != "matterport" and unfit:
            raise graphs.ExportError(f"{', '.join(unfit)} must come with a Matterport model, got {found.dialect}")
        if found.resize.max_dim != settings.resize.max_dim and "max_dim" in trained:
            raise graphs.ExportError(f"--max-dim must be {found.resize.max_dim}, as the model says, got {args.max_dim}")
        return found

    for library in args.op_library or ():
        graphs.load_ops(library)
    if args.builder is not None:
        return understood(graphs.from_builder(args.builder, args.weights))
    return understood(graphs.from_saved_model(args.saved_model, args.signature, understood))


def _settings(trained: Mapping[str, Any]) -> MatterportSettings:
    """Return the settings of a model. Raises ContractViolation if they do not fit together."""
    values = {**MATTERPORT_OPTIONS, **trained}
    min_dim = trained.get("min_dim", min(values["min_dim"], values["max_dim"]))  # --max-dim alone lowers its default
    resize = Resize.of_matterport(values["resize_mode"], min_dim, values["max_dim"], values["min_scale"])
    anchors = AnchorInput(
        scales=tuple(values["anchor_scales"]), ratios=tuple(values["anchor_ratios"]), strides=tuple(values["strides"])
    )
    mean = tuple(values["mean"])
    red, green, blue = mean * 3 if len(mean) == 1 else mean
    return MatterportSettings(resize=resize, mean=(red, green, blue), anchors=anchors)


if __name__ == "__main__":
    sys.exit(main())
