"""All cyclic shifts against numpy.roll."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

import redunet as rn


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.complex128])
@pytest.mark.parametrize(("T", "stride"), [(6, 1), (6, 2), (7, 3), (5, 9), (1, 1)])
def test_signals(T, stride, dtype):
    X = np.arange(3 * 2 * T).reshape(3, 2, T).astype(dtype)
    out = rn.shifts(X, stride=stride)
    assert out.dtype == dtype
    assert out.shape == (3, -(-T // stride), 2, T)
    for s in range(out.shape[1]):
        assert np.array_equal(out[:, s], np.roll(X, s * stride, axis=-1))


@pytest.mark.parametrize(("H", "W", "stride"), [(3, 4, 1), (5, 4, 2), (4, 6, (3, 2)), (1, 3, (2, 1))])
def test_images_row_by_row(H, W, stride):
    X = np.random.default_rng(0).normal(size=(2, 3, H, W))
    a, b = stride if isinstance(stride, tuple) else (stride, stride)
    expected = [np.roll(X, (y, x), axis=(-2, -1)) for y in range(0, H, a) for x in range(0, W, b)]
    assert np.array_equal(rn.shifts(X, stride=stride), np.stack(expected, axis=1))


def test_result_is_a_copy():
    X = np.ones((1, 1, 4))
    rn.shifts(X)[...] = 0
    assert (X == 1).all()


def test_the_function_is_not_hidden_by_its_module():
    importlib.import_module("redunet.frontends.shifts")
    assert callable(rn.shifts)
    assert callable(rn.shifts)


def test_errors(monkeypatch):
    with pytest.raises(ValueError, match=r"X has shape \(3, 4\); expected \(m, C, T\) or \(m, C, H, W\)"):
        rn.shifts(np.zeros((3, 4)))
    with pytest.raises(ValueError, match="stride is 0; expected an integer >= 1"):
        rn.shifts(np.zeros((1, 1, 4)), stride=0)
    with pytest.raises(TypeError, match=r"stride is 1\.5 of type float; expected an integer"):
        rn.shifts(np.zeros((1, 1, 4)), stride=1.5)
    with pytest.raises(
        ValueError, match=r"stride is \(1, 2\); expected one number, or one for each of the axes \(4,\)"
    ):
        rn.shifts(np.zeros((1, 1, 4)), stride=(1, 2))
    monkeypatch.setattr("redunet._inputs.checks.available_memory", lambda: 10)
    with pytest.raises(MemoryError, match="the shifted samples need"):
        rn.shifts(np.zeros((1, 1, 4)))
