"""What the benchmark's backend answers, recorded from the bundled model: `python -m tests.bench.recorded FOLDER`.

The masks are the network's own, of a hundred objects in held-out scenes, at places in a frame of 1024 x 1024. They are
cast by TensorFlow as each kind of export casts them, and written as TensorFlow Serving writes them. `int8-cast` is what
the recipe's cast gives on this processor, which saturates; `wrapped` what it gives where it wraps: negative codes.
"""

import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from deploy.models.shapes import bundled, dataset, network
from handler.backend import protos
from handler.image.decode import Photo
from handler.model import mold
from handler.model.contract import ImageInput, JpegInput, MaskOutput, ModelContract, Resize

FRAME = 1024
ROWS = 100
CLASSES = 81  # as COCO has them with the background, each with masks of its own in the recipe's export
MASK = 28
COUNTS = (0, 1, 3, 10, 30, 60, 100)
FULL = (0, 10, 100)  # for which every kind is recorded
SCENES, SCENE_PX, ENLARGED = 16, 192, 2.5
RESIZE = Resize(mode="square", min_dim=800, max_dim=FRAME)
# The function's own defaults describe the recipe's model: 1024 x 1024, Matterport's anchors; 81 classes by metadata.
INT8 = ModelContract(
    schema=3,
    image=ImageInput(dtype="int8", zero_point=-128, padded=False, size_name="image_size"),
    masks=MaskOutput(dtype="int8", scale=1 / 127, per_class=False),
    resize=RESIZE,
    labels={number: f"class {number}" for number in range(1, CLASSES)},
    source="benchmark",
    jpeg=JpegInput(),
)


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    boxes, scores, masks = objects()
    per_class = spread(masks)
    int8_cast = tf.cast(tf.constant(per_class) * 255, tf.int8).numpy()
    own = np.take_along_axis(per_class, class_ids()[:, None, None, None], axis=3)[..., 0]
    wrapped = (per_class * 255).astype(np.uint8).view(np.int8)
    int8 = tf.cast(tf.round(tf.constant(own) * 127), tf.int8).numpy()
    for count in COUNTS:
        detections = np.zeros((1, ROWS, 6), np.float32)
        detections[0, :count] = np.column_stack([boxes, class_ids(), scores])[:count]
        outputs = {"int8": int8}
        if count in FULL:
            outputs |= {"int8-cast": int8_cast, "wrapped": wrapped, "float32": per_class}
        for kind, values in outputs.items():
            save(folder / f"{kind}-{count}.pb", response(detections, values[None]))
        if count in FULL:
            answer = {"outputs": {"mrcnn_detection": detections.tolist(), "mrcnn_mask": per_class[None].tolist()}}
            save(folder / f"rest-{count}.json", json.dumps(answer).encode())
    save(folder / "metadata.pb", metadata(protos.DT_INT8))
    save(folder / "metadata-float32.pb", metadata(protos.DT_FLOAT))
    save(folder / "contract.json", INT8.to_json().encode())


def objects():
    """Return boxes [100, 4] normalised to the frame, scores [100] falling, and masks [100, 28, 28, 4], as inferred."""
    model = network.join(network.parts(), network.Cutoffs())
    model.load_weights(bundled.WEIGHTS)
    rng = np.random.default_rng(0)
    boxes, scores, masks = [], [], []
    for image in dataset.draw(dataset.HELD_OUT_SEED, SCENES).images:
        molded, frame = mold.mold(Photo.of(Image.fromarray(image)), bundled.SETTINGS.resize, padded=True)
        centred = (molded - np.asarray(bundled.SETTINGS.mean)).astype(np.float32)[None]
        anchors = mold.anchors(frame.frame_hw, bundled.SETTINGS.anchors)
        found = model([centred, mold.meta(frame, network.NUM_CLASSES), anchors], training=False)
        rows = found["mrcnn_detection"].numpy()[0]
        rows = rows[: np.argmin(rows[:, 4])] if (rows[:, 4] == 0).any() else rows
        place = rng.integers(0, int(FRAME - ENLARGED * SCENE_PX), 2)
        boxes.append((rows[:, :4] * (SCENE_PX - 1) * ENLARGED + np.tile(place, 2)) / (FRAME - 1))
        scores.append(rows[:, 5])
        masks.append(found["mrcnn_mask"].numpy()[0, : len(rows)])
    best = np.argsort(-np.concatenate(scores))[:ROWS]
    return np.concatenate(boxes)[best], np.concatenate(scores)[best], np.concatenate(masks)[best]


def class_ids():
    return 1 + np.arange(ROWS) * 7 % (CLASSES - 1)


def spread(masks):
    """Return [100, 28, 28, 81]: each object's own mask in its class's channel, in the others some object's there."""
    objects, channels = np.meshgrid(np.arange(ROWS), np.arange(CLASSES), indexing="ij")
    own = channels == class_ids()[:, None]
    best = masks.mean(axis=(1, 2))[:, 1:].argmax(axis=1) + 1
    source = np.where(own, objects, (objects * 31 + channels * 17) % ROWS)
    channel = np.where(own, best[objects], channels % masks.shape[3])
    return np.ascontiguousarray(masks[source, :, :, channel].transpose(0, 2, 3, 1))


def response(detections, masks):
    """Return a PredictResponse as TensorFlow Serving writes it by default: values a field each, not raw content."""
    message = protos.PredictResponse()
    message.model_spec.version.value = 1
    for name, array in (("mrcnn_detection", detections), ("mrcnn_mask", masks)):
        tensor = message.outputs[name]
        tensor.dtype = protos.DT_INT8 if array.dtype == np.int8 else protos.DT_FLOAT
        for size in array.shape:
            tensor.tensor_shape.dim.add(size=size)
        (tensor.int_val if array.dtype == np.int8 else tensor.float_val).extend(array.ravel().tolist())
    return message.SerializeToString()


def metadata(numbers):
    """Return a GetModelMetadataResponse: Matterport's signature with image and masks of a DataType."""
    inputs = {
        "input_image": (numbers, (-1, -1, -1, 3)),
        "input_image_meta": (protos.DT_FLOAT, (-1, 12 + CLASSES)),
        "input_anchors": (protos.DT_FLOAT, (-1, -1, 4)),
    }
    outputs = {
        "mrcnn_detection": (protos.DT_FLOAT, (-1, ROWS, 6)),
        "mrcnn_mask": (numbers, (-1, ROWS, MASK, MASK, CLASSES)),
    }
    signatures = protos.SignatureDefMap()
    definition = signatures.signature_def["serving_default"]
    for infos, tensors in ((definition.inputs, inputs), (definition.outputs, outputs)):
        for name, (dtype, shape) in tensors.items():
            infos[name].dtype = dtype
            for size in shape:
                infos[name].tensor_shape.dim.add(size=size)
    answer = protos.GetModelMetadataResponse()
    answer.model_spec.version.value = 1
    answer.metadata["signature_def"].Pack(signatures)
    return answer.SerializeToString()


def save(path, data):
    path.write_bytes(data)
    print(f"{path.name}: {len(data):,} bytes", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
