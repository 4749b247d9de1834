import ctypes
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIELDS = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
BLOCKS = """
    import ctypes, json
    import numpy as np
    from handler import malloc
    class Info(ctypes.Structure):
        _fields_ = [(name, ctypes.c_size_t) for name in {fields}]
    info = ctypes.CDLL(None).mallinfo2
    info.restype = Info
    {setting}
    before = info()
    block = np.ones({size}, np.uint8)
    held = info()
    del block
    print(json.dumps([held.hblkhd - before.hblkhd, info().fordblks - before.fordblks]))
"""
needs_glibc = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="only glibc has the setting")


def block(setting, size):
    """Return how many bytes of a block come straight from the system, and how many stay once it is freed."""
    code = textwrap.dedent(BLOCKS.format(setting=setting, size=size, fields=FIELDS))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, timeout=60
    )
    return json.loads(done.stdout)


@needs_glibc
@pytest.mark.parametrize("size", [3 << 20, 12 << 20])
def test_blocks_of_a_request_are_kept(size):
    direct, kept = block("malloc.keep_freed_blocks()", size)
    assert direct == 0
    assert kept > 0.9 * size
    assert block("pass", size)[0] >= size  # else there is nothing to set


@needs_glibc
def test_blocks_of_a_whole_photograph_go_back():
    direct, kept = block("malloc.keep_freed_blocks()", 15 << 20)
    assert direct >= 15 << 20
    assert kept < 1 << 20
