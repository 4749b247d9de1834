"""The HTTP function ``segment``: an image by POST, its instances as JSON. TensorFlow Serving does the seeing.

The only file where the web, the gRPC client and the settings meet.
"""

import functools
import os
from collections.abc import Mapping

import flask
import functions_framework

from handler import pipeline, web
from handler.config import Config
from handler.contract import ModelContract
from handler.serving import ModelClient
from handler.signature import contract_from_metadata


class Service:
    """The function behind the web: settings and the client; opens no connection before its first use."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.model = config.model
        derive = functools.partial(contract_from_metadata, settings=config.matterport)
        self.client = ModelClient(config.address, config.model, config.deadline_s, derive)

    def segment(self, data: bytes, options: pipeline.Options) -> pipeline.Result:
        """Answer for an encoded image."""
        return self.client.run(
            lambda contract, predict: pipeline.segment(data, options, contract, predict, self.config.max_pixels)
        )

    def ready(self) -> int:
        """Return the version that is served; raises ModelUnavailable where none is."""
        return self.client.ready()

    def contract(self) -> tuple[ModelContract, int]:
        """Return the contract in force and its version."""
        served = self.client.served()
        return served.contract, served.version


def build(environ: Mapping[str, str]) -> Service:
    """Return the service that the settings describe; raises ConfigError, so that a wrong setting fails at the start."""
    return Service(Config.from_environ(environ))


SERVICE = build(os.environ)


def segment(request: flask.Request) -> flask.Response:
    """Answer one HTTP request."""
    return web.handle(request, SERVICE, SERVICE.config.max_body_bytes)


functions_framework.http(segment)  # registers it; called, as the decorator would strip its types
