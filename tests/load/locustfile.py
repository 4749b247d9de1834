"""Users that send real photographs and check every answer: `make load`. The last line is PASS or FAIL.

The environment variable SEGMENT_KEY may hold an API key, SEGMENT_ID_TOKEN an ID token. The exit code is 0 or 1.
"""

import io
import os
import random
import sys

import locust.stats
import skimage.data
from locust import FastHttpUser, constant, events, task
from locust.runners import WorkerRunner
from PIL import Image

from tests.bench import photos
from tests.load import answers

SECRETS = (("SEGMENT_KEY", "X-API-Key", ""), ("SEGMENT_ID_TOKEN", "Authorization", "Bearer "))
ORIENTATION, ROTATED = 0x0112, 6  # what a phone that is held upright writes into EXIF
PHONE = photos.phone()
EXIF = Image.Exif()
EXIF[ORIENTATION] = ROTATED
PHOTOS = {  # name -> the file, and width and height as displayed
    "web": (photos.small(), (1024, 1024)),
    "phone": (PHONE, (4032, 3024)),
    "phone, upright": (photos.encode(Image.open(io.BytesIO(PHONE)), exif=EXIF), (3024, 4032)),
    "thumbnail": (photos.encode(Image.fromarray(skimage.data.chelsea())), (451, 300)),
    "scan": (photos.encode(Image.fromarray(skimage.data.coins()), "PNG"), (384, 303)),
}
WEIGHTS = {  # photograph and mask -> how often it is sent
    ("web", "polygon"): 4,
    ("web", "rle"): 2,
    ("phone", "rle"): 2,
    ("phone, upright", "polygon"): 1,
    ("thumbnail", "none"): 2,
    ("scan", "rle"): 1,
}
locust.stats.CONSOLE_STATS_INTERVAL_SEC = 10


class Client(FastHttpUser):
    """Sends a photograph as soon as the last is answered, hence as many requests at once as users."""

    host = "http://127.0.0.1:8080"
    wait_time = constant(0)
    insecure = False  # the certificate is checked
    connection_timeout = 30.0
    network_timeout = 120.0  # a cold start of the function, and of the model behind it

    @task
    def segment(self):
        ((photo, mask),) = random.choices(list(WEIGHTS), list(WEIGHTS.values()))
        with self.send(photo, mask) as response:
            if found := fault(response, photo, mask):
                response.failure(found)

    def send(self, photo, mask):
        """Return the response, which counts only as a context."""
        data, _ = PHOTOS[photo]
        return self.client.post(
            f"/?mask={mask}",
            data=data,
            name=f"{photo}, mask={mask}",
            headers={"Content-Type": "application/octet-stream"},
            catch_response=True,
            allow_redirects=False,
        )


def fault(response, photo, mask):
    """Return what is wrong with a response, or None."""
    if not response.status_code:
        return f"an answer must come, got {response.error!r}"
    try:
        answers.check(response.status_code, response.content, PHOTOS[photo][1], mask)
    except answers.AnswerError as error:
        return str(error)
    return None


@events.init.add_listener
def prepare(environment, **_):
    """End the run before the load unless the function is healthy and answers one photograph."""
    Client.host = environment.host = (environment.host or Client.host).rstrip("/")
    if not Client.host.startswith(("http://", "https://")):
        fail(f"--host must begin with http:// or https://, got {Client.host}")
    Client.default_headers = secret_headers()
    if isinstance(environment.runner, WorkerRunner):
        return
    client = Client(environment)
    health = client.client.get("/health", catch_response=True, allow_redirects=False)
    if health.status_code != 200:
        fail(f"{Client.host}/health must answer 200, got {health.status_code or repr(health.error)}")
    if found := fault(client.send("web", "rle"), "web", "rle"):
        fail(f"the first photograph: {found}")


def secret_headers():
    """Return the headers that open the function."""
    headers = {}
    for variable, header, scheme in SECRETS:
        value = os.environ.get(variable, "").strip()
        if not (value.isascii() and value.isprintable()):
            fail(f"{variable} must be one line of printable ASCII, got something else")
        if value:
            headers[header] = f"{scheme}{value}"
    return headers


def fail(reason):
    print(f"FAIL: {reason}", flush=True)
    sys.exit(1)


@events.quitting.add_listener
def judge(environment, **_):
    """Set the exit code, and print the verdict after the tables of Locust."""
    if isinstance(environment.runner, WorkerRunner):
        return
    total = environment.stats.total
    passed = total.num_requests and not total.num_failures and not environment.runner.exceptions
    environment.process_exit_code = 0 if passed else 1
    p50, p95, p99 = (total.get_response_time_percentile(share) for share in (0.5, 0.95, 0.99))
    verdict = (
        f"{'PASS' if passed else 'FAIL'}: {total.num_failures} wrong of {total.num_requests} answers, "
        f"{total.total_rps:.1f}/s, p50 {p50:.0f} ms, p95 {p95:.0f} ms, p99 {p99:.0f} ms"
    )
    events.quit.add_listener(lambda **_: print(verdict, flush=True))
