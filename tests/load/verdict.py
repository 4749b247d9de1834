"""When a run has passed: what was counted, the criteria, and a line for each."""

import argparse
import math
from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True)
class Totals:
    """What a run, or a part of one, gave; ``times_ms``: whole milliseconds -> how many answers took them."""

    seconds: float
    answers: int
    failures: int
    times_ms: Counter

    def since(self, earlier):
        """Return what came after ``earlier``."""
        return Totals(
            self.seconds - earlier.seconds,
            self.answers - earlier.answers,
            self.failures - earlier.failures,
            self.times_ms - earlier.times_ms,
        )

    @property
    def rate(self):
        """Right answers a second."""
        return (self.answers - self.failures) / self.seconds if self.seconds > 0 else 0.0

    def percentile(self, share):
        """Return the least milliseconds within which that share of the answers came, 0 without answers."""
        left = math.ceil(share * self.times_ms.total())
        for time_ms, count in sorted(self.times_ms.items()):
            left -= count
            if left <= 0:
                return time_ms
        return 0

    def describe(self):
        return (
            f"{self.rate:,.1f}/s, p50 {self.percentile(0.5):,} ms, p95 {self.percentile(0.95):,} ms, "
            f"p99 {self.percentile(0.99):,} ms, {self.failures:,} failed of {self.answers:,}"
        )


NOTHING = Totals(0.0, 0, 0, Counter())


def add_criteria(parser):
    """Add the options that say when a run has passed."""
    parser.add_argument("--max-fail-ratio", type=_ratio, default=0.0, help="greatest share of wrong answers, 0..1 (0)")
    parser.add_argument("--p95-ms", type=_above_0, help="greatest time of 95%% of the answers, ms (any)")
    parser.add_argument("--p99-ms", type=_above_0, help="greatest time of 99%% of the answers, ms (any)")
    parser.add_argument("--min-rate", type=_above_0, help="least number of right answers a second (any)")


def judge(totals, criteria):
    """Return what is wrong with a run, a text each; none where it has passed. ``criteria``: the parsed options."""
    if not totals.answers:
        return ["there must be answers, got none"]
    wrong = []
    ratio = totals.failures / totals.answers
    if ratio > criteria.max_fail_ratio:
        wrong.append(
            f"failures must be at most {criteria.max_fail_ratio:.2%}, "
            f"got {ratio:.2%} ({totals.failures:,} of {totals.answers:,})"
        )
    for name, share, most in (("p95", 0.95, criteria.p95_ms), ("p99", 0.99, criteria.p99_ms)):
        if most is not None and totals.percentile(share) > most:
            wrong.append(f"{name} must be at most {most:,g} ms, got {totals.percentile(share):,} ms")
    if criteria.min_rate is not None and totals.rate < criteria.min_rate:
        wrong.append(f"right answers a second must be at least {criteria.min_rate:,g}, got {totals.rate:,.1f}")
    return wrong


def sentence(totals, wrong):
    """Return the last line of a run."""
    return f"FAIL: {'; '.join(wrong)}" if wrong else f"PASS: {totals.describe()}"


def _ratio(text):
    return _number(text, lambda value: 0 <= value <= 1, "in 0..1")


def _above_0(text):
    return _number(text, lambda value: 0 < value < math.inf, "above 0")


def _number(text, fits, words):
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not fits(value):
        raise argparse.ArgumentTypeError(f"must be a number {words}, got {text}")
    return value
