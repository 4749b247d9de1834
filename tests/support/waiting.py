"""Times to wait at most, and waiting for a condition, in tests with threads."""

import time

FAR_S = 60.0


def soon_s(seconds=FAR_S):
    return time.monotonic() + seconds


def wait_for(condition):
    end_s = soon_s()
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.001)
