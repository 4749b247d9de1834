import io

import numpy as np
import pytest
from PIL import Image

from handler.backend.wire import Answer
from handler.errors import ContractViolation
from handler.image.decode import Limits
from handler.model.contract import AnchorInput, ImageInput, MaskOutput, MetaInput, ModelContract, Resize
from handler.options import Options
from handler.pipeline import segment
from tests.support.backend import INT8, two_objects


def png(width=64, height=64):
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (255, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def run(outputs, contract=INT8, data=None, **options):
    return segment(data or png(), Options(**options), contract, lambda inputs, expected: Answer(outputs, 4), Limits())


def test_instances_by_falling_score():
    result = run(two_objects())
    assert result.version == 4
    assert [round(instance.score, 2) for instance in result.instances] == [0.95, 0.9]
    assert [instance.box for instance in result.instances] == [(32, 0, 40, 8), (8, 16, 24, 48)]


def test_the_mask_threshold_is_the_one_asked_for():
    outputs = two_objects()
    outputs["mrcnn_mask"][0, 0] = np.arange(16).reshape(4, 4) * 8  # 0 to 120
    areas = [run(outputs, mask_threshold=threshold, classes=("circle",)).instances[0].area for threshold in (0.2, 0.8)]
    assert areas[0] > 2 * areas[1] > 0


def test_a_list_without_an_end_is_read_whole():
    outputs = two_objects()
    outputs["mrcnn_detection"] = np.repeat(outputs["mrcnn_detection"][:, :1], 5, axis=1)
    assert len(run(outputs).instances) == 5


def test_a_label_of_two_classes_is_both():
    contract = ModelContract.from_json(INT8.to_json().replace("square", "circle"))
    found = run(two_objects(), contract, classes=("circle",)).instances
    assert {instance.class_id for instance in found} == {1, 2}


def test_boxes_outside_are_dropped_and_do_not_count():
    outputs = two_objects()
    outputs["mrcnn_detection"][0, 1, :4] = [2, 2, 3, 3]
    assert [instance.label for instance in run(outputs, max_instances=1).instances] == ["circle"]


def test_matterport_models_get_meta_and_anchors_and_give_a_mask_a_class():
    contract = ModelContract(
        image=ImageInput(dtype="int8", mean=(123.7, 116.8, 103.9), padded=True),
        masks=MaskOutput(dtype="int8", scale=1 / 255, per_class=True, naive_cast=True),
        resize=Resize(mode="square", min_dim=0, max_dim=128),
        source="test",
        meta=MetaInput(num_classes=3),
        anchors=AnchorInput(),
    )
    outputs = two_objects((128, 128))
    outputs["mrcnn_detection"][0, 0, :4] = (np.array([40, 48, 56, 80]) - [0, 0, 1, 1]) / 127  # 32 px of padding around
    masks = np.zeros((1, 5, 4, 4, 3), np.int8)
    masks[0, 0, ..., 1] = -1  # 255 after the wrap
    outputs["mrcnn_mask"] = masks
    seen = {}

    def predict(inputs, expected):
        seen.update(inputs)
        return Answer(outputs, 1)

    result = segment(png(), Options(), contract, predict, Limits())
    assert seen["input_image"].shape == (1, 128, 128, 3)
    assert seen["input_image"][0, 64, 64].tolist() == [127, -117, -104]
    assert seen["input_image_meta"].shape == (1, 15)
    assert seen["input_anchors"].shape[2] == 4
    (circle,) = result.instances  # the other object lies in the padding
    assert (circle.box, circle.area) == ((8, 16, 24, 48), 16 * 32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda o: o["mrcnn_detection"].__setitem__((0, 0, 0), np.nan), "finite"),
        (lambda o: o["mrcnn_detection"].__setitem__((0, 0, 4), 1.5), "whole numbers"),
        (lambda o: o["mrcnn_detection"].__setitem__((0, 0, 4), -1), "whole numbers"),
        (lambda o: o.__setitem__("mrcnn_mask", o["mrcnn_mask"][:, :1]), "a mask for each detection, got 1"),
        (lambda o: o.__setitem__("mrcnn_mask", o["mrcnn_mask"][:, :, :0]), "must have pixels"),
    ],
)
def test_nonsense_from_the_model_is_its_fault(change, message):
    outputs = two_objects()
    change(outputs)
    with pytest.raises(ContractViolation, match=message):
        run(outputs)
