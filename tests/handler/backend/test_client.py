import time

import grpc
import msgspec
import numpy as np
import pytest

from handler import errors
from handler.backend import protos
from handler.backend.metadata import derive_contract
from handler.config import Config
from handler.image.decode import Limits
from handler.model.contract import JpegInput, ModelContract
from handler.options import Options
from handler.pipeline import segment
from tests.support.backend import INT8, Backend, serve
from tests.support.client import IMAGE, connect, predict
from tests.support.images import noise


@pytest.fixture
def backend():
    return Backend()


@pytest.fixture
def client(backend):
    with serve(backend) as address:
        client = connect(address)
        yield client
        client.close()


def relabelled(label):
    return INT8.to_json().replace("circle", label)


def test_the_contract_is_read_once(client, backend):
    for _ in range(3):
        contract, answer = predict(client)
    assert contract == INT8
    assert answer.version == 1
    assert backend.calls == ["segment_contract"] + ["serving_default"] * 3
    assert list(backend.request.output_filter) == ["mrcnn_detection", "mrcnn_mask"]


def test_a_new_version_brings_its_contract_before_it_answers(client, backend):
    predict(client)
    other = ModelContract.from_json(backend.contract.replace("circle", "ring"))
    backend.contract, backend.version = other.to_json(), 2
    contract, answer = predict(client)
    assert (contract.labels[1], answer.version) == ("ring", 2)


def test_a_new_version_that_refuses_old_inputs_is_asked_again(client, backend):
    predict(client)
    backend.version, backend.errors = 2, [(grpc.StatusCode.INVALID_ARGUMENT, "input size does not match signature")]
    assert predict(client)[1].version == 2


def test_a_version_that_keeps_changing_gives_up(client, backend):
    def work(contract, predict):
        backend.version += 1
        backend.contract = relabelled(f"v{backend.version}")
        return predict(IMAGE)

    with pytest.raises((errors.ModelUnavailable, errors.ModelTimeout)):  # a call may run when the deadline passes
        client.run(work)


def test_another_contract_under_the_same_version_is_read(client, backend):
    predict(client)
    backend.contract = relabelled("ring")
    backend.errors = [(grpc.StatusCode.INVALID_ARGUMENT, "input size does not match signature")]
    assert predict(client)[0].labels[1] == "ring"


def test_a_version_without_the_signature_for_jpegs_gets_int8(client, backend):
    """It refuses the JPEG, then the other version's int8; what it is sent at last is by its own contract."""
    photo = noise(64, 64, "JPEG")

    def run():
        return client.run(
            lambda contract, predict: segment(photo, Options(), contract, predict, Limits(), transport="jpeg")
        )

    jpeg = JpegInput(signature="segment_jpeg_a")
    both = msgspec.structs.replace(INT8, schema=2, signature="serving_default_a", jpeg=jpeg)
    backend.contract = both.to_json()
    assert (run().way.transport, backend.calls[-1]) == ("jpeg", "segment_jpeg_a")
    assert backend.request.inputs["image_jpeg"].string_val[0].startswith(b"\xff\xd8")
    backend.contract = msgspec.structs.replace(INT8, signature="serving_default_b").to_json()
    backend.version, backend.own = 2, "serving_default_b"
    result = run()
    assert (result.way.transport, result.version) == ("int8", 2)
    assert backend.calls[-4:] == ["segment_jpeg_a", "serving_default_a", "segment_contract", "serving_default_b"]


@pytest.mark.parametrize("labels", [("circle", "circle"), ("old", "new")])
def test_replicas_may_serve_different_versions(labels):
    replicas = [Backend(), Backend()]
    for version, (replica, label) in enumerate(zip(replicas, labels, strict=True), 1):
        replica.version, replica.contract = version, relabelled(label)
    with serve(replicas[0]) as first, serve(replicas[1]) as second:
        client = connect(f"ipv4:{first},{second}")
        seen = set()
        for _ in range(30):
            contract, answer = predict(client)
            assert contract.labels[1] == labels[answer.version - 1]
            seen.add(answer.version)
        client.close()
    assert seen == {1, 2}
    assert sum(replica.calls.count("segment_contract") for replica in replicas) < 10


def test_no_contract_is_derived_from_a_model_that_states_one():
    """Round robin: the first replica states none, the second describes the signatures of a model that states one."""
    cast, int8 = Backend(), Backend()
    cast.contract, cast.signatures = None, {"serving_default": matterport()}
    int8.version, int8.signatures = 2, {"serving_default": matterport(), "segment_contract": matterport()}
    with serve(cast) as first, serve(int8) as second:
        for _ in range(4):
            client = connect(f"ipv4:{first},{second}")
            served = client.served()
            assert (served.version, served.contract == INT8) in {(1, False), (2, True)}
            client.close()


def test_two_contracts_under_one_number_are_both_right():
    """The signature is named after the contract, as the exporter does: a replica with the other one refuses."""
    replicas = [Backend(), Backend()]
    for replica, label in zip(replicas, ("old", "new"), strict=True):
        replica.contract = relabelled(label).replace("serving_default", f"serving_{label}")
        replica.signatures = {"segment_contract": matterport()}
        replica.own = f"serving_{label}"
    with serve(replicas[0]) as first, serve(replicas[1]) as second:
        client = connect(f"ipv4:{first},{second}")
        for _ in range(20):
            contract, _ = predict(client)
            assert contract.labels[1] in ("old", "new")
        client.close()


def test_a_model_that_refuses_its_own_contract_is_given_up(client, backend):
    predict(client)
    backend.errors = [(grpc.StatusCode.INVALID_ARGUMENT, "no")] * 50
    calls = len(backend.calls)
    with pytest.raises(errors.RequestRefused):
        predict(client)
    assert backend.calls[calls:].count("serving_default") <= 3
    backend.errors.clear()
    backend.contract = relabelled("ring")
    assert predict(client)[0].labels[1] == "ring"  # what failed is out of force


def test_a_contract_violation_is_not_repeated(client, backend):
    predict(client)
    backend.outputs["mrcnn_mask"] = np.zeros((1, 2), np.int8)
    calls = len(backend.calls)
    with pytest.raises(errors.ContractViolation, match=r"got int8 \[1, 2\]"):
        predict(client)
    assert backend.calls[calls:].count("serving_default") == 1


def test_the_deadline_covers_the_calls_of_a_request(backend):
    answer = backend.predict

    def slow(request, context):
        time.sleep(0.4)
        backend.version += request.model_spec.signature_name != "segment_contract"
        backend.contract = relabelled(f"v{backend.version}")
        request.model_spec.ClearField("version")
        return answer(request, context)

    backend.predict = slow
    with serve(backend) as address:
        client = connect(address, deadline_s=1.0)
        with pytest.raises(errors.ModelTimeout):
            predict(client)
        client.close()


def test_ready(client, backend):
    assert client.ready() == 1
    backend.available = False
    with pytest.raises(errors.ModelUnavailable, match="LOADING"):
        client.ready()


def test_ready_of_a_stranger(client, backend):
    backend.raw_status = b"\xff"
    with pytest.raises(errors.ContractViolation, match="GetModelStatusResponse, got 1 other bytes"):
        client.ready()
    backend.raw_status = b"\x0a\x04\x08\x01\x10\x63"
    with pytest.raises(errors.ModelUnavailable, match="state 99"):
        client.ready()


def matterport(image=protos.DT_INT8, mask=protos.DT_INT8):
    definition = protos.SignatureDef()
    for infos, name, dtype, shape in [
        (definition.inputs, "input_image", image, (-1, -1, -1, 3)),
        (definition.inputs, "input_image_meta", protos.DT_FLOAT, (-1, 93)),
        (definition.inputs, "input_anchors", protos.DT_FLOAT, (-1, -1, 4)),
        (definition.outputs, "mrcnn_detection", protos.DT_FLOAT, (1, 100, 6)),
        (definition.outputs, "mrcnn_mask", mask, (1, 100, 28, 28, 81)),
    ]:
        infos[name].dtype = dtype
        for size in shape:
            infos[name].tensor_shape.dim.add(size=size)
    return definition


def test_a_model_without_a_contract_is_recognised(client, backend):
    backend.contract, backend.signatures = None, {"serving_default": matterport()}
    contract = client.served().contract
    assert contract.meta.num_classes == 81
    assert contract.anchors.strides == (4, 8, 16, 32, 64)
    assert (contract.image.dtype, contract.image.mean, contract.image.padded) == ("int8", (123.7, 116.8, 103.9), True)
    assert (contract.masks.naive_cast, contract.masks.per_class, contract.masks.scale) == (True, True, 1 / 255)
    assert contract.resize.max_dim == 1024


def test_a_float_model_is_recognised(client, backend):
    floats = matterport(protos.DT_FLOAT, protos.DT_FLOAT)
    backend.contract, backend.signatures = None, {"serving_default": floats}
    contract = client.served().contract
    assert (contract.image.dtype, contract.masks.dtype, contract.masks.naive_cast) == ("float32", "float32", False)


def renamed(infos, names):
    """Give tensors of a SignatureDef other names."""
    for old, new in names.items():
        infos[new].CopyFrom(infos[old])
        del infos[old]


SCRIPT = {"mrcnn_detection": "mrcnn_detection/Reshape_1:0", "mrcnn_mask": "mrcnn_mask/Reshape_1:0"}
KERAS_3 = {"mrcnn_detection": "output_0", "mrcnn_mask": "output_3"}


@pytest.mark.parametrize("names", [SCRIPT, KERAS_3, {"mrcnn_detection": "detection", "mrcnn_mask": "mask"}])
def test_outputs_of_other_names_are_recognised(client, backend, names):
    definition = matterport()
    renamed(definition.outputs, names)
    del definition.inputs["input_anchors"]
    backend.contract, backend.signatures = None, {"serving_default": definition}
    contract = client.served().contract
    assert (contract.detections.name, contract.masks.name) == tuple(names.values())
    assert (contract.anchors, contract.meta.num_classes) == (None, 81)


def test_outputs_that_only_the_setting_names(client, backend):
    definition = matterport()
    renamed(definition.outputs, {"mrcnn_detection": "a", "mrcnn_mask": "b"})
    definition.outputs["raw"].CopyFrom(definition.outputs["a"])
    with pytest.raises(errors.ContractViolation, match="by these names or as MODEL_OUTPUTS names them"):
        derive_contract({"serving_default": definition}, Config.from_environ({}).matterport)
    settings = Config.from_environ({"MODEL_OUTPUTS": "a,b"}).matterport
    contract = derive_contract({"serving_default": definition}, settings)
    assert (contract.detections.name, contract.masks.name) == ("a", "b")


def test_inputs_of_other_names_go_by_their_rank(client, backend):
    definition = matterport()
    renamed(definition.inputs, {"input_image": "x:0", "input_image_meta": "y", "input_anchors": "z"})
    backend.contract, backend.signatures = None, {"serving_default": definition}
    contract = client.served().contract
    assert (contract.image.name, contract.meta.name, contract.anchors.name) == ("x:0", "y", "z")


def test_a_stranger_is_named(client, backend):
    definition = protos.SignatureDef()
    definition.inputs["x"].dtype = protos.DT_FLOAT
    definition.outputs["y"].dtype = protos.DT_FLOAT
    backend.contract, backend.signatures = None, {"serving_default": definition}
    with pytest.raises(errors.ContractViolation, match=r"got inputs x float32 \[\] and outputs y float32 \[\]"):
        client.served()
    definition.inputs["x"].dtype = 999
    with pytest.raises(errors.ContractViolation, match="x type 999"):
        client.served()
    backend.signatures = {"other": definition}
    with pytest.raises(errors.ContractViolation, match="must have a signature serving_default, got other"):
        client.served()
