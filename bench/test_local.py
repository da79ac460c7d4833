"""Local incremental coding length of samples of MNIST's shape, beside the product of all samples that it needs.

Classes are curved: 784 sines of eight numbers each. The distance product is NumPy's, in blocks; nearest neighbours
are those of scikit-learn, one vote.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

import redunet as rn
from redunet.classifiers import MICL

Array = NDArray[np.float32]
N_CLASSES, N_NEIGHBORS = 10, 20
#: Samples that are trained, and new ones; --full has as many as MNIST.
SIZES, FULL, SMALL = (20_000, 1_000), (60_000, 10_000), (400, 30)
ROWS = 1000


@pytest.fixture
def problem(request: pytest.FixtureRequest) -> tuple[Array, NDArray[np.int64], Array]:
    option = request.config.option
    few = option.small or option.benchmark_disable
    random = np.random.default_rng(0)
    maps = random.standard_normal((N_CLASSES, 8, 784), dtype=np.float32)
    samples = []
    for n in SMALL if few else FULL if option.full else SIZES:
        X = np.empty((n, 784), np.float32)
        for j, to_pixels in enumerate(maps):
            X[j::N_CLASSES] = np.sin(random.standard_normal((len(X[j::N_CLASSES]), 8), dtype=np.float32) @ to_pixels)
        samples.append(X)
    X, T = samples
    return X, np.arange(len(X)) % N_CLASSES, T


@pytest.mark.parametrize("backend", ["cpu", "numpy"])
@pytest.mark.parametrize("mean", ["estimate", "zero"])
def test_local(benchmark: BenchmarkFixture, problem: Any, mean: str, backend: str) -> None:
    X, y, T = problem
    with rn.use_backend(backend):
        fitted = MICL(100.0, mean=mean, n_neighbors=N_NEIGHBORS).fit(X, y)
        assert benchmark(fitted.predict, T).shape == (len(T),)


def test_product_alone(benchmark: BenchmarkFixture, problem: Any) -> None:
    X, _, T = problem
    distances = np.empty((ROWS, len(X)), np.float32)

    def product() -> None:
        for start in range(0, len(T), ROWS):
            some = T[start : start + ROWS]
            np.matmul(some, X.T, out=distances[: len(some)])

    benchmark(product)


def test_nearest_neighbours(benchmark: BenchmarkFixture, problem: Any) -> None:
    neighbors = pytest.importorskip("sklearn.neighbors")
    X, y, T = problem
    fitted = neighbors.KNeighborsClassifier(1, algorithm="brute").fit(X, y)
    assert benchmark(fitted.predict, T).shape == (len(T),)
