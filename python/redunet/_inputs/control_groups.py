"""What the control groups of this process (a container's, on Linux) leave it of memory and of processors.

Versions 1 and 2, side by side too. A group's limits hold for all groups below it, so they are looked at from the
process's group up to the mount point, which inside a container may be all there is to see. ``root`` stands for ``/``.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

#: Version 1 says so, or nearly so, where there is no limit.
_NO_LIMIT = 1 << 60


class _MemoryFiles(NamedTuple):
    """Files of a group, by version; and the line of ``stat`` with what the kernel can give up at once."""

    limit: str
    usage: str
    stat: str
    reclaimable: str


_MEMORY = {
    1: _MemoryFiles("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat", "total_inactive_file"),
    2: _MemoryFiles("memory.max", "memory.current", "memory.stat", "inactive_file"),
}


def free_memory(root: str = "/") -> int | None:
    """Bytes up to the nearest limit, or None where there is none. Cached files of the group count as free."""
    free = []
    for folder, files in _limited(root):
        limit = _number(folder, files.limit)
        if limit is not None:
            used = _number(folder, files.usage) or 0
            free.append(limit - used + _entry(folder, files.stat, files.reclaimable))
    return max(0, min(free)) if free else None


@cache
def _limited(root: str) -> tuple[tuple[str, _MemoryFiles], ...]:
    """The groups with a limit of memory: looked for once, since that takes longer than building a small network."""
    groups = [(folder, _MEMORY[version]) for version, folder in _groups(root, "memory")]
    return tuple(group for group in groups if (_number(group[0], group[1].limit) or _NO_LIMIT) < _NO_LIMIT)


def cores(root: str = "/") -> int | None:
    """Whole processors that the quota grants, or None where there is none."""
    granted = []
    for version, folder in _groups(root, "cpu"):
        if version == 2:
            words = _words(folder, "cpu.max")
        else:
            words = [*_words(folder, "cpu.cfs_quota_us"), *_words(folder, "cpu.cfs_period_us")]
        if len(words) == 2 and all(word.isdecimal() for word in words) and int(words[1]) > 0:  # else "max", or -1
            granted.append(math.ceil(int(words[0]) / int(words[1])))
    return max(1, min(granted)) if granted else None


def _groups(root: str, controller: str) -> Iterator[tuple[int, str]]:
    """Version and folder of the groups that may limit this process, the own group and those above."""
    mounted = os.path.join(root, "sys/fs/cgroup")
    paths = {(2, mounted): "/", (2, os.path.join(mounted, "unified")): "/", (1, os.path.join(mounted, controller)): "/"}
    for line in _lines(os.path.join(root, "proc/self/cgroup")):  # "4:cpu,cpuacct:/path"; "0::/path" is version 2
        _, _, rest = line.partition(":")
        names, colon, path = rest.partition(":")
        if colon and names == "":
            paths[2, mounted] = paths[2, os.path.join(mounted, "unified")] = path
        elif controller in names.split(","):
            paths[1, os.path.join(mounted, controller)] = paths[1, os.path.join(mounted, names)] = path
    for (version, mount), path in paths.items():
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(parts), -1, -1):
            yield version, os.path.join(mount, *parts[:depth])


def _lines(path: str) -> list[str]:
    try:
        with open(path) as file:
            return file.read().splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def _words(folder: str, name: str) -> list[str]:
    return [word for line in _lines(os.path.join(folder, name)) for word in line.split()]


def _number(folder: str, name: str) -> int | None:
    words = _words(folder, name)
    return int(words[0]) if len(words) == 1 and words[0].isdecimal() else None


def _entry(folder: str, name: str, key: str) -> int:
    """A number of a file of lines "key number"; 0 where it isn't there."""
    for line in _lines(os.path.join(folder, name)):
        found, _, number = line.partition(" ")
        if found == key and number.isdecimal():
            return int(number)
    return 0
