"""The function's own client of a model server, with one image to ask about."""

import numpy as np

from handler.backend.channel import Channel
from handler.backend.client import ModelClient
from handler.backend.wire import ModelSpec
from handler.config import Config

IMAGE = {"input_image": np.zeros((1, 64, 64, 3), np.int8)}


def connect(address, deadline_s=5.0, concurrency=None, **version):
    """Return a client of the model ``shapes``, by its version number or label if one is given."""
    settings = Config.from_environ({}).matterport
    channel = Channel(address, "shapes", deadline_s=deadline_s)
    return ModelClient(channel, ModelSpec("shapes", **version), deadline_s, settings, concurrency)


def predict(client):
    """Return the contract in force and the answer to the image."""
    return client.run(lambda contract, predict: (contract, predict(IMAGE)))
