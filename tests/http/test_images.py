"""Images as phones and browsers make them: each is answered in the frame in which it is displayed."""

import numpy as np
import pytest

from tests.http.client import ok
from tests.http.corpus import lenient, samples
from tests.http.scenes import CONTRACT

SAMPLES = [*samples(), *lenient()]
LONGEST = CONTRACT.resize.max_dim


def find_dark(codes):
    """Answer the box of what is dark in the image tensor, as a model would: normalised to the padded frame."""
    pixels = codes[0].astype(np.int16).mean(axis=-1) + 128
    rows, columns = np.flatnonzero((pixels < 128).any(axis=1)), np.flatnonzero((pixels < 128).any(axis=0))
    frame = np.array([-(-side // 64) * 64 for side in pixels.shape])
    top, left = (frame - pixels.shape) // 2
    box = np.array(
        [rows[0] + top, columns[0] + left, rows[-1] + top, columns[-1] + left]
    )  # Matterport's: 1 is taken off
    detections = np.zeros((1, 2, 6), np.float32)
    detections[0, 0] = [*(box / np.tile(frame - 1, 2)), 1, 0.9]
    return {"mrcnn_detection": detections, "mrcnn_mask": np.full((1, 2, 4, 4), 127, np.int8)}


@pytest.mark.parametrize("sample", SAMPLES, ids=[sample.name for sample in SAMPLES])
def test_the_block_is_found_where_it_is_displayed(function, sample):
    if function.backend:  # the model of tests.http.model finds it by itself
        function.backend.see = find_dark
    body = ok(function.post(sample.data))
    height, width = sample.displayed_hw
    assert body["image"] == {"width": width, "height": height}
    (found,) = body["instances"]
    box = found["box"]
    got = [box["y"], box["x"], box["y"] + box["height"], box["x"] + box["width"]]
    slack = np.ceil(max(1.0, max(height, width) / LONGEST))  # a pixel of the model's frame
    assert np.abs(np.subtract(got, sample.dark)).max() <= slack, (got, sample.dark)
