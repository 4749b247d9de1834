"""The function itself, but for how it comes by its messages: the plain import, which runs TensorFlow's start-up."""

import tensorflow_serving.apis.predict_pb2  # noqa: F401

from main import segment  # noqa: F401
