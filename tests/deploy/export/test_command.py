"""The command as a person runs it: options, signals, a full disk; nothing is left behind."""

import os
import resource
import signal
import subprocess
import sys
import time

import pytest

from deploy.export.__main__ import main
from deploy.export.kinds import KINDS
from tests.deploy.export.command import BUILDER, BUNDLED, ROOT, run


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max-dim", "512"], "the source must be --saved-model, or --builder and --weights, got neither"),
        (["--builder", "a:b"], "--builder and --weights go together"),
        ([*BUILDER, "--saved-model", "x"], "must be --saved-model or --builder, got both"),
        ([*BUILDER, "--signature", "other"], "--signature is for --saved-model"),
        (
            ["--saved-model", "x", "--resize-mode=none", "--min-dim=512"],
            "--min-dim must come with --resize-mode square or pad64, got --resize-mode none",
        ),
        (["--labels", "/"], "must be a text file"),
        (
            ["--saved-model", "x", "--resize-mode=crop"],
            "the mode of the model's inference config, square, pad64 or none",
        ),
        (["--saved-model", "x", "--mean", "1", "2"], "--mean must be 3 numbers, or one for all channels, got 2"),
    ],
)
def test_options_that_do_not_go_together(capsys, options, message):
    with pytest.raises(SystemExit) as ended:
        main(["int8", "--output", "out", *options])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_help_explains_each_kind():
    top = run("--help").stdout
    for kind in KINDS:
        assert kind in top
        assert "--saved-model" in run(kind, "--help").stdout
        assert "--saved-model" not in run(kind, "--help", module=BUNDLED).stdout


@pytest.mark.parametrize("folder", ["file", pytest.param("/proc/shapes", marks=pytest.mark.campaign)])
def test_a_folder_that_cannot_be_written(tmp_path, capsys, folder):
    """In /proc not even root may write."""
    blocked = tmp_path / "file"
    blocked.write_text("mine")
    assert main(["--output", str(tmp_path / folder)]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("export: --output must be a folder that can be written")
    assert blocked.read_text() == "mine"


@pytest.mark.campaign
def test_a_full_disk(tmp_path):
    """A file size limit stands for it: writes fail half-way all the same."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    done = run("--output", tmp_path / "out" / "shapes", module=BUNDLED, preexec_fn=limit)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("export: --output must be a folder that takes the model, got")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.campaign
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_half_way(tmp_path, number):
    command = [sys.executable, "-m", BUNDLED, "--output", str(tmp_path / "out")]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    end_s = time.monotonic() + 60
    while not list(tmp_path.glob("out/.export-*/model/*")) and time.monotonic() < end_s and process.poll() is None:
        time.sleep(0.005)
    os.kill(process.pid, number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 1
    assert told.splitlines()[-1] == "export: interrupted; nothing is left behind"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.campaign
def test_two_exports_at_once_both_land(tmp_path):
    command = [sys.executable, "-m", BUNDLED, "float32", "--output", str(tmp_path)]
    both = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) for _ in range(2)]
    for process in both:
        process.communicate(timeout=120)
        assert process.returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]
