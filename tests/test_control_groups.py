"""Limits of containers, read from trees of files like those of Linux."""

from __future__ import annotations

import pytest

from redunet._inputs import checks, control_groups

GIB = 1 << 30


@pytest.fixture
def system(tmp_path):
    """Writes files, named from the root on, and returns the root."""

    def write(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")
        return str(tmp_path)

    return write


V1, V2 = "sys/fs/cgroup/memory/", "sys/fs/cgroup/"
MEMORY = {
    "no control groups": ({}, None),
    "version 2, in a namespace of its own": (
        {"proc/self/cgroup": "0::/", V2 + "memory.max": 2 * GIB, V2 + "memory.current": GIB // 2},
        3 * GIB // 2,
    ),
    "no limit": ({"proc/self/cgroup": "0::/", V2 + "memory.max": "max", V2 + "memory.current": GIB}, None),
    "cached files are given up": (
        {
            "proc/self/cgroup": "0::/",
            V2 + "memory.max": 2 * GIB,
            V2 + "memory.current": 2 * GIB,
            V2 + "memory.stat": f"anon 5\ninactive_file {GIB}\nactive_file 7",
        },
        GIB,
    ),
    "nested groups, of which the outer one is the tightest": (
        {
            "proc/self/cgroup": "0::/pod/container",
            V2 + "pod/container/memory.max": 8 * GIB,
            V2 + "pod/container/memory.current": GIB,
            V2 + "pod/memory.max": 4 * GIB,
            V2 + "pod/memory.current": 3 * GIB,
        },
        GIB,
    ),
    "nested groups, of which the inner one is the tightest": (
        {
            "proc/self/cgroup": "0::/pod/container",
            V2 + "pod/container/memory.max": 2 * GIB,
            V2 + "pod/memory.max": "max",
            V2 + "memory.max": 4 * GIB,
        },
        2 * GIB,
    ),
    "the host's path, of which the container sees the end only": (
        {"proc/self/cgroup": "0::/system.slice/docker-1.scope", V2 + "memory.max": GIB, V2 + "memory.current": 0},
        GIB,
    ),
    "more in use than allowed": (
        {"proc/self/cgroup": "0::/", V2 + "memory.max": GIB, V2 + "memory.current": 2 * GIB},
        0,
    ),
    "version 1": (
        {
            "proc/self/cgroup": "9:name=systemd:/a\n4:memory:/docker/1\n0::/",
            V1 + "docker/1/memory.limit_in_bytes": 3 * GIB,
            V1 + "docker/1/memory.usage_in_bytes": 2 * GIB,
            V1 + "docker/1/memory.stat": f"inactive_file 9\ntotal_inactive_file {GIB}",
            V1 + "memory.limit_in_bytes": 9223372036854771712,
            V1 + "memory.usage_in_bytes": 2 * GIB,
        },
        2 * GIB,
    ),
    "version 1 without a limit": (
        {"proc/self/cgroup": "4:memory:/", V1 + "memory.limit_in_bytes": 9223372036854771712},
        None,
    ),
    "version 1 with the host's path": (
        {"proc/self/cgroup": "4:memory:/docker/1", V1 + "memory.limit_in_bytes": GIB},
        GIB,
    ),
    "both versions": (
        {
            "proc/self/cgroup": "4:memory:/a\n0::/b",
            V1 + "a/memory.limit_in_bytes": 3 * GIB,
            V2 + "unified/b/memory.max": 2 * GIB,
        },
        2 * GIB,
    ),
    "files of something else": (
        {"proc/self/cgroup": "no group\n::\n4:memory", V2 + "memory.max": "much", V1 + "memory.limit_in_bytes": "-1"},
        None,
    ),
}


@pytest.mark.parametrize("name", MEMORY)
def test_free_memory(system, name):
    files, free = MEMORY[name]
    assert control_groups.free_memory(system(files)) == free


def test_use_is_read_anew(system):
    files = {"proc/self/cgroup": "0::/", V2 + "memory.max": 4 * GIB, V2 + "memory.current": GIB}
    assert control_groups.free_memory(system(files)) == 3 * GIB
    files[V2 + "memory.current"] = 2 * GIB
    assert control_groups.free_memory(system(files)) == 2 * GIB


def test_the_tightest_limit_is_what_is_available(monkeypatch):
    free = checks.available_memory()
    if free is None:
        pytest.skip("this system does not say what is free")
    monkeypatch.setattr(control_groups, "free_memory", lambda: 1000)
    assert checks.available_memory() == 1000
    with pytest.raises(MemoryError, match=r"^the features need 0\.0 GiB, and 0\.0 GiB of memory are available$"):
        checks.memory(1001, "the features")
    checks.memory(1000, "the features")
    monkeypatch.setattr(control_groups, "free_memory", lambda: 1 << 60)
    assert checks.available_memory() < 1 << 60


CPU, SET = "sys/fs/cgroup/cpu/", "sys/fs/cgroup/cpu,cpuacct/"
CORES = {
    "no control groups": ({}, None),
    "version 2": ({"proc/self/cgroup": "0::/", V2 + "cpu.max": "250000 100000"}, 3),
    "less than one": ({"proc/self/cgroup": "0::/", V2 + "cpu.max": "5000 100000"}, 1),
    "no quota": ({"proc/self/cgroup": "0::/a", V2 + "a/cpu.max": "max 100000", V2 + "cpu.max": "max 100000"}, None),
    "nested groups": (
        {
            "proc/self/cgroup": "0::/pod/container",
            V2 + "pod/container/cpu.max": "max 100000",
            V2 + "pod/cpu.max": "200000 100000",
        },
        2,
    ),
    "version 1": (
        {
            "proc/self/cgroup": "2:cpu,cpuacct:/docker/1",
            CPU + "docker/1/cpu.cfs_quota_us": 400000,
            CPU + "docker/1/cpu.cfs_period_us": 100000,
            CPU + "cpu.cfs_quota_us": -1,
            CPU + "cpu.cfs_period_us": 100000,
        },
        4,
    ),
    "version 1 by its full name": (
        {
            "proc/self/cgroup": "2:cpu,cpuacct:/",
            SET + "cpu.cfs_quota_us": 150000,
            SET + "cpu.cfs_period_us": 100000,
        },
        2,
    ),
    "version 1 without a quota": (
        {"proc/self/cgroup": "2:cpu:/", CPU + "cpu.cfs_quota_us": -1, CPU + "cpu.cfs_period_us": 100000},
        None,
    ),
    "a period of nothing": ({"proc/self/cgroup": "0::/", V2 + "cpu.max": "100000 0"}, None),
    "half of a file": ({"proc/self/cgroup": "0::/", V2 + "cpu.max": "100000"}, None),
}


@pytest.mark.parametrize("name", CORES)
def test_cores(system, name):
    files, cores = CORES[name]
    assert control_groups.cores(system(files)) == cores
