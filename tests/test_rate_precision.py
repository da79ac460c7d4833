"""Rates of single-precision features against the same features in double precision, by singular values.

Promised of the rate reduction: 1e-4 of it or, where that is more, 1e-6 of the rate, at every epsilon_sq. Low-rank
features are the hard ones: alpha ||G|| u is large there, and where all samples of a class are alike, rounding errors
have one sign.
"""

from __future__ import annotations

import numpy as np
import pytest

import redunet as rn


@pytest.fixture(autouse=True)
def _precise(request):
    if request.node.callspec.params.get("backend") == "cuda":
        pytest.skip("the CUDA engine keeps to single precision (docs/gpu.md)")


def exact(Z, y, *, epsilon_sq, weights=None, dft_norm="ortho"):
    """(Delta R, R) by singular values: log det(I + a V* V) = sum log(1 + a s^2) has no rounded identity in it."""
    Z = np.asarray(Z, complex if np.iscomplexobj(Z) else float)
    m, C = Z.shape[:2]
    axes = tuple(range(2, Z.ndim))
    V = np.fft.fftn(Z, axes=axes, norm="ortho") if axes else Z
    V = np.moveaxis(V.reshape(m, C, -1), 2, 0)
    inner = V.shape[0] if dft_norm == "backward" else 1
    Pi = y if np.ndim(y) == 2 else np.eye(int(np.max(y)) + 1)[y]
    weights = np.ones(m) if weights is None else weights

    def rate(omega):
        alpha = C / (omega.sum() * epsilon_sq) * inner
        s = np.linalg.svd(V * np.sqrt(omega)[:, None], compute_uv=False)
        return np.log1p(alpha * s**2).sum() / (2 * V.shape[0])

    total = weights.sum()
    R = rate(weights)
    return R - sum(weights @ p / total * rate(weights * p) for p in Pi.T), R


def assert_right(delta, rate, expected):
    exact_delta, exact_rate = expected
    allowed = max(1e-4 * exact_delta, 1e-6 * exact_rate)
    assert abs(delta - exact_delta) <= allowed, f"{delta} is not {exact_delta}; R = {rate}"
    assert abs(rate - exact_rate) <= max(allowed, 1e-4 * exact_rate)


def low_rank(m, d, rank, seed=0):
    rng = np.random.default_rng(seed)
    Z = rng.standard_normal((m, rank)) @ rng.standard_normal((rank, d))
    return (Z / np.linalg.norm(Z, axis=1, keepdims=True)).astype(np.float32)


def alike(m, d, rank, seed=0):
    """Every sample is one of few."""
    return low_rank(rank, d, rank, seed)[np.arange(m) % rank]


def ordinary(m, d, rank, seed=0):
    return low_rank(m, d, d, seed)


def fading(m, d, rank, seed=0):
    """Channels fall over six decades."""
    Z = np.random.default_rng(seed).standard_normal((m, d)) * np.logspace(0, -6, d)
    return (Z / np.linalg.norm(Z, axis=1, keepdims=True)).astype(np.float32)


FAMILIES = [low_rank, alike, ordinary, fading]
# Within lanes and beyond them, whole and in part; few and many samples a class; classes that are kept as factors.
SHAPES = [(90, 3), (300, 8), (50, 17), (200, 40), (23, 40), (600, 130), (30, 200)]


class TestVectors:
    @pytest.mark.parametrize("epsilon_sq", [100.0, 0.1, 1e-3, 1e-5, 1e-7], ids=str)
    @pytest.mark.parametrize("family", FAMILIES)
    def test_rates(self, backend, family, epsilon_sq):
        for m, d in SHAPES:
            Z, y = family(m, d, 3), np.arange(m) % 3
            expected = exact(Z, y, epsilon_sq=epsilon_sq)
            assert_right(*rn.rate_reduction(Z, y, epsilon_sq=epsilon_sq)[:2], expected)
            assert abs(rn.coding_rate(Z, epsilon_sq=epsilon_sq) - expected[1]) <= 1e-6 * expected[1]

    @pytest.mark.parametrize("epsilon_sq", [0.1, 1e-3, 1e-5], ids=str)
    @pytest.mark.parametrize("family", FAMILIES)
    def test_networks(self, backend, family, epsilon_sq):
        """Of the input, and of the features that come out."""
        for m, d in SHAPES:
            Z, y = family(m, d, 2), np.arange(m) % 2
            for eta in ("auto", 0.1 * m * epsilon_sq / d):
                net, out = rn.build(Z, y, n_layers=2, epsilon_sq=epsilon_sq, eta=eta)
                assert_right(net.rates.delta[2], net.rates.rate[2], exact(out, y, epsilon_sq=epsilon_sq))
            assert_right(net.rates.delta[0], net.rates.rate[0], exact(Z, y, epsilon_sq=epsilon_sq))

    @pytest.mark.parametrize("epsilon_sq", [0.1, 1e-5], ids=str)
    def test_weights_and_soft_membership(self, backend, epsilon_sq):
        rng = np.random.default_rng(1)
        for m, d in SHAPES:
            Z, weights = low_rank(m, d, 3), rng.exponential(size=m) + 0.01
            for y in (np.arange(m) % 3, rng.dirichlet(np.ones(3), m)):
                reduction = rn.rate_reduction(Z, y, epsilon_sq=epsilon_sq, sample_weight=weights)
                assert_right(*reduction[:2], exact(Z, y, epsilon_sq=epsilon_sq, weights=weights))

    def test_complex(self, backend):
        Z = (low_rank(80, 20, 2) + 1j * low_rank(80, 20, 2, seed=1)).astype(np.complex64)
        y = np.arange(80) % 2
        for epsilon_sq in (0.1, 1e-4):
            reduction = rn.rate_reduction(Z, y, epsilon_sq=epsilon_sq)
            assert_right(*reduction[:2], exact(Z, y, epsilon_sq=epsilon_sq))


class TestSignals:
    @pytest.mark.parametrize("dft_norm", ["ortho", "backward"])
    @pytest.mark.parametrize("epsilon_sq", [10.0, 0.1, 1e-4], ids=str)
    @pytest.mark.parametrize("shape", [(40, 5, 12), (25, 20, 9), (12, 40, 6), (30, 3, 5, 4)], ids=str)
    def test_rates(self, backend, shape, epsilon_sq, dft_norm):
        """Positive samples: nearly all of them is at frequency 0, where they are all alike."""
        rng = np.random.default_rng(0)
        Z = (5 + rng.standard_normal(shape)).astype(np.float32)
        Z /= np.sqrt((Z**2).sum(axis=tuple(range(1, Z.ndim)), keepdims=True))
        y = np.arange(len(Z)) % 2
        reduction = rn.rate_reduction(Z, y, epsilon_sq=epsilon_sq, dft_norm=dft_norm)
        assert_right(*reduction[:2], exact(Z, y, epsilon_sq=epsilon_sq, dft_norm=dft_norm))

    def test_small_rates_of_many_channels(self, backend):
        """alpha G is small beside I at every frequency; what it adds must not be rounded away, 40 times over."""
        Z = np.random.default_rng(0).standard_normal((60, 40, 64)).astype(np.float32)
        Z /= np.sqrt((Z**2).sum(axis=(1, 2), keepdims=True))
        y = np.arange(60) % 3
        for epsilon_sq in (0.5, 50.0):
            delta, rate, _ = rn.rate_reduction(Z, y, epsilon_sq=epsilon_sq)
            exact_delta, exact_rate = exact(Z, y, epsilon_sq=epsilon_sq)
            assert abs(rate - exact_rate) <= 2**-24 * exact_rate
            assert abs(delta - exact_delta) <= 2**-24 * exact_rate


class TestConstruction:
    def test_natural_steps_are_those_of_double_precision(self, backend):
        """Every step that double precision takes raises the rate reduction; so it does in single precision."""
        Z, y = low_rank(120, 30, 3), np.arange(120) % 2
        single, _ = rn.build(Z, y, n_layers=6, epsilon_sq=1e-4)
        double, _ = rn.build(Z.astype(float), y, n_layers=6, epsilon_sq=1e-4)
        np.testing.assert_array_equal(single.etas, double.etas)
        assert (np.diff(single.rates.delta) >= -1e-6 * single.rates.rate[0]).all()

    def test_operators_at_conditions_beyond_single_precision(self, backend):
        """I + alpha G of condition 1e8 is no longer definite in single precision; its inverse is still wanted."""
        Z, y = low_rank(60, 24, 2), np.arange(60) % 2
        single, _ = rn.build(Z, y, n_layers=1, epsilon_sq=1e-6, eta=1e-9)
        double, _ = rn.build(Z.astype(float), y, n_layers=1, epsilon_sq=1e-6, eta=1e-9)
        for number in range(3):
            got, expected = (net.operators.to_dense(0, number)[0] for net in (single, double))
            assert np.linalg.norm(got - expected) <= 1e-6 * np.linalg.norm(expected)

    def test_results_do_not_depend_on_threads(self, backend):
        Z = np.random.default_rng(0).standard_normal((400, 6, 1)) * np.ones((400, 6, 40)) + 1e-4
        y = np.arange(400) % 3
        networks = [rn.build(Z.astype(np.float32), y, n_layers=3, epsilon_sq=1e-5, n_threads=n)[0] for n in (1, 2, 5)]
        for net in networks[1:]:
            np.testing.assert_array_equal(net.rates.rate, networks[0].rates.rate)
            np.testing.assert_array_equal(net.operators.dense, networks[0].operators.dense)


def test_coding_length_about_a_mean_far_away(backend):
    """The mean is taken off in double precision: what is left is 1e-5 of it."""
    W = (1000 + 0.01 * np.random.default_rng(0).standard_normal((500, 4))).astype(np.float32)
    for epsilon_sq in (1.0, 1e-6):
        double = rn.coding_length(W.astype(float), epsilon_sq=epsilon_sq, mean="estimate")
        assert rn.coding_length(W, epsilon_sq=epsilon_sq, mean="estimate") == pytest.approx(double, rel=1e-12)
