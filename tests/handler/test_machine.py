"""Limits of the process, as Linux tells them."""

import os
import resource

import pytest

from handler.machine import memory_limit, processors


def machine(root, groups, **limits):
    """Write what Linux tells of control groups below a folder."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for path, text in limits.items():
        file = root / "sys/fs/cgroup" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


@pytest.mark.parametrize(
    ("groups", "limits", "limit", "named"),
    [
        ("0::/\n", {"memory.max": "1073741824\n"}, 1 << 30, "memory.max"),
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": "500\n", "memory.max": "700\n"}, 500, "a/memory.max"),
        ("0::/of/the/host\n", {"memory.max": "700\n"}, 700, "memory.max"),
        (
            "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/\n",
            {"memory/memory.limit_in_bytes": "800\n", "cpu,cpuacct/x/memory.max": "1\n"},
            800,
            "memory/memory.limit_in_bytes",
        ),
        (
            "4:memory:/pod/c\n",
            {"memory/pod/c/memory.limit_in_bytes": "600\n", "memory/memory.limit_in_bytes": "9223372036854771712\n"},
            600,
            "memory/pod/c/memory.limit_in_bytes",
        ),
    ],
)
def test_the_memory_of_a_control_group(tmp_path, groups, limits, limit, named):
    root = machine(tmp_path, groups, **limits)
    assert memory_limit(root) == (limit, str(tmp_path / "sys/fs/cgroup" / named))


def test_without_a_control_group_the_memory_of_the_machine_is_the_limit(tmp_path, monkeypatch):
    found, source = memory_limit(tmp_path)
    assert source == "the machine"
    assert found > 1 << 28
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1 << 27, 1 << 27))
    assert memory_limit(machine(tmp_path, "0::/\n", **{"memory.max": "max\n"})) == (1 << 27, "RLIMIT_AS")


@pytest.mark.parametrize(
    ("groups", "limits", "count"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "10000 100000\n"}, 1),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, 3),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "6400000 100000\n"}, 8),
        (
            "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/\n",
            {"cpu/docker/abc/cpu.cfs_quota_us": "400000\n", "cpu/docker/abc/cpu.cfs_period_us": "100000\n"},
            4,
        ),
        ("5:cpu,cpuacct:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ("5:cpu:/\n", {"cpu/cpu.cfs_quota_us": "0\n", "cpu/cpu.cfs_period_us": "0\n"}, 8),
        ("", {}, 8),
    ],
)
def test_the_processors_of_a_control_group(tmp_path, monkeypatch, groups, limits, count):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert processors(machine(tmp_path, groups, **limits)) == count
