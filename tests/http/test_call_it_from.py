"""The examples of handler/clients.md do what they say: run as they stand, but for the address of the service."""

import functools
import html
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image

from tests.http.scenes import SIZE_HW
from tests.http.service import KEYS, running

CLIENTS = (Path(__file__).parents[2] / "handler" / "clients.md").read_text(encoding="utf-8")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PAGE = """<!doctype html><body><script>
{snippet}
(async () => {{
  const photo = await (await fetch("photo.jpg")).blob();
  let told;
  try {{
    const found = await segment(photo, "{key}");
    await Promise.all(found.map(({{picture}}) => picture.complete || new Promise((done) => picture.onload = done)));
    told = found.map(({{label, box, picture}}) => [label, box.width, picture.naturalWidth]);
  }} catch (error) {{ told = String(error); }}
  document.body.textContent = "told " + JSON.stringify(told) + " end";
}})();
</script>"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("client")
    Image.new("RGB", (SIZE_HW[1], SIZE_HW[0]), (200, 100, 50)).save(folder / "photo.jpg")
    return folder


@pytest.fixture(scope="module")
def origin(folder):
    """Yield the origin of a site that serves the folder."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as site:
        threading.Thread(target=site.serve_forever).start()
        yield f"http://127.0.0.1:{site.server_port}"
        site.shutdown()


@pytest.fixture(scope="module")
def service(origin, tmp_path_factory):
    settings = {"CORS_ORIGINS": origin, "API_KEYS": KEYS[0]}
    with running(tmp_path_factory.mktemp("function"), **settings) as function:
        yield function


def snippet(language, service):
    code = re.search(rf"```{language}\n(.*?)```", CLIENTS, re.DOTALL)[1]
    assert "https://segment.example.com" in code
    return code.replace("https://segment.example.com", service.url)


def run(command, folder, key=KEYS[0]):
    environment = {**os.environ, "SEGMENT_KEY": key, "no_proxy": "127.0.0.1"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def test_every_client_has_its_snippet():
    assert re.findall(r"```(\w+)", CLIENTS) == ["sh", "js", "python", "swift", "kotlin"]


def test_curl(service, folder):
    done = run(["bash", "-c", snippet("sh", service)], folder)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert [one["mask"]["format"] for one in answer["instances"]] == 7 * ["polygon"]


def test_curl_tells_what_is_wrong(service, folder):
    done = run(["bash", "-c", snippet("sh", service)], folder, key="another")
    assert done.returncode == 22
    assert "X-API-Key must be a valid key" in json.loads(done.stdout)["detail"]


def test_python(service, folder):
    done = run([sys.executable, "-W", "ignore", "-c", snippet("python", service)], folder)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == ["circle", "ring", "square", "square", "circle", "square", "circle"]
    assert int(lines[0][2]) > 1000


def test_python_tells_what_is_wrong(service, folder):
    done = run([sys.executable, "-c", snippet("python", service)], folder, key="another")
    assert (done.returncode, done.stderr.strip()) == (1, "X-API-Key must be a valid key, got another")


def browse(page, origin, folder, profile):
    """Return what a page says once its script is done, as a browser shows it."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None and not os.environ.get("CI"):
        pytest.skip(f"needs a browser, one of {', '.join(BROWSERS)}; where CI runs it is an error")
    (folder / f"{profile.name}.html").write_text(page, encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    flags += ["--disable-background-networking", "--disable-component-update", "--virtual-time-budget=20000"]
    done = run([browser, *flags, f"--user-data-dir={profile}", "--dump-dom", f"{origin}/{profile.name}.html"], folder)
    return json.loads(html.unescape(re.search(r"told (.*) end", done.stdout)[1]))


def test_a_page_in_a_browser(service, origin, folder, tmp_path):
    told = browse(PAGE.format(snippet=snippet("js", service), key=KEYS[0]), origin, folder, tmp_path)
    assert [label for label, *_ in told] == ["circle", "ring", "square", "square", "circle", "square", "circle"]
    assert all(width == shown for _, width, shown in told)


def test_a_page_is_told_what_is_wrong(service, origin, folder, tmp_path):
    told = browse(PAGE.format(snippet=snippet("js", service), key="another"), origin, folder, tmp_path)
    assert re.fullmatch(r"Error: Unauthorized: X-API-Key must be a valid key, got another \([0-9a-f]{32}\)", told)


def test_a_page_of_another_origin_may_not_read(service, origin, folder, tmp_path):
    elsewhere = origin.replace("127.0.0.1", "localhost")
    told = browse(PAGE.format(snippet=snippet("js", service), key=KEYS[0]), elsewhere, folder, tmp_path)
    assert told == "TypeError: Failed to fetch"
