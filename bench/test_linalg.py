"""Batched Hermitian cholesky, inv, solve and logdet of `redunet.linalg` against NumPy and PyTorch.

The cases of `bench.linalg`, which interleaves the rivals and prints ratios, in pytest-benchmark, which keeps them.
Cases with more arithmetic or memory than a fixed bound are left out.
"""

from __future__ import annotations

from importlib.util import find_spec
from itertools import product

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.linalg import DTYPES, HEAD, OPERATIONS, OURS, by_numpy, by_torch, package, positive_definite, row
from redunet._backends import status

SIZES = (2, 3, 5, 8, 16, 32, 64, 128, 256)
BATCHES = (1, 10, 100, 1000, 10_000, 100_000)
# What runs without --full: a corner and a middle of the grid.
DEFAULT_SIZES = (3, 8, 16, 32, 128)
DEFAULT_BATCHES = (1, 100, 10_000)
DEFAULT_DTYPES = ("float32", "complex128")
RIVALS = ("redunet numpy", "redunet cpu", "numpy", "torch", "torch by Cholesky")
MAX_FLOPS = 2e10
MAX_BYTES = 1 << 29
MAX_SECONDS = 0.3


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """All sizes within the bounds with --full, else a few of them."""
    if "operation" not in metafunc.fixturenames:
        return
    full = metafunc.config.option.full
    sizes, batches, dtypes = (SIZES, BATCHES, DTYPES) if full else (DEFAULT_SIZES, DEFAULT_BATCHES, DEFAULT_DTYPES)
    cases = [case for case in product(OPERATIONS, sizes, batches, dtypes, RIVALS) if within_bounds(*case[1:4])]
    metafunc.parametrize(("operation", "n", "batch", "dtype", "rival"), cases)


def within_bounds(n: int, batch: int, dtype: str) -> bool:
    flops = batch * n**3 * (4 if dtype.startswith("complex") else 1)
    return flops <= MAX_FLOPS and batch * n * n * np.dtype(dtype).itemsize <= MAX_BYTES


@pytest.mark.benchmark(max_time=MAX_SECONDS, min_rounds=3, warmup=True, warmup_iterations=1)
def test_linalg(
    benchmark: BenchmarkFixture, n_threads: int, operation: str, n: int, batch: int, dtype: str, rival: str
) -> None:
    if rival.startswith("torch") and not find_spec("torch"):
        pytest.skip("PyTorch is not installed")
    if rival == "redunet cpu" and status()["cpu"] != "available":
        pytest.skip(status()["cpu"])
    A = positive_definite(n, batch, dtype)
    B = np.ones((batch, n, 1), dtype)
    benchmark.group = f"{operation} {dtype}: {batch} x {n} x {n}"
    if rival == "numpy":
        call = by_numpy(operation, A, B)
    elif rival.startswith("torch"):
        call = by_torch(operation, A, B, n_threads, factor=rival != "torch")
    else:
        call = package(operation, A, B, rival.split()[1], n_threads)
    benchmark(call)


@pytest.mark.parametrize(
    ("n", "batch", "other", "said"),
    [(8, 100, 49.0, "4.90 < 5"), (8, 100, 50.0, "5.00"), (32, 100, 19.0, "1.90 < 2"), (128, 100, 5.0, "0.50"),
     (8, 10, 5.0, "0.50"), (300, 1, 8.0, "0.80 < 0.9")],
)  # fmt: skip
def test_bars_that_are_missed_are_marked(n: int, batch: int, other: float, said: str) -> None:
    cells = row("inv", n, batch, "float32", {OURS: 10.0, "numpy": other, "torch": 100.0, "MKL compact": 5.0})
    assert len(cells) == len(HEAD)
    assert cells[1:] == ["10.0", f"{other:.1f}", said, "0.50", "-"]
