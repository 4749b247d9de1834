"""The contract of a model that states none, from its SignatureDef and the settings. Matterport's Mask R-CNN only.

The tensor names identify such a model: ``input_image`` (float32, or int8 in an int8-cast export), optionally
``input_image_meta`` and ``input_anchors``, and the outputs ``mrcnn_detection`` and ``mrcnn_mask``.
"""

from collections.abc import Mapping
from typing import Any, Literal

from google.protobuf.message import DecodeError

from handler.backend import protos
from handler.errors import ContractViolation
from handler.model.contract import DetectionOutput, ImageInput, MaskOutput, MatterportSettings, MetaInput, ModelContract

IMAGE, META, ANCHORS = "input_image", "input_image_meta", "input_anchors"
DETECTIONS, MASKS = "mrcnn_detection", "mrcnn_mask"
META_HEAD = 12  # numbers in input_image_meta in front of the class flags
NAIVE_CAST_SCALE = 1 / 255
_DTYPES: dict[int, Literal["int8", "float32"]] = {protos.DT_INT8: "int8", protos.DT_FLOAT: "float32"}


def read_signatures(metadata: Any) -> Mapping[str, Any]:
    """Return name -> SignatureDef of a GetModelMetadataResponse. Raises ContractViolation if it has none."""
    signatures = protos.SignatureDefMap()
    packed = metadata.metadata["signature_def"]
    try:
        found = packed.Unpack(signatures)
    except DecodeError as error:
        raise ContractViolation("the model's metadata must hold a SignatureDefMap, got other bytes") from error
    if not found:
        raise ContractViolation(f"the model's metadata must hold a SignatureDefMap, got {packed.type_url or 'none'}")
    return dict(signatures.signature_def)


def derive_contract(
    signatures: Mapping[str, Any], settings: MatterportSettings, signature: str = "serving_default"
) -> ModelContract:
    """Return the contract that a model's signatures imply. Raises ContractViolation for any other kind of model."""
    if signature not in signatures:
        seen = ", ".join(sorted(signatures)) or "none"
        raise ContractViolation(f"the model must have a signature {signature}, got {seen}")
    return contract_from_signature(signatures[signature], settings, signature)


def contract_from_signature(definition: Any, settings: MatterportSettings, signature: str) -> ModelContract:
    """Return the contract that a SignatureDef implies; see :func:`derive_contract`."""
    inputs, outputs = dict(definition.inputs), dict(definition.outputs)
    known = IMAGE in inputs and set(inputs) <= {IMAGE, META, ANCHORS} and {DETECTIONS, MASKS} <= set(outputs)
    types = known and inputs[IMAGE].dtype in _DTYPES and outputs[MASKS].dtype in _DTYPES
    ranks = known and _rank(outputs[MASKS]) in (None, 4, 5) and outputs[DETECTIONS].dtype == protos.DT_FLOAT
    if not (types and ranks):
        raise ContractViolation(
            f"the model must carry a segment_contract, or take {IMAGE} int8 or float32 (and perhaps {META}, {ANCHORS}) "
            f"and give {DETECTIONS} float32 [1, N, 6] and {MASKS} int8 or float32 [1, N, h, w, C] or [1, N, h, w]; "
            f"got inputs {_list_tensors(inputs)} and outputs {_list_tensors(outputs)}"
        )
    image_dtype, mask_dtype = _DTYPES[inputs[IMAGE].dtype], _DTYPES[outputs[MASKS].dtype]
    naive_cast = mask_dtype == "int8"
    return ModelContract(
        image=ImageInput(name=IMAGE, dtype=image_dtype, mean=settings.mean, padded=True),
        detections=DetectionOutput(name=DETECTIONS),
        masks=MaskOutput(
            name=MASKS,
            dtype=mask_dtype,
            scale=NAIVE_CAST_SCALE if naive_cast else 1.0,
            per_class=_rank(outputs[MASKS]) != 4,
            naive_cast=naive_cast,
        ),
        resize=settings.resize,
        labels={index: name for index, name in enumerate(settings.labels, start=1) if name},
        source="signature and settings",
        meta=MetaInput(name=META, num_classes=_num_classes(inputs[META])) if META in inputs else None,
        anchors=settings.anchors if ANCHORS in inputs else None,
        signature=signature,
    )


def _num_classes(info: Any) -> int:
    shape = info.tensor_shape
    size = shape.dim[1].size if len(shape.dim) == 2 else -1
    if size <= META_HEAD:
        raise ContractViolation(f"{META} must be float32 [1, 12 + number of classes], got {_dtype_and_shape(info)}")
    return int(size) - META_HEAD


def _rank(info: Any) -> int | None:
    return None if info.tensor_shape.unknown_rank else len(info.tensor_shape.dim)


def _dtype_and_shape(info: Any) -> str:
    dims = "?" if info.tensor_shape.unknown_rank else ", ".join(str(dim.size) for dim in info.tensor_shape.dim)
    return f"{protos.dtype_name(info.dtype)} [{dims}]"


def _list_tensors(infos: dict[str, Any]) -> str:
    return "; ".join(f"{name} {_dtype_and_shape(info)}" for name, info in sorted(infos.items())) or "none"
