"""The arithmetic against numbers worked by hand, the command, and the page that quotes it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from deploy import capacity
from deploy.capacity import Assumptions, Request

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "tests" / "bench" / "bench.json"
INT8 = Request("int8", 250_000, 3_000_000, 75_000, function_s=0.016925, cpu_s=0.01)
FLOAT32 = replace(INT8, numbers="float32", up_bytes=16_000_000, down_bytes=25_000_000)
# half of 2 vCPUs, of 10 places, of 1 GB/s each way; a request in int8 is held for 16.925 + 3.075 + 100 = 120 ms
GIVEN = Assumptions(
    utilisation=0.5, memory_gib=4, concurrency=10, gbit_per_instance=8, answer_bytes=50_000, gbit_per_replica=8
)


@pytest.fixture
def printed(capsys, monkeypatch):
    """Return what the command prints, with the committed figures unless others are named."""
    monkeypatch.chdir(ROOT)

    def run(*arguments):
        capacity.main(arguments)
        return capsys.readouterr().out

    return run


def rows(text, title):
    """Return the rows of the table whose header begins with the title, with one space between cells."""
    (found,) = (part for part in text.split("\n\n") if part.startswith(title))
    return [" ".join(line.split()) for line in found.splitlines()[2:]]


def test_the_page_quotes_what_the_command_prints(printed):
    assert f"```\n{printed()}```\n" in (ROOT / "deploy" / "capacity.md").read_text(encoding="utf-8")


def test_one_instance_and_one_replica_by_hand():
    assert capacity.instance_limits(INT8, GIVEN) == pytest.approx(
        {
            "CPU": 100,  # 0.5 * 2 / 0.01
            "network out": 163.934,  # 0.5e9 / 3,050,000
            "network in": 1538.46,  # 0.5e9 / 325,000
            "requests at once": 41.6667,  # 0.5 * 10 / 0.12
        },
        rel=1e-5,
    )
    assert capacity.instance_limits(FLOAT32, GIVEN)["network in"] == pytest.approx(19.802, rel=1e-5)
    assert capacity.replica_limits(FLOAT32, GIVEN) == pytest.approx(
        {"model": 5, "network in": 31.25, "network out": 20}
    )


def test_decoding_takes_its_time_in_the_model_server(tmp_path):
    """As JPEG: 15 ms at the benchmark, of which its backend decodes 8; 100 + 8 ms in a replica."""
    figures = json.loads(BENCH.read_text())
    figures["wire_bytes"]["int8, jpeg"] = {"up": 250_000, "down": 75_000}
    figures["times_ms"]["100 objects"]["adapter, jpeg"] = {"median": 15.0}
    figures["cpu_s_per_request_100"]["adapter, jpeg"] = 0.005
    figures["jpeg_backend_ms"] = {"1024 x 1024": {"wall_ms": 8.0, "cpu_ms": 9.0}}
    (tmp_path / "bench.json").write_text(json.dumps(figures))
    jpeg, int8, _ = capacity.read(tmp_path / "bench.json")
    assert (jpeg.numbers, int8.numbers) == ("JPEG", "int8")
    assert (jpeg.function_s, jpeg.decode_s) == pytest.approx((0.007, 0.008))
    assert capacity.instance_limits(jpeg, GIVEN)["requests at once"] == pytest.approx(43.3557, rel=1e-5)  # 5 / 0.115325
    assert capacity.replica_limits(jpeg, GIVEN)["model"] == pytest.approx(0.5 / 0.108)


def test_the_least_limit_is_marked():
    limits = rows(capacity.limits_table([INT8, FLOAT32], GIVEN), "images/s at 50%")
    assert "instance: requests at once 41.7 * 31.7" in limits  # 5 / 0.157925
    assert "instance: network in 1,538 19.8 *" in limits
    assert "replica: model 5.00 * 5.00 *" in limits


def test_rates_by_hand():
    text = capacity.rate_tables([INT8], [1, 100, 9900], GIVEN)
    assert rows(text, "images/s") == [
        "1 int8 1 1 0.0240 0.000600 0.00200 0.000400 requests at once",
        "100 int8 3 20 2.40 0.0600 0.200 0.0400 requests at once",  # 100 * 0.12 / 5 = 2.4
        "9,900 int8 238 1,980 238 5.94 19.8 3.96 100 instances, at 4,167/s",  # 237.6; 100 * 41.67
    ]
    # 730 h * 0.01 s, * 2 vCPUs, * 4 GiB; 2,628,000 requests * 50,000 bytes and * 3,075,000 bytes
    assert rows(text, "a month at images/s")[0] == "1 int8 7 1,460 2,920 131 8,081"


def test_an_option_takes_the_place_of_its_assumption(printed):
    text = printed("--model-ms=40", "--rates=5,50")
    (model,) = [row for row in rows(text, "images/s at 60%") if row.startswith("replica: model")]
    assert model.endswith(" 15.0 * 15.0 *")  # 0.6 / 0.04; before it JPEG, which also decodes
    replicas = [row.split()[:4:3] for row in rows(text, "images/s  ") if "JPEG" not in row]
    assert replicas == [["5", "1"]] * 2 + [["50", "4"]] * 2


def test_a_file_of_figures_takes_the_place_of_the_committed_one(printed, tmp_path):
    figures = json.loads(BENCH.read_text())
    figures["cpu_s_per_request_100"]["adapter"] = 0.03
    (tmp_path / "bench.json").write_text(json.dumps(figures))
    cpu = rows(printed(f"--figures={tmp_path}/bench.json"), "images/s at 60%")[0].split()
    assert cpu[3] == "40.0"  # of int8, which stands after JPEG


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--concurrency=0", "argument --concurrency: must be a number above 0, got 0"),
        ("--rates=1,many", "argument --rates: must be a number above 0, got many"),
        ("--utilisation=1.1", "--utilisation must be at most 1, got 1.1"),
        ("--figures=none.json", "--figures must be a file of `make bench`, got none.json: FileNotFoundError: "),
        ("--figures=pyproject.toml", "--figures must be a file of `make bench`, got pyproject.toml: JSONDecodeError: "),
    ],
)
def test_a_bad_option_is_an_error(capsys, monkeypatch, argument, message):
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit, match="2"):
        capacity.main([argument])
    assert message in capsys.readouterr().err
