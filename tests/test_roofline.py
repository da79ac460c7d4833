"""The tables of docs/gpu.md: made by cuda/roofline.py, whose sizes are those of real networks."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

import redunet as rn

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def roofline():
    spec = importlib.util.spec_from_file_location("roofline", REPOSITORY / "cuda" / "roofline.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["roofline"] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["roofline"]


def test_the_page_holds_what_the_program_prints(roofline):
    page = (REPOSITORY / "docs" / "gpu.md").read_text(encoding="utf-8")
    assert roofline.by_workload() in page
    assert roofline.by_kernel() in page


@pytest.mark.parametrize("shape", [(30, 7), (60, 5, 9), (30, 20, 8), (24, 4, 6, 6)], ids=str)
def test_sizes_are_those_of_networks(roofline, shape):
    k, layers = 3, 2
    X = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    net, _ = rn.build(X, np.arange(shape[0]) % k, n_layers=layers)
    workload = roofline.Workload("", *shape[:2], net.fourier.n_freqs, k, layers)
    assert workload.kept * layers == net.nbytes
    assert (workload.rank > 0) == (net.operators.factors.size > 0)
    assert workload.spectrum == shape[0] * shape[1] * net.fourier.n_freqs * net.operators.dense.itemsize


def test_bounds(roofline):
    """A kernel takes its flops, or its bytes, or less of the device."""
    gpu = roofline.GPUS[0]
    assert roofline.Kernel("", gpu.peak, 1, 1).seconds(gpu) == 1
    assert roofline.Kernel("", 1, 2 * gpu.bandwidth, 1).seconds(gpu) == 2
    assert roofline.Kernel("", gpu.peak, 1, 1, gpu.multiprocessors / 2).seconds(gpu) == 2
