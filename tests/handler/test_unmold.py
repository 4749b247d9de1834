"""From the model's rows to instances in image pixels, against Matterport's formulas written out number by number."""

import io

import numpy as np
from hypothesis import assume, example, given
from hypothesis import strategies as st
from PIL import Image

from handler.image.decode import Limits
from handler.masks.schemas import RleMask
from handler.model.contract import ImageInput, MaskOutput, ModelContract, Resize
from handler.options import Options
from handler.pipeline import segment
from handler.types import Prediction
from tests.support.masks import cut, sample
from tests.support.readers import coco_decode

RULES = [
    Resize(mode="square", min_dim=80, max_dim=128),
    Resize(mode="square", min_dim=0, max_dim=64, min_scale=2.0),
    Resize(mode="pad64", min_dim=0, max_dim=256),
    Resize(mode="pad64", min_dim=100, max_dim=192),
]


def frame_of(height, width, rule):
    """Return the window y1, x1, y2, x2 and the frame's height and width."""
    scale = max(1.0, rule.min_dim / min(height, width))
    if rule.min_scale:
        scale = max(scale, rule.min_scale)
    if round(max(height, width) * scale) > rule.max_dim:
        scale = rule.max_dim / max(height, width)
    high, wide = max(1, round(height * scale)), max(1, round(width * scale))
    frame = (rule.max_dim, rule.max_dim)
    if rule.mode == "pad64":
        frame = ((high + 63) // 64 * 64, (wide + 63) // 64 * 64)
    top, left = (frame[0] - high) // 2, (frame[1] - wide) // 2
    return (top, left, top + high, left + wide), frame


def unmold(row, window, frame, height, width):
    """Return the box in image pixels before rounding, as mrcnn/model.py works it out."""
    y1, x1, y2, x2 = window
    wy1, wx1 = y1 / (frame[0] - 1), x1 / (frame[1] - 1)
    wy2, wx2 = (y2 - 1) / (frame[0] - 1), (x2 - 1) / (frame[1] - 1)
    shifted = [(row[0] - wy1) / (wy2 - wy1), (row[1] - wx1) / (wx2 - wx1)]
    shifted += [(row[2] - wy1) / (wy2 - wy1), (row[3] - wx1) / (wx2 - wx1)]
    return [
        shifted[0] * (height - 1),
        shifted[1] * (width - 1),
        shifted[2] * (height - 1) + 1,
        shifted[3] * (width - 1) + 1,
    ]


SIDE = st.floats(-0.375, 1.375, width=32)
BOXES = st.one_of(
    st.tuples(SIDE, SIDE, SIDE, SIDE),  # half of them upside down
    st.tuples(SIDE, SIDE).map(lambda corner: (*corner, *corner)),  # no extent
    st.tuples(SIDE, SIDE, st.floats(0, 0.25, width=32), st.floats(0, 0.25, width=32)).map(
        lambda box: (box[0], box[1], float(np.float32(box[0] + box[2])), float(np.float32(box[1] + box[3])))
    ),
    st.just((0.0, 0.0, 1.0, 1.0)),
    st.just((-0.4, -0.4, 1.4, 1.4)),
)


@given(
    size_hw=st.tuples(st.integers(2, 400), st.integers(2, 400)),
    rule=st.sampled_from(RULES),
    boxes=st.lists(BOXES, min_size=1, max_size=6),
    mask_hw=st.sampled_from([(28, 28), (33, 33), (15, 15), (7, 5), (1, 1)]),
    seed=st.integers(0, 1000),
)
@example(size_hw=(399, 2), rule=RULES[0], boxes=[(0.0, 0.4, 1.0, 0.6)], mask_hw=(28, 28), seed=0)
def test_boxes_and_masks_are_matterports(size_hw, rule, boxes, mask_hw, seed):
    height, width = size_hw
    window, frame = frame_of(height, width, rule)
    assume(window[2] - window[0] > 1)
    assume(window[3] - window[1] > 1)
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 128, (1, len(boxes), *mask_hw)).astype(np.int8)
    detections = np.zeros((1, len(boxes), 6), np.float32)
    for place, box in enumerate(boxes):
        detections[0, place] = [*box, 1 + place, 0.9 - 0.1 * place]
    expected = []
    for place, row in enumerate(detections[0].astype(float)):
        exact = unmold(row, window, frame, height, width)
        assume(all(abs(abs(side % 1) - 0.5) > 1e-6 for side in exact))
        whole = [round(side) for side in exact]
        clipped = [min(max(side, 0), limit) for side, limit in zip(whole, [height, width] * 2, strict=True)]
        if clipped[2] > clipped[0] and clipped[3] > clipped[1]:
            expected.append((place, whole, clipped))

    contract = ModelContract(
        image=ImageInput(dtype="int8", zero_point=-128, padded=False),
        masks=MaskOutput(dtype="int8", scale=1 / 127, per_class=False),
        resize=rule,
        source="test",
    )
    sent = {}

    def predict(inputs):
        sent.update(inputs)
        return Prediction({"mrcnn_detection": detections, "mrcnn_mask": codes}, 1)

    body = io.BytesIO()
    Image.new("RGB", (width, height)).save(body, "PNG")
    result = segment(body.getvalue(), Options(), contract, predict, Limits())
    assert sent["input_image"].shape == (1, window[2] - window[0], window[3] - window[1], 3)
    assert [instance.class_id for instance in result.instances] == [1 + place for place, _, _ in expected]
    for instance, (place, whole, clipped) in zip(result.instances, expected, strict=True):
        assert list(instance.box) == clipped
        inside = cut(sample(codes[0, place] / 127, whole), whole, clipped)
        assert isinstance(instance.mask, RleMask)
        mask = coco_decode({"size": [height, width], "counts": instance.mask.counts})
        crop = mask[clipped[0] : clipped[2], clipped[1] : clipped[3]]
        sure = np.abs(inside - 0.5) > 1e-5
        assert np.array_equal(crop[sure], (inside >= 0.5)[sure])
        assert mask.sum() == crop.sum() == instance.area
