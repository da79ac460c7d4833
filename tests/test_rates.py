"""Coding length, rates and their reduction against the formulas, exact rational arithmetic and closed forms.

Determinants of I + alpha Z Z* lose at most (n + m) u kappa in the log det, kappa <= 1 + alpha ||Z||^2; every
case here has kappa (n + m) < 1e4, which makes 1e-12.
"""

from __future__ import annotations

from fractions import Fraction
from math import log

import numpy as np
import pytest
from oracle import construct, one_hot

import redunet as rn

TOLERANCE = 1e-12


def logdet(A):
    sign, value = np.linalg.slogdet(A)
    assert sign.real > 0
    return value


def exact_logdet(A):
    """Logarithm of the determinant of a matrix of fractions, by elimination without rounding."""
    A = [list(row) for row in A]
    det = Fraction(1)
    for i in range(len(A)):
        det *= A[i][i]
        for r in range(i + 1, len(A)):
            factor = A[r][i] / A[i][i]
            A[r] = [a - factor * b for a, b in zip(A[r], A[i], strict=True)]
    return log(det.numerator) - log(det.denominator)


class TestCodingLength:
    @pytest.mark.parametrize("shape", [(30, 4), (4, 30), (7, 7), (1, 5), (5, 1), (1, 1)], ids=str)
    @pytest.mark.parametrize("complex_valued", [False, True])
    def test_is_the_formula(self, backend, shape, complex_valued):
        rng = np.random.default_rng(0)
        W = rng.standard_normal(shape) + 0.5
        if complex_valued:
            W = W + 1j * rng.standard_normal(shape)
        m, d = shape
        for epsilon_sq in (0.5, 3.0):
            expected = (m + d) / 2 * logdet(np.eye(d) + d / (m * epsilon_sq) * W.T @ W.conj())
            assert rn.coding_length(W, epsilon_sq=epsilon_sq) == pytest.approx(expected, rel=TOLERANCE)
            mu = W.mean(axis=0)
            spread = (m + d) / 2 * logdet(np.eye(d) + d / (m * epsilon_sq) * (W - mu).T @ (W - mu).conj())
            expected = spread + d / 2 * log(1 + (abs(mu) ** 2).sum() / epsilon_sq)
            got = rn.coding_length(W, epsilon_sq=epsilon_sq, mean="estimate")
            assert got == pytest.approx(expected, rel=TOLERANCE)

    @pytest.mark.parametrize("shape", [(3, 2), (2, 4), (5, 3)], ids=str)
    def test_is_exact_on_integers(self, backend, shape):
        W = np.random.default_rng(1).integers(-3, 4, shape)
        m, d = shape
        mu = [Fraction(int(total), m) for total in W.sum(axis=0)]
        for centred in (False, True):
            rows = [[int(w) - (mu[c] if centred else 0) for c, w in enumerate(row)] for row in W]
            M = [
                [Fraction(a == b) + Fraction(2 * d, m) * sum(row[a] * row[b] for row in rows) for b in range(d)]
                for a in range(d)
            ]
            expected = (m + d) / 2 * exact_logdet(M)
            if centred:
                expected += d / 2 * log(1 + 2 * sum(x * x for x in mu))
            got = rn.coding_length(W, epsilon_sq=0.5, mean="estimate" if centred else "zero")
            assert got == pytest.approx(expected, rel=TOLERANCE)

    def test_of_orthogonal_vectors(self, backend):
        """c I in d dimensions: (d + d)/2 * d log(1 + c^2/eps^2)."""
        for d in (1, 3, 8):
            got = rn.coding_length(2 * np.eye(d), epsilon_sq=0.25)
            assert got == pytest.approx(d * d * log(1 + 4 / 0.25), rel=TOLERANCE)

    def test_of_equal_vectors_costs_only_their_mean(self, backend):
        W = np.tile([3.0, 4.0], (6, 1))
        got = rn.coding_length(W, epsilon_sq=0.5, mean="estimate", unit="bits")
        assert got == pytest.approx(np.log2(1 + 25 / 0.5), rel=TOLERANCE)

    def test_far_from_the_origin_the_estimated_mean_is_shorter(self, backend):
        W = np.random.default_rng(0).standard_normal((30, 4)) + 3
        assert rn.coding_length(W, epsilon_sq=0.01, mean="estimate") < rn.coding_length(W, epsilon_sq=0.01) - 30

    def test_in_bits(self, backend):
        W = np.random.default_rng(0).standard_normal((5, 3))
        for mean in ("zero", "estimate"):
            nats, bits = (rn.coding_length(W, epsilon_sq=0.1, mean=mean, unit=unit) for unit in ("nats", "bits"))
            assert bits == pytest.approx(nats / log(2), rel=1e-15)

    def test_leaves_its_argument_alone(self, backend):
        W = np.ones((3, 2))
        rn.coding_length(W, epsilon_sq=0.1, mean="estimate")
        np.testing.assert_array_equal(W, 1)

    def test_takes_integers_and_single_precision(self, backend):
        W = np.random.default_rng(0).integers(-9, 9, (6, 3))
        expected = rn.coding_length(W.astype(float), epsilon_sq=0.1, mean="estimate")
        assert rn.coding_length(W, epsilon_sq=0.1, mean="estimate") == expected
        single = rn.coding_length(W.astype(np.float32), epsilon_sq=0.1, mean="estimate")
        assert single == pytest.approx(expected, rel=1e-4)


class TestRates:
    @pytest.mark.parametrize("shape", [(12, 4), (3, 9), (9, 3, 5), (5, 8, 4), (7, 2, 3, 4)], ids=str)
    @pytest.mark.parametrize("dft_norm", ["ortho", "backward"])
    @pytest.mark.parametrize("kind", ["real", "complex", "soft", "weighted"])
    def test_are_the_formula(self, backend, shape, dft_norm, kind):
        rng = np.random.default_rng(2)
        Z = rng.standard_normal(shape)
        if kind == "complex":
            Z = Z + 1j * rng.standard_normal(shape)
        y = rng.dirichlet(np.ones(3), shape[0]) if kind == "soft" else np.arange(shape[0]) % 3
        weights = rng.uniform(0.5, 2, shape[0]) if kind == "weighted" else None
        Pi = y if kind == "soft" else one_hot(y)
        options = {"epsilon_sq": 0.7, "dft_norm": dft_norm}
        R, *parts = construct(Z, Pi, etas=(), lam=0, weights=weights, normalize=False, **options).rates[0]
        options["sample_weight"] = weights
        whole = rn.rate_reduction(Z, y, **options)
        assert isinstance(whole, rn.RateReduction)
        assert [type(number) for number in whole] == [float] * 3
        np.testing.assert_allclose(whole, (R - sum(parts), R, sum(parts)), rtol=TOLERANCE, atol=TOLERANCE * R)
        each = rn.rate_reduction(Z, y, per_class=True, **options)
        assert each[:2] == whole[:2]
        np.testing.assert_allclose(each.class_rate, parts, rtol=TOLERANCE)
        assert rn.coding_rate(Z, **options) == pytest.approx(R, rel=TOLERANCE)

    def test_of_orthogonal_classes(self, backend):
        """n copies of each axis: R = d/2 log(1 + 1/eps^2), R_c = 1/2 log(1 + d/eps^2)."""
        for d, n in ((2, 1), (3, 4), (5, 2), (4, 7)):
            reduction = rn.rate_reduction(np.repeat(np.eye(d), n, axis=0), np.repeat(np.arange(d), n), epsilon_sq=0.2)
            R, R_c = d / 2 * log(1 + 1 / 0.2), log(1 + d / 0.2) / 2
            np.testing.assert_allclose(reduction, (R - R_c, R, R_c), rtol=TOLERANCE)

    def test_of_an_impulse(self, backend):
        """All of its frequencies have size 1/sqrt(N): R = 1/2 log(1 + 1/(N eps^2)), without 1/N for "backward"."""
        for shape in ((1, 1, 6), (1, 1, 7), (1, 1, 4, 5), (1, 1, 3, 4)):
            Z = np.zeros(shape)
            Z[(0,) * len(shape)] = 1
            N = Z.size
            assert rn.coding_rate(Z, epsilon_sq=0.1) == pytest.approx(log(1 + 10 / N) / 2, rel=TOLERANCE)
            backward = rn.coding_rate(Z, epsilon_sq=0.1, dft_norm="backward")
            assert backward == pytest.approx(log(1 + 10) / 2, rel=TOLERANCE)

    def test_of_a_constant(self, backend):
        """All of it at frequency 0: R = 1/(2N) log(1 + 1/eps^2); the alternating signal has the same at N/2."""
        for N in (4, 6):
            for Z in (np.ones(N), (-1.0) ** np.arange(N)):
                got = rn.coding_rate((Z / np.sqrt(N)).reshape(1, 1, N), epsilon_sq=0.1)
                assert got == pytest.approx(log(11) / (2 * N), rel=TOLERANCE)

    def test_of_a_cosine(self, backend):
        """Half of its square norm at a frequency, half at its mirror: the kept one counts twice."""
        N = 9
        Z = np.cos(2 * np.pi * 2 * np.arange(N) / N) * np.sqrt(2 / N)
        got = rn.coding_rate(Z.reshape(1, 1, N), epsilon_sq=0.1)
        assert got == pytest.approx(2 * log(1 + 10 / 2) / (2 * N), rel=TOLERANCE)

    def test_are_those_of_the_network(self, backend):
        X = np.random.default_rng(0).standard_normal((20, 3, 5))
        y = np.arange(20) % 2
        net, Z = rn.build(X, y, n_layers=3)
        last = rn.rate_reduction(Z, y, per_class=True)
        assert last.rate == pytest.approx(net.rates.rate[-1], rel=TOLERANCE)
        np.testing.assert_allclose(last.class_rate, net.rates.per_class[-1], rtol=TOLERANCE)

    def test_in_bits(self, backend):
        Z = np.random.default_rng(0).standard_normal((8, 3))
        y = [0, 1] * 4
        np.testing.assert_allclose(
            rn.rate_reduction(Z, y, unit="bits"),
            np.array(rn.rate_reduction(Z, y)) / log(2),
            rtol=1e-14,
            atol=1e-14,
        )
        nats, bits = (rn.rate_reduction(Z, y, per_class=True, unit=unit).class_rate for unit in ("nats", "bits"))
        np.testing.assert_allclose(bits, nats / log(2), rtol=1e-14)
        assert rn.coding_rate(Z, unit="bits") == pytest.approx(rn.coding_rate(Z) / log(2), rel=1e-14)

    def test_use_the_smaller_side(self, backend):
        """m < d: log det(I + alpha Z* Z) of m x m. 2000 dimensions and 2 samples would else take seconds."""
        Z = np.random.default_rng(0).standard_normal((2, 2000)) / 30
        alpha = 2000 / (2 * 0.1)
        expected = logdet(np.eye(2) + alpha * Z @ Z.T) / 2
        assert rn.coding_rate(Z) == pytest.approx(expected, rel=TOLERANCE)

    @pytest.mark.parametrize("shape", [(9, 4), (3, 7), (6, 2, 5)], ids=str)
    @pytest.mark.parametrize(("dtype", "huge", "tiny"), [(np.float64, 1e140, 1e-140), (np.float32, 1e15, 1e-15)])
    def test_of_huge_and_tiny_features(self, backend, shape, dtype, huge, tiny):
        """R of c Z grows by log c per unit of rank, and is alpha ||c Z||^2 / (2 N) where 1 + alpha ||c Z||^2 is 1.

        For C/2 < m < C a backend may take the larger side, where I vanishes beside a huge singular alpha G.
        """
        Z = np.random.default_rng(0).standard_normal(shape).astype(dtype)
        y = np.arange(shape[0]) % 2
        small = (Z * dtype(tiny)).astype(float)
        expected = shape[1] / (shape[0] * 0.1) * (small**2).sum() / (2 * np.prod(shape[2:]))
        allowed = 1e-5 if dtype == np.float32 else 1e-13
        assert rn.coding_rate(Z * dtype(tiny)) == pytest.approx(expected, rel=allowed, abs=0)
        reduction = rn.rate_reduction(Z * dtype(tiny), y)
        assert reduction.class_rate == pytest.approx(expected, rel=allowed, abs=0)
        assert abs(reduction.delta) <= allowed * expected
        assert rn.rate_reduction(Z * dtype(0), y) == (0, 0, 0)
        np.testing.assert_array_equal(rn.rate_reduction_gradient(Z * dtype(0), y), 0)
        rank = min(shape[:2])
        grown = rn.coding_rate(Z * dtype(huge)) - rn.coding_rate(Z * dtype(huge / 10))
        assert grown == pytest.approx(rank * log(10), rel=1e-4 if dtype == np.float32 else 1e-10)

    @pytest.mark.parametrize("dtype", [np.float64, np.complex128])
    @pytest.mark.parametrize("shape", [(9, 4), (3, 40), (6, 2, 5)], ids=str)
    def test_of_features_whose_squares_overflow_is_an_error(self, backend, shape, dtype):
        Z = np.ones(shape, dtype) * np.asarray(np.sqrt(np.finfo(dtype).max) * 4, dtype)
        y = np.arange(shape[0]) % 2
        place = r"^(all classes|class [01]), frequency \d: "
        message = place + r"I \+ alpha G is not positive definite; epsilon_sq is too small, or features too large, for"
        for function in (rn.rate_reduction, rn.rate_reduction_gradient):
            with pytest.raises(np.linalg.LinAlgError, match=message):
                function(Z, y)
        with pytest.raises(np.linalg.LinAlgError, match=message):
            rn.coding_rate(Z)

    def test_fall_with_the_distortion(self, backend):
        Z = np.random.default_rng(0).standard_normal((9, 4))
        rates = [rn.coding_rate(Z, epsilon_sq=epsilon_sq) for epsilon_sq in (1e-6, 0.1, 1, 10, 1e6)]
        assert (np.diff(rates) < 0).all()

    def test_have_the_documented_default_distortion(self, backend):
        Z = np.random.default_rng(0).standard_normal((9, 4))
        assert rn.coding_rate(Z) == rn.coding_rate(Z, epsilon_sq=0.1)
        assert rn.rate_reduction(Z, [0, 1, 1] * 3) == rn.rate_reduction(Z, [0, 1, 1] * 3, epsilon_sq=0.1)
