"""Clients that ask without a pause, each on a connection after another as phones do: throughput and percentiles."""

import statistics
import threading
import time


def run(function, photo, clients, seconds):
    """Return requests a second, and p50 and p99 in milliseconds, of `clients` at once."""
    took, errors = [], []
    end_s = time.perf_counter() + seconds

    def client():
        try:
            while time.perf_counter() < end_s:
                started = time.perf_counter()
                function.post(photo)
                took.append(1000 * (time.perf_counter() - started))
        except Exception as error:  # noqa: BLE001 - raised below, in the thread that waits
            errors.append(error)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    started_s = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    ranks = statistics.quantiles(took, n=100, method="inclusive")
    return {"rps": len(took) / (time.perf_counter() - started_s), "p50_ms": ranks[49], "p99_ms": ranks[98]}
