"""The photographs, the percentiles and the criteria, against Pillow, NumPy and sums done by hand."""

import argparse
import io
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from tests.load import traffic, verdict
from tests.load.verdict import Totals


@pytest.mark.parametrize("name", sorted({asked.photo for asked in traffic.MIX}))
def test_a_photograph_is_of_the_size_and_kind_that_it_says(name):
    photo = traffic.photo(name)
    image = Image.open(io.BytesIO(photo.data))
    assert Image.MIME[image.format] == photo.kind
    assert ImageOps.exif_transpose(image).size == photo.size_wh


def test_the_upright_photograph_is_stored_sideways():
    assert Image.open(io.BytesIO(traffic.photo("phone, upright").data)).size == (4032, 3024)
    assert traffic.photo("phone, upright").size_wh == (3024, 4032)


def test_the_mix_is_sent_by_its_weights():
    drawn = Counter(traffic.choose() for _ in range(6000))
    total = sum(asked.weight for asked in traffic.MIX)
    for asked in traffic.MIX:
        assert drawn[asked] == pytest.approx(6000 * asked.weight / total, abs=260)  # seven deviations or more


def test_the_environment_gives_the_headers(monkeypatch):
    monkeypatch.setenv(traffic.KEY, "a key")
    monkeypatch.setenv(traffic.TOKEN, "a.b.c\n")
    assert traffic.headers() == {"X-API-Key": "a key", "Authorization": "Bearer a.b.c"}
    monkeypatch.delenv(traffic.KEY)
    monkeypatch.setenv(traffic.TOKEN, "")
    assert traffic.headers() == {}


@given(st.lists(st.integers(0, 3000), min_size=1), st.sampled_from([0.5, 0.95, 0.99, 1.0]))
def test_percentiles_are_numpys_nearest_rank(times_ms, share):
    totals = Totals(1.0, len(times_ms), 0, Counter(times_ms))
    assert totals.percentile(share) == np.percentile(times_ms, 100 * share, method="inverted_cdf")


def test_a_part_of_a_run_is_what_came_after():
    earlier = Totals(2.0, 10, 1, Counter({5: 10}))
    now = Totals(4.0, 16, 2, Counter({5: 12, 7: 4}))
    part = now.since(earlier)
    assert part == Totals(2.0, 6, 1, Counter({5: 2, 7: 4}))
    assert part.rate == 2.5


def criteria(*arguments):
    parser = argparse.ArgumentParser()
    verdict.add_criteria(parser)
    return parser.parse_args(arguments)


RUN = Totals(10.0, 100, 2, Counter({10: 90, 50: 8, 900: 2}))  # 9.8 right answers a second


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["--max-fail-ratio=0.02"], []),
        (["--max-fail-ratio=0.019"], ["failures must be at most 1.90%, got 2.00% (2 of 100)"]),
        ([], ["failures must be at most 0.00%, got 2.00% (2 of 100)"]),
        (["--max-fail-ratio=1", "--p95-ms=50", "--p99-ms=900", "--min-rate=9.8"], []),
        (["--max-fail-ratio=1", "--p95-ms=49"], ["p95 must be at most 49 ms, got 50 ms"]),
        (["--max-fail-ratio=1", "--p99-ms=899"], ["p99 must be at most 899 ms, got 900 ms"]),
        (["--max-fail-ratio=1", "--min-rate=9.9"], ["right answers a second must be at least 9.9, got 9.8"]),
    ],
)
def test_a_run_is_judged_by_each_criterion(arguments, wrong):
    assert verdict.judge(RUN, criteria(*arguments)) == wrong


def test_a_run_without_answers_does_not_pass():
    wrong = verdict.judge(Totals(10.0, 0, 0, Counter()), criteria("--max-fail-ratio=1"))
    assert wrong == ["there must be answers, got none"]
    assert verdict.sentence(RUN, wrong) == "FAIL: there must be answers, got none"


def test_a_run_that_passes_is_told_with_its_figures():
    assert verdict.sentence(RUN, []) == "PASS: 9.8/s, p50 10 ms, p95 50 ms, p99 900 ms, 2 failed of 100"
