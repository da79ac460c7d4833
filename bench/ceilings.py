"""What this machine can do at most, measured in the run: multiply-adds, SGEMM, and reading from L2, L3 and memory.

`python -m bench.ceilings` prints the table. One thread and several: where two virtual cores are one physical core, two
threads do what one does, and two-thread times beside them say nothing. Cache sizes are the system's own. The loops are
in ceilings.c, compiled when first used; without a C compiler, or cache sizes, only SGEMM is measured.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from bench.environment import available_cores, cache_bytes, clock, restart_clean
from bench.floor import sgemm_rate

_SOURCE = Path(__file__).with_name("ceilings.c")
_COMPILERS = ("cc", "gcc", "clang")
# Seconds of one measurement, and how many are made: the best of them is what the machine can do.
_SECONDS, _REPEATS = 0.02, 5
_ALIGNMENT = 512  # bytes: eight vectors of 64
_DRAM_BYTES = 256 << 20  # at least, and four times L3
#: Two threads that do less than this multiple of one are taken to share a core.
TWO_CORES = 1.6


@dataclass(frozen=True)
class Ceilings:
    """Rates of n threads together; None where they cannot be measured here.

    Attributes
    ----------
    n_threads : int
    fma_gflop_s, sgemm_gflop_s : float
        Multiply-adds in registers, two flops each; a square product, the better of NumPy's BLAS and PyTorch's.
    read_gb_s : dict
        Reading, by where the block lies: "L2", "L3", "memory".
    """

    n_threads: int
    fma_gflop_s: float | None
    sgemm_gflop_s: float
    read_gb_s: dict[str, float]


@cache
def _library() -> ctypes.CDLL | None:
    """The compiled loops; None without a compiler."""
    compiler = next((path for name in _COMPILERS if (path := shutil.which(name))), None)
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "ceilings.so"
        command = [compiler, "-O3", "-march=native", "-ffp-contract=fast", "-shared", "-fPIC", "-o", str(target)]
        try:
            subprocess.run([*command, str(_SOURCE)], check=True, capture_output=True)
            library = ctypes.CDLL(str(target))
        except (OSError, subprocess.CalledProcessError):
            return None
    library.flops_of_a_round.restype = ctypes.c_long
    library.multiply_adds.restype = ctypes.c_float
    library.multiply_adds.argtypes = [ctypes.c_long, ctypes.c_float, ctypes.c_float]
    library.read_block.restype = ctypes.c_float
    library.read_block.argtypes = [ctypes.c_void_p, ctypes.c_long, ctypes.c_long]
    return library


def _together(actions: list[Callable[[], object]]) -> float:
    """Seconds from a common start until the last of the actions, each on a thread of its own, is done.

    One action is timed by its processor seconds: what it can do, whatever else runs.
    """
    if len(actions) == 1:
        now = clock(1)
        start = now()
        actions[0]()
        return now() - start
    barrier = Barrier(len(actions))

    def run(action: Callable[[], object]) -> tuple[float, float]:
        barrier.wait()
        start = time.perf_counter()
        action()
        return start, time.perf_counter()

    with ThreadPoolExecutor(len(actions)) as pool:
        times = list(pool.map(run, actions))
    return max(end for _, end in times) - min(start for start, _ in times)


def _best_rate(work: Callable[[int], list[Callable[[], object]]], amount: float) -> float:
    """Amount per second, where `work(rounds)` does rounds x amount: rounds for long enough, the best of several."""
    rounds = 1
    while (seconds := _together(work(rounds))) < _SECONDS:
        rounds = max(2 * rounds, int(rounds * _SECONDS / max(seconds, 1e-6)))
    return max(amount * rounds / _together(work(rounds)) for _ in range(_REPEATS))


def fma_rate(n_threads: int) -> float | None:
    """Flop/s of multiply-adds in registers by n threads at once; None without a compiler."""
    library = _library()
    if library is None:
        return None

    def work(rounds: int) -> list[Callable[[], object]]:
        return [lambda: library.multiply_adds(rounds * 1000, 0.5, 1.0)] * n_threads

    return _best_rate(work, 1000.0 * library.flops_of_a_round() * n_threads)


def read_rate(nbytes: int, n_threads: int) -> float | None:
    """Bytes per second, n threads each reading a block of `nbytes` of its own; None without a compiler."""
    library = _library()
    if library is None:
        return None
    size = max(nbytes // _ALIGNMENT, 1) * _ALIGNMENT
    held = [np.ones(size + _ALIGNMENT, np.uint8) for _ in range(n_threads)]
    starts = [-(-block.ctypes.data // _ALIGNMENT) * _ALIGNMENT for block in held]

    def work(rounds: int) -> list[Callable[[], object]]:
        return [lambda at=at: library.read_block(at, size // 4, rounds) for at in starts]  # type: ignore[misc]

    return _best_rate(work, float(size) * n_threads)


def block_sizes(n_threads: int) -> dict[str, int]:
    """Bytes per thread of a block that lies in L2, in L3, in memory; {} where the system does not say."""
    caches = cache_bytes()
    if not {"L2", "L3"} <= caches.keys():
        return {}
    return {
        "L2": caches["L2"] // 2,
        "L3": max(caches["L3"] // (4 * n_threads), 3 * caches["L2"] // 2),
        "memory": max(_DRAM_BYTES, 4 * caches["L3"]) // n_threads,
    }


def where(nbytes: float, n_threads: int) -> str:
    """The nearest level that holds so many bytes: "L2" (each thread has one), "L3" or "memory"."""
    caches = cache_bytes()
    if nbytes <= caches.get("L2", 0) * n_threads:
        return "L2"
    return "L3" if nbytes <= caches.get("L3", 0) else "memory"


def measure_ceilings(n_threads: int) -> Ceilings:
    """All rates of n threads, in a few seconds."""
    fma = fma_rate(n_threads)
    with threadpool_limits(n_threads, "blas"):
        sgemm = sgemm_rate(n_threads)
    reads = {level: read_rate(size, n_threads) for level, size in block_sizes(n_threads).items()}
    return Ceilings(
        n_threads=n_threads,
        fma_gflop_s=None if fma is None else fma / 1e9,
        sgemm_gflop_s=sgemm / 1e9,
        read_gb_s={level: rate / 1e9 for level, rate in reads.items() if rate is not None},
    )


def all_ceilings(n_threads: int) -> list[dict[str, Any]]:
    """Of one thread and of n, as plain data."""
    return [asdict(measure_ceilings(n)) for n in sorted({1, n_threads})]


def scaling(n_threads: int) -> float | None:
    """How many times the multiply-adds of one thread n threads do, now; None without a compiler."""
    one, all_threads = fma_rate(1), fma_rate(n_threads)
    return None if one is None or all_threads is None else all_threads / one


def verdict(times: float, n_threads: int) -> str:
    """What a scaling says about the cores."""
    shared = times < TWO_CORES / 2 * n_threads
    tail = "the threads share a core or wait for other programs" if shared else "cores of their own"
    return f"{n_threads} threads do {times:.2f}x the multiply-adds of one: {tail}"


def table(ceilings: list[dict[str, Any]]) -> list[list[str]]:
    """Rows for the tables of the report, with the head first."""
    levels = list(ceilings[0]["read_gb_s"])
    rows = [["threads", "multiply-adds, GF/s", "SGEMM, GF/s", *(f"read {level}, GB/s" for level in levels)]]
    for entry in ceilings:
        fma = entry["fma_gflop_s"]
        numbers = [fma, entry["sgemm_gflop_s"], *(entry["read_gb_s"][level] for level in levels)]
        rows.append([str(entry["n_threads"]), *("-" if x is None else f"{x:.0f}" for x in numbers)])
    return rows


def main() -> None:
    """Measure and print."""
    restart_clean()
    from bench.tables import as_text

    n_threads = available_cores()
    sizes = ", ".join(f"{level} {size // 1024} KiB" for level, size in cache_bytes().items())
    print(f"caches of one core: {sizes or 'unknown'}; load {os.getloadavg()[0]:.2f}")
    print(as_text(table(all_ceilings(n_threads))))
    if n_threads > 1 and (times := scaling(n_threads)) is not None:
        print(verdict(times, n_threads))


if __name__ == "__main__":
    main()
