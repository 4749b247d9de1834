"""Signatures into a version folder that TensorFlow Serving loads, whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import tensorflow as tf

from deploy.export.signatures import SERVING, Exported
from deploy.export.source import ExportError

TRIAL_PX = 64  # side of the image a new export is run on


def write(exported: Exported, base: Path) -> Path:
    """Save as the next version under `base`, after reloading and running it; an existing version is never touched.

    Raises:
        ExportError: the folder cannot be written, or the reloaded model does not answer. Nothing is left behind.
    """
    try:
        base.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".export-", dir=base))
    except OSError as error:
        raise ExportError(f"--output must be a folder that can be written, got {base}: {error}") from error
    try:
        _save(exported, work / "model")
        _try_out(work / "model")
        version = base / str(1 + max((int(path.name) for path in base.iterdir() if path.name.isdigit()), default=0))
        (work / "model").rename(version)
    finally:
        shutil.rmtree(work)
    return version


def _save(exported: Exported, folder: Path) -> None:
    try:
        tf.saved_model.save(exported, str(folder), signatures=dict(exported.functions))
    except (tf.errors.OpError, OSError) as error:
        raise ExportError(f"--output must be a folder that takes the model, got: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _try_out(folder: Path) -> None:
    serve = tf.saved_model.load(str(folder)).signatures[SERVING]
    _, wanted = serve.structured_input_signature
    inputs = {name: tf.zeros(_trial_shape(name, spec), spec.dtype) for name, spec in wanted.items()}
    try:
        outputs = serve(**inputs)
    except tf.errors.OpError as error:
        wanted = f"the exported model must run on an image of {TRIAL_PX} x {TRIAL_PX}"
        raise ExportError(f"{wanted}, got: {_first_line(error)}") from error
    if outputs["mrcnn_detection"].shape[-1] != 6:
        got = outputs["mrcnn_detection"].shape
        raise ExportError(f"the exported model must answer mrcnn_detection (1, N, 6), got {got}")


def _trial_shape(name: str, spec: Any) -> list[int]:
    sides = [1 if side is None else side for side in spec.shape]
    if name == "input_image":
        return [1, TRIAL_PX, TRIAL_PX, 3]
    return [1, 1023, 4] if name == "input_anchors" else sides  # 1023 = 3 * (16**2 + 8**2 + 4**2 + 2**2 + 1)
