"""Signatures into a version folder that TensorFlow Serving loads, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from deploy.export.graphs import ExportError, first_line
from deploy.export.signatures import SERVING, Exported
from deploy.export.workplace import workplace
from handler import wire

TRIAL_PX = 64  # side of the image a new export is run on
TRIAL_ANCHORS = 3 * (16**2 + 8**2 + 4**2 + 2**2 + 1)  # of that image at Matterport's strides and ratios
FURTHEST = 4.0  # no box that is a share of the image reaches further out
WARM_UP = Path("assets.extra") / "tf_serving_warmup_requests"  # where TensorFlow Serving looks for it


def write(exported: Exported, base: Path) -> Path:
    """Save as the next version under `base`, after reloading and running it; an existing version is never touched.

    Raises:
        ExportError: the folder cannot be written, or the reloaded model does not answer. Nothing is left behind.
    """
    with workplace(base, "--output must be a folder that can be written") as work:
        _save(exported, work / "model", base.name)
        _try_out(work / "model")
        return _claim(work / "model", base)


def _claim(folder: Path, base: Path) -> Path:
    """Rename the folder to the next version, or the one after where another export takes that first."""
    while True:
        version = base / str(1 + max((int(path.name) for path in base.iterdir() if path.name.isdigit()), default=0))
        try:
            return folder.rename(version)
        except OSError as error:
            if not version.exists():
                raise ExportError(f"--output must be a folder that can be written, got {error.strerror}") from error


def _save(exported: Exported, folder: Path, model: str) -> None:
    try:
        tf.saved_model.save(exported, str(folder), signatures=dict(exported.functions))
        if exported.warm_up_hw is not None:
            _write_warm_up(folder / WARM_UP, model, picture(exported.warm_up_hw))
    except (tf.errors.OpError, OSError) as error:
        raise ExportError(f"--output must be a folder that takes the model, got: {first_line(error)}") from error


def _write_warm_up(path: Path, model: str, image: npt.NDArray[np.int8]) -> None:
    """Write one PredictRequest for an image int8 [1, h, w, 3], as a record of a PredictionLog."""
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.ParseFromString(wire.encode_request(model, SERVING, {"input_image": image}))
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as records:
        records.write(log.SerializeToString())


def picture(size_hw: tuple[int, int]) -> npt.NDArray[np.int8]:
    """Return an image int8 [1, h, w, 3] with something on it: grey squares of 32 pixels on a slope."""
    y, x = np.mgrid[: size_hw[0], : size_hw[1]]
    grey = (y // 32 + x // 32) % 2 * 96 + (x * 64) // size_hw[1] + (y * 64) // size_hw[0] - 128
    return np.repeat(grey.astype(np.int8)[None, :, :, None], 3, axis=3)


def _try_out(folder: Path) -> None:
    serve = tf.saved_model.load(str(folder)).signatures[SERVING]
    _, wanted = serve.structured_input_signature
    wish = f"the exported model must run on an image of {TRIAL_PX} x {TRIAL_PX}"
    try:
        outputs = serve(**{name: _trial_input(name, spec) for name, spec in wanted.items()})
    except (tf.errors.OpError, ValueError) as error:
        raise ExportError(f"{wish}, got: {first_line(error)}") from error
    rows, masks = outputs["mrcnn_detection"].numpy(), outputs["mrcnn_mask"].numpy()
    if rows.ndim != 3 or rows.shape[-1] != 6 or masks.shape[:2] != rows.shape[:2]:
        raise ExportError(f"{wish} and answer rows (1, N, 6) and N masks, got {rows.shape} and {masks.shape}")
    if not np.isfinite(rows).all():
        raise ExportError(f"{wish} and answer finite numbers, got NaN or infinity in mrcnn_detection")
    furthest = float(np.abs(rows[..., :4]).max(initial=0.0))
    if furthest > FURTHEST:
        hint = "pixels are for the Model Garden's models, which give image_info, too"
        raise ExportError(f"boxes must be shares of the image, 0..1, got up to {furthest:.1f} ({hint})")


def _trial_input(name: str, spec: Any) -> tf.Tensor:
    if name == "input_image":
        return tf.cast(picture((TRIAL_PX, TRIAL_PX)), spec.dtype)
    sides = [1, TRIAL_ANCHORS, 4] if name == "input_anchors" else [1 if side is None else side for side in spec.shape]
    return tf.zeros(sides, spec.dtype)
