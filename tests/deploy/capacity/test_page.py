"""The command: its figures' file, its tables, its picture, and the documents that quote them."""

import copy
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.capacity import __main__ as capacity
from deploy.capacity import page

ROOT = Path(__file__).parents[3]
README = ROOT / "deploy" / "README.md"
PICTURE = ROOT / "deploy" / "capacity" / "capacity.png"
BENCH = ROOT / "tests" / "bench" / "bench.json"


@pytest.fixture
def printed(capsys, monkeypatch):
    """Return what the command prints, with the committed figures unless others are named."""
    monkeypatch.chdir(ROOT)

    def run(*arguments):
        assert capacity.main(arguments) == 0
        return capsys.readouterr().out

    return run


def tables(text):
    """Return the tables of the page: each part whose second line is a rule."""
    return [part for part in text.strip().split("\n\n") if re.match(r".*\n[- ]+\n", part)]


def row(text, *first):
    """Return the cells of the row that begins with these words."""
    (line,) = (line for line in text.splitlines() if line.split()[: len(first)] == list(first))
    return line.split()[len(first) :]


def test_the_document_quotes_what_the_command_prints(printed):
    text = printed()
    quoted = "\n\n".join(tables(text))
    assert text.endswith(f"\n\n{quoted}\n")
    blocks = re.findall(r"^```(\w*)\n(.*?)\n```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert [block for _, block in blocks if block.startswith(quoted.splitlines()[0])] == [quoted]


def test_the_picture_shows_the_committed_figures(printed, tmp_path):
    printed("--picture", str(tmp_path / "new.png"))
    new, committed = (np.asarray(Image.open(path).convert("L"), float) for path in (tmp_path / "new.png", PICTURE))
    assert new.shape == committed.shape
    assert np.abs(new - committed).mean() < 0.5, "regenerate it with --picture deploy/capacity/capacity.png"


def test_the_committed_figures_give_the_wire_bytes_that_they_hold(printed):
    wire = json.loads(BENCH.read_text())["wire_bytes"]
    bandwidth = tables(printed("--rates", "1000"))[1]
    for numbers, export in (("int8", "int8"), ("float32", "float32")):
        cells = [cell.replace(",", "") for cell in row(bandwidth, "1,000", numbers)]
        assert float(cells[0]) == pytest.approx(wire[export]["up"] * 8e-6, rel=0.005)
        assert float(cells[1]) == pytest.approx(wire[export]["down"] * 8e-6, rel=0.005)


def without_float32(tmp_path):
    """Return a file of figures from before the benchmark had the function in front of a float32 model."""
    figures = json.loads(BENCH.read_text())
    del figures["cpu_s_per_request_100"]["adapter, float32 model"]
    del figures["times_ms"]["100 objects"]["adapter, float32 model"]
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(figures))
    return f"--figures={path}"


def test_the_time_of_float32_is_a_bound_where_nobody_measured_it(printed, tmp_path):
    figures = without_float32(tmp_path)
    int8, *bound = row(printed(figures), "instance:", "CPU")
    assert bound == ["<=", int8]
    given = printed(figures, "--float32-cpu-ms", "60")
    assert "<=" not in given
    assert ">=" not in given
    assert row(given, "instance:", "CPU")[-1] == "20.0"  # 0.6 * 2 / 0.06


def test_the_time_of_float32_is_the_benchmarks(printed):
    text = printed()
    assert ">=" not in text
    cpu_s = json.loads(BENCH.read_text())["cpu_s_per_request_100"]["adapter, float32 model"]
    assert float(row(text, "instance:", "CPU")[-1]) == pytest.approx(0.6 * 2 / cpu_s, abs=0.05)


def test_figures_of_ones_own_take_the_place_of_the_files(printed):
    text = printed("--cpu-ms", "30", "--photo-bytes", "4194304")
    assert row(text, "instance:", "CPU")[0] == "40.0"  # 0.6 * 2 / 0.03
    assert row(text, "photograph,", "MAX_BODY_BYTES")[-1] == "20.0%"  # 4 of 20 MiB


def test_numbers_keep_three_digits():
    assert [page.digits(x) for x in (0.000647, 0.5, 2.52, 13.44, 99.94, 99.96, 1342.4)] == [
        *("0.000647", "0.500", "2.52", "13.4", "99.9", "100", "1,342")
    ]


def without(figures, *keys):
    changed = copy.deepcopy(figures)
    inner = changed
    for key in keys[:-1]:
        inner = inner[key]
    del inner[keys[-1]]
    return changed


@pytest.mark.parametrize(
    "keys",
    [
        ("photo_bytes", "1024 x 1024"),
        ("wire_bytes", "int8", "up"),
        ("wire_bytes", "float32"),
        ("cpu_s_per_request_100", "adapter"),
        ("times_ms", "100 objects", "adapter", "median"),
    ],
)
def test_a_missing_figure_is_named(tmp_path, capsys, keys):
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(without(json.loads(BENCH.read_text()), *keys)))
    assert capacity.main(["--figures", str(path)]) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert f"must hold a number above 0 under {' / '.join(keys)}" in told
    assert "run `make bench` again" in told


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "figures must be a file of `make bench`, got "),
        ("", "figures must be JSON of `make bench`, got "),
        ("[]", "must hold a number above 0 under "),
        ('{"photo_bytes": {"1024 x 1024": true}, "cpu_s_per_request_100": 5}', "must hold a number above 0 under "),
    ],
)
def test_a_file_that_holds_no_figures_is_refused(tmp_path, capsys, content, message):
    path = tmp_path / "bench.json"
    if content is not None:
        path.write_text(content)
    assert capacity.main(["--figures", str(path)]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--concurrency=1001"], "concurrency must be 1 or more and at most 1000, got 1001"),
        (["--rates=1,0"], "a rate must be above 0 images a second, got 0"),
        (["--cpu-ms=0"], "cpu_ms must be above 0, got 0"),
        (["--picture=/nonexistent/new.png"], "/nonexistent/new.png"),
    ],
)
def test_a_bad_option_is_told_in_a_line(tmp_path, capsys, arguments, message):
    path = shutil.copy(BENCH, tmp_path)
    assert capacity.main([f"--figures={path}", *arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_rates_that_are_no_numbers_are_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        capacity.main(["--rates=1,many"])
    assert "must be numbers with commas between, got 1,many" in capsys.readouterr().err
