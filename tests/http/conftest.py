"""The function under each server that runs it, for all tests of the interface."""

import pytest

from tests.http.service import KEYS, MODEL, ORIGIN, SERVERS, TF_SERVING, running, show_scene
from tests.support.processes import wait_for

__all__ = ["KEYS", "running", "show_scene", "wait_for"]
SCRIPTED = pytest.StashKey()  # the tests that a TensorFlow Serving is not asked
UNDER = [  # deployed functions run under gunicorn
    pytest.param(server, marks=() if server == "gunicorn" else pytest.mark.campaign) for server in SERVERS
]


def pytest_configure(config):
    config.addinivalue_line("markers", "scripted: changes what the backend answers, as only a scripted one lets it")


def pytest_collection_modifyitems(config, items):
    if not TF_SERVING:
        return
    config.stash[SCRIPTED] = [item for item in items if item.get_closest_marker("scripted")]
    config.hook.pytest_deselected(items=config.stash[SCRIPTED])
    items[:] = [item for item in items if not item.get_closest_marker("scripted")]


def pytest_terminal_summary(terminalreporter, config):
    if TF_SERVING:
        told = f"{len(config.stash.get(SCRIPTED, []))} deselected that change what a scripted backend answers"
        terminalreporter.line(f"against TensorFlow Serving on {TF_SERVING}, model {MODEL['name']}: {told}")


@pytest.fixture(scope="package", params=UNDER)
def started(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    with running(folder, request.param, CORS_ORIGINS=ORIGIN, GOOGLE_CLOUD_PROJECT="a-project") as function:
        yield function


@pytest.fixture
def function(started):
    """Return the function, open to all."""
    if started.backend:
        show_scene(started.backend)
    return started


@pytest.fixture(scope="package", params=UNDER)
def locked(request, tmp_path_factory):
    """Yield a function that asks for API keys."""
    folder = tmp_path_factory.mktemp(f"locked-{request.param}")
    with running(folder, request.param, API_KEYS=", ".join(KEYS)) as function:
        yield function
