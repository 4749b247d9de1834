"""What a scenario saw: a row of the table, and what in it is not right."""

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

LATE_S = 10.0  # after the deadline, on a machine that others use: to receive, decode and draw
LEFT = "left"  # the outcome of a request whose client went away


@dataclass(frozen=True)
class Scenario:
    """A fault, and what is right while it lasts.

    ``run``: a function of the stage and the row. ``statuses``: of the answers to ordinary clients. ``right``: the same
    in words, and what else is right. ``share``: of the campaign's time. ``late``: an answer may take any time.
    ``peak_bytes``: the most memory that a process of the function may take.
    """

    name: str
    run: Callable
    statuses: frozenset[int] = frozenset({200})
    right: str = "200"
    share: float = 1.0
    deadline_s: float = 20.0
    late: bool = False
    peak_bytes: float = float("inf")


@dataclass(frozen=True)
class Seen:
    """One request: its status, or what happened instead; ``wrong``: a 200 that is not the right answer."""

    outcome: int | str
    took_s: float
    allowed: bool
    wrong: bool = False


@dataclass
class Row:
    """A scenario that runs for ``seconds``; its clients add what they see."""

    scenario: Scenario
    seconds: float
    seed: int
    seen: list[Seen] = field(default_factory=list)
    health_s: float = 0.0  # the longest answer of /health
    peak_bytes: int = 0  # the most that a process of the function had resident
    other_faults: list[str] = field(default_factory=list)

    def __post_init__(self):
        self.rng = random.Random(f"{self.seed} {self.scenario.name}")
        self.started_s = time.monotonic()

    def rounds(self):
        """Yield once, and again as long as there is time."""
        yield
        while time.monotonic() - self.started_s < self.seconds:
            yield

    def add(self, outcome, took_s=0.0, allowed=None, *, wrong=False):
        """Note a request; ``allowed``: its right outcomes, those of the scenario if they are not given."""
        self.seen.append(Seen(outcome, took_s, outcome in (allowed or self.scenario.statuses), wrong))

    def outcomes(self):
        """Return how often there was each outcome."""
        return Counter(str(one.outcome) for one in self.seen)

    def wrong(self):
        return sum(one.wrong for one in self.seen)

    def failures(self):
        """Return the number of requests that were not answered 200, but for those whose clients left."""
        return sum(one.outcome not in (200, LEFT) for one in self.seen)

    def worst_s(self):
        return max((one.took_s for one in self.seen), default=0.0)

    def faults(self):
        """Return what was not right, [] if all was."""
        refused = Counter(str(one.outcome) for one in self.seen if not one.allowed)
        found = [f"{count} x {outcome}" for outcome, count in sorted(refused.items())]
        if self.wrong():
            found.append(f"{self.wrong()} wrong answers")
        if not any(one.outcome == 200 for one in self.seen):
            found.append("no request was answered")
        if self.worst_s() > self.scenario.deadline_s + LATE_S and not self.scenario.late:
            found.append(f"{self.worst_s():.1f} s with a deadline of {self.scenario.deadline_s:.0f} s")
        if self.peak_bytes > self.scenario.peak_bytes:
            found.append(f"{self.peak_bytes / 1e6:.0f} MB, more than {self.scenario.peak_bytes / 1e6:.0f} MB")
        return found + self.other_faults
