"""What the int8 export of a model would be, without writing it: its tensors, and pictures sent through it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from deploy.export import dialects, signatures, trial
from deploy.export.graphs import describe
from deploy.export.report.files import file_name, list_images, readable_images
from deploy.export.report.segment import Segmentation, ask, encode_png, in_process, in_tensorflow
from deploy.export.settle import Settled
from deploy.export.signatures import SERVING, Exported
from deploy.export.source import Source
from deploy.export.write import compare, tracing
from deploy.tools.tables import table

ABSENT = "-"


def check(settled: Settled, images: Path | None) -> str:
    """Return what an int8 export of a source would be, as text; send it the images of a folder, or the exporter's own.

    Raises ExportError if there is no image that can be read, if the model does not answer for one, or if the export
    finds other objects.
    """
    source = settled.source
    exported = signatures.int8(source)
    with tracing():
        compare(exported.functions[SERVING], settled.examples)
    models = {"model": in_tensorflow(source), "int8": in_process(source, exported)}
    found = {
        name: {kind: ask(segment, data, kind, name) for kind, segment in models.items()}
        for name, data in tqdm(_read(images).items(), "pictures", unit="picture", disable=None)
    }
    parts = [describe_source(source), table(("", "tensor", "model", "int8 export"), tensors(source, exported), left=4)]
    return "\n\n".join([*parts, "\n".join(settled.lines), _picture_table(found)])


def describe_source(source: Source) -> str:
    """Return the dialect of a source, and which of its outputs show it."""
    marks = ", ".join(source.graph.names.get(mark, mark) for mark in dialects.MARKS[source.dialect])
    return f"{source.graph.description}: dialect {source.dialect}, because of the outputs {marks}"


def tensors(source: Source, exported: Exported) -> list[tuple[str, str, str, str]]:
    """Return a row for each tensor: up or down, its name, and its type and shape in the source and in the export."""
    serve: Any = exported.functions[SERVING]  # a tf.function
    function = serve.get_concrete_function()
    inputs = {str(spec.name): spec for spec in tf.nest.flatten(function.structured_input_signature)}
    outputs = function.structured_outputs
    return [
        (way, _name(source, name), _described(ours, name), _described(theirs, name))
        for way, ours, theirs in (("up", source.graph.inputs, inputs), ("down", source.graph.outputs, outputs))
        for name in dict.fromkeys([*ours, *theirs])
    ]


def _described(specs: Mapping[str, tf.TensorSpec], name: str) -> str:
    return describe(specs[name]) if name in specs else ABSENT


def _name(source: Source, name: str) -> str:
    """Return the name of a tensor, after the model's own name if that is another one."""
    own = source.graph.names.get(name, name)
    return name if own == name else f"{own} ({name})"


def _read(folder: Path | None) -> dict[str, bytes]:
    if folder is None:
        return {name: encode_png(np.asarray(photo.image)) for name, photo in trial.own_photographs().items()}
    paths, _ = readable_images(*list_images(folder), folder)
    return {file_name(path): path.read_bytes() for path in paths}


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
