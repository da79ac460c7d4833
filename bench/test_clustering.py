"""Merging by coding length, whole paths, beside Ward's linkage of scikit-learn, which finds no number of clusters."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import redunet as rn

Array = npt.NDArray[np.float64]
#: Dimensions, samples, squared distortion where the largest coordinate is 1.
SIZES = {
    "3d-10k": (3, 10_000, 0.0025),
    "10d-10k": (10, 10_000, 0.01),
    "50d-5k": (50, 5_000, 0.05),
    "3d-20k": (3, 20_000, 0.0025),
    "10d-20k": (10, 20_000, 0.01),
    "3d-50k": (3, 50_000, 0.0025),
    "3d-100k": (3, 100_000, 0.0025),
}
#: Those of 20 000 samples and more need --full.
LARGE = 20_000


@pytest.fixture(params=SIZES)
def problem(request: pytest.FixtureRequest) -> tuple[Array, float]:
    """Samples of two lines and a plane, or of ten planes, with noise."""
    D, N, epsilon_sq = SIZES[request.param]
    if N >= LARGE and not request.config.option.full:
        pytest.skip("large: --full")
    if request.config.option.small:
        N = 200
    if D == 3:
        X, _ = rn.datasets.lines_and_plane(N, noise=0.05, random_state=0)
    else:
        random = np.random.default_rng(0)
        planes = random.standard_normal((10, 2, D)) / np.sqrt(D)
        X = np.concatenate([random.standard_normal((N // 10, 2)) @ plane for plane in planes])
        X += 0.01 * random.standard_normal(X.shape)
    return X / np.abs(X).max(), epsilon_sq


@pytest.mark.parametrize("mean", ["zero", "estimate"])
def test_merge_path(benchmark: BenchmarkFixture, problem: tuple[Array, float], mean: str, n_threads: int) -> None:
    X, epsilon_sq = problem
    path: Any = benchmark(rn.clustering.merge_path, X, epsilon_sq=epsilon_sq, mean=mean, n_threads=n_threads)
    assert len(path.gains) == len(X) - 1


def test_ward(benchmark: BenchmarkFixture, problem: tuple[Array, float]) -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    X, _ = problem
    if len(X) >= LARGE:
        pytest.skip("a table of all pairs")
    assert benchmark(cluster.AgglomerativeClustering(3).fit_predict, X).shape == (len(X),)
