"""Mask R-CNNs that the Model Garden's own exporter saved, exported again: its own answers are the oracle.

The library needs another TensorFlow, so model_garden.py runs in an environment of its own, 3 GB under build/.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from skimage import data

from deploy.export.__main__ import main
from deploy.export.report.segment import encode_png, on_model_server
from handler.config import Config
from tests.support.masks import paint
from tests.support.readers import coco_decode

pytestmark = pytest.mark.campaign
ROOT = Path(__file__).parents[3]
ENVIRONMENT = ROOT / "build" / "model_garden"
REQUIREMENTS = ["tensorflow==2.20.*", "tf-keras==2.20.*", "gin-config", "tf-slim", "tensorflow-hub", "pyyaml"]
REQUIREMENTS += ["tensorflow-model-optimization", "pycocotools", "opencv-python-headless", "immutabledict", "Pillow"]
REQUIREMENTS += ["tensorflow-datasets", "sentencepiece", "seqeval"]
REQUIREMENTS += ["scipy", "pandas", "psutil", "py-cpuinfo", "matplotlib"]
LIBRARIES = ["tf-models-official==2.20.0", "tensorflow-text==2.20.*"]  # without what its other models need
VARIANTS = ["dynamic size, batch 1", "dynamic size, free batch", "fixed size, batch 1"]


@pytest.fixture(scope="module")
def image():
    return np.asarray(data.astronaut())[:400]


@pytest.fixture(scope="module")
def saved(tmp_path_factory, image):
    """Return a folder with the models and answers of model_garden.py."""
    uv, python = Path(sys.executable).parent / "uv", ENVIRONMENT / "bin" / "python"
    if not (ENVIRONMENT / "ready").exists():
        subprocess.run([uv, "venv", "--clear", "--python", sys.executable, ENVIRONMENT], check=True)
        install = f"{uv} pip install --quiet --python {python}".split()
        subprocess.run([*install, *REQUIREMENTS], check=True)
        subprocess.run([*install, "--no-deps", *LIBRARIES], check=True)
        (ENVIRONMENT / "ready").touch()
    folder = tmp_path_factory.mktemp("garden")
    np.save(folder / "image.npy", image)
    script = Path(__file__).with_name("model_garden.py")
    subprocess.run([python, script, folder / "image.npy", folder], check=True)
    return folder


@pytest.mark.parametrize("variant", VARIANTS)
def test_masks_are_those_of_the_library(saved, tmp_path, image, variant):
    own = np.load(saved / f"{variant}.npz")
    options = ["--saved-model", str(saved / variant / "1"), "--max-dim=512", "--output", str(tmp_path / "int8")]
    assert main(options) == 0
    with on_model_server(tmp_path / "int8", Config.from_environ({}).matterport) as segment:
        found = segment(encode_png(image)).instances
    boxes = np.rint(own["boxes"]).astype(int)
    real = np.flatnonzero((own["classes"] > 0) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1))
    assert len(found) == len(real) > 20
    ious = []
    for one, place in zip(found, real, strict=True):
        assert one.class_id == own["classes"][place]
        assert one.score == pytest.approx(own["scores"][place], abs=1e-4)
        assert np.abs(np.array(one.box) - own["boxes"][place].clip(0, [*image.shape[:2]] * 2)).max() <= 1
        ours = coco_decode({"size": one.mask.size, "counts": one.mask.counts}).astype(bool)
        for_float32 = paint(own["masks"][place], boxes[place], image.shape[:2]) >= 0.5
        ious.append([iou(ours, theirs) for theirs in (for_float32, own["pasted"][place], own["pasted_v2"][place])])
    float32, pasted, pasted_v2 = np.mean(ious, axis=0)
    assert float32 >= 0.999
    assert pasted_v2 >= 0.9
    assert pasted >= 0.7


def iou(one, other):
    union = (one | other).sum()
    return (one & other).sum() / union if union else 1.0
