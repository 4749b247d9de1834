"""The HTTP function ``segment``: it takes an image by POST and returns the instances in it as JSON.

TensorFlow Serving runs the model. Only this file joins the web, the gRPC client and the settings.
"""

import gc
import logging
import os
import time

gc.disable()  # while modules load: nothing of them is freed, and looking for it takes a tenth of the start

import flask
import functions_framework

from handler import log, machine, malloc, memory, pipeline
from handler.backend.channel import Channel
from handler.backend.client import ModelClient, Predictor
from handler.backend.wire import ModelSpec
from handler.config import Config
from handler.image.decode import Limits
from handler.masks.encodings import Encoder
from handler.model.contract import ModelContract
from handler.options import Options
from handler.types import Away
from handler.web import app, routes, worker
from handler.web.load import Load

WAIT_SHARE = 0.5  # of the deadline, for memory; the rest is for decoding and the model
LEAST_PROCESSORS = 2  # images worked on at once: while one is decoded, another has Python's lock
logger = logging.getLogger("segment.main")


class Service:
    """Runs the pipeline with the settings and the model client; connects on first use."""

    def __init__(self, config: Config, memory_bytes: int, away: Away) -> None:
        self.model = config.model_name
        self.transport = config.image_transport
        self.limits = Limits(config.max_pixels, config.image_kinds)
        self.memory = memory.Memory(memory_bytes, away)
        self.wait_s = WAIT_SHARE * config.deadline_s
        channel = Channel(
            config.tf_serving_address,
            self.model,
            config.tls,
            config.tf_serving_audience,
            config.deadline_s,
            away=away,
        )
        spec = ModelSpec(self.model, config.model_version, config.model_version_label)
        self.client = ModelClient(channel, spec, config.deadline_s, config.matterport, config.model_concurrency)

    def segment(self, data: bytes, options: Options, encode: Encoder) -> pipeline.Result:
        """Return the instances in an encoded image, each mask as ``encode`` returns it."""
        room_end_s: float | None = None

        def run(contract: ModelContract, predict: Predictor) -> pipeline.Result:
            nonlocal room_end_s
            room_end_s = room_end_s or time.monotonic() + self.wait_s  # once the first contract is known
            return pipeline.segment(
                data,
                options,
                contract,
                predict,
                self.limits,
                encode=encode,
                transport=self.transport,
                place=predict.place,
                room=self.memory.room(room_end_s),
            )

        return self.client.run(run)

    def ready(self) -> int:
        """Return the model version that is served. Raises ModelUnavailable if there is none."""
        return self.client.ready()

    def contract(self) -> tuple[ModelContract, int]:
        """Return the contract in force and its version."""
        served = self.client.served()
        return served.contract, served.version


def rules(config: Config) -> routes.Rules:
    """Return the settings that apply to every request."""
    return routes.Rules(
        api_keys=config.api_keys,
        cors_origins=config.origins,
        max_body_bytes=config.max_body_bytes,
        max_images=config.max_images,
        image_kinds=config.image_kinds,
        project=config.google_cloud_project,
        cors_headers=config.cors_headers,
        page=config.shows_page,
    )


def decode_memory_bytes(config: Config) -> int:
    """Return the memory that decoding may take, as set, or else from the limit of the process; the log states it."""
    limit_bytes, source = machine.memory_limit()
    set_bytes = config.decode_memory_bytes
    found_bytes = set_bytes or memory.default_bytes(
        limit_bytes, int(os.environ.get("WORKERS") or 1), config.requests_at_once
    )
    logger.info(
        "decoding may take %d bytes of memory in each worker, %s; the limit is %d, of %s",
        found_bytes,
        "as set" if set_bytes else "by default",
        limit_bytes,
        source,
    )
    return found_bytes


log.configure()
malloc.keep_freed_blocks()
CONFIG = Config.from_environ(os.environ)  # raises ConfigError: a wrong setting stops the start
LOAD = Load(
    requests=CONFIG.requests_at_once,
    processors=max(LEAST_PROCESSORS, machine.processors()),
    body_bytes=CONFIG.requests_at_once * CONFIG.max_body_bytes,
    wait_s=CONFIG.deadline_s,
)
SERVICE = Service(CONFIG, decode_memory_bytes(CONFIG), LOAD.away)
RULES = rules(CONFIG)
worker.install(CONFIG.keep_alive_s, CONFIG.client_timeout_s)
gc.freeze()  # what is loaded stays: no later collection looks at it
gc.enable()


def segment(request: flask.Request) -> flask.Response:
    """Answer one HTTP request."""
    return app.handle(request, SERVICE, RULES, LOAD)


functions_framework.http(segment)  # called, not used as a decorator, which would strip the types
