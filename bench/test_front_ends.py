"""The lift and the polar transform, on images of MNIST's size."""

from __future__ import annotations

import numpy as np
from pytest_benchmark.fixture import BenchmarkFixture

import redunet as rn


def test_lift_of_images(benchmark: BenchmarkFixture) -> None:
    images = np.random.default_rng(0).random((100, 1, 28, 28), dtype=np.float32)
    lift = rn.RandomLift(16, 9, random_state=0)
    assert benchmark(lift, images).shape == (100, 16, 28, 28)


def test_lift_of_signals(benchmark: BenchmarkFixture) -> None:
    signals = np.random.default_rng(0).random((100, 15, 200), dtype=np.float32)
    lift = rn.RandomLift(20, 5, random_state=0)
    assert benchmark(lift, signals).shape == (100, 20, 200)


def test_polar(benchmark: BenchmarkFixture) -> None:
    images = np.random.default_rng(0).integers(0, 256, (100, 28, 28), dtype=np.uint8)
    assert benchmark(lambda: rn.to_polar(images, n_channels=5, n_angles=200)).shape == (100, 5, 200)
