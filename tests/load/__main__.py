"""`python -m tests.load --host URL`: real photographs from several users at once, every answer checked; PASS or FAIL.

The address is asked for its health and for one photograph before there is any load. An API key is taken from the
environment variable SEGMENT_KEY, an ID token from SEGMENT_ID_TOKEN. Options that are not listed go to Locust: --csv,
--html, --processes. Exit code: 0 passed, 1 failed, 2 not run.
"""

import argparse
import http.client
import os
import re
import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from tests.load import answers, traffic, verdict

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent
LOOK_S = 15
FIRST_S = 120  # an instance that starts cold, and a model that it wakes
STOP_S = 30
SPAN = r"(?=.*[1-9])(\d+h)?(\d+m)?(\d+s?)?"


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirected POST loses its body, so that a redirect is an answer like any other that is not 200."""

    def redirect_request(self, *_):
        return None


def main(arguments=None):
    options, more = parser().parse_known_args(arguments)
    try:
        headers = traffic.headers()
        look(options.host, headers)
    except (ValueError, OSError) as error:
        print(f"load: not run: {error}", file=sys.stderr)
        return 2
    try:
        first(options.host, headers)
    except (answers.AnswerError, OSError) as error:
        print(f"FAIL: the first photograph, before any load: {error}")
        return 1
    command = [sys.executable, "-m", "locust", *flags(options), *more]
    print(f"{options.users} users for {options.run_time} against {options.host} ...", flush=True)
    os.chdir(ROOT)
    return os.execv(command[0], command)  # never returns: Ctrl-C and the exit code are Locust's


def parser():
    top = argparse.ArgumentParser(
        prog="python -m tests.load",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--host", type=url, default="http://127.0.0.1:8080", help="URL of the function (%(default)s)")
    top.add_argument("--users", type=whole, default=4, help="requests at once (%(default)s)")
    top.add_argument("--run-time", type=span, default="60s", help="such as 90s or 1h30m (%(default)s)")
    top.add_argument("--spawn-rate", type=whole, default=10, help="users that join a second (%(default)s)")
    top.add_argument("--steps", type=whole, default=1, help="steps in which the users are reached (%(default)s)")
    verdict.add_criteria(top)
    return top


def flags(options):
    """Return the command line for Locust."""
    files = ["locustfile.py", *(["steps.py"] if options.steps > 1 else [])]
    named = {name: value for name, value in vars(options).items() if value is not None}
    return [
        f"--locustfile={','.join(str(FOLDER / name) for name in files)}",
        *(f"--{name.replace('_', '-')}={value}" for name, value in named.items()),
        "--headless",
        "--only-summary",
        f"--stop-timeout={STOP_S}",
        "--loglevel=WARNING",
    ]


def look(host, headers):
    """Raise ValueError, or OSError, unless the function at ``host`` is alive."""
    try:
        status, _ = ask(f"{host}/health", headers, timeout_s=LOOK_S)
    except OSError as error:
        raise OSError(f"the function must answer at {host}, got {getattr(error, 'reason', error)}") from error
    if status != 200:
        hint = f"; Cloud Run wants an ID token in {traffic.TOKEN}" if status in (401, 403) else ""
        raise ValueError(f"{host}/health must answer 200, got {status}{hint}")


def first(host, headers):
    """Send one photograph. Raises AnswerError or OSError."""
    asked = traffic.MIX[0]
    photo = traffic.photo(asked.photo)
    status, body = ask(f"{host}{asked.path}", {**headers, "Content-Type": photo.kind}, photo.data, FIRST_S)
    answers.check(status, body, photo, asked.mask)


def ask(address, headers, data=None, timeout_s=LOOK_S):
    """Return status and body. Raises OSError where no answer comes."""
    opener = urllib.request.build_opener(NoRedirects)
    try:
        with opener.open(urllib.request.Request(address, data, headers), timeout=timeout_s) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as answer:
        with answer:
            return answer.code, answer.read()
    except http.client.HTTPException as error:
        raise OSError(f"no HTTP, {type(error).__name__}: {error}") from error


def url(text):
    try:
        parts = urlsplit(text)
        fits = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        fits = fits and "@" not in parts.netloc and not (parts.query or parts.fragment)
    except ValueError:
        fits = False
    if not fits:
        raise argparse.ArgumentTypeError(f"must be such as https://segment.example.com, got {text}")
    return text.rstrip("/")


def whole(text):
    if not (text.isascii() and text.isdigit() and int(text[:9]) > 0):
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, got {text}")
    return int(text)


def span(text):
    if not re.fullmatch(SPAN, text):
        raise argparse.ArgumentTypeError(f"must be such as 90s, 10m or 1h30m, got {text}")
    return text


if __name__ == "__main__":
    sys.exit(main())
