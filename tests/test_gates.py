"""Soft assignments at the ends of the range, and operators that are not finite."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import redunet as rn


def three_classes(m=90, d=9):
    rng = np.random.default_rng(0)
    y = np.arange(m) % 3
    X = 0.3 * rng.standard_normal((m, d))
    X[:, :3] += 2 * np.eye(3)[y]
    return X, y


class TestScale:
    @pytest.mark.parametrize(
        ("dtype", "weights"),
        [(np.float64, [1e-140, 1e-60, 1e-18, 1e18, 1e60, 1e140]), (np.float32, [1e-14, 1e-8, 1e8, 1e14])],
    )
    def test_a_common_weight_only_scales_alpha(self, backend, dtype, weights):
        """With lambda scaled along, assignments and features are those of weight 1: no norm is too small or large."""
        X, y = three_classes()
        X = X.astype(dtype)
        net, Z = rn.build(X, y, n_layers=3, lam=500.0)
        expected = net.assign(X)
        assert expected.max(axis=1).mean() > 0.9
        for weight in weights:
            weighted, features = rn.build(X, y, n_layers=3, lam=500.0 * weight, sample_weight=np.full(len(y), weight))
            allowed = 1e-3 if dtype == np.float32 else 1e-9
            np.testing.assert_allclose(features, Z, atol=allowed)
            np.testing.assert_allclose(weighted.assign(X), expected, atol=allowed)

    def test_signals(self, backend):
        rng = np.random.default_rng(0)
        y = np.arange(24) % 4
        X = rng.standard_normal((4, 10, 6))[y] + 0.3 * rng.standard_normal((24, 10, 6))
        net, Z = rn.build(X, y, n_layers=2, lam=50.0)
        for weight in (1e-100, 1e100):
            weighted, features = rn.build(X, y, n_layers=2, lam=50.0 * weight, sample_weight=np.full(24, weight))
            np.testing.assert_allclose(features, Z, atol=1e-9)
            np.testing.assert_allclose(weighted.assign(X), net.assign(X), atol=1e-9)

    @pytest.mark.parametrize(("dtype", "weight"), [(np.float32, 2.0**60), (np.float64, 2.0**510)])
    def test_weights_that_make_residual_norms_vanish_are_refused(self, backend, dtype, weight):
        X, y = three_classes()
        with pytest.raises(ValueError, match=r"sample_weight makes alpha_j .* vanish in float\d\d; expected smaller"):
            rn.build(X.astype(dtype), y, n_layers=1, epsilon_sq=1e-4, sample_weight=np.full(len(y), weight))


def poisoned(net, where, value):
    """The network with one number of its operators replaced."""
    operators = net.operators
    arrays = {"dense": operators.dense.copy(), "factors": operators.factors.copy()}
    name, index = where
    arrays[name][index] = value
    return dataclasses.replace(net, _operators=dataclasses.replace(operators, **arrays))


class TestOperatorsThatAreNotFinite:
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("m", [1, 5, 40])
    @pytest.mark.parametrize("shape", [(3,), (30,), (4, 9), (12, 6)], ids=str)
    def test_make_features_nan(self, backend, shape, m, value):
        """In every operator, whether or not a sample's class makes use of it; in the first layer or the last."""
        rng = np.random.default_rng(0)
        y = np.arange(60) % 6
        X = 3 * rng.standard_normal((6, *shape))[y] + rng.standard_normal((60, *shape))
        net, _ = rn.build(X, y, n_layers=2, lam=1e4)
        assert np.isfinite(net.transform(X[:m])).all()
        ops = net.operators
        places = [("dense", (layer, slot, -1, -1, -1)) for layer in (0, 1) for slot in range(ops.dense.shape[1])]
        places += [("factors", (layer, -1, -1, c)) for layer in (0, 1) for c in range(0, ops.factors.shape[3], 7)]
        for where in places:
            broken = poisoned(net, where, value)
            assert np.isnan(broken.transform(X[:m])).all(), where
            assert np.isnan(broken.assign(X[:m])).all(), where
            assert np.isfinite(net.transform(X[:m])).all()
