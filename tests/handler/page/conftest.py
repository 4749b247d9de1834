"""The page in Chromium: before the bundled model, and before a backend whose answers a test sets."""

from contextlib import contextmanager

import pytest
from playwright.sync_api import sync_playwright

from tests.support import function, node
from tests.support.backend import Backend, serve
from tests.support.processes import StandIn

CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")


@pytest.fixture(scope="session")
def shapes(exported, tmp_path_factory):
    """Yield the function before the bundled model."""
    folder = tmp_path_factory.mktemp("shapes")
    flags = ["--model_name=shapes", f"--model_base_path={exported('int8')}"]
    with (
        StandIn(*flags, log=folder / "stand-in.log") as server,
        function.running(folder, TF_SERVING_ADDRESS=f"{server.host}:{server.port}") as running,
    ):
        assert running.get("/ready").status == 200
        yield running


@pytest.fixture(scope="module")
def scripted(tmp_path_factory):
    """Yield a function whose backend answers as a test says."""
    with scripted_function(tmp_path_factory.mktemp("scripted"), DEADLINE_S="1") as running:
        yield running


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    """Yield a function that asks for an API key, and shows the page."""
    with scripted_function(tmp_path_factory.mktemp("locked"), API_KEYS="a-key-0123456789", PAGE="on") as running:
        yield running


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    """Yield a function that takes bodies of 1000 bytes at most."""
    with scripted_function(tmp_path_factory.mktemp("narrow"), MAX_BODY_BYTES="1000") as running:
        yield running


@contextmanager
def scripted_function(folder, **settings):
    backend = Backend()
    with (
        serve(backend) as address,
        function.running(folder, backend=backend, TF_SERVING_ADDRESS=address, **settings) as running,
    ):
        yield running


@pytest.fixture(scope="session")
def chromium():
    path = node.need("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", *CAMERA])
        yield browser
        browser.close()


class Visit:
    """A page that is open, with what it asked for, and what went wrong in it."""

    def __init__(self, context, url, script=""):
        self.context, self.url = context, url
        self.page = context.new_page()
        if script:
            self.page.add_init_script(script)
        self.requests = []
        self.wrong = []
        self.page.on("request", self._asked)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", self._heard)
        self.page.goto(f"{url}/")

    def _asked(self, request):
        self.requests.append(request)

    def _heard(self, message):
        if message.type in ("error", "warning"):
            self.wrong.append(message.text)

    @property
    def posts(self):
        return [request for request in self.requests if request.method == "POST"]

    def elsewhere(self):
        """Return the URLs that it asked for elsewhere than at its own origin."""
        own = (f"{self.url}/", f"blob:{self.url}/", "data:")
        return [request.url for request in self.requests if not request.url.startswith(own)]

    def rows(self):
        """Wait for an answer; return the rows of the list."""
        self.page.locator("#list li, #alert:not([hidden])").first.wait_for(timeout=60_000)
        return self.page.locator("#list li")

    def problem(self):
        """Wait for an error; return its sentence."""
        self.page.locator("#alert:not([hidden])").wait_for(timeout=60_000)
        return self.page.inner_text("#problem")

    def status(self):
        return self.page.inner_text("#status")

    def drawn(self):
        """Return what lies on the photograph, as text that differs where pixels do."""
        self.page.wait_for_timeout(600)  # until nothing moves
        return self.page.evaluate("document.getElementById('overlay').toDataURL()")


@pytest.fixture
def visit(chromium):
    """Return a function that opens the page of a running function. A violation of its policy fails the test."""
    opened = []

    def open_page(running, wrong=(), script="", **options):
        options = {"viewport": {"width": 1280, "height": 860}, "permissions": ["camera"], **options}
        opened.append((Visit(chromium.new_context(**options), running.url, script), wrong))
        return opened[-1][0]

    yield open_page
    for one, expected in opened:
        one.context.close()
        assert [text for text in one.wrong if not any(part in text for part in expected)] == []
        assert one.elsewhere() == []
