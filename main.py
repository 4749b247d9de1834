"""The HTTP function ``segment``: an image by POST, its instances as JSON. TensorFlow Serving does the seeing.

The only file where the web, the gRPC client and the settings meet.
"""

import os

import flask
import functions_framework

from handler import log, malloc, pipeline
from handler.backend.channel import Channel
from handler.backend.client import ModelClient
from handler.backend.wire import ModelSpec
from handler.config import Config
from handler.image.decode import Limits
from handler.masks.encodings import Encoder
from handler.model.contract import ModelContract
from handler.options import Options
from handler.web import app, routes


class Service:
    """The function behind the web: settings and the client; opens no connection before its first use."""

    def __init__(self, config: Config) -> None:
        self.model = config.model_name
        self.limits = Limits(config.max_pixels, config.image_kinds)
        channel = Channel(config.tf_serving_address, self.model, config.tls, config.tf_serving_audience)
        spec = ModelSpec(self.model, config.model_version, config.model_version_label)
        self.client = ModelClient(channel, spec, config.deadline_s, config.matterport)

    def segment(self, data: bytes, options: Options, encode: Encoder) -> pipeline.Result:
        """Answer for an encoded image."""
        return self.client.run(
            lambda contract, predict: pipeline.segment(data, options, contract, predict, self.limits, encode=encode)
        )

    def ready(self) -> int:
        """Return the version that is served; raises ModelUnavailable where none is."""
        return self.client.ready()

    def contract(self) -> tuple[ModelContract, int]:
        """Return the contract in force and its version."""
        served = self.client.served()
        return served.contract, served.version


def rules(config: Config) -> routes.Rules:
    """Return what the settings ask of every request."""
    return routes.Rules(
        config.api_keys, config.origins, config.max_body_bytes, config.image_kinds, config.google_cloud_project
    )


log.configure()
malloc.keep_freed_blocks()
CONFIG = Config.from_environ(os.environ)  # raises ConfigError: a wrong setting fails at the start
SERVICE = Service(CONFIG)
RULES = rules(CONFIG)


def segment(request: flask.Request) -> flask.Response:
    """Answer one HTTP request."""
    return app.handle(request, SERVICE, RULES)


functions_framework.http(segment)  # registers it; called, as the decorator would strip its types
