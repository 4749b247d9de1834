"""What the process may use of its machine: memory and processors, as its control groups limit them.

``root``: the folder with ``proc`` and ``sys``. Source: the Linux kernel's documentation, cgroup-v2 and cgroup-v1.
"""

import math
import os
import re
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePath

ROOT = Path("/")


def memory_limit(root: Path = ROOT) -> tuple[int, str]:
    """Return the bytes of memory that the process may take, and what says so: a control group, or else the machine."""
    limits = [(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "the machine")]
    for group, version in _groups(root, "memory"):
        file = group / ("memory.max" if version == 2 else "memory.limit_in_bytes")
        text = _read(file)
        if text.isdecimal():  # else it is "max"
            limits.append((int(text), str(file)))
    address_space, _ = resource.getrlimit(resource.RLIMIT_AS)
    if address_space != resource.RLIM_INFINITY:
        limits.append((address_space, "RLIMIT_AS"))
    return min(limits)


def processors(root: Path = ROOT) -> int:
    """Return how many processors the process may use. A part of one counts as one."""
    counts = [os.cpu_count() or 1]
    for group, version in _groups(root, "cpu"):
        files = ("cpu.max",) if version == 2 else ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        limit = re.fullmatch(r"([1-9]\d*) ([1-9]\d*)", " ".join(_read(group / file) for file in files))
        if limit:  # else it is "max", -1 or 0
            counts.append(math.ceil(int(limit[1]) / int(limit[2])))
    return min(counts)


def _groups(root: Path, controller: str) -> Iterator[tuple[Path, int]]:
    """Yield the folder and version, 1 or 2, of the process's control group and of those around it.

    In a container, the group's path may be that of the host, and the limits lie at the top.
    """
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / (controller if controllers else "")
        group = PurePath(path.strip("/"))
        for folder in (group, *group.parents):
            yield top / folder, 1 if controllers else 2


def _read(file: Path) -> str:
    with suppress(OSError):
        return file.read_text().strip()
    return ""
