"""The recipe's way, and Matterport's around it: a Python number for each value, masks as large as the image.

Written from the recipe that users start from (deploy/export/README.md) and the formulas of mrcnn/model.py and
mrcnn/utils.py; shares nothing with the function.
"""

import io
import json
import os

import functions_framework
import grpc
import numpy as np
import skimage.io
import skimage.transform
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

SIDE, CLASSES = 1024, 81
MEAN = np.array([123.7, 116.8, 103.9])
channel = grpc.insecure_channel(
    os.environ["TF_SERVING_ADDRESS"], options=[("grpc.max_receive_message_length", 1 << 30)]
)
stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)


def compute_anchors():
    levels = []
    for scale, stride in zip((32, 64, 128, 256, 512), (4, 8, 16, 32, 64), strict=True):
        ratios = np.array([0.5, 1, 2])
        heights, widths = scale / np.sqrt(ratios), scale * np.sqrt(ratios)
        shifts = np.arange(0, -(-SIDE // stride)) * stride
        x, y = np.meshgrid(shifts, shifts)
        widths, centers_x = np.meshgrid(widths, x)
        heights, centers_y = np.meshgrid(heights, y)
        centers = np.stack([centers_y, centers_x], axis=2).reshape(-1, 2)
        sizes = np.stack([heights, widths], axis=2).reshape(-1, 2)
        levels.append(np.concatenate([centers - 0.5 * sizes, centers + 0.5 * sizes], axis=1))
    return norm_boxes(np.concatenate(levels)).astype(np.float32)[None]


def norm_boxes(boxes):
    return (boxes - [0, 0, 1, 1]) / (SIDE - 1)


ANCHORS = compute_anchors()  # Matterport keeps them, too


def mold(image):
    height, width = image.shape[:2]
    scale = min(max(1, 800 / min(height, width)), SIDE / max(height, width))
    if scale != 1:
        size = round(height * scale), round(width * scale)
        image = skimage.transform.resize(image, size, order=1, preserve_range=True)
    top, left = (SIDE - image.shape[0]) // 2, (SIDE - image.shape[1]) // 2
    window = (top, left, top + image.shape[0], left + image.shape[1])
    padded = np.zeros((SIDE, SIDE, 3), np.uint8)
    padded[window[0] : window[2], window[1] : window[3]] = image
    molded = padded.astype(np.float32) - MEAN
    meta = np.array([0, height, width, 3, SIDE, SIDE, 3, *window, scale] + [0] * CLASSES, np.float32)
    return molded.astype(np.int8), meta, window


def predict(molded, meta):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = os.environ["MODEL_NAME"]
    request.model_spec.signature_name = "serving_default"
    request.inputs["input_image"].CopyFrom(tf.make_tensor_proto(molded[None]))
    request.inputs["input_image_meta"].CopyFrom(tf.make_tensor_proto(meta[None]))
    request.inputs["input_anchors"].CopyFrom(tf.make_tensor_proto(ANCHORS))
    response = stub.Predict(request, timeout=60)
    detections = tf.make_ndarray(response.outputs["mrcnn_detection"])[0]
    tensor = response.outputs["mrcnn_mask"]
    values = np.fromiter(tensor.int_val, dtype=np.int8)
    masks = values.reshape([d.size for d in tensor.tensor_shape.dim])[0].astype(np.float32)
    return detections, masks / 255


def unmold(detections, masks, window, shape):
    zeros = np.where(detections[:, 4] == 0)[0]
    count = zeros[0] if len(zeros) else len(detections)
    boxes, class_ids, scores = detections[:count, :4], detections[:count, 4].astype(np.int32), detections[:count, 5]
    y1, x1, y2, x2 = norm_boxes(np.array(window))
    boxes = (boxes - [y1, x1, y1, x1]) / [y2 - y1, x2 - x1, y2 - y1, x2 - x1]
    height, width = shape
    limits = np.array([height - 1, width - 1, height - 1, width - 1])
    boxes = np.around(boxes * limits + [0, 0, 1, 1]).astype(np.int32)
    boxes = np.clip(boxes, 0, [height, width, height, width])
    full = []
    for box, class_id, mask in zip(boxes, class_ids, masks, strict=False):
        top, left, bottom, right = box
        small = skimage.transform.resize(mask[:, :, class_id], (bottom - top, right - left), order=1, mode="constant")
        whole = np.zeros(shape, bool)
        whole[top:bottom, left:right] = small >= 0.25  # what is left of 0.5 once the cast has cut it
        full.append(whole)
    return boxes, class_ids, scores, np.stack(full, axis=-1) if full else np.empty((*shape, 0), bool)


def answer(boxes, class_ids, scores, masks):
    found = {
        "rois": boxes.tolist(),
        "class_ids": class_ids.tolist(),
        "scores": scores.tolist(),
        "masks": [masks[:, :, index].astype(int).tolist() for index in range(masks.shape[2])],
    }
    return json.dumps(found), 200, {"Content-Type": "application/json"}


@functions_framework.http
def segment(request):
    image = skimage.io.imread(io.BytesIO(request.get_data()))  # type: ignore[attr-defined]
    molded, meta, window = mold(image)
    detections, masks = predict(molded, meta)
    return answer(*unmold(detections, masks, window, image.shape[:2]))
