"""What glibc does with memory that is freed: kept for the next request, up to the size that one needs.

By default blocks of megabytes go back to the system and come again as fresh pages, a thousand faults for an image of
1024 x 1024 each time: a fifth of the time of a request. Pillow keeps a whole photograph in blocks of 16 MiB; these are
larger than what is kept, so that a single large one does not fill the process for good.
"""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of malloc.h
KEPT_BLOCK_BYTES = 13 << 20  # a float32 image of 1024 x 1024 has 12 MiB, and so has half a phone's photograph in Pillow
KEPT_BYTES = 128 << 20  # free at the top of the heap before some of it goes back


def keep_freed_blocks() -> None:
    """Set this process's malloc so, where it is glibc's; its threads share one heap, or each would keep its own."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, KEPT_BLOCK_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(M_ARENA_MAX, 1)
