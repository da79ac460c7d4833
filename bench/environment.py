"""The process and machine that a measurement was made in. Imports no NumPy: BLAS reads the environment when
it loads.
"""

from __future__ import annotations

import importlib.metadata
import mmap
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

# Settings that bend OpenBLAS away from the machine it runs on, and with it every ratio.
MISLEADING = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
RECORDED_PREFIXES = ("OMP_", "OPENBLAS_", "MKL_", "REDUNET_", "TORCH_", "MALLOC_", "GLIBC_TUNABLES")
PACKAGES = ("redunet", "numpy", "torch", "scipy", "numba", "jax", "mkl", "threadpoolctl", "pytest-benchmark")


def restart_clean() -> None:
    """Start this command again without the misleading settings, if any is there."""
    present = [name for name in MISLEADING if name in os.environ]
    if present:
        clean = {name: value for name, value in os.environ.items() if name not in MISLEADING}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], clean)


def pin_cores(n: int) -> None:
    """Keep this process, and what it starts, on its first n cores: libraries count cores when they are loaded."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:n])


def clock(n_threads: int) -> Callable[[], float]:
    """Processor seconds of this process for one thread, which other programs do not change; else those of the wall."""
    return time.process_time if n_threads == 1 else time.perf_counter


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_bytes() -> int:
    """Memory that is free or can be freed; a large number where the system does not say."""
    meminfo = _read("/proc/meminfo")
    for line in meminfo.splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 1 << 62


def hold_fresh_memory(size: int = 2 << 30) -> None:
    """Touch memory once and free it again, a quarter of what is available at most.

    A virtual machine may hand freed pages back to its host within seconds; whoever touches them next waits for the
    host, up to three seconds per GiB, which would be charged to whichever implementation comes first.
    """
    import numpy as np  # after restart_clean

    np.empty(min(size, available_bytes() // 4) // 8)[:: mmap.PAGESIZE // 8] = 1


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _cpu_model() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _caches() -> dict[str, str]:
    caches = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        kind = _read(folder / "type").strip()
        if kind != "Instruction":
            caches[f"L{_read(folder / 'level').strip()}"] = _read(folder / "size").strip()
    return caches


def cache_bytes() -> dict[str, int]:
    """Bytes of the caches that one core sees, by level, as the system gives them; {} where it does not."""
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    return {level: int(size[:-1]) * units[size[-1]] for level, size in _caches().items() if size[-1:] in units}


def _git(*arguments: str) -> str:
    folder = Path(__file__).resolve().parents[1]
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        module = sys.modules.get(package)
        return getattr(module, "__version__", None)


def describe() -> dict[str, Any]:
    """Machine, versions, commit, date and the settings that matter, for the JSON beside every table."""
    load = os.getloadavg() if hasattr(os, "getloadavg") else ()
    return {
        "cpu": _cpu_model(),
        "cores": available_cores(),
        "caches": _caches(),
        "memory_gib": round(available_bytes() / 2**30, 1),
        "load_average": [round(x, 2) for x in load],
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "settings": {k: v for k, v in sorted(os.environ.items()) if k.startswith(RECORDED_PREFIXES)},
        "command": shlex.join([Path(sys.orig_argv[0]).name, *sys.orig_argv[1:]]),
    }
