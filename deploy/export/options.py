"""The options of the command: what each says, and what does not go together. Nothing here imports TensorFlow."""

import argparse
from collections.abc import Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

from deploy.export.kinds import DEFAULT, DIALECTS, KINDS
from deploy.export.labels import read_labels
from deploy.export.reading import Boxes, Channels, Fit, MaskOf, MaskValues, Reading, Scale, ScoreValues, listed
from handler.config import Config
from handler.model.contract import AnchorInput, MatterportSettings, Resize
from handler.model.matterport import ANCHORS

MATTERPORT = Config.from_environ({}).matterport
TRAINED: dict[str, Any] = {  # the options that say how a Matterport model was trained, and their defaults
    "mean": MATTERPORT.mean,
    "resize_mode": MATTERPORT.resize.mode,
    "min_dim": MATTERPORT.resize.min_dim,
    "max_dim": MATTERPORT.resize.max_dim,
    "min_scale": MATTERPORT.resize.min_scale,
    "anchor_scales": MATTERPORT.anchors.scales,
    "anchor_ratios": MATTERPORT.anchors.ratios,
    "strides": MATTERPORT.anchors.strides,
}
SHARED = ("max_dim",)  # those of them that every dialect has
RESIZE_MODES = ("square", "pad64", "none", "crop")  # crop is refused, with what to do
OF_EVERY_SOURCE = ("kind", "images", "output", "without_jpeg", "without_image_size", "max_batch_size")


def parser(prog: str, text: str, *, with_source: bool) -> argparse.ArgumentParser:
    """Return the command line, with the options that name a source or without. ``text``: a line, and what follows."""
    summary, _, rest = text.partition("\n\n")
    top = argparse.ArgumentParser(prog=prog, description=summary, epilog=rest)
    commands = top.add_subparsers(dest="kind", required=True, metavar="KIND")
    for kind, says in KINDS.items():
        command = commands.add_parser(kind, help=says, description=says)
        add = command.add_argument
        photos = "folder of photographs to try the model on, JPEG, PNG or WebP"
        own = "" if kind == "report" else " (default: the exporter's own eight)"
        add("--images", type=Path, required=kind == "report", metavar="FOLDER", help=photos + own)
        if kind == "report":
            add("--output", type=Path, required=True, metavar="FILE", help="the page, .html; its figures go to a .json")
        elif kind != "check":
            base = "base path of the model: a folder that gets the next version, 1, 2, ..."
            add("--output", type=Path, required=True, metavar="FOLDER", help=base)
        if kind == DEFAULT:
            add("--without-jpeg", action="store_true", help="leave out the signature that takes photographs as JPEG")
            size = "leave out the input image_size, for functions that know no contract of schema 3"
            add("--without-image-size", action="store_true", help=size)
            most = "the most images of a batch that the model runs at once, if it can (1: one after the other)"
            add("--max-batch-size", type=_count, default=1, metavar="N", help=most)
        if with_source:
            for add_group in (_add_source, _add_reading, _add_matterport, _add_detection, _add_yolo):
                add_group(command)
    return top


def _add_source(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group(
        "the source",
        "Either a SavedModel of TensorFlow 1 or 2 (Matterport's Mask R-CNN, the Object Detection API, TensorFlow Hub, "
        "the Model Garden, YOLO), or a Keras builder and its weights.",
    )
    add = group.add_argument
    add("--saved-model", type=Path, metavar="FOLDER", help="a float32 SavedModel: the folder with saved_model.pb")
    add("--signature", metavar="NAME", help="its signature (serving_default)")
    add("--dialect", choices=DIALECTS, help="its inputs and outputs (default: read from the signature)")
    add("--builder", metavar="MODULE:FUNCTION", help="package.module:function that returns a Keras inference model")
    add("--weights", type=Path, metavar="FILE", help="its weights, .h5 (needed with --builder)")
    ops = "a library (.so) of TensorFlow ops that the model needs and TensorFlow does not have; may be given again"
    add("--op-library", type=Path, action="append", metavar="FILE", help=ops)
    names = "class names: one a line, class 1 first; JSON, id -> name; COCO categories; or a label map (.pbtxt)"
    add("--labels", type=_labels_file, metavar="FILE", help=names)


def _add_reading(command: argparse.ArgumentParser) -> None:
    """Add the fields of Reading that more than one dialect has."""
    group = command.add_argument_group(
        "its image and its masks",
        "The exporter runs the model on pictures to find this. It asks for an option where they leave a doubt.",
    )
    add = group.add_argument
    fixed = (
        "how an image comes into a fixed size: with its aspect and black below or right; centred on grey, as YOLO's; "
        "or squeezed (default: pad, for yolo letterbox)"
    )
    add("--resize", choices=get_args(Fit), help=fixed)
    pixels = "range of the pixels of a float image; imagenet: (pixel / 255 - mean) / deviation"
    add("--scale", choices=get_args(Scale), help=f"{pixels} (default: 0..255, for yolo 0..1); write --scale=-1..1")
    add("--bgr", action="store_true", help="the model takes BGR, as OpenCV reads images")
    add("--mask-values", choices=get_args(MaskValues), help="what the values of masks are (default: found)")


def _add_matterport(command: argparse.ArgumentParser) -> None:
    """Add the names of outputs, and TRAINED, each with the setting of the function that means the same."""
    group = command.add_argument_group(
        "a Matterport model of your own", "How it was trained; the defaults are Matterport's."
    )
    add = group.add_argument
    add("--detections", metavar="NAME", help="its output with detections (default: by name and shape)")
    add("--masks", metavar="NAME", help="its output with masks (default: by name and shape)")
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


def _add_detection(command: argparse.ArgumentParser) -> None:
    add = command.add_argument_group("an object-detection or model-garden model").add_argument
    add("--first-class", type=int, choices=(0, 1), help="id of the first class; 1: 0 is the background")
    add("--score-values", choices=get_args(ScoreValues), help="what scores are (default: 0..1)")
    add("--mask-of", choices=get_args(MaskOf), help="what a mask covers (default: found)")


def _add_yolo(command: argparse.ArgumentParser) -> None:
    add = command.add_argument_group("a YOLO", "What its export does; the defaults are upstream's.").add_argument
    add("--confidence", type=_share, metavar="X", help="the score that a detection must exceed, 0..1 (0.25)")
    add("--iou", type=_share, metavar="X", help="overlap from which the better of two boxes of a class stays (0.7)")
    add("--max-detections", type=_count, metavar="N", help="the most detections of an image (300)")
    add("--boxes", choices=get_args(Boxes), help="unit of the boxes (default: found)")
    add("--prototypes", choices=get_args(Channels), help="place of their channels (default: by shape)")


def _default(name: str) -> str:
    """Return the default of one of TRAINED as its help shows it."""
    value = TRAINED[name]
    return f" ({' '.join(f'{part:g}' for part in value) if isinstance(value, tuple) else value})"


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


def _labels_file(path: str) -> dict[int, str]:
    try:
        return read_labels(Path(path))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def names_no_source(args: argparse.Namespace) -> bool:
    """Tell whether no option says anything of a source."""
    said = [value for name, value in vars(args).items() if name not in OF_EVERY_SOURCE]
    return all(value is None or value is False for value in said)


def misfit(args: argparse.Namespace) -> str | None:
    """Return what is wrong with options that do not fit together."""
    if (args.builder is None) != (args.weights is None):
        return "--builder and --weights go together"
    if args.builder is not None and args.saved_model is not None:
        return "the source must be --saved-model or --builder, got both"
    if args.builder is None and args.saved_model is None:
        return "the source must be --saved-model, or --builder and --weights, got neither"
    if args.saved_model is None and args.signature:
        return "--signature is for --saved-model"
    return _unusable(args)


def _unusable(args: argparse.Namespace) -> str | None:
    """Return what is wrong with the options of a model."""
    if args.resize_mode == "crop":
        return (
            "--resize-mode crop cuts random parts out of training images, which no photograph can be sent as: give the "
            "mode of the model's inference config, square, pad64 or none"
        )
    sizes = [name for name in ("min_dim", "min_scale") if getattr(args, name) is not None]
    if args.resize_mode == "none" and sizes:
        return f"{listed(sizes)} must come with --resize-mode square or pad64, got --resize-mode none"
    if args.mean is not None and len(args.mean) not in (1, 3):
        return f"--mean must be 3 numbers, or one for all channels, got {len(args.mean)}"
    return None


def misfit_of_graph(dialect: str, given: Mapping[str, Any], reading: Reading, inputs: Collection[str]) -> str | None:
    """Return what is wrong with the options of a Matterport model, once its graph is known.

    ``given``: those of TRAINED that are given. ``inputs``: what the graph takes.
    """
    if dialect != "matterport":
        return None
    if reading.scale not in (None, "0..255") and "mean" not in given:
        return (
            f"--scale {reading.scale} must come with the --mean of these pixels, 0 if nothing is subtracted, got none"
        )
    of_anchors = [name for name in ("anchor_scales", "anchor_ratios", "strides") if name in given]
    if of_anchors and ANCHORS not in inputs:
        return f"{listed(of_anchors)} must come with a model that takes its anchors, got one that has them in its graph"
    return None


def reading(args: argparse.Namespace) -> Reading:
    """Return what the options say of the model's tensors."""
    return Reading(**{field.name: getattr(args, field.name) for field in fields(Reading)})


def trained(args: argparse.Namespace) -> dict[str, Any]:
    """Return those of TRAINED that are given."""
    return {name: value for name in TRAINED if (value := getattr(args, name)) is not None}


def settings(args: argparse.Namespace) -> MatterportSettings:
    """Return the settings of a Matterport model. Raises ContractViolation if they do not fit together."""
    values = TRAINED | trained(args)
    # --max-dim alone lowers the default of --min-dim
    min_dim = values["min_dim"] if args.min_dim is not None else min(values["min_dim"], values["max_dim"])
    resize = Resize.of_matterport(values["resize_mode"], min_dim, values["max_dim"], values["min_scale"])
    anchors = AnchorInput(
        scales=tuple(values["anchor_scales"]), ratios=tuple(values["anchor_ratios"]), strides=tuple(values["strides"])
    )
    mean = tuple(values["mean"])
    red, green, blue = mean * 3 if len(mean) == 1 else mean
    return MatterportSettings(resize=resize, mean=(red, green, blue), anchors=anchors)
