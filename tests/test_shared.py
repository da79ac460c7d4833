"""What needs data that no checkout holds: MNIST, and reference code for the front ends.

REDUNET_SHARED names the folder that holds them; where it is set, a missing file is a failure. The authors' own arrays,
in the same folder, are read by test_fixtures.py.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import redunet as rn
from redunet import datasets

if not os.environ.get("REDUNET_SHARED"):
    pytest.skip("REDUNET_SHARED names no folder with MNIST and reference code", allow_module_level=True)

SHARED = Path(os.environ["REDUNET_SHARED"])
MNIST = SHARED / "data" / "mnist"


@pytest.fixture(scope="module")
def workloads() -> ModuleType:
    """The reference's own samples of the benchmarks."""
    spec = importlib.util.spec_from_file_location("reference_workloads", SHARED / "bench" / "workloads.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_gaussian_mixture_is_the_reference(workloads):
    expected, labels = workloads.gauss(3, 20, 0.1, 1)
    X, y = datasets.gaussian_mixture(20, n_features=3, random_state=1)
    assert np.array_equal(X.astype(np.float32), expected)
    assert np.array_equal(y, labels)


def test_compat_is_the_reference_sampling(workloads):
    pytest.importorskip("scipy.ndimage")
    images = np.random.default_rng(1).integers(0, 256, (3, 28, 28), dtype=np.uint8)
    expected = workloads.polar(images, 15, 200)
    out = rn.to_polar(images, n_channels=15, n_angles=200, compat=True, endpoint=True)
    assert np.array_equal(out.astype(np.float32), expected)


def test_mnist():
    data = datasets.mnist(MNIST)
    assert data.X_train.shape == (60000, 1, 28, 28)
    assert data.X_test.shape == (10000, 1, 28, 28)
    assert data.X_train.dtype == np.uint8
    assert data.y_train[:5].tolist() == [5, 0, 4, 1, 9]
    assert data.y_test[:5].tolist() == [7, 2, 1, 0, 4]
    X, y = datasets.first_per_class(data.X_train, data.y_train, 10, classes=[1, 0], skip=5)
    assert X.shape == (20, 1, 28, 28)
    assert np.array_equal(X[:10], data.X_train[data.y_train == 1][5:15])
    assert np.array_equal(y, np.repeat([1, 0], 10))
