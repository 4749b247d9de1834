"""A careful engineer's way to the same answer with well-known libraries: TensorFlow's messages, OpenCV, pycocotools.

The same model exported as int8, the same bytes; shares nothing with the function.
"""

import json
import os

import cv2
import functions_framework
import grpc
import numpy as np
import tensorflow as tf
from pycocotools import mask as coco
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

SIDE = 1024
channel = grpc.insecure_channel(os.environ["TF_SERVING_ADDRESS"], options=[("grpc.max_receive_message_length", -1)])
stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)


def predict(codes):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = os.environ["MODEL_NAME"]
    request.model_spec.signature_name = "serving_default"
    request.output_filter.extend(["mrcnn_detection", "mrcnn_mask"])
    request.inputs["input_image"].CopyFrom(tf.make_tensor_proto(codes[None]))
    response = stub.Predict(request, timeout=60)
    detections = tf.make_ndarray(response.outputs["mrcnn_detection"])[0]
    tensor = response.outputs["mrcnn_mask"]
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    return detections, np.array(tensor.int_val, np.int8).reshape(shape)[0]


@functions_framework.http
def segment(request):
    image = cv2.cvtColor(cv2.imdecode(np.frombuffer(request.get_data(), np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    height, width = image.shape[:2]
    scale = min(max(1, 800 / min(height, width)), SIDE / max(height, width))
    resized = image
    if scale != 1:
        resized = cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_LINEAR)
    detections, codes = predict((resized ^ np.uint8(0x80)).view(np.int8))
    instances = []
    top, left = (SIDE - resized.shape[0]) // 2, (SIDE - resized.shape[1]) // 2
    for (*box, class_id, score), mask in zip(detections, codes, strict=True):
        if class_id == 0:
            break
        sides = np.array(box) * (SIDE - 1) + [0, 0, 1, 1] - [top, left, top, left]
        y1, x1, y2, x2 = np.clip(np.around(sides / scale), 0, [height, width, height, width]).astype(int).tolist()
        if y2 <= y1 or x2 <= x1:
            continue
        inside = cv2.resize(mask.astype(np.float32) / 127, (x2 - x1, y2 - y1), interpolation=cv2.INTER_LINEAR) >= 0.5
        whole = np.zeros((height, width), np.uint8, order="F")
        whole[y1:y2, x1:x2] = inside
        rle = coco.encode(whole)
        instances.append(
            {
                "class_id": int(class_id),
                "score": float(score),
                "area": int(coco.area(rle)),
                "box": {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1},
                "mask": {"format": "rle", "size": rle["size"], "counts": rle["counts"].decode()},
            }
        )
    answer = {"image": {"width": width, "height": height}, "instances": instances}
    return json.dumps(answer), 200, {"Content-Type": "application/json"}
