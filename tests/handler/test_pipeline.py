import io

import msgspec
import numpy as np
import pytest
from PIL import Image

from handler.backend import protos, wire
from handler.errors import BadRequest, ContractViolation, ModelTimeout, RequestRefused, SegmentError
from handler.image import undecoded
from handler.image.decode import Limits
from handler.model.contract import AnchorInput, ImageInput, JpegInput, MaskOutput, MetaInput, ModelContract, Resize
from handler.options import Options
from handler.pipeline import Way, segment
from handler.types import Prediction
from tests.support.backend import INT8, two_objects


def png(width=64, height=64):
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (255, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def run(outputs, contract=INT8, data=None, **options):
    return segment(data or png(), Options(**options), contract, lambda inputs: Prediction(outputs, 4), Limits())


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

    def predict(inputs):
        seen.update(inputs)
        return Prediction(outputs, 1)

    result = segment(png(), Options(), contract, predict, Limits())
    assert seen["input_image"].shape == (1, 128, 128, 3)
    assert seen["input_image"][0, 64, 64].tolist() == [127, -117, -104]
    assert seen["input_image_meta"].shape == (1, 15)
    assert seen["input_anchors"].shape[2] == 4
    (circle,) = result.instances  # the other object lies in the padding
    assert (circle.box, circle.area) == ((8, 16, 24, 48), 16 * 32)


def test_the_size_goes_along_where_the_contract_asks_for_it():
    """In a batch, the server pads the image."""
    image = msgspec.structs.replace(INT8.image, size_name="image_size")
    seen = {}

    def predict(inputs):
        seen.update(inputs)
        return Prediction(two_objects(), 1)

    segment(png(), Options(), msgspec.structs.replace(INT8, schema=3, image=image), predict, Limits())
    assert seen["image_size"].tolist() == [list(seen["input_image"].shape[1:3])]
    assert seen["image_size"].dtype == np.int32
    segment(png(), Options(), INT8, lambda inputs: seen.update(asked=list(inputs)) or predict(inputs), Limits())
    assert seen["asked"] == ["input_image"]


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8))
PADDED = msgspec.structs.replace(INT8, image=msgspec.structs.replace(INT8.image, padded=True))
UINT8 = msgspec.structs.replace(INT8, image=ImageInput(dtype="uint8", padded=False))
SIZED = msgspec.structs.replace(INT8, schema=3, image=msgspec.structs.replace(INT8.image, size_name="image_size"))


@pytest.mark.parametrize("contract", [INT8, PADDED, UINT8, SIZED], ids=["int8", "padded", "uint8", "with its size"])
@pytest.mark.parametrize(
    ("size_wh", "kind", "options"),
    [
        ((96, 64), "JPEG", {}),
        ((96, 64), "JPEG", {"exif": turned(6)}),
        ((96, 64), "JPEG", {"exif": turned(3)}),
        ((96, 64), "JPEG", {"progressive": True}),
        ((960, 640), "JPEG", {}),
        ((960, 640), "JPEG", {"exif": turned(8)}),
        ((96, 64), "PNG", {}),
    ],
    ids=["as it is", "turned", "upside down", "progressive", "resized", "resized and turned", "PNG"],
)
def test_a_request_with_its_pixels_in_place_is_the_same(contract, size_wh, kind, options):
    buffer = io.BytesIO()
    NOISE.resize(size_wh).save(buffer, kind, **options)
    requests, placed = [], []

    class Call(wire.PlacedImage):
        def predict(self):
            return send(self.to_bytes())

    def send(request):
        requests.append(protos.PredictRequest.FromString(request))
        return Prediction(two_objects(), 1)

    def predict(inputs):
        return send(wire.encode_request(wire.ModelSpec("m"), "s", inputs))

    def place(size_hw, others):
        placed.append(size_hw)
        return Call(wire.encode_request(wire.ModelSpec("m"), "s", others), contract.image.name, size_hw)

    segment(buffer.getvalue(), Options(), contract, predict, Limits())
    segment(buffer.getvalue(), Options(), contract, predict, Limits(), place=place)
    assert requests[0] == requests[1]
    assert bool(placed) == (contract is not UINT8)


WITH_JPEG = msgspec.structs.replace(INT8, schema=2, jpeg=JpegInput())


def jpeg(side=64, **options):
    buffer = io.BytesIO()
    Image.new("RGB", (side, side // 2), (255, 0, 0)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def ways(data, contract=WITH_JPEG, refused=()):
    """Return what the model is sent, names of the inputs, and the way that the result tells."""
    seen = []

    def predict(inputs):
        seen.append(inputs)
        if set(inputs) & set(refused):
            raise RequestRefused("a reason")
        return Prediction(two_objects(), 1)

    result = segment(data, Options(), contract, predict, Limits(), transport="jpeg")
    return seen, result


@pytest.mark.parametrize(("data", "transport"), [(jpeg(), "jpeg"), (png(), "int8"), (jpeg()[:200], "int8")])
def test_an_error_tells_the_log_which_way_the_image_went(data, transport):
    def predict(_):
        raise ModelTimeout("too slow")

    with pytest.raises(SegmentError) as raised:
        segment(data, Options(), WITH_JPEG, predict, Limits(), transport="jpeg")
    assert raised.value.log_fields["image_transport"] == transport
    assert raised.value.log_fields["image_transport_why"]


def test_a_jpeg_goes_as_it_is():
    exif = Image.Exif()
    exif[0x0112] = 6
    (inputs,), result = ways(jpeg(exif=exif))
    assert inputs["image_jpeg"] == undecoded.read(jpeg(), Limits()).data
    assert inputs["orientation"].tolist() == [6]
    assert inputs["orientation"].dtype == np.int32
    assert result.image_hw == (64, 32)
    assert result.way == Way("jpeg", "the model takes this JPEG")
    whole = segment(jpeg(exif=exif), Options(), INT8, lambda inputs: Prediction(two_objects(), 1), Limits())
    assert result.instances == whole.instances


@pytest.mark.parametrize(
    ("data", "contract", "refused", "why"),
    [
        (jpeg(), INT8, (), "the model takes no JPEG"),
        (png(), WITH_JPEG, (), "the image is no JPEG"),
        (jpeg(8), WITH_JPEG, (), "the JPEG has no fewer bytes than the int8 tensor"),
        (jpeg(), WITH_JPEG, ("image_jpeg",), "the model refused the JPEG"),
    ],
)
def test_everything_else_goes_as_int8(data, contract, refused, why):
    seen, result = ways(data, contract, refused)
    assert [name for inputs in seen for name in inputs if name != "orientation"] == [*refused, "input_image"]
    assert result.way == Way("int8", why)


def test_a_broken_jpeg_is_the_clients_fault_as_ever():
    with pytest.raises(BadRequest, match="broken or truncated"):
        ways(jpeg()[:-9])
    broken = jpeg().replace(b"\xff\xdb", b"\xff\xfe")  # without tables of quantization; a model refuses it, too
    with pytest.raises(BadRequest, match="broken or truncated"):
        ways(broken, refused=("image_jpeg",))


def test_an_int8_refusal_is_the_models_fault():
    with pytest.raises(RequestRefused):
        ways(jpeg(), refused=("image_jpeg", "input_image"))


def test_the_setting_decides():
    result = run(two_objects(), WITH_JPEG, jpeg())
    assert result.way == Way("int8", "the setting IMAGE_TRANSPORT")


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
