"""Rollouts between kinds of export under load: no wrong answer, no failed request.

Two stand-ins, each a process of its own with TensorFlow's runtime, behind one address; clients send the coins without a
pause. Each answer must be, byte for byte of its instances, what its version gives when it is served alone. Two builds
under one version number cannot be told apart by number, so there the answer must be that of one of them.

The campaigns run each trial with one client and with four. Every day one pair of kinds stands side by side, with four.
ROLLOUT_TRIALS=5 repeats each trial.
"""

import io
import json
import os
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest
from PIL import Image

from deploy.local.photo import write_photo
from deploy.models.shapes import bundled
from tests.support import counts
from tests.support.function import ANSWER_S, running
from tests.support.processes import StandIn

KINDS = ("float32", "int8-cast", "int8")
PAIRS = [("int8-cast", "int8"), ("float32", "int8"), ("int8-cast", "float32")]
TRIALS = int(os.environ.get("ROLLOUT_TRIALS", "1"))
CLIENTS = counts.pick((4,), (1, 4))
LOAD_S = 2.0  # of answers in each state of a rollout
pytestmark = pytest.mark.counted


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """Return the coins as a JPEG, which goes to the model as int8 or as it is."""
    png = write_photo(tmp_path_factory.mktemp("photo") / "coins.png")
    encoded = io.BytesIO()
    Image.open(png).save(encoded, "JPEG", quality=95)
    return encoded.getvalue()


@pytest.fixture(scope="module")
def replica(exported):
    """Return a function that makes a stand-in, not started."""

    def replica(folder, versions, port=None, label=None):
        """Make one of version -> kind; ``label``: the version that ``stable`` names."""
        base = folder / "base"
        base.mkdir(parents=True)
        for version, kind in versions.items():
            source = max(exported(kind).glob("[0-9]*"), key=lambda path: int(path.name))
            (base / str(version)).symlink_to(source.resolve())
        config = folder / "models.config"
        policy = " ".join(f"versions: {version}" for version in versions)
        labels = f'version_labels {{ key: "stable" value: {label} }}' if label else ""
        config.write_text(
            f'model_config_list {{ config {{ name: "shapes" base_path: "{base}" model_platform: "tensorflow" '
            f"model_version_policy {{ specific {{ {policy} }} }} {labels} }} }}"
        )
        flags = f"--model_config_file={config}", "--allow_version_labels_for_unavailable_models"
        return StandIn(*flags, log=folder / "replica.log", port=port)

    return replica


@pytest.fixture(scope="module")
def standing(tmp_path_factory, replica):
    """Return replicas that stay, by kind and version: those that any daily trial or campaign puts side by side."""
    folder = tmp_path_factory.mktemp("standing")
    with ExitStack() as stop:
        replicas = {}
        for kind, version in [*((kind, 1) for kind in KINDS), ("int8", 2), *counts.pick([], [("float32", 2)])]:
            replicas[kind, version] = replica(folder / f"{kind}-{version}", {version: kind})
            stop.callback(replicas[kind, version].kill)
        for one in replicas.values():
            one.start()
        for one in replicas.values():
            one.wait()
        yield replicas


@pytest.fixture(scope="module")
def alone(standing, photo, tmp_path_factory):
    """Return the photograph, and what each kind answers when it is served alone: kind -> instances as JSON."""
    answers = {}
    for kind in KINDS:
        with function(tmp_path_factory.mktemp(kind), standing[kind, 1]) as asked:
            answers[kind] = json.dumps(asked.post(photo).json()["instances"])
            assert len(json.loads(answers[kind])) >= 23
    assert len(set(answers.values())) == len(KINDS)  # else nothing could be told apart
    return photo, answers


def function(folder, *replicas, **settings):
    """Run the function in front of the replicas, for exports with and without a contract."""
    address = "ipv4:" + ",".join(f"127.0.0.1:{one.port}" for one in replicas)
    settings = {**bundled.ENVIRONMENT, "MODEL_NAME": "shapes", **settings}
    return running(folder, TF_SERVING_ADDRESS=address, **settings)


class Load:
    """Clients that ask without a pause; ``verdicts`` counts the kind that each answer is of, or what else it was."""

    def __init__(self, asked, photo, clients, allowed):
        self._asked, self._photo, self._allowed = asked, photo, allowed
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(clients)
        self._futures = [self._pool.submit(self._ask) for _ in range(clients)]
        self._answers = []

    def _ask(self):
        while not self._stop.is_set():
            answer = self._asked.post(self._photo)
            self._answers.append(
                self._allowed(answer) if answer.status == 200 else f"{answer.status} {answer.json()['detail']}"
            )

    def go_on(self):
        """Let the clients ask for a while, until there is an answer; return a count of those since the last time."""
        end_s = time.monotonic() + LOAD_S
        while time.monotonic() < end_s or (not self._answers and time.monotonic() < end_s + ANSWER_S):
            time.sleep(0.1)
        seen, self._answers = self._answers, []
        return Counter(seen)

    def stop(self):
        """End the clients; return a count of their last answers."""
        self._stop.set()
        for future in self._futures:
            future.result()
        self._pool.shutdown()
        return Counter(self._answers)


@contextmanager
def load(asked, alone, clients, kinds):
    """Run clients; every answer must be one of ``kinds``: version -> kinds that may answer under that number."""
    photo, answers = alone

    def verdict(answer):
        body = answer.json()
        given = json.dumps(body["instances"])
        of = [kind for kind in kinds.get(body["model"]["version"], ()) if given == answers[kind]]
        return of[0] if of else f"wrong for version {body['model']['version']}"

    running_load = Load(asked, photo, clients, verdict)
    try:
        yield running_load
    finally:
        running_load.stop()


def good(counted, *kinds):
    """Tell whether there are answers, all of these kinds."""
    assert counted.total() > 0
    assert set(counted) <= set(kinds), counted
    return True


@pytest.fixture(params=range(TRIALS), ids="trial {}".format, autouse=True)
def trial(request):
    return request.param


@pytest.fixture(params=CLIENTS, ids="{} clients".format)
def clients(request):
    return request.param


@pytest.mark.parametrize(
    ("old", "new"), [PAIRS[0], *(pytest.param(*pair, marks=pytest.mark.campaign) for pair in PAIRS[1:])]
)
@pytest.mark.parametrize("version", [2, 1], ids=["two versions", "one version"])
@pytest.mark.parametrize("transport", ["int8", "jpeg"])
def test_two_kinds_side_by_side(old, new, version, transport, clients, standing, alone, tmp_path):  # noqa: PLR0917
    kinds = {1: (old,), 2: (new,)} if version == 2 else {1: (old, new)}
    with (
        function(tmp_path, standing[old, 1], standing[new, version], IMAGE_TRANSPORT=transport) as asked,
        load(asked, alone, clients, kinds) as running_load,
    ):
        counted = running_load.go_on() + running_load.stop()
    print(f"{old} 1 and {new} {version}, {transport}, {clients} clients: {dict(counted)}")  # noqa: T201 - pytest -rA shows it
    assert good(counted, old, new)


def roll(replica, replicas, folder, step, versions, label=None):  # noqa: PLR0917 - what a rollout is of
    """Replace one replica after the other by one of other versions; yield after each."""
    for place, old in enumerate(replicas):
        old.kill()
        replicas[place] = replica(folder / f"{step}-{place}", versions, old.port, label)
        replicas[place].start()
        replicas[place].wait()
        yield


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("states", "labels"),
    [
        pytest.param([{1: "int8-cast"}, {2: "int8"}, {1: "int8-cast"}], [None] * 3, id="upgrade-and-roll-back"),
        pytest.param([{1: "float32"}, {1: "int8"}], [None] * 2, id="restarted-with-another-kind"),
        pytest.param([{1: "int8-cast", 2: "int8"}] * 2, [1, 2], id="label-moved"),
    ],
)
def test_replicas_are_replaced(states, labels, clients, replica, alone, tmp_path):  # noqa: PLR0917 - fixtures
    kinds = {}
    for state in states:
        for version, kind in state.items():
            kinds[version] = (*kinds.get(version, ()), kind)
    settings = {"MODEL_VERSION_LABEL": "stable"} if labels[0] else {}
    replicas = [replica(tmp_path / f"0-{place}", states[0], label=labels[0]) for place in range(2)]
    with ExitStack() as stop:
        stop.callback(lambda: [one.kill() for one in replicas])
        for one in replicas:
            one.start()
        for one in replicas:
            one.wait()
        asked = stop.enter_context(function(tmp_path, *replicas, **settings))
        running_load = stop.enter_context(load(asked, alone, clients, kinds))
        counted = running_load.go_on()
        for step, (state, label) in enumerate(zip(states[1:], labels[1:], strict=True), 1):
            for _ in roll(replica, replicas, tmp_path, step, state, label):
                counted += running_load.go_on()
            final = state[label or max(state)]
            counted += running_load.go_on()  # of requests that began before the last replica was replaced
            last = running_load.go_on()
            assert good(last, final)
            counted += last
        counted += running_load.stop()
    print(f"{states}, {clients} clients: {dict(counted)}")  # noqa: T201
    assert good(counted, *(kind for state in states for kind in state.values()))
