"""Which outputs of a signature are Matterport's; the shapes are those of its inference model in Keras 3."""

import pytest

from handler.model.matterport import Tensor, find_inputs, find_outputs

KERAS_3 = {
    "output_0": (None, 100, 6),
    "output_1": (None, 1000, 6),  # mrcnn_class, of six classes
    "output_2": (None, 1000, 6, 4),
    "output_3": (None, 100, 28, 28, 6),
    "output_4": (None, 1000, 4),
}


def tensors(shapes, dtype="float32"):
    return {name: Tensor(dtype, shape) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("shapes", "named", "by_shape", "found"),
    [
        (KERAS_3, (), True, ("output_0", "output_3")),
        (KERAS_3, (), False, None),
        (KERAS_3 | {"output_1": (None, None, 6)}, (), True, ("output_0", "output_3")),
        (KERAS_3 | {"output_0": (None, None, 6)}, (), True, None),
        (KERAS_3 | {"output_0": (None, None, 6)}, ("output_0", None), True, ("output_0", "output_3")),
        (KERAS_3, ("output_1", "output_3"), False, ("output_1", "output_3")),
        (KERAS_3, ("boxes", "output_3"), True, None),
        ({"output_0": (1, 9, 6), "output_1": (1, 9, 28, 28)}, (), True, ("output_0", "output_1")),
        ({"detections": (1, 9, 6), "masks": (1, 9, 28, 28, 4)}, (), False, ("detections", "masks")),
        ({"detection": (1, 9, 4), "mask": (1, 9, 28, 28, 4)}, (), False, None),
        (
            {"mrcnn_detection/x:0": None, "mrcnn_mask/Reshape_1": None},
            (),
            False,
            ("mrcnn_detection/x:0", "mrcnn_mask/Reshape_1"),
        ),
    ],
)
def test_outputs(shapes, named, by_shape, found):
    assert find_outputs(tensors(shapes), named, by_shape=by_shape) == found


def test_inputs():
    image, meta, anchors = (None, None, None, 3), (None, 93), (None, None, 4)
    named = {"input_image": image, "input_image_meta:0": meta, "input_anchors/x:0": anchors}
    assert list(find_inputs(tensors(named)).values()) == list(named)
    assert find_inputs(tensors({"a": anchors, "b": image, "c": meta})) == {
        "input_anchors": "a",
        "input_image": "b",
        "input_image_meta": "c",
    }
    assert find_inputs(tensors({"a": image, "b": image})) == {}
    assert find_inputs(tensors({"a": image, "b": (3,)})) == {}
    assert find_inputs(tensors({"a": meta})) == {}
