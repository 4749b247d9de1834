"""Exports of models that the Model Garden's own code builds and saves find what these models find in float32."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.export.__main__ import main
from deploy.export.report.segment import encode_png, on_model_server
from deploy.models.shapes import coins
from handler.config import Config
from handler.image.decode import Photo
from handler.model import mold
from handler.model.contract import Resize
from tests.deploy.export.unmold_fidelity import model_garden, promised
from tests.support.readers import coco_decode, iou

ROOT = Path(__file__).parents[3]
ENVIRONMENT = ROOT / "build" / "model_garden"
PACKAGES = ("tf-models-official==2.20.0", "tf-keras==2.20.1", "setuptools<81")
SIDE = 256
PHOTO = coins.photo(1400)[: 4 * SIDE, : 5 * SIDE]
SQUARE = PHOTO[:, : 4 * SIDE]
FIXED = Resize(mode="letterbox", min_dim=0, max_dim=SIDE, frame_hw=(SIDE, SIDE))
SETTINGS = Config.from_environ({}).matterport


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return the folder of the models that the Model Garden saved, made by an environment of its own under build."""
    python, uv = ENVIRONMENT / "bin" / "python", Path(sys.executable).with_name("uv")
    ready = ENVIRONMENT / "ready"
    if not (ready.exists() and ready.read_text() == str(PACKAGES)):
        subprocess.run([uv, "venv", "--quiet", "--clear", f"--python={sys.executable}", ENVIRONMENT], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", f"--python={python}", *PACKAGES], check=True)
        ready.write_text(str(PACKAGES))
    folder = tmp_path_factory.mktemp("model_garden")
    np.save(folder / "photo.npy", PHOTO)
    np.save(folder / "small.npy", mold.mold(Photo.of(Image.fromarray(SQUARE)), FIXED, padded=False)[0])
    subprocess.run([python, Path(__file__).with_name("model_garden.py"), folder], check=True)
    return folder


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("variant", "options", "photo"),
    [
        ("any size, batch 1", ["--max-dim=1280"], PHOTO),
        ("any size, free batch", ["--max-dim=1280"], PHOTO),
        ("fixed size, batch 1", ["--scale=imagenet"], SQUARE),
    ],
    ids=["any size, batch 1", "any size, free batch", "fixed size, batch 1"],
)
def test_masks_are_those_of_the_source_in_float32(saved, tmp_path, variant, options, photo):
    source, base = saved / variant, tmp_path / "model"
    assert main(["int8", "--saved-model", str(source), "--output", str(base), *options]) == 0
    with on_model_server(base, SETTINGS) as segment:
        found = segment(encode_png(photo))
    answer = np.load(source / "answer.npz")
    assert answer["num_detections"] == len(found.instances) >= 5
    ious = {"promised": [], "written out": []}
    for place, one in enumerate(found.instances):
        box, mask = answer["detection_boxes"][place], answer["detection_masks"][place]
        whole = [round(float(side)) for side in box]  # it can reach out of the photo
        assert np.abs(one.box - np.clip(box, 0, [*photo.shape[:2]] * 2)).max() <= 1
        assert one.class_id == answer["detection_classes"][place]
        assert one.score == pytest.approx(answer["detection_scores"][place], abs=1e-4)
        assert np.abs(found.masks[place] - mask).max() <= 0.5 / 127 + 1e-4
        ious["promised"].append(iou(coco_decode(found.rles()[place]), promised(mask, whole, photo.shape[:2])))
        ious["written out"].append(iou(answer["pasted"][place], model_garden(mask, box, photo.shape[:2])))
    assert np.mean(ious["promised"]) >= 0.999
    assert min(ious["written out"]) == 1
