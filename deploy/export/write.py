"""Write signatures to a version folder that TensorFlow Serving loads, whole or not at all."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from deploy.export.answer import MASK_LEVELS
from deploy.export.graphs import ExportError, nodes, reason
from deploy.export.scratch import scratch_folder
from deploy.export.settle import Example, refuse_pixels
from deploy.export.signatures import SERVING, Exported
from deploy.tools.steps import step
from handler.backend import wire
from handler.model.detections import select
from handler.options import Options
from handler.types import Inputs, Size

PYTHON_OPS = ("PyFunc", "PyFuncStateless", "EagerPyFunc")
MAX_DIFFERENCE = 0.01  # of boxes and scores, and of a mask's mean, between a source and its export
MIN_SAME = 0.9  # of the objects in a picture
EXTRA = Path("assets.extra")
WARM_UP = EXTRA / "tf_serving_warmup_requests"  # where TensorFlow Serving looks for it
BATCHING = EXTRA / "batching_parameters.txt"
IMAGE_RANK = 4
QUEUE = 100  # batches that may wait; 10 by default, which 16 clients fill if each batch is one image


def write(exported: Exported, base: Path, examples: Sequence[Example] = ()) -> Path:
    """Save as the next version under ``base``, after reloading and running it; never touch an existing version.

    ``examples``: what the source of an int8 export answers for some pictures. Raises ExportError if the folder cannot
    be written, or if the reloaded model does not answer, or answers otherwise. A failure leaves nothing behind.
    """
    with scratch_folder(base, "--output must be a folder that can be written") as scratch:
        model = scratch / "model"
        with step("saving it"):
            _save(exported, model, base.resolve().name)
        _refuse_python(model)
        with step("running what was saved"):
            loaded = tf.saved_model.load(str(model)).signatures
            height, width = np.shape(exported.trial["input_image"])[1:3]
            for signature, inputs in (exported.warm_up or {SERVING: exported.trial}).items():
                _try_out(loaded[signature], inputs, (height, width))
            compare(loaded[SERVING], examples)
            if exported.batch_sizes[-1] > 1:
                _compare_together(loaded[SERVING], examples)
        return _rename_to_next_version(model, base)


def _rename_to_next_version(folder: Path, base: Path) -> Path:
    """Rename the folder to the next version, or to the one after if another export is faster."""
    while True:
        version = base / str(1 + max((int(path.name) for path in base.iterdir() if _is_version(path)), default=0))
        try:
            return folder.rename(version)
        except OSError as error:
            if not version.exists():
                raise ExportError(f"--output must be a folder that can be written, got {error.strerror}") from error


def _is_version(path: Path) -> bool:
    return path.name.isascii() and path.name.isdigit()


def _save(exported: Exported, folder: Path, model: str) -> None:
    try:
        with tracing():
            tf.saved_model.save(exported, str(folder), signatures=dict(exported.functions))
        (folder / EXTRA).mkdir()
        (folder / BATCHING).write_text(batching_parameters(exported.batch_sizes), encoding="utf-8")
        if exported.warm_up:
            _write_warm_up(folder / WARM_UP, wire.ModelSpec(model), exported)
    except (tf.errors.OpError, OSError) as error:
        raise ExportError(f"--output must be a folder that takes the model, got: {reason(error)}") from error


@contextmanager
def tracing() -> Iterator[None]:
    """Raise ExportError for what TensorFlow raises while it follows a source's graph."""
    try:
        yield
    except (ValueError, TypeError, NotImplementedError, AttributeError) as error:
        last_line = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
        raise ExportError(f"the model must fit its signature, got: {last_line}") from error


def batching_parameters(sizes: Sequence[int]) -> str:
    """Return the text of TensorFlow Serving's BatchingParameters for batches of these sizes."""
    lines = [
        f"max_batch_size {{ value: {sizes[-1]} }}",
        "batch_timeout_micros { value: 0 }",
        f"max_enqueued_batches {{ value: {QUEUE} }}",
        *(f"allowed_batch_sizes: {size}" for size in sizes),
        "pad_variable_length_inputs: true",
    ]
    return "".join(f"{line}\n" for line in lines)


def _write_warm_up(path: Path, model: wire.ModelSpec, exported: Exported) -> None:
    """Write a PredictRequest for each signature and size of a batch as a record of a PredictionLog."""
    with tf.io.TFRecordWriter(str(path)) as records:
        for size in exported.batch_sizes:
            for signature, inputs in exported.warm_up.items():
                log = prediction_log_pb2.PredictionLog()
                log.predict_log.request.ParseFromString(wire.encode_request(model, signature, inputs))
                if size > 1:
                    for tensor in log.predict_log.request.inputs.values():
                        _repeat(tensor, size)
                records.write(log.SerializeToString())


def _repeat(tensor: Any, size: int) -> None:
    """Make a tensor [1, ...] of a request one of ``size`` rows. An image becomes grey, so that it takes no space."""
    tensor.tensor_shape.dim[0].size = size
    if len(tensor.tensor_shape.dim) == IMAGE_RANK:
        tensor.ClearField("tensor_content")
        tensor.int_val.append(0)  # TensorFlow repeats the last value
    tensor.tensor_content *= size
    tensor.string_val.extend(list(tensor.string_val) * (size - 1))


def _refuse_python(folder: Path) -> None:
    """Raise ExportError if the graph calls Python: it would run here, but in no server."""
    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    if found := sorted({node.op for node in nodes(saved) if node.op in PYTHON_OPS}):
        raise ExportError(f"the model must run without Python, got {', '.join(found)} (tf.py_function and the like)")


def _try_out(serve: Callable[..., Any], inputs: Inputs, size_hw: Size) -> None:
    """Run the loaded export. Raises ExportError or ContractViolation if the function would refuse the answer."""
    expected = f"the exported model must run on an image of {size_hw[0]} x {size_hw[1]}"
    tensors = {name: tf.constant([value] if isinstance(value, bytes) else value) for name, value in inputs.items()}
    try:
        outputs = serve(**tensors)
    except (tf.errors.OpError, ValueError) as error:
        raise ExportError(f"{expected}, got: {reason(error)}") from error
    rows, masks = outputs["mrcnn_detection"].numpy(), outputs["mrcnn_mask"].numpy()
    if rows.ndim != 3 or rows.shape[-1] != 6 or masks.shape[:2] != rows.shape[:2]:
        raise ExportError(f"{expected} and answer rows (1, N, 6) and N masks, got {rows.shape} and {masks.shape}")
    found = select(rows[0], Options(), None)  # raises ContractViolation, as it would for every request
    refuse_pixels(found.boxes)


def _compare_together(serve: Callable[..., Any], examples: Sequence[Example]) -> None:
    """Run the loaded int8 export on a batch. Raises ExportError if it finds other objects than in its images alone."""
    for example in examples[:1]:

        def one_of_two(input_image: tf.Tensor) -> Any:
            outputs = serve(input_image=tf.repeat(input_image, 2, axis=0))
            return {name: tensor[1:] for name, tensor in outputs.items()}

        compare(one_of_two, [example])


def compare(serve: Callable[..., Any], examples: Sequence[Example]) -> None:
    """Run the loaded int8 export on pictures. Raises ExportError if it finds other objects than its source.

    A few may differ: where scores or overlaps are nearly equal, the last digits decide.
    """
    for example in examples:
        outputs = serve(input_image=tf.constant(example.codes))
        rows, codes = outputs["mrcnn_detection"].numpy()[0], outputs["mrcnn_mask"].numpy()[0]
        rows, codes = rows[rows[:, 4] > 0], codes[rows[:, 4] > 0]
        apart = np.abs(example.rows[:, None] - rows[None]).max(-1, initial=0.0) > MAX_DIFFERENCE  # box, class and score
        for one, other in np.argwhere(~apart):
            difference = np.abs(codes[other] / np.float32(MASK_LEVELS) - example.masks[one]).mean()
            apart[one, other] = difference > MAX_DIFFERENCE
        wanted, same = len(example.rows), int((~apart).any(axis=1).sum())
        if same < MIN_SAME * max(wanted, len(rows)):
            size = f"{example.codes.shape[1]} x {example.codes.shape[2]}"
            raise ExportError(
                f"the export must find the {wanted} objects that its source finds in a picture of {size}, "
                f"got {same} of them and {len(rows) - same} others"
            )
