"""Version folders come, break and go; the statuses are those recorded from TensorFlow Serving."""

import json
import shutil
import threading
import time

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import get_model_status_pb2, predict_pb2

from deploy.model_server.errors import Code, ServingError
from deploy.model_server.flags import Flags
from deploy.model_server.models import Model, VersionPolicy
from deploy.model_server.server import ModelServer
from deploy.model_server.versions import ModelVersions, State, Timing

from .conftest import GOLDEN, caller

SOURCE = GOLDEN / "models" / "half_plus_two" / "123"
FAST = Timing(poll_wait_s=0.02, max_load_retries=0)
SAVED_MODEL = "saved_model.pb"
CUT_BYTES = 100  # too few for a SavedModel


def add_version(base, name):
    """Appear at once and complete, as a deployment should do it."""
    shutil.copytree(SOURCE, base / f"copying-{name}")
    return (base / f"copying-{name}").rename(base / str(name))


def add_broken(base, name):
    folder = base / f"copying-{name}"
    shutil.copytree(SOURCE, folder)
    (folder / SAVED_MODEL).write_bytes((SOURCE / SAVED_MODEL).read_bytes()[:CUT_BYTES])
    return folder.rename(base / str(name))


def add_empty(base, name):
    (base / str(name)).mkdir()


def wait_for(condition, timeout_s=10.0):
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "timed out"
        time.sleep(0.01)


def told(versions, base):
    """Statuses in the recording's form."""
    return [
        [s.version, s.state.name, int(s.code), s.message.replace(str(base), "MODEL_BASE_PATH")]
        for s in versions.statuses()
    ]


def recorded(name):
    return {entry["step"]: entry for entry in json.loads((GOLDEN / name).read_text(encoding="utf-8"))}


@pytest.fixture
def base(tmp_path):
    add_version(tmp_path, 1)
    return tmp_path


@pytest.fixture
def watch(base):
    started = []

    def start(timing=FAST, policy=VersionPolicy()):  # noqa: B008  # frozen
        versions = ModelVersions(Model("m", base, policy), timing)
        versions.start()
        started.append(versions)
        return versions

    yield start
    for versions in started:
        versions.stop()


def latest(versions):
    try:
        with versions.use(None) as (version, _):
            return version
    except ServingError as error:
        return [error.code.name, error.message]


def test_the_recorded_life_without_retries(base, watch):
    steps = recorded("version_watch_no_retries.json")
    versions = watch()

    def expect(step):
        wait_for(lambda: told(versions, base) == steps[step]["status"])
        assert latest(versions) == steps[step]["predict_latest"]

    expect("only version 1")
    add_version(base, 2)
    expect("after adding version 2 (latest policy)")
    with pytest.raises(ServingError) as failure, versions.use(1):
        pass
    assert [failure.value.code.name, failure.value.message] == steps["predict version 1 after unload"]["result"]
    broken = add_broken(base, 3)
    expect("after adding broken version 3")
    shutil.rmtree(broken)
    expect("after removing broken version 3")
    add_empty(base, 4)
    expect("after adding empty directory 4")
    add_empty(base, "notanumber")
    add_empty(base, "007")
    expect("after adding dirs notanumber and 007 (empty)")
    shutil.rmtree(base / "007")
    shutil.rmtree(base / "4")
    shutil.rmtree(base / "2")
    expect("after removing version 2, leaving 1")
    shutil.rmtree(base / "1")
    expect("after removing all versions")


def test_a_version_being_retried_holds_up_every_change(base, watch):
    steps = recorded("version_watch.json")
    versions = watch(Timing(poll_wait_s=0.02, max_load_retries=5, load_retry_interval_s=60))
    wait_for(lambda: latest(versions) == 1)
    add_version(base, 2)
    wait_for(lambda: told(versions, base) == steps["after adding version 2 (latest policy)"]["status"])
    broken = add_broken(base, 3)
    expected = steps["after adding broken version 3"]["status"]
    wait_for(lambda: told(versions, base) == expected)
    shutil.rmtree(broken)
    add_empty(base, 4)
    shutil.rmtree(base / "2")
    time.sleep(0.2)
    assert told(versions, base) == expected == steps["after removing all versions"]["status"]
    assert latest(versions) == 2


def test_a_retry_finds_the_version_repaired(base, watch):
    versions = watch(Timing(poll_wait_s=0.02, max_load_retries=1000, load_retry_interval_s=0.05))
    wait_for(lambda: latest(versions) == 1)
    broken = add_broken(base, 2)
    wait_for(lambda: [s.state for s in versions.statuses()] == [State.LOADING, State.AVAILABLE])
    shutil.copy(SOURCE / SAVED_MODEL, broken / SAVED_MODEL)
    wait_for(lambda: latest(versions) == 2)


def test_retries_end_when_the_version_vanishes(base, watch):
    versions = watch(Timing(poll_wait_s=0.02, max_load_retries=1000, load_retry_interval_s=0.05))
    wait_for(lambda: latest(versions) == 1)
    shutil.rmtree(add_broken(base, 2))
    wait_for(lambda: versions.statuses()[0].state in (State.END, State.AVAILABLE))
    assert latest(versions) == 1


def test_a_failed_version_that_comes_back_is_tried_again(base, watch):
    versions = watch()
    wait_for(lambda: latest(versions) == 1)
    broken = add_broken(base, 2)
    wait_for(lambda: versions.statuses()[0].state == State.END)
    shutil.rmtree(broken)
    time.sleep(0.2)
    add_version(base, 2)
    wait_for(lambda: latest(versions) == 2)


def test_a_request_in_flight_keeps_its_version(base, watch):
    versions = watch()
    wait_for(lambda: latest(versions) == 1)
    with versions.use(1) as (_, servable):
        add_version(base, 2)
        wait_for(lambda: latest(versions) == 2)
        wait_for(lambda: versions.statuses()[1].state == State.UNLOADING)
        signature = servable.signatures["serving_default"]
        (y,) = servable.run({signature.inputs["x"].name: np.array([2], np.float32)}, [signature.outputs["y"].name])
        assert y.tolist() == [3.0]
    assert versions.statuses()[1].state == State.END


def test_a_vanished_base_path_changes_nothing(base, watch):
    versions = watch()
    wait_for(lambda: latest(versions) == 1)
    shutil.rmtree(base)
    time.sleep(0.2)
    assert latest(versions) == 1


def test_a_file_with_a_number_for_a_name_is_taken_for_a_version(base, watch):
    versions = watch()
    wait_for(lambda: latest(versions) == 1)
    (base / "9").write_bytes(b"")
    reserve = "Error while attempting to reserve resources to load servable {name: m version: 9}"
    message = f"{reserve}: MODEL_BASE_PATH/9; Not a directory"
    wait_for(lambda: told(versions, base)[0] == [9, "END", Code.FAILED_PRECONDITION, message])
    assert latest(versions) == 1


def test_specific_without_versions_serves_none(base, watch):
    versions = watch(policy=VersionPolicy(specific=frozenset()))
    time.sleep(0.2)
    assert versions.statuses() == []
    assert not versions.settled.is_set()


def test_all_and_specific_policies(base, watch):
    for name in (2, 3):
        add_version(base, name)
    every, some = watch(policy=VersionPolicy(latest=0)), watch(policy=VersionPolicy(specific=frozenset({1, 3, 9})))
    for versions, numbers in ((every, [3, 2, 1]), (some, [3, 1])):
        wait_for(versions.settled.is_set)
        assert [s.version for s in versions.statuses() if s.state == State.AVAILABLE] == numbers


def test_a_new_version_is_served_soon_and_without_a_failed_request(base):
    request = predict_pb2.PredictRequest.FromString((GOLDEN / "half_plus_two_plain.req.pb").read_bytes())
    request.model_spec.name = "m"
    payload = request.SerializeToString()
    seen, failures, stop = [], [], threading.Event()
    with ModelServer(Flags(port=0, model_name="m", model_base_path=str(base))) as server:
        channel, call = caller(server)

        def hammer():
            while not stop.is_set():
                try:
                    reply = call("/tensorflow.serving.PredictionService/Predict", payload)
                    seen.append(predict_pb2.PredictResponse.FromString(reply).model_spec.version.value)
                except Exception as error:  # noqa: BLE001  # any failure at all fails the test
                    failures.append(error)

        threads = [threading.Thread(target=hammer) for _ in range(4)]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(seen) > 20)
        for number in (2, 3):
            add_version(base, number)
            began_s = time.monotonic()
            wait_for(lambda number=number: seen[-1] == number)
            assert time.monotonic() - began_s < 5  # it looks once a second
        stop.set()
        for thread in threads:
            thread.join()
        path = "/tensorflow.serving.ModelService/GetModelStatus"
        wait_for(lambda: server.statuses("m")[1].state == State.END)
        status = get_model_status_pb2.GetModelStatusResponse.FromString(call(path, payload_for_status("m")))
        channel.close()
    assert not failures
    assert [entry.version for entry in status.model_version_status] == [3, 2, 1]
    assert [entry.state for entry in status.model_version_status] == [30, 50, 50]
    assert server.statuses("m")[0].state == State.END
    assert server.statuses("m")[0].code == Code.OK


def payload_for_status(name):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = name
    return request.SerializeToString()


def test_a_version_that_the_python_loader_trips_over_does_not_end_the_watch(base, watch, monkeypatch):
    versions = watch()
    wait_for(lambda: latest(versions) == 1)
    with monkeypatch.context() as patch:
        patch.setattr(tf.compat.v1.saved_model, "load", trip)
        add_version(base, 2)
        wait_for(lambda: told(versions, base)[0] == [2, "END", Code.UNKNOWN, "AttributeError: no such thing"])
    add_version(base, 3)
    wait_for(lambda: latest(versions) == 3)


def trip(*_):
    raise AttributeError("no such thing")
