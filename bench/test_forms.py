"""Quadratic forms x* A^-1 x of `redunet.linalg`, and log dets of sums of pairs, against NumPy and SciPy.

NumPy solves A X = B; SciPy takes a Cholesky factor and one triangular solution, matrix by matrix. Sums are those of
all pairs of a few Wishart-like matrices, as merging needs them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

import redunet as rn

Array = NDArray[Any]
#: Matrices, their size, vectors of each.
FORMS = {
    "1 x 50, 10 000 vectors": (1, 50, 10_000),
    "1 x 784, 2000 vectors": (1, 784, 2_000),
    "100 x 30, 100 vectors": (100, 30, 100),
    "10 000 x 20, one vector": (10_000, 20, 1),
}
#: Matrices, all pairs of which are added, and their size.
SUMS = {"300 x 5": (300, 5), "300 x 10": (300, 10), "100 x 50": (100, 50)}
RIVALS = ("redunet cpu", "redunet numpy", "numpy", "scipy")


def positive_definite(count: int, n: int, dtype: str) -> Array:
    A = np.random.default_rng(n).standard_normal((count, n, n))
    return (np.eye(n) + A @ A.swapaxes(1, 2) / n).astype(dtype)


def scipy_forms(A: Array, X: Array) -> Array:
    linalg = pytest.importorskip("scipy.linalg")
    result = np.empty(X.shape[:-1], A.dtype)
    for one, vectors, out in zip(A, X, result, strict=True):
        L = linalg.cholesky(one, lower=True, check_finite=False)
        out[:] = (linalg.solve_triangular(L, vectors.T, lower=True, check_finite=False) ** 2).sum(axis=0)
    return result


@pytest.fixture
def few(request: pytest.FixtureRequest) -> bool:
    """Whether it is only to run."""
    return bool(request.config.option.small or request.config.option.benchmark_disable)


@pytest.mark.parametrize("rival", RIVALS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", FORMS)
def test_quadratic_forms(
    benchmark: BenchmarkFixture, few: bool, n_threads: int, case: str, dtype: str, rival: str
) -> None:
    count, n, m = FORMS[case]
    if few:
        count, n, m = min(count, 20), min(n, 100), min(m, 20)
    A = positive_definite(count, n, dtype)
    X = np.random.default_rng(0).standard_normal((count, m, n)).astype(dtype)
    calls: dict[str, Callable[[], Any]] = {
        "numpy": lambda: (X * np.linalg.solve(A, X.swapaxes(1, 2)).swapaxes(1, 2)).sum(axis=-1),
        "scipy": lambda: scipy_forms(A, X),
    }
    name = rival.partition(" ")[2]
    call = calls.get(rival, lambda: rn.linalg.quadratic_forms(A, X, backend=name, n_threads=n_threads).forms)
    benchmark.group = f"forms {dtype}: {case}"
    np.testing.assert_allclose(benchmark(call), calls["numpy"](), rtol=1e-3)


@pytest.mark.parametrize("rival", RIVALS[:-1])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", SUMS)
def test_logdet_of_sums(benchmark: BenchmarkFixture, n_threads: int, case: str, dtype: str, rival: str) -> None:
    A = positive_definite(*SUMS[case], dtype)
    i, j = np.triu_indices(len(A), 1)
    name = rival.partition(" ")[2]
    benchmark.group = f"log dets of sums {dtype}: {case}, all pairs"
    if rival == "numpy":
        found = benchmark(lambda: np.linalg.slogdet(A[i] + A[j])[1])
    else:
        found = benchmark(rn.linalg.logdet_of_sums, A, i, j, backend=name, n_threads=n_threads)
    np.testing.assert_allclose(found, rn.linalg.logdet(A[i] + A[j]), rtol=1e-3)
