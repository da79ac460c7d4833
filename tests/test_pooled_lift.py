"""The pooled lift against a direct loop over its definition, and what its vectors do not change with."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import redunet as rn
from redunet.frontends import pooled_lift as module


def direct(X, lift):
    """Shares of positions whose output is above the threshold, position by position and tap by tap."""
    shape = (1, -1, *(1,) * (X.ndim - 2))
    X = (X.astype(np.float64) - lift.mean_.reshape(shape)) / lift.scale_.reshape(shape)
    points = X.shape[2:]
    columns = []
    for axis, dilation, kernels, thresholds in lift.filters_:
        seen = X
        if axis is not None:
            seen = np.roll(X, -1, axis) - X
            if lift.boundary == "zero":
                np.moveaxis(seen, axis, 0)[-1] = 0
        for kernel, threshold in zip(kernels, thresholds, strict=True):
            above = np.zeros(len(X))
            for t in np.ndindex(*points):
                output = np.zeros(len(X))
                for s in np.ndindex(*kernel.shape[1:]):
                    at = [a + (b - n // 2) * dilation for a, b, n in zip(t, s, kernel.shape[1:], strict=True)]
                    if lift.boundary == "cyclic":
                        at = [a % n for a, n in zip(at, points, strict=True)]
                    if all(0 <= a < n for a, n in zip(at, points, strict=True)):
                        output += seen[(slice(None), slice(None), *at)] @ kernel[(slice(None), *s)]
                above += output > threshold
            columns.append(above / np.prod(points))
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("boundary", ["cyclic", "zero"])
@pytest.mark.parametrize(
    ("shape", "size"),
    [((5, 1, 20), 4), ((4, 3, 9), 3), ((3, 2, 4), 9), ((3, 2, 7, 6), 3), ((2, 1, 5, 4), (1, 2)), ((3, 1, 1), 2)],
)
@pytest.mark.parametrize("block", [1, 1 << 22])
def test_shares_are_the_direct_loop(shape, size, boundary, block, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_BYTES", block)
    X = np.random.default_rng(0).normal(3.0, 2.0, shape)
    lift = rn.PooledLift(30, size, boundary=boundary, random_state=0).fit(X)
    Z = lift.transform(X)
    assert Z.shape == (len(X), 30)
    np.testing.assert_allclose(Z, direct(X, lift), rtol=0, atol=1e-12)  # shares: one position would be 1/42 or more
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(lift)).transform(X), Z)


def test_filters_are_spread_over_scales_and_differences():
    X = np.random.default_rng(0).normal(size=(3, 2, 40))
    lift = rn.PooledLift(10, 9, random_state=0).fit(X)
    kinds = [(filters.axis, filters.dilation, len(filters.kernels)) for filters in lift.filters_]
    assert kinds == [(None, 1, 2), (None, 2, 2), (None, 4, 2), (2, 1, 2), (2, 2, 1), (2, 4, 1)]
    alone = rn.PooledLift(10, 9, differences=False, random_state=0).fit(X)
    assert [filters.axis for filters in alone.filters_] == [None] * 3
    images = rn.PooledLift(10, 3, random_state=0).fit(X.reshape(3, 2, 8, 5))
    assert [(filters.axis, filters.dilation) for filters in images.filters_] == [
        (axis, dilation) for axis in (None, 2, 3) for dilation in (1, 2)
    ]
    for filters in (*lift.filters_, *images.filters_):
        taps = tuple(range(2, filters.kernels.ndim))
        np.testing.assert_allclose(filters.kernels.sum(axis=taps), 0, atol=1e-12)


def test_channels_are_seen_by_some():
    """The logarithm of their number is uniform: of 7, one is seen by a third, and all seven by few."""
    X = np.random.default_rng(0).normal(size=(3, 7, 20))
    (filters, *_) = rn.PooledLift(3000, 9, differences=False, random_state=0).fit(X).filters_
    seen = (filters.kernels != 0).any(axis=-1).sum(axis=1)
    assert seen.min() == 1
    assert seen.max() == 7
    assert (seen == 1).mean() == pytest.approx(1 / 3, abs=4 * np.sqrt(2 / 9 / len(seen)))


@pytest.mark.parametrize("shape", [(4, 2, 30), (4, 2, 8, 7)])
def test_no_cyclic_shift_and_no_unit_of_a_channel_is_seen(shape):
    X = np.random.default_rng(0).normal(size=shape)
    lift = rn.PooledLift(60, 3, random_state=0).fit(X)
    Z = lift.transform(X)
    for axis in range(2, len(shape)):
        np.testing.assert_allclose(lift.transform(np.roll(X, 3, axis)), Z, atol=1e-12)
    scaled = X * np.array([1e3, 1e-2]).reshape(2, *(1,) * (len(shape) - 2)) + 7
    np.testing.assert_allclose(rn.PooledLift(60, 3, random_state=0).fit_transform(scaled), Z, atol=1e-12)
    np.testing.assert_allclose(lift.transform(X + 5), Z, atol=1e-12)  # whatever the level: kernels have no mean
    ends = rn.PooledLift(60, 3, boundary="zero", random_state=0).fit(X)
    assert np.abs(ends.transform(X + 5) - ends.transform(X)).max() > 0.02


def test_plateaus_are_above_as_a_whole_or_not_at_all():
    """Equal outputs differ by rounding, and a threshold may be one of them."""
    X = np.zeros((4, 1, 60))
    X[:, 0, 20:40] = 0.1 * np.arange(1, 5)[:, None]
    lift = rn.PooledLift(200, 5, differences=False, random_state=0).fit(X)
    Z = lift.transform(X)
    np.testing.assert_array_equal(lift.transform(np.roll(X, 7, axis=-1)), Z)
    for i in range(4):  # one by one, as in a batch
        np.testing.assert_array_equal(lift.transform(X[i : i + 1]), Z[i : i + 1])
    assert (Z.min(axis=0) == 0).any()  # whose thresholds are the plateau


def test_dtypes_and_channels_last():
    X = np.random.default_rng(0).normal(size=(4, 2, 30))
    Z = rn.PooledLift(50, random_state=0).fit_transform(X)
    assert Z.dtype == np.float64
    assert rn.PooledLift(50, random_state=0).fit_transform(X.astype(np.float32)).dtype == np.float32
    last = rn.PooledLift(50, random_state=0).fit_transform(np.moveaxis(X, 1, -1), channels="last")
    np.testing.assert_array_equal(last, Z)


def test_errors():
    X = np.random.default_rng(0).normal(size=(4, 2, 30))
    with pytest.raises(ValueError, match="call fit first"):
        rn.PooledLift().transform(X)
    lift = rn.PooledLift(20, random_state=0).fit(X)
    with pytest.raises(ValueError, match=r"X has shape \(4, 2, 29\); expected \(m, 2, 30\), as in fit"):
        lift.transform(X[..., 1:])
    with pytest.raises(ValueError, match=r"X has shape \(4, 30, 3\); expected \(m, 30, 2\), as in fit"):
        lift.transform(np.ones((4, 30, 3)), channels="last")
    with pytest.raises(ValueError, match="kernel_size is 1; expected 2 taps or more"):
        rn.PooledLift(20, 1).fit(X)
    with pytest.raises(ValueError, match=r"kernel_size is \(3, 3\); expected 1 numbers"):
        rn.PooledLift(20, (3, 3)).fit(X)
    X[2, 1, 4] = np.nan
    for method in (lift.fit, lift.transform):
        with pytest.raises(ValueError, match="NaN or infinite value in sample 2"):
            method(X)
