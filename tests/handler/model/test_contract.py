import re
import subprocess
import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handler.errors import ContractViolation
from handler.model.contract import AnchorInput, ImageInput, JpegInput, MaskOutput, MetaInput, ModelContract, Resize
from tests.support.backend import INT8
from tests.support.processes import ROOT

INT8_CAST = ModelContract(
    image=ImageInput(dtype="int8", mean=(123.7, 116.8, 103.9), padded=True),
    masks=MaskOutput(dtype="int8", scale=1 / 255, per_class=True, naive_cast=True),
    resize=Resize(mode="square", min_dim=800, max_dim=1024),
    source="signature",
    meta=MetaInput(num_classes=81),
    anchors=AnchorInput(),
)


@pytest.mark.parametrize("contract", [INT8, INT8_CAST])
def test_json_round_trip(contract):
    assert ModelContract.from_json(contract.to_json()) == contract
    assert ModelContract.from_json(contract.to_json().encode()) == contract


def test_a_letterbox_is_stated_and_no_other_mode_has_its_field():
    letterbox = Resize(mode="letterbox", min_dim=0, max_dim=640, frame_hw=(384, 640))
    contract = msgspec.structs.replace(INT8, resize=letterbox)
    assert ModelContract.from_json(contract.to_json()) == contract
    assert '"frame_hw":[384,640]' in contract.to_json()
    assert "frame_hw" not in INT8.to_json()  # functions of version 1.0.0 refuse fields that they do not know


def test_a_signature_for_jpegs_is_stated_and_no_other_contract_has_its_field():
    both = msgspec.structs.replace(INT8, schema=2, jpeg=JpegInput(signature="other"))
    assert ModelContract.from_json(both.to_json()) == both
    assert both.signature_of({"image_jpeg": b"", "orientation": b""}) == "other"
    assert both.signature_of({"input_image": b""}) == INT8.signature_of({"image_jpeg": b""}) == "serving_default"
    assert "jpeg" not in INT8.to_json()
    assert '"schema":1' in INT8.to_json()  # functions of version 1.0.0 refuse schema 2


def test_an_input_for_the_size_is_stated_and_no_other_contract_has_its_field():
    sized = msgspec.structs.replace(INT8, schema=3, image=msgspec.structs.replace(INT8.image, size_name="image_size"))
    assert ModelContract.from_json(sized.to_json()) == sized
    assert sized.image.has_size
    assert not INT8.image.has_size
    assert "size_name" not in INT8.to_json()
    with pytest.raises(ContractViolation, match="input names must differ"):
        ModelContract.from_json(sized.to_json().replace('"image_size"', '"input_image"'))


@given(st.dictionaries(st.integers(1, 1 << 16), st.text(max_size=20)), st.floats(1e-9, 1e9), st.text(max_size=20))
def test_any_labels_scale_and_source_survive(labels, scale, source):
    contract = ModelContract(
        image=ImageInput(dtype="int8", scale=scale, padded=True),
        masks=INT8.masks,
        resize=INT8.resize,
        labels=labels,
        source=source,
    )
    assert ModelContract.from_json(contract.to_json()) == contract


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"schema":1', '"schema":4', "schema must be one of 1, 2, 3, got 4"),
        ('"source":"test"', '"source":"test","jpeg":{}', "schema must be 2 or 3 if jpeg is set, got 1"),
        ('"padded":false', '"padded":false,"size_name":"s"', "schema must be 3 if image.size_name is set, got 1"),
        ('"padded":false', '"padded":false,"size_name":""', "image.size_name must not be empty"),
        ('"schema":1', '"schema":2,"jpeg":{"image":""}', "jpeg.signature must not be empty"),
        ('"schema":1', '"schema":2,"jpeg":{"image":"orientation"}', "jpeg.orientation must differ"),
        ('"scale":1.0', '"scale":0', "image.scale must be positive and finite, got 0"),
        ('"zero_point":-128', '"zero_point":-129', "image.zero_point must be in -128..127, got -129"),
        ('"mode":"pad64"', '"mode":"crop"', "crop"),
        ('"max_dim":512', '"max_dim":500', "multiple of 64"),
        ('"min_dim":0', '"min_dim":513', "resize.min_dim must be in 0..max_dim (512), got 513"),
        ('"mode":"pad64"', '"mode":"letterbox"', "mode letterbox or stretch must come together"),
        ('"mode":"pad64"', '"frame_hw":[512,512],"mode":"pad64"', "or stretch must come together, got ('pad64'"),
        ('"mode":"pad64"', '"mode":"stretch"', "mode letterbox or stretch must come together"),
        ('"mode":"pad64"', '"frame_hw":[64,64],"mode":"letterbox"', "sides in 1..max_dim (512), one of them max_dim"),
        ('"mode":"pad64"', '"frame_hw":[0,512],"mode":"letterbox"', "sides in 1..max_dim (512), one of them max_dim"),
        ('"labels":{"1"', '"labels":{"0"', "class ids from 1"),
        ('"source":"test"', '"source":"test","extra":1', "extra"),
        ('"dtype":"int8"', '"dtype":"int4"', "int4"),
        ('"name":"mrcnn_mask"', '"name":"mrcnn_detection"', "output names must differ"),
        ("{", "[", "cannot be read"),
    ],
)
def test_what_does_not_hold_is_refused(old, new, message):
    with pytest.raises(ContractViolation, match=re.escape(message)):
        ModelContract.from_json(INT8.to_json().replace(old, new, 1))


@given(st.binary(max_size=40))
def test_any_bytes_are_refused(data):
    with pytest.raises(ContractViolation):
        ModelContract.from_json(data)


def test_a_float_image_has_no_codes():
    with pytest.raises(ContractViolation, match="float32 image must have scale 1"):
        ImageInput(dtype="float32", scale=2, padded=True)
    with pytest.raises(ContractViolation, match=r"masks.naive_cast needs dtype int8"):
        MaskOutput(dtype="float32", per_class=True, naive_cast=True)


def test_a_letterbox_is_padded_in_the_graph():
    letterbox = Resize(mode="letterbox", min_dim=0, max_dim=640, frame_hw=(640, 640))
    with pytest.raises(ContractViolation, match=r"image.padded must be false with resize mode letterbox"):
        msgspec.structs.replace(INT8_CAST, resize=letterbox)


FIRST_CONTRACT = """
import sys, threading
from handler.model.contract import ModelContract
sys.setswitchinterval(1e-6)
together = threading.Barrier(16)
def read():
    together.wait()
    ModelContract.from_json(sys.argv[1])
threads = [threading.Thread(target=read) for _ in range(16)]
for one in threads: one.start()
for one in threads: one.join()
"""


@pytest.mark.parametrize("trial", range(3))
def test_the_first_requests_may_read_the_contract_at_once(trial):
    command = [sys.executable, "-c", FIRST_CONTRACT, INT8.to_json()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
