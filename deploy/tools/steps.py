"""What a command is doing and how long it took, on stderr."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def step(text: str) -> Iterator[None]:
    """Print ``text`` before the block and its seconds after it; a block that fails has none."""
    started_s = time.monotonic()
    print(f"{text} ...", file=sys.stderr, flush=True)
    yield
    print(f"  {time.monotonic() - started_s:.1f} s", file=sys.stderr, flush=True)
