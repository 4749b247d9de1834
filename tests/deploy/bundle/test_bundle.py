"""The bundle where it will run: without TensorFlow, under the function's own tests, then with its packages alone."""

import os
import re
import shutil
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from deploy.bundle import __main__ as bundle
from deploy.bundle import messages, pins
from tests.support.backend import Backend, serve
from tests.support.function import running
from tests.support.images import noise
from tests.support.processes import ROOT

LARGEST_BYTES = 150_000_000
TENSORFLOWS = ("tensorflow", "keras")  # how the folders of TensorFlow and what belongs to it begin
NEED_TENSORFLOW = (
    *("tests/handler/test_end_to_end.py", "tests/http/test_jpeg.py"),
    *(f"tests/handler/page/test_{name}.py" for name in ("page", "package")),
    *(f"tests/handler/backend/test_{name}.py" for name in ("protos", "replicas", "rollouts", "secure", "versions")),
)
COPIED = (
    *("pyproject.toml", "handler/README.md", "handler/clients.md"),
    *(f"tests/{name}" for name in ("__init__.py", "conftest.py", "support", "handler", "http")),
    "tests/deploy/model_server/golden",
)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "function"
    assert bundle.main(["--output", str(folder)]) == 0
    return folder


def python_of(folder):
    return folder / "bin" / "python"


@pytest.mark.campaign
def test_it_passes_the_functions_tests_where_tensorflow_is_not_installed(written, tmp_path):
    venv.create(tmp_path / "venv", with_pip=False)
    python = python_of(tmp_path / "venv")
    shown = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.lower().startswith(TENSORFLOWS):
            (Path(shown.stdout.strip()) / entry.name).symlink_to(entry)
    shutil.copytree(written, tmp_path / "function")
    for name in COPIED:
        source, target = ROOT / name, tmp_path / "function" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, target)
    done = subprocess.run(
        [
            python,
            "-m",
            "pytest",
            "-q",
            "tests/handler",
            "tests/http",
            *(f"--ignore={name}" for name in NEED_TENSORFLOW),
        ],
        cwd=tmp_path / "function",
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST")},
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


@pytest.fixture(scope="module")
def installed(written, tmp_path_factory):
    """Return an environment with the bundle's requirements and nothing else."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(folder, with_pip=True)
    pip = [python_of(folder), "-m", "pip", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "install", "-q", "-r", written / "requirements.txt"], check=True, timeout=600, capture_output=True
    )
    checked = subprocess.run([*pip, "check"], check=False, capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stdout
    return folder


@pytest.mark.campaign
def test_it_is_small_with_all_that_it_needs(written, installed):
    files = [path for path in (*written.rglob("*"), *installed.rglob("*")) if path.is_file()]
    pip = sum(path.stat().st_size for path in files if "/site-packages/pip" in str(path))
    assert sum(path.stat().st_size for path in files) - pip <= LARGEST_BYTES
    assert not [path for path in installed.rglob("tensorflow*") if path.parent.name == "site-packages"]


def test_what_fetches_id_tokens_comes_where_it_is_asked_for(tmp_path):
    def packages(*options):
        assert bundle.main(["--output", str(tmp_path / "function"), *options]) == 0
        lines = (tmp_path / "function/requirements.txt").read_text().splitlines()
        return {Requirement(line).name for line in lines}

    assert packages("--id-tokens") - packages() >= {"google-auth", "cryptography", "requests"}


def test_what_reads_heic_comes_where_it_is_asked_for(tmp_path):
    pytest.importorskip("pillow_heif")
    assert {Requirement(line).name for line in pins.slim(heic=True)} - {
        Requirement(line).name for line in pins.slim()
    } == {"pillow-heif"}


@pytest.mark.campaign
def test_it_segments_a_photograph_with_its_own_requirements_alone(written, installed, tmp_path):
    settings = {"PYTHONDONTWRITEBYTECODE": "1"}
    with (
        serve(Backend()) as address,
        running(tmp_path, python=python_of(installed), cwd=written, TF_SERVING_ADDRESS=address, **settings) as function,
    ):
        answer = function.post(noise(kind="JPEG"), content_type="image/jpeg")
    assert answer.status == 200, answer.body
    assert [instance["label"] for instance in answer.json()["instances"]] == ["square", "circle"]


def test_it_holds_the_function_and_the_messages_that_it_imports(written):
    for source in [ROOT / "main.py", *(ROOT / "handler").rglob("*.py")]:
        assert (written / source.relative_to(ROOT)).read_bytes() == source.read_bytes()
    modules = {path.relative_to(written) for path in written.rglob("*_pb2.py")}
    assert modules == set(messages.needed())
    assert {path.parts[0] for path in modules} == {"tensorflow", "tensorflow_serving"}
    assert not [path for path in written.rglob("*") if path.suffix == ".pyc"]


def test_the_page_takes_little_of_it(written):
    files = [path for path in (written / "handler" / "page").rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"page.html", "page.css", "page.js", "tasks.js", "coins.webp", "segment.js"}
    assert sum(path.stat().st_size for path in files) < 200_000


def test_its_requirements_name_the_framework_and_pin_everything_but_tensorflow(written):
    lines = (written / "requirements.txt").read_text().splitlines()
    assert [line for line in lines if line.startswith("functions-framework==")]  # Google's buildpack looks for it
    assert all(len(line.split("==")) == 2 for line in lines)
    assert not [line for line in lines if "tensorflow" in line]
    direct = set(pins.direct()) - {line for line in pins.direct() if line.startswith("tensorflow-serving-api")}
    assert direct <= set(lines)
    locked = re.findall(r"^\S+==\S+", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert set(lines) - direct <= set(locked)


def test_a_second_run_replaces_the_first_and_touches_nothing_else(tmp_path, capsys):
    folder = tmp_path / "function"
    assert bundle.main(["--output", str(folder)]) == 0
    (folder / "handler" / "old.py").touch()
    assert bundle.main(["--output", str(folder)]) == 0
    assert not (folder / "handler" / "old.py").exists()
    assert "files" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["function"]

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kept.txt").write_text("mine")
    assert bundle.main(["--output", str(tmp_path / "mine")]) == 1
    assert (tmp_path / "mine" / "kept.txt").read_text() == "mine"
    assert "must be new or an earlier bundle" in capsys.readouterr().err


def test_a_failure_leaves_the_earlier_bundle(tmp_path, monkeypatch):
    folder = tmp_path / "function"
    bundle.write(folder, pins.slim())
    before = sorted(folder.rglob("*"))
    monkeypatch.setattr(messages, "needed", lambda: {Path("x_pb2.py"): tmp_path / "missing"})
    with pytest.raises(FileNotFoundError):
        bundle.write(folder, pins.slim())
    assert sorted(folder.rglob("*")) == before
    assert [path.name for path in tmp_path.iterdir()] == ["function"]


def test_modules_are_those_that_the_source_names():
    assert messages.named('a = importlib.import_module("tensorflow.x_pb2"); b = load("other")') == ["tensorflow.x_pb2"]


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(messages, "named", lambda source: ["nowhere.apis.predict_pb2"])
    with pytest.raises(ModuleNotFoundError, match=r"nowhere/apis/predict_pb2\.py must be installed with nowhere"):
        messages.needed()
