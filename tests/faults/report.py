"""Rows as Markdown and as JSON."""

HEADER = ("scenario", "requests", "wrong", "failures", "outcomes", "worst", "/health", "memory", "right", "verdict")


def figures(row):
    """Return a row as JSON has it."""
    return {
        "scenario": row.scenario.name,
        "seconds": round(row.seconds, 1),
        "requests": len(row.seen),
        "wrong": row.wrong(),
        "failures": row.failures(),
        "outcomes": dict(row.outcomes()),
        "worst_s": round(row.worst_s(), 3),
        "health_s": round(row.health_s, 3),
        "peak_bytes": row.peak_bytes,
        "right": row.scenario.right,
        "faults": row.faults(),
    }


def markdown(rows):
    """Return the table."""
    return "\n".join([_line(HEADER), _line("---" for _ in HEADER), *map(line, rows)])


def line(row):
    """Return a row of the table."""
    return _line(_cells(figures(row)))


def _cells(row):
    outcomes = ", ".join(f"{count} x {outcome}" for outcome, count in sorted(row["outcomes"].items()))
    times = (f"{row[name]:.2f} s" for name in ("worst_s", "health_s"))
    counts = (str(row[name]) for name in ("requests", "wrong", "failures"))
    verdict = "; ".join(row["faults"]) or "ok"
    return row["scenario"], *counts, outcomes, *times, f"{row['peak_bytes'] / 1e6:.0f} MB", row["right"], verdict


def _line(cells):
    return f"| {' | '.join(cells)} |"
