"""The campaign finds what is wrong, and a short run of it finds nothing."""

import json
import subprocess
import sys

import pytest

from tests.faults import report
from tests.faults.__main__ import arguments
from tests.faults.row import LEFT, Row, Scenario
from tests.faults.scenarios import SCENARIOS
from tests.faults.stage import Photos
from tests.support.function import Answer
from tests.support.processes import ROOT

CIRCLE, SQUARE = [{"label": "circle"}], [{"label": "square"}]
PHOTOS = Photos(
    {"coins": b""},
    {"int8": {"coins": json.dumps(CIRCLE)}, "float32": {"coins": json.dumps(SQUARE)}},
    {1: ("int8",), 2: ("float32",)},
)


def answered(*outcomes, **fields):
    row = Row(Scenario("a", None, **fields), seconds=1, seed=0)
    for outcome in outcomes:
        row.add(outcome)
    return row


@pytest.mark.parametrize(
    ("body", "right"),
    [
        ({"instances": CIRCLE, "model": {"version": 1}}, True),
        ({"instances": SQUARE, "model": {"version": 2}}, True),
        ({"instances": SQUARE, "model": {"version": 1}}, False),
        ({"instances": CIRCLE, "model": {"version": 3}}, False),
        ({"instances": [], "model": {"version": 1}}, False),
        ({"instances": CIRCLE}, False),
        ([], False),
    ],
)
def test_an_answer_is_right_if_its_version_gives_it_alone(body, right):
    assert PHOTOS.are_right("coins", Answer(200, {}, json.dumps(body).encode())) is right


def test_a_body_that_is_no_json_is_wrong():
    assert not PHOTOS.are_right("coins", Answer(200, {}, b"{"))


def test_a_row_is_right_with_the_outcomes_that_it_allows():
    row = answered(200, 200, 503, statuses=frozenset({200, 503}))
    row.add(LEFT, allowed={LEFT})
    assert (row.failures(), row.wrong(), row.faults()) == (1, 0, [])


def test_every_fault_of_a_row_is_told():
    assert answered(200, 503, 503, "TimeoutError").faults() == ["2 x 503", "1 x TimeoutError"]
    assert answered().faults() == ["no request was answered"]
    wrong, late, large = answered(200), answered(200), answered(200, peak_bytes=1e6)
    wrong.add(200, wrong=True)
    late.add(200, 31.0)
    large.peak_bytes = 2_000_000
    assert wrong.faults() == ["1 wrong answers"]
    assert late.faults() == ["31.0 s with a deadline of 20 s"]
    assert large.faults() == ["2 MB, more than 1 MB"]


def test_a_seed_repeats_what_is_drawn():
    first, same, other = (Row(SCENARIOS[0], 1, seed).rng.random() for seed in (1, 1, 2))
    assert first == same != other


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("60m", 3600), ("1.5h", 5400)])
def test_the_soak_takes_a_time_with_its_unit(text, seconds, monkeypatch):
    monkeypatch.setenv("SOAK", text)
    assert arguments([]).soak == arguments([f"--soak={text}"]).soak == seconds


def test_the_table_has_a_line_for_each_row():
    table = report.markdown([answered(200), answered(503)]).splitlines()
    assert [len(line.split(" | ")) for line in table] == [len(report.HEADER)] * 4
    assert table[2].endswith(" | 200 | ok |")
    assert table[3].endswith(" | 200 | 1 x 503; no request was answered |")


def test_the_document_names_every_scenario():
    table = (ROOT / "tests/faults/README.md").read_text(encoding="utf-8").split("\n| scenario |")[1]
    for scenario in SCENARIOS:
        assert scenario.name in table


@pytest.mark.campaign
def test_a_short_campaign_finds_nothing(exported):
    exported("int8")
    ran = subprocess.run(
        [sys.executable, "-m", "tests.faults", "--minutes=3", "--seed=1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-5000:] + ran.stderr[-5000:]
    rows = json.loads((ROOT / "build/faults.json").read_text())["rows"]
    assert [row["scenario"] for row in rows] == [scenario.name for scenario in SCENARIOS]
    assert all(row["requests"] > 0 for row in rows)
