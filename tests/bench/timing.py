"""Times side by side: every path in turn, over and over, so that a machine that slows down slows them all."""

import statistics
import time

from tqdm import tqdm


def side_by_side(paths, rounds, warmup, what):
    """Return name -> milliseconds of each round, of callables by name."""
    times = {name: [] for name in paths}
    for turn in tqdm(range(-warmup, rounds), desc=what, unit="round", leave=False, mininterval=1):
        for name, run in paths.items():
            started = time.perf_counter()
            run()
            if turn >= 0:
                times[name].append(1000 * (time.perf_counter() - started))
    return times


def summary(values):
    """Return median and quartiles."""
    if len(values) < 2:
        return {"median": values[0], "low": values[0], "high": values[0], "runs": len(values)}
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "low": low, "high": high, "runs": len(values)}


def slope(points):
    """Return the least-squares slope and the coefficient of determination of (x, y) points."""
    xs, ys = zip(*points, strict=True)
    fit = statistics.linear_regression(xs, ys)
    return fit.slope, statistics.correlation(xs, ys) ** 2


def since_s(started_s):
    """Return the seconds since a time of `time.perf_counter`."""
    return time.perf_counter() - started_s
