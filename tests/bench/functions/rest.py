"""TensorFlow Serving's REST interface, as its documentation shows it: float32 numbers as JSON, up and down."""

import http.client
import json
import os

import functions_framework
import numpy as np

from tests.bench.functions import recipe

host = os.environ["TF_SERVING_REST"]


@functions_framework.http
def segment(request):
    image = recipe.skimage.io.imread(recipe.io.BytesIO(request.get_data()))  # type: ignore[attr-defined]
    _, meta, window = recipe.mold(image)
    molded = image.astype(np.float32) - recipe.MEAN.astype(np.float32)
    inputs = {"input_image": molded[None], "input_image_meta": meta[None], "input_anchors": recipe.ANCHORS}
    body = json.dumps({"inputs": {name: array.tolist() for name, array in inputs.items()}})
    connection = http.client.HTTPConnection(host, timeout=300)
    connection.request("POST", "/v1/models/float32:predict", body, {"Content-Type": "application/json"})
    outputs = json.loads(connection.getresponse().read())["outputs"]
    connection.close()
    detections, masks = (np.asarray(outputs[name][0], np.float32) for name in ("mrcnn_detection", "mrcnn_mask"))
    return recipe.answer(*recipe.unmold(detections, masks / 2, window, image.shape[:2]))
