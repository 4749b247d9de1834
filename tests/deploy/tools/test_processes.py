"""Programs that a command starts and stops, with real processes."""

import os
import signal
import time

import pytest

from deploy.tools.processes import Programs, RunError, environment
from deploy.tools.signals import deferred_signals, stop_signals


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module that a Programs can start; returns its name."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        return name

    return write


def test_leaving_the_block_stops_a_program_and_its_children(tmp_path, module):
    child = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'input()'], stdin=-1).pid)\n"
    name = module("parent", child + "import time; time.sleep(60)\n")
    log = tmp_path / "parent.log"
    with Programs(tmp_path) as programs:
        programs.start("parent", name)
        programs.wait_until(lambda: log.read_text().endswith("\n"), "a child", 20)
        pid = int(log.read_text())
        assert is_running(pid)
    for _ in range(50):
        if not is_running(pid):
            return
        time.sleep(0.1)
    raise AssertionError(f"process {pid} must be gone")


def test_a_program_that_ends_is_told_with_the_end_of_its_log(tmp_path, module):
    name = module("broken", "print('one'); raise SystemExit('no such model')")
    with Programs(tmp_path) as programs, pytest.raises(RunError) as error:
        programs.start("broken program", name)
        programs.wait_until(lambda: False, "an answer", 20)
    assert "the broken program must keep running, it ended with exit code 1" in str(error.value)
    assert "no such model" in str(error.value)


def test_what_never_happens_is_told(tmp_path, module):
    name = module("idle", "import time; time.sleep(60)")
    with Programs(tmp_path) as programs, pytest.raises(RunError, match="an answer was expected within 0 s"):
        programs.start("idle", name)
        programs.wait_until(lambda: False, "an answer", 0.3)


def test_a_failed_task_is_told(tmp_path, module):
    name = module("task", "raise SystemExit(3)")
    with Programs(tmp_path) as programs, pytest.raises(RunError, match=r"the task must succeed.*exit code 3"):
        programs.start("task", name)
        programs.wait(20)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_every_stop_signal_is_a_keyboard_interrupt(number):
    with pytest.raises(KeyboardInterrupt), stop_signals():
        os.kill(os.getpid(), number)
        time.sleep(5)
        raise AssertionError("the signal must interrupt the sleep")


def test_a_signal_waits_for_what_must_finish():
    done = []
    with pytest.raises(KeyboardInterrupt), deferred_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.05)
        done.append(True)
    assert done == [True]


def test_no_proxy_stands_between_programs_of_one_machine(monkeypatch):
    monkeypatch.setenv("no_proxy", "example.org")
    monkeypatch.setenv("DEBUG", "1")
    found = environment({"MODEL_NAME": "shapes"})
    assert found["no_proxy"] == found["NO_PROXY"] == "example.org,127.0.0.1,localhost"
    assert found["MODEL_NAME"] == "shapes"
    assert "DEBUG" not in found
