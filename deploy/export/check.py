"""What the int8 export of a model would be, without writing it: its tensors, and pictures sent through it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from tqdm import tqdm

from deploy.export import dialects, signatures, trial
from deploy.export.graphs import ExportError, describe, reason
from deploy.export.report.files import file_name, list_images, readable_images
from deploy.export.report.segment import Segment, Segmentation, encode_png, in_process, in_tensorflow
from deploy.export.signatures import SERVING, Exported
from deploy.export.source import Source
from deploy.tools.tables import table
from handler.errors import SegmentError

ABSENT = "-"


def check(source: Source, images: Path | None) -> str:
    """Return what an int8 export of ``source`` would be, as text; send it the images of a folder, or one of squares.

    Raises ExportError if there is no image that can be read, or if the model does not answer for one.
    """
    exported = signatures.int8(source)
    pictures = {"squares": encode_png(trial.picture(source))} if images is None else _read(images)
    models = {"model": in_tensorflow(source), "int8": in_process(source, exported)}
    found = {
        name: {kind: _ask(segment, data, kind, name) for kind, segment in models.items()}
        for name, data in tqdm(pictures.items(), "pictures", unit="picture", disable=None)
    }
    parts = [describe_source(source), table(("", "tensor", "model", "int8 export"), tensors(source, exported), left=4)]
    parts += [_picture_table(found)]
    if not any(len(one["model"].instances) for one in found.values()):
        parts += ["No object was found: give --images, a folder of photographs of what the model knows."]
    return "\n\n".join(parts)


def describe_source(source: Source) -> str:
    """Return the dialect of a source, and which of its outputs show it."""
    marks = ", ".join(dialects.MARKS[source.dialect])
    return f"{source.graph.description}: dialect {source.dialect}, because of the outputs {marks}"


def tensors(source: Source, exported: Exported) -> list[tuple[str, str, str, str]]:
    """Return a row for each tensor: up or down, its name, and its type and shape in the source and in the export."""
    serve: Any = exported.functions[SERVING]  # a tf.function
    function = serve.get_concrete_function()
    inputs = {str(spec.name): spec for spec in tf.nest.flatten(function.structured_input_signature)}
    outputs = function.structured_outputs
    return [
        (way, name, *(describe(side[name]) if name in side else ABSENT for side in (ours, theirs)))
        for way, ours, theirs in (("up", source.graph.inputs, inputs), ("down", source.graph.outputs, outputs))
        for name in dict.fromkeys([*ours, *theirs])
    ]


def _read(folder: Path) -> dict[str, bytes]:
    paths, _ = readable_images(*list_images(folder), folder)
    return {file_name(path): path.read_bytes() for path in paths}


def _ask(segment: Segment, data: bytes, kind: str, name: str) -> Segmentation:
    try:
        return segment(data)
    except (SegmentError, tf.errors.OpError, ValueError) as error:
        raise ExportError(f"the model must answer for {name}, as {kind}, got: {reason(error)}") from error


def _picture_table(found: Mapping[str, Mapping[str, Segmentation]]) -> str:
    """Return objects and bytes by picture, of the model and of its int8 export."""
    header = ("picture", "objects", "int8", "bytes up", "int8", "bytes down", "int8")
    sides = [(name, (one["model"], one["int8"])) for name, one in found.items()]
    rows = [
        (
            name,
            *(str(len(side.instances)) for side in both),
            *(f"{side.up_bytes:,}" for side in both),
            *(f"{side.down_bytes:,}" for side in both),
        )
        for name, both in sides
    ]
    return table(header, rows)
