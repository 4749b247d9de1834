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
        tf.saved_model.save(exported, str(work / "model"), signatures=dict(exported.functions))
        _try_out(work / "model")
        version = base / str(1 + max((int(path.name) for path in base.iterdir() if path.name.isdigit()), default=0))
        (work / "model").rename(version)
    except (tf.errors.OpError, ValueError) as error:
        told = str(error).splitlines()[0]
        raise ExportError(f"the exported model must run on an image of {TRIAL_PX} x {TRIAL_PX}, got: {told}") from error
    finally:
        shutil.rmtree(work)
    return version


def _try_out(folder: Path) -> None:
    serve = tf.saved_model.load(str(folder)).signatures[SERVING]
    _, wanted = serve.structured_input_signature
    inputs = {name: tf.zeros(_trial_shape(name, spec), spec.dtype) for name, spec in wanted.items()}
    outputs = serve(**inputs)
    if outputs["mrcnn_detection"].shape[-1] != 6:
        got = outputs["mrcnn_detection"].shape
        raise ExportError(f"the exported model must answer mrcnn_detection (1, N, 6), got {got}")


def _trial_shape(name: str, spec: Any) -> list[int]:
    sides = [1 if side is None else side for side in spec.shape]
    if name == "input_image":
        return [1, TRIAL_PX, TRIAL_PX, 3]
    return [1, 1023, 4] if name == "input_anchors" else sides  # 1023 = 3 * (16**2 + 8**2 + 4**2 + 2**2 + 1)
