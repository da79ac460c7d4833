"""Segmentation by coding length beside felzenszwalb's graph and merging by mean colour of scikit-image.

`test_segment` is given superpixels; `test_superpixels` is what they take, which merging by mean colour is given too.
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import redunet as rn
from redunet.experiments import mosaics, segments
from redunet.segmentation import superpixels, windows

pytest.importorskip("skimage")
Array = npt.NDArray[Any]
#: Rows and superpixels of a mosaic of photographed textures, half as wide again: 321 x 481, and 2 million pixels.
SIZES = {"321x481": (321, 400), "1167x1750": (1167, 2000)}


@pytest.fixture(params=SIZES)
def problem(request: pytest.FixtureRequest) -> tuple[Array, Array]:
    rows, count = SIZES[request.param]
    if request.config.option.small:
        rows, count = 81, 50
    elif rows > 1000 and not request.config.option.full:
        pytest.skip("large: --full")
    image, _ = mosaics.mosaic("textures", 0, (rows, rows * 481 // 321))
    return image, superpixels.superpixels(windows.channels(image, "auto", None), count)


def test_segment(benchmark: BenchmarkFixture, problem: tuple[Array, Array], n_threads: int) -> None:
    image, start = problem
    labels = benchmark(rn.segmentation.segment, image, superpixels=start, n_threads=n_threads)
    assert labels.shape == start.shape


def test_superpixels(benchmark: BenchmarkFixture, problem: tuple[Array, Array]) -> None:
    image, start = problem
    benchmark(lambda: superpixels.superpixels(windows.channels(image, "auto", None), int(start.max()) + 1))


def test_felzenszwalb(benchmark: BenchmarkFixture, problem: tuple[Array, Array]) -> None:
    assert benchmark(segments._felzenszwalb, 200, problem[0]).shape == problem[1].shape


def test_mean_color(benchmark: BenchmarkFixture, problem: tuple[Array, Array]) -> None:
    assert benchmark(segments.merge_by_mean_color, *problem, 30).shape == problem[1].shape
