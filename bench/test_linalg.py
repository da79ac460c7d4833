"""Batched Hermitian cholesky, inv, solve and logdet of `redunet.linalg` against NumPy and PyTorch.

Matrices are Wishart-like, I + A A^*/n: well conditioned. PyTorch runs twice: by the function of that name in
`torch.linalg`, and through its Cholesky factor. Cases with more arithmetic or memory than a fixed bound are left
out.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

import redunet as rn
from redunet._backends import status

SIZES = (2, 3, 5, 8, 16, 32, 64, 128, 256)
BATCHES = (1, 10, 100, 1000, 10_000, 100_000)
DTYPES = ("float32", "float64", "complex64", "complex128")
# What runs without --full: a corner and a middle of the grid.
DEFAULT_SIZES = (3, 8, 16, 32, 128)
DEFAULT_BATCHES = (1, 100, 10_000)
DEFAULT_DTYPES = ("float32", "complex128")
OPERATIONS = ("cholesky", "inv", "solve", "logdet")
RIVALS = ("redunet numpy", "redunet cpu", "numpy", "torch", "torch by Cholesky")
MAX_FLOPS = 2e10
MAX_BYTES = 1 << 29
MAX_SECONDS = 0.3


def positive_definite(n: int, batch: int, dtype: str) -> NDArray[Any]:
    """(batch, n, n) Hermitian positive definite matrices with condition numbers of a few."""
    rng = np.random.default_rng(n)
    A = rng.standard_normal((min(batch, 64), n, n))
    if dtype.startswith("complex"):
        A = A + 1j * rng.standard_normal(A.shape)
    M = np.eye(n) + A @ A.conj().swapaxes(1, 2) / n
    repeated = np.tile(M, (-(-batch // len(M)), 1, 1))[:batch]
    return np.ascontiguousarray(repeated, dtype=dtype)


def _package(operation: str, A: NDArray[Any], B: NDArray[Any], backend: str, n_threads: int) -> Callable[[], object]:
    function = getattr(rn.linalg, operation)
    if operation == "solve":
        return lambda: function(A, B, backend=backend, n_threads=n_threads)
    return lambda: function(A, backend=backend, n_threads=n_threads)


def _numpy(operation: str, A: NDArray[Any], B: NDArray[Any]) -> Callable[[], object]:
    return {
        "cholesky": lambda: np.linalg.cholesky(A),
        "inv": lambda: np.linalg.inv(A),
        "solve": lambda: np.linalg.solve(A, B),
        "logdet": lambda: np.linalg.slogdet(A),
    }[operation]


def _torch(operation: str, A: NDArray[Any], B: NDArray[Any], n_threads: int, factor: bool) -> Callable[[], object]:
    import torch

    torch.set_num_threads(n_threads)
    tA, tB = torch.from_numpy(A), torch.from_numpy(B)
    if not factor:
        return {
            "cholesky": lambda: torch.linalg.cholesky(tA),
            "inv": lambda: torch.linalg.inv(tA),
            "solve": lambda: torch.linalg.solve(tA, tB),
            "logdet": lambda: torch.linalg.slogdet(tA),
        }[operation]
    return {
        "cholesky": lambda: torch.linalg.cholesky(tA),
        "inv": lambda: torch.cholesky_inverse(torch.linalg.cholesky(tA)),
        "solve": lambda: torch.cholesky_solve(tB, torch.linalg.cholesky(tA)),
        "logdet": lambda: 2 * torch.linalg.cholesky(tA).diagonal(dim1=-2, dim2=-1).real.log().sum(-1),
    }[operation]


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
        call = _numpy(operation, A, B)
    elif rival.startswith("torch"):
        call = _torch(operation, A, B, n_threads, factor=rival != "torch")
    else:
        call = _package(operation, A, B, rival.split()[1], n_threads)
    benchmark(call)
