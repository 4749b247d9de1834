"""The contract of a model that states none, from its SignatureDef and the settings. Matterport's Mask R-CNN only.

Such a model takes ``input_image`` (float32, or int8 in an int8-cast export), optionally ``input_image_meta`` and
``input_anchors``, and gives ``mrcnn_detection`` and ``mrcnn_mask``. :mod:`handler.model.matterport` finds them under
other names.
"""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from google.protobuf.message import DecodeError

from handler.backend import protos
from handler.errors import ContractViolation
from handler.model import matterport
from handler.model.contract import DetectionOutput, ImageInput, MaskOutput, MatterportSettings, MetaInput, ModelContract

META_HEAD = 12  # numbers in input_image_meta in front of the class flags
NAIVE_CAST_SCALE = 1 / 255
_DTYPES: dict[str, Literal["int8", "float32"]] = {"int8": "int8", "float32": "float32"}


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
    tensors = {name: _tensor(info) for name, info in (*definition.inputs.items(), *definition.outputs.items())}
    inputs = matterport.find_inputs({name: tensors[name] for name in definition.inputs})
    outputs = matterport.find_outputs(
        {name: tensors[name] for name in definition.outputs}, settings.outputs, by_shape=matterport.META in inputs
    )
    if not (inputs and outputs and _fit(tensors[inputs[matterport.IMAGE]], *(tensors[name] for name in outputs))):
        raise ContractViolation(
            f"the model must carry a segment_contract, or take {matterport.IMAGE} int8 or float32 (and perhaps "
            f"{matterport.META}, {matterport.ANCHORS}) and give {matterport.DETECTIONS} float32 [1, N, 6] and "
            f"{matterport.MASKS} int8 or float32 [1, N, h, w, C] or [1, N, h, w], by these names or as MODEL_OUTPUTS "
            f"names them; got inputs {_list_tensors(definition.inputs)} and outputs {_list_tensors(definition.outputs)}"
        )
    detections, masks = outputs
    image_dtype, mask_dtype = _DTYPES[tensors[inputs[matterport.IMAGE]].dtype], _DTYPES[tensors[masks].dtype]
    naive_cast = mask_dtype == "int8"
    meta, anchors = inputs.get(matterport.META), inputs.get(matterport.ANCHORS)
    return ModelContract(
        image=ImageInput(name=inputs[matterport.IMAGE], dtype=image_dtype, mean=settings.mean, padded=True),
        detections=DetectionOutput(name=detections),
        masks=MaskOutput(
            name=masks,
            dtype=mask_dtype,
            scale=NAIVE_CAST_SCALE if naive_cast else 1.0,
            per_class=tensors[masks].rank != 4,
            naive_cast=naive_cast,
        ),
        resize=settings.resize,
        labels={index: name for index, name in enumerate(settings.labels, start=1) if name},
        source="signature and settings",
        meta=MetaInput(name=meta, num_classes=_num_classes(meta, definition.inputs[meta])) if meta else None,
        anchors=msgspec.structs.replace(settings.anchors, name=anchors) if anchors else None,
        signature=signature,
    )


def _fit(image: matterport.Tensor, detections: matterport.Tensor, masks: matterport.Tensor) -> bool:
    types = image.dtype in _DTYPES and masks.dtype in _DTYPES and detections.dtype == "float32"
    return types and masks.rank in (None, 4, 5)


def _num_classes(name: str, info: Any) -> int:
    shape = info.tensor_shape
    size = shape.dim[1].size if len(shape.dim) == 2 else -1
    if size <= META_HEAD:
        raise ContractViolation(f"{name} must be float32 [1, 12 + number of classes], got {_dtype_and_shape(info)}")
    return int(size) - META_HEAD


def _tensor(info: Any) -> matterport.Tensor:
    shape = tuple(None if dim.size < 0 else int(dim.size) for dim in info.tensor_shape.dim)
    return matterport.Tensor(protos.dtype_name(info.dtype), None if info.tensor_shape.unknown_rank else shape)


def _dtype_and_shape(info: Any) -> str:
    dims = "?" if info.tensor_shape.unknown_rank else ", ".join(str(dim.size) for dim in info.tensor_shape.dim)
    return f"{protos.dtype_name(info.dtype)} [{dims}]"


def _list_tensors(infos: Mapping[str, Any]) -> str:
    return "; ".join(f"{name} {_dtype_and_shape(info)}" for name, info in sorted(infos.items())) or "none"
