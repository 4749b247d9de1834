"""What every scenario plays on: photographs and their right answers, stand-ins, the function, and its clients."""

import http.client
import io
import json
import random
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import skimage.data
from PIL import Image
from tqdm import tqdm

from deploy.local import exports
from deploy.models.shapes import bundled
from tests.support.function import running
from tests.support.processes import StandIn

KINDS = ("int8", "int8-cast", "float32")
INT8 = {1: "int8"}  # version -> kind
CLIENTS = 4
THREADS = 24  # of the function: more than any scenario has requests at once
WATCH_S = 0.5
WAIT_S = 60.0  # of a client, after the deadline
TRANSPORTS = ("int8", "jpeg")


def coins():
    """Return name -> JPEG of the coins: whole, a half, enlarged, and turned as a phone does that is held upright."""
    whole = Image.fromarray(skimage.data.coins())
    upright = Image.Exif()
    upright[0x0112] = 6
    return {
        "coins": _jpeg(whole),
        "half": _jpeg(whole.crop((0, 0, 192, 303))),
        "large": _jpeg(whole.resize((768, 606), Image.Resampling.BICUBIC)),
        "upright": _jpeg(whole, exif=upright),
    }


def _jpeg(image, **settings):
    body = io.BytesIO()
    image.save(body, "JPEG", quality=95, **settings)
    return body.getvalue()


class Replica(StandIn):
    """A stand-in with a base path of its own, of the bundled model; ``offers``: version -> kind in it."""

    def __init__(self, build, folder, *flags):
        self._build, self._base, self.offers = build, folder / "base", {}
        shutil.rmtree(folder, ignore_errors=True)
        self._base.mkdir(parents=True)
        at_once = "--load_retry_interval_micros=200000", "--file_system_poll_wait_seconds=0.2"
        served = "--model_name=shapes", f"--model_base_path={self._base}"
        super().__init__(*served, *at_once, *flags, log=folder / "stand-in.log")

    def offer(self, versions):
        """Let the base path have these versions and no others: a running stand-in serves the highest."""
        for version, kind in versions.items():
            source = max(exports.base_path(self._build, kind).glob("[0-9]*"), key=lambda path: int(path.name))
            new = self._base / f"new-{version}"
            new.unlink(missing_ok=True)
            new.symlink_to(source.resolve())
            new.rename(self._base / str(version))
        for old in self.offers.keys() - versions.keys():
            (self._base / str(old)).unlink()
        self.offers = versions

    def ensure(self, versions):
        """Start it with these versions, unless it runs with them."""
        if self.process is None or self.offers != versions:
            self.kill()
            self.offer(versions)
            self.start()


@dataclass
class Photos:
    """What clients send, and when an answer is right: one of ``kinds`` made it, version -> kinds.

    ``answers``: kind -> name -> instances as JSON. ``last``: version -> kinds after the faults, if not ``kinds``.
    """

    bodies: dict[str, bytes]
    answers: dict[str, dict[str, str]]
    kinds: dict[int, tuple[str, ...]]
    last: dict[int, tuple[str, ...]] = field(default_factory=dict)

    def are_right(self, name, answer):
        try:
            body = answer.json()
            given = json.dumps(body["instances"])
            return any(given == self.answers[kind][name] for kind in self.kinds.get(body["model"]["version"], ()))
        except (ValueError, KeyError, TypeError):
            return False


class Stage:
    """Starts what scenarios need, with logs below ``folder``; ``replicas``: two that start with the int8 export."""

    def __init__(self, build, folder, stack):
        self.build, self.folder, self._stack = build, folder, stack
        exports.ensure(build, folder, KINDS)
        self.replicas = [self.replica(f"replica {place}") for place in (1, 2)]
        self._bodies = coins()
        self._answers = self._alone()

    def replica(self, name, *flags):
        """Return a stand-in, not started, that is ended with the stage."""
        one = Replica(self.build, self.folder / name.replace(" ", "-"), *flags)
        self._stack.callback(one.kill)
        return one

    def pair(self, count=2):
        """Return as many of the two replicas, which serve the int8 export as version 1."""
        return self.serving([INT8] * count)

    def serving(self, offers):
        """Return replicas that listen, each with the versions that it is to offer."""
        chosen = self.replicas[: len(offers)]
        for one, versions in zip(chosen, offers, strict=True):
            one.ensure(versions)
        for one in chosen:
            one.wait()
        return chosen

    def photos(self, *kinds):
        """Return the coins, right if one of these kinds answers as version 1; int8 if none is named."""
        return Photos(self._bodies, self._answers, {1: kinds or ("int8",)})

    def function(self, row, addresses, **settings):
        """Run the function before these addresses, of replicas with and without a contract."""
        folder = self.folder / row.scenario.name.replace(" ", "-").replace(",", "")
        folder.mkdir(exist_ok=True)
        fixed = {"MODEL_NAME": "shapes", "THREADS": str(THREADS), "DEADLINE_S": str(row.scenario.deadline_s)}
        address = "ipv4:" + ",".join(addresses)
        return running(folder, TF_SERVING_ADDRESS=address, **bundled.ENVIRONMENT, **fixed, **settings)

    @contextmanager
    def asked(self, row, addresses, photos=None, clients=CLIENTS, **settings):
        """Run the function with clients that ask without a pause; yield it. Then each photograph must be answered 200.

        By the row's seed, photographs go to the model as int8 or as the JPEG.
        """
        photos = photos or self.photos()
        settings = {"IMAGE_TRANSPORT": row.rng.choice(TRANSPORTS), **settings}
        over = threading.Event()
        with self.function(row, addresses, **settings) as function, ExitStack() as stop:
            function.answer_s = row.scenario.deadline_s + WAIT_S
            pool = stop.enter_context(ThreadPoolExecutor(clients + 1))
            stop.callback(over.set)
            futures = [pool.submit(watch, row, function, over)]
            seeds = [row.rng.random() for _ in range(clients)]
            futures += [pool.submit(ask_on, row, function, photos, over, random.Random(seed)) for seed in seeds]
            try:
                yield function
            except BaseException:
                function.program.kill()  # else its clients would wait until their deadline
                raise
            over.set()
            for future in futures:
                future.result()
            photos.kinds = photos.last or photos.kinds
            for name in photos.bodies:
                ask(row, function, photos, name, {200})

    def _alone(self):
        """Return kind -> name -> instances as JSON, each kind served alone."""
        answers = {}
        for kinds in (("float32", "int8-cast"), ("int8",)):
            for kind, one in zip(kinds, self.serving([{1: kind} for kind in kinds]), strict=True):
                print(f"what {kind} answers ...", flush=True)
                folder = self.folder / f"alone-{kind}"
                folder.mkdir(exist_ok=True)
                settings = {**bundled.ENVIRONMENT, "MODEL_NAME": "shapes", "TF_SERVING_ADDRESS": address(one)}
                with running(folder, **settings) as function:
                    answers[kind] = alone(function, self._bodies)
        if len({json.dumps(one) for one in answers.values()}) < len(KINDS):
            raise RuntimeError("the kinds of export must answer differently, got two that answer alike")
        return answers


def alone(function, bodies):
    """Return name -> instances as JSON, each photograph asked for by itself."""
    return {name: json.dumps(function.post(body).json()["instances"]) for name, body in bodies.items()}


def address(replica):
    return f"{replica.host}:{replica.port}"


def ask(row, function, photos, name, allowed=None):
    """Send a photograph, and add to the row what comes."""
    started_s, wrong = time.monotonic(), False
    try:
        answer = function.post(photos.bodies[name])
        outcome = answer.status
    except (OSError, http.client.HTTPException) as error:
        outcome = type(error).__name__
    took_s = time.monotonic() - started_s
    if outcome == 200:
        wrong = not photos.are_right(name, answer)
    row.add(outcome, took_s, allowed, wrong=wrong)


def ask_on(row, function, photos, over, rng):
    """Send photographs until it is over."""
    while not over.is_set():
        ask(row, function, photos, rng.choice(list(photos.bodies)))


def watch(row, function, over):
    """Note memory and the time of /health, and show progress, until it is over."""
    with tqdm(total=round(row.seconds), desc=row.scenario.name, unit="s", leave=False, disable=None) as bar:
        while not over.wait(WATCH_S):
            started_s = time.monotonic()
            try:
                status = function.get("/health").status
            except (OSError, http.client.HTTPException) as error:
                status = type(error).__name__
            if status != 200:
                row.other_faults.append(f"/health: {status}")
            row.health_s = max(row.health_s, time.monotonic() - started_s)
            row.peak_bytes = max(row.peak_bytes, function.peak_bytes())
            bar.n = min(bar.total, round(time.monotonic() - row.started_s))
            bar.set_postfix(requests=len(row.seen), wrong=row.wrong(), failures=row.failures())
