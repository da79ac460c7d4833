"""The unit of measurement of the samples says nothing: the same data in tesla and in femtotesla give the same network.

A scale by a power of two changes exponents alone, so results are equal to the last bit as long as no number becomes
subnormal. Any other scale rounds every number once more, by at most half a unit eps of its own: the relative error of
the input. One natural step amplifies it by at most kappa = 1 + 2 (1 + lambda) or so where gates are not one-hot; the
networks below run with lambda = 1 and 1000 eps is allowed.
"""

from __future__ import annotations

import numpy as np
import pytest

import redunet as rn
from redunet import CosineNeighbors, NearestSubspace

SHAPES = [(24, 5), (12, 3, 8), (12, 3, 7), (8, 2, 4, 5)]


def samples(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=shape)
    if np.dtype(dtype).kind == "c":
        X = X + 1j * rng.normal(size=shape)
    return X.astype(dtype), np.arange(shape[0]) % 2


def scaled(X, exponent):
    """X times 2^exponent, exactly."""
    parts = np.ldexp(X.view(X.real.dtype), exponent)
    return parts.view(X.dtype)


def exponents(dtype):
    """Powers of two that keep samples normal: at both ends of the range squares overflow or vanish."""
    info = np.finfo(dtype)
    return (info.minexp + 16, info.minexp // 2, -27, 33, info.maxexp // 2, info.maxexp - 5)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_powers_of_two_change_no_bit(backend, shape, dtype):
    X, y = samples(shape, dtype)
    X[np.abs(X) < 1e-3] = 0  # nothing becomes subnormal
    net, Z = rn.build(X, y, n_layers=2)
    for exponent in exponents(dtype):
        other, W = rn.build(scaled(X, exponent), y, n_layers=2)
        np.testing.assert_array_equal(W, Z)
        np.testing.assert_array_equal(other.rates.rate, net.rates.rate)
        np.testing.assert_array_equal(net.transform(scaled(X, exponent)), net.transform(X))
        np.testing.assert_array_equal(net.assign(scaled(X, exponent)), net.assign(X))


@pytest.mark.parametrize("options", [{"eta": "search"}, {"momentum": True}, {"sample_weight": True}], ids=str)
def test_powers_of_two_change_no_bit_with_options(backend, options):
    X, y = samples((20, 4), "float64")
    if "sample_weight" in options:
        options = {"sample_weight": np.arange(20) / 7 + 1}
    _, Z = rn.build(X, y, n_layers=3, **options)
    _, W = rn.build(scaled(X, -900), y, n_layers=3, **options)
    np.testing.assert_array_equal(W, Z)


@pytest.mark.parametrize(
    ("dtype", "scales"), [("float32", [1e-9, 1e-15, 1e-30, 1e30]), ("float64", [1e-9, 1e-21, 1e-290, 1e290])]
)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_other_units_change_rounding_only(backend, shape, dtype, scales):
    X, y = samples(shape, dtype)
    net, Z = rn.build(X, y, n_layers=1, lam=1)
    tolerance = 1000 * np.finfo(dtype).eps
    for scale in scales:
        other, W = rn.build(X * X.dtype.type(scale), y, n_layers=1, lam=1)
        np.testing.assert_allclose(W, Z, rtol=0, atol=tolerance)
        np.testing.assert_allclose(other.rates.delta, net.rates.delta, rtol=0, atol=tolerance * net.rates.rate[0])
        np.testing.assert_allclose(net.transform(X * X.dtype.type(scale)), Z, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_subnormal_samples_are_scaled_from_the_numbers_that_they_are(backend, dtype):
    """Multiples of the smallest number: 3 and 4 of it make a sample (0.6, 0.8)."""
    smallest = np.finfo(dtype).smallest_subnormal
    X = (np.array([[3, 4], [-4, 3], [0, 1], [0, 0]]) * smallest).astype(dtype)
    _, Z = rn.build(X, [0, 1, 0, 1], n_layers=1, eta=0)
    expected = np.array([[0.6, 0.8], [-0.8, 0.6], [0, 1], [0, 0]])
    np.testing.assert_allclose(Z, expected, rtol=0, atol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("asked", ["float32", "complex64"])
@pytest.mark.parametrize("exponent", [-1060, -300, 300, 1010])
def test_double_samples_are_scaled_before_they_become_single(backend, asked, exponent):
    X, y = samples((12, 3, 6), "float64")
    _, Z = rn.build(X, y, n_layers=2, dtype=asked)
    net, W = rn.build(scaled(X, exponent), y, n_layers=2, dtype=asked)
    tolerance = 0 if exponent != -1060 else 1e-3  # what becomes subnormal keeps 14 bits or more of its largest
    np.testing.assert_allclose(W, Z, rtol=0, atol=tolerance)
    np.testing.assert_array_equal(net.transform(scaled(X, exponent)), W)


@pytest.mark.parametrize("dtype", [np.float16, np.int8, np.uint64, bool])
def test_other_numbers_in_other_units(backend, dtype):
    counts = np.random.default_rng(0).integers(0, 2, (10, 4)).astype(dtype) + np.eye(10, 4).astype(dtype)
    y = np.arange(10) % 2
    _, Z = rn.build(counts, y, n_layers=1)
    _, W = rn.build(counts.astype(np.float64) * 2.0**-80, y, n_layers=1, dtype=Z.dtype)
    np.testing.assert_array_equal(W, Z)
    if dtype is np.float16:  # which has subnormal numbers below 6e-5
        _, W = rn.build(counts * np.float16(2.0**-20), y, n_layers=1)
        np.testing.assert_array_equal(W, Z)


def test_mapped_samples_and_pieces(backend, tmp_path, monkeypatch):
    X, y = samples((30, 3, 8), "float64")
    _, Z = rn.build(X, y, n_layers=2)
    np.save(tmp_path / "X.npy", scaled(X, -600))
    monkeypatch.setattr("redunet.transforms.cyclic.CHUNK_BYTES", 500)
    _, W = rn.build(np.load(tmp_path / "X.npy", mmap_mode="r"), y, n_layers=2)
    np.testing.assert_array_equal(W, Z)


def test_one_unit_a_sample(backend):
    X, y = samples((16, 4), "float64")
    units = np.random.default_rng(1).integers(-1000, 1000, 16)
    _, Z = rn.build(X, y, n_layers=2)
    _, W = rn.build(np.ldexp(X, units[:, None]), y, n_layers=2)
    np.testing.assert_array_equal(W, Z)


class TestClassifiers:
    @pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
    @pytest.mark.parametrize("shape", [(40, 6), (12, 2, 5), (12, 2, 3, 4)], ids=str)
    @pytest.mark.parametrize("make", [lambda: NearestSubspace(2), lambda: CosineNeighbors(3)])
    def test_of_any_norm(self, make, shape, dtype):
        Z, y = samples(shape, dtype)
        new, _ = samples(shape, dtype, seed=1)
        expected = make().fit(Z, y).predict(new)
        assert len(set(expected)) == 2
        for exponent in exponents(dtype):
            np.testing.assert_array_equal(make().fit(scaled(Z, exponent), y).predict(new), expected)
            np.testing.assert_array_equal(make().fit(Z, y).predict(scaled(new, exponent)), expected)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("shape", [(12, 2, 5), (12, 2, 3, 4)], ids=str)
    def test_of_any_norm_and_shift(self, shape, dtype):
        Z, y = samples(shape, dtype)
        classifier = NearestSubspace(2).fit(Z, y)
        expected = classifier.predict_all_shifts(Z)
        for exponent in exponents(dtype):
            np.testing.assert_array_equal(classifier.predict_all_shifts(scaled(Z, exponent)), expected)
            assert classifier.score_all_shifts(scaled(Z, exponent), y) == classifier.score_all_shifts(Z, y)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_subnormal_features_have_the_rank_that_they_had(self, dtype):
        """A line in 20 dimensions, rounded to multiples of the smallest number, is a line still."""
        rng = np.random.default_rng(0)
        line = np.outer(rng.uniform(1, 2, 30), rng.normal(size=20))
        for multiple in (1e3, 1e2):
            Z = (line * multiple * float(np.finfo(dtype).smallest_subnormal)).astype(dtype)
            bases = NearestSubspace(5).fit(Z, np.zeros(30)).bases_
            assert bases[0].shape == (20, 1)

    def test_samples_of_many_norms_at_once(self):
        Z, y = samples((40, 6), "float64")
        units = np.random.default_rng(2).integers(-1000, 1000, 40)
        classifier = NearestSubspace(2).fit(Z, y)
        mixed = np.ldexp(Z, units[:, None])
        np.testing.assert_array_equal(classifier.predict(mixed), classifier.predict(Z))
        for scores, expected in (
            (classifier.scores(mixed), classifier.scores(Z)),
            (
                NearestSubspace(2).fit(Z.reshape(40, 2, 3), y).scores_all_shifts(mixed.reshape(40, 2, 3))[:, 1],
                NearestSubspace(2).fit(Z.reshape(40, 2, 3), y).scores_all_shifts(Z.reshape(40, 2, 3))[:, 1],
            ),
        ):
            with np.errstate(over="ignore"):
                exact = np.ldexp(expected, 2 * units[:, None])
            np.testing.assert_allclose(scores, exact, rtol=1e-12)  # infinite and zero beyond the range
            assert np.isinf(scores).any()
            assert (scores == 0).any()

    def test_scikit_learn_faces(self):
        pytest.importorskip("sklearn")
        from redunet.sklearn import NearestSubspaceClassifier, ReduNetClassifier, ReduNetTransformer

        X, y = samples((30, 6), "float64")
        weights = np.random.default_rng(3).uniform(1, 2, 30)
        for exponent in exponents("float64"):
            units = scaled(X, exponent)
            lighter = scaled(weights, -exponent // 2)  # of subspaces; in a network weights count as samples do
            for make, others in (
                (lambda: NearestSubspaceClassifier(2), lighter),
                (lambda: ReduNetClassifier(2, n_components=2, affine=False), weights),
            ):
                expected = make().fit(X, y, weights)
                found = make().fit(units, y, others)
                np.testing.assert_array_equal(found.predict(units), expected.predict(X))
                decisions = expected.decision_function(units)
                assert not np.isnan(decisions).any()
                signs = np.sign(expected.decision_function(X))
                np.testing.assert_array_equal(np.sign(decisions)[decisions != 0], signs[decisions != 0])
            for affine in (False, True):  # with it a column may have a unit of its own
                Z = ReduNetTransformer(2, affine=affine).fit_transform(X, y)
                np.testing.assert_array_equal(ReduNetTransformer(2, affine=affine).fit_transform(units, y), Z)
        mixed = np.ldexp(X, [0, 9, -1000, 1000, 3, -30])
        np.testing.assert_array_equal(ReduNetTransformer(2).fit(mixed, y).transform(mixed), Z)

    def test_pictures_of_cosines(self):
        axes = pytest.importorskip("matplotlib.figure").Figure().add_subplot()
        for dtype in ("float64", "complex128"):
            Z, y = samples((8, 2, 3), dtype)
            for shifts in (False, True):
                axes.clear()
                expected = rn.plot.cosines(Z, y, ax=axes, shifts=shifts, colorbar=False).images[0].get_array()
                for exponent in exponents(dtype):
                    axes.clear()
                    rn.plot.cosines(scaled(Z, exponent), y, ax=axes, shifts=shifts, colorbar=False)
                    np.testing.assert_array_equal(axes.images[0].get_array(), expected)


def test_front_ends_commute_with_the_unit():
    images, _ = samples((3, 2, 8, 9), "float32")
    lift = rn.RandomLift(4, 3, random_state=0).fit(images)
    for exponent in (-100, 100):
        np.testing.assert_array_equal(lift(scaled(images, exponent)), scaled(lift(images), exponent))
        polar = rn.to_polar(scaled(images[:, 0].copy(), exponent), n_channels=3, n_angles=6)
        np.testing.assert_array_equal(polar, scaled(rn.to_polar(images[:, 0], n_channels=3, n_angles=6), exponent))
