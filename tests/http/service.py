"""The function in front of the scene: a backend that tests script, or the TensorFlow Serving on TF_SERVING_ADDRESS.

That one has to serve what ``python -m tests.http.model`` writes.
"""

import os
from contextlib import contextmanager

from tests.http import scenes
from tests.support import function
from tests.support.backend import Backend, serve

SERVERS = {"gunicorn": (), "flask": ("--debug",)}  # functions-framework's two: deployed, and with --debug
ORIGIN = "https://app.example"
KEYS = ("first-key-0123456789", "second-key-0123456789")
TF_SERVING = os.environ.get("TF_SERVING_ADDRESS")
MODEL = {"name": (os.environ.get("MODEL_NAME") or scenes.NAME) if TF_SERVING else "shapes", "version": scenes.VERSION}


@contextmanager
def model_server():
    """Yield the address of what answers the scene behind a function, and the backend if that is scripted."""
    if TF_SERVING:
        yield TF_SERVING, None
    else:
        backend = show_scene(Backend())
        with serve(backend) as address:
            yield address, backend


@contextmanager
def running(folder, server="gunicorn", **settings):
    """Start the function under one of the servers, yield it once it listens, and end all its processes."""
    with model_server() as (address, backend):
        settings = {"TF_SERVING_ADDRESS": address, "MODEL_NAME": MODEL["name"], **settings}
        with function.running(folder, *SERVERS[server], backend=backend, **settings) as one:
            yield one


def show_scene(backend):
    """Let a backend be as new, and answer the scene."""
    backend.__init__()
    backend.contract = scenes.CONTRACT.to_json()
    backend.outputs = scenes.outputs()
    return backend
