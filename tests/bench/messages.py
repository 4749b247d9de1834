"""The messages by themselves: how many bytes each way, and how long it takes to read the recipe's masks."""

import functools

import msgspec
import numpy as np

from handler import pipeline
from handler.backend import protos, wire
from handler.backend.metadata import derive_contract, read_signatures
from handler.config import Config
from handler.image.decode import Limits, decode_image
from handler.model import mold
from handler.model.contract import ModelContract
from tests.bench import timing

ROUNDS = 9


def contracts(folder):
    """Return the contract of each kind of export."""
    metadata = protos.GetModelMetadataResponse.FromString((folder / "metadata.pb").read_bytes())
    int8_cast = derive_contract(read_signatures(metadata), Config.from_environ({}).matterport)
    image = msgspec.structs.replace(int8_cast.image, dtype="float32")
    masks = msgspec.structs.replace(int8_cast.masks, dtype="float32", scale=1.0, naive_cast=False)
    return {
        "float32": msgspec.structs.replace(int8_cast, image=image, masks=masks),
        "int8-cast": int8_cast,
        "int8": ModelContract.from_json((folder / "contract.json").read_text()),
    }


def request(photo, contract, model):
    """Return the PredictRequest that the function sends for a photograph."""
    needed = functools.partial(_needed, contract=contract)
    molded, frame = mold.mold(decode_image(photo, Limits(), needed), contract.resize, contract.image.padded)
    inputs = pipeline.encode_inputs(molded, frame, contract)
    names = tuple(output.name for output in contract.outputs)
    return wire.encode_request(wire.ModelSpec(model), contract.signature, inputs, names)


def _needed(size_hw, contract):
    return mold.resize_rule(size_hw, contract.resize).resized_hw


def jpeg_request(photo, contract, model):
    """Return the PredictRequest that the function sends for a photograph with the transport jpeg."""
    inputs, _ = pipeline.encode_undecoded(photo, contract, Limits())
    names = tuple(output.name for output in contract.outputs)
    return wire.encode_request(wire.ModelSpec(model), contract.signature_of(inputs), inputs, names)


def wire_bytes(folder, photo):
    """Return the bytes of request and response for each kind, and for the transport jpeg."""
    found = {
        kind: {"up": len(request(photo, contract, kind)), "down": (folder / f"{kind}-100.pb").stat().st_size}
        for kind, contract in contracts(folder).items()
    }
    up = len(jpeg_request(photo, contracts(folder)["int8"], "int8"))
    return {**found, "int8, jpeg": {"up": up, "down": found["int8"]["down"]}}


def decoding(folder, model, rounds=ROUNDS):
    """Return milliseconds of reading the masks our way, and by FromString and np.fromiter; raises where they differ."""
    data = (folder / f"{model}-100.pb").read_bytes()
    (wanted,) = (want for want in contracts(folder)["int8-cast"].outputs if want.name == "mrcnn_mask")

    def ours():
        return wire.decode_response(data, (wanted,)).outputs["mrcnn_mask"]

    def theirs():
        tensor = protos.PredictResponse.FromString(data).outputs["mrcnn_mask"]
        return np.fromiter(tensor.int_val, np.int8).reshape([dim.size for dim in tensor.tensor_shape.dim])

    if not np.array_equal(ours(), theirs()):
        raise AssertionError(f"both must read the same of {model}, got different masks")
    return timing.side_by_side({"ours": ours, "fromiter": theirs}, rounds, 1, f"reading masks ({model})")
