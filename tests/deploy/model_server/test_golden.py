"""The stand-in gives TensorFlow Serving's recorded answers, case by case."""

import json
import re

import grpc
import pytest
from google.protobuf.message import Message
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

from .conftest import GOLDEN, Call

CASES = json.loads((GOLDEN / "index.json").read_text(encoding="utf-8"))

RESPONSES: dict[str, type[Message]] = {
    "/tensorflow.serving.PredictionService/Predict": predict_pb2.PredictResponse,
    "/tensorflow.serving.PredictionService/GetModelMetadata": get_model_metadata_pb2.GetModelMetadataResponse,
    "/tensorflow.serving.ModelService/GetModelStatus": get_model_status_pb2.GetModelStatusResponse,
}

LEFT_OUT = {
    "classify_on_predict_signature": "Classify does not exist here; the stand-in says UNIMPLEMENTED",
    "regress_on_predict_signature": "Regress does not exist here; the stand-in says UNIMPLEMENTED",
    "reload_config_empty": "the stand-in's models are fixed at the start",
}

# Which missing input is named first follows the order of a hash map: the message with either name is right.
EITHER_INPUT = {"two_inputs_both_renamed": r"alias: (input_image|threshold)\(feed name: two_inputs_\1:0\)"}

REPLAYED = [case for case in CASES if case["case"] not in LEFT_OUT]


@pytest.mark.parametrize("case", REPLAYED, ids=lambda case: case["case"])
def test_answers_as_recorded(case, golden_calls: dict[str, Call]):
    request = (GOLDEN / case["request"]).read_bytes()
    call = golden_calls[case["server"]]
    if case["code"] == 0:
        kind = RESPONSES[case["method"]]
        expected = kind.FromString((GOLDEN / case["response"]).read_bytes())
        assert comparable(kind.FromString(call(case["method"], request))) == comparable(expected)
        return
    with pytest.raises(grpc.RpcError) as failure:
        call(case["method"], request)
    assert failure.value.code().value[0] == case["code"]
    if case["case"] in EITHER_INPUT:
        assert re.search(EITHER_INPUT[case["case"]], failure.value.details())
    else:
        assert failure.value.details() == case["message"]


def test_every_case_is_replayed_or_explained():
    assert {case["case"] for case in CASES} >= LEFT_OUT.keys()
    assert len(REPLAYED) + len(LEFT_OUT) == len(CASES) == 130


def comparable(message: Message) -> bytes | tuple:
    """Equal for messages that say the same; bytes, because NaN != NaN; the Any inside metadata has random map order."""
    if isinstance(message, get_model_metadata_pb2.GetModelMetadataResponse):
        signatures = get_model_metadata_pb2.SignatureDefMap()
        assert message.metadata["signature_def"].Unpack(signatures)
        return message.model_spec.SerializeToString(deterministic=True), signatures.SerializeToString(
            deterministic=True
        )
    return message.SerializeToString(deterministic=True)
