"""Minimum incremental coding length, against two coding lengths of every class and what must not change a score.

Scores of the package and of `micl_oracle` differ by rounding alone, by `micl_oracle.rounding` at most.
"""

from __future__ import annotations

import os
import pickle
import re
import runpy
from decimal import Decimal, localcontext
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from micl_oracle import length, rounding, scores

import redunet as rn
from redunet.classifiers import MICL, base
from redunet.classifiers import micl as module
from redunet.classifiers.validation import held_out

FIXTURES = Path(__file__).parent / "fixtures"
OURS = ["d4_k3", "d9_k4_few"]
FILES = [FIXTURES / "micl" / f"{name}.npz" for name in OURS]
if os.environ.get("REDUNET_SHARED"):
    FILES += sorted((Path(os.environ["REDUNET_SHARED"]) / "fixtures" / "compress").glob("micl_*.npz"))
MEANS = ["zero", "estimate"]


def poly2(A, B):
    return (A @ B.T + 1) ** 2


def rbf03(A, B):
    return np.exp(-0.3 * ((A[:, None] - B[None]) ** 2).sum(axis=2))


def clouds(seed=0, sizes=(9, 14, 6), d=4, new=8):
    """Classes around means of their own, and new samples: X, y, T."""
    random = np.random.default_rng(seed)
    means = random.standard_normal((len(sizes), d))
    y = np.repeat(np.arange(len(sizes)), sizes)
    X, T = (
        means[labels] + 0.6 * random.standard_normal((len(labels), d)) for labels in (y, np.arange(new) % len(sizes))
    )
    return X, y, T


def orthogonal(seed, d):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def ref(request):
    with np.load(request.param) as arrays:
        return {name: arrays[name] for name in arrays.files}


def test_fixtures(backend, ref):
    X, y, T, dim = ref["X"], ref["y"], ref["T"], int(ref["kernel_dim"])
    for q, epsilon_sq in enumerate(ref["epsilon_sq"].tolist()):
        atol = rounding(X, T, epsilon_sq)
        assert atol < 1e-6

        def check(name, tolerance, q=q, epsilon_sq=epsilon_sq, **settings):
            found = MICL(epsilon_sq, **settings).fit(X, y).scores(T)
            np.testing.assert_allclose(found, ref[f"{name}_{q}"], rtol=0, atol=tolerance, err_msg=name)

        check("rate", atol, mean="zero", criterion="rate")
        for mean in MEANS:
            check(mean, atol, mean=mean)
            check(f"local_{mean}", atol, mean=mean, n_neighbors=int(ref["n_neighbors"]))
            for name, kernel, options in (
                ("poly2", poly2, {"kernel": "poly", "gamma": 1.0, "degree": 2, "coef0": 1.0}),
                ("rbf03", rbf03, {"kernel": "rbf", "gamma": 0.3}),
            ):
                tolerance = rounding(X, T, epsilon_sq, kernel=kernel, dim=dim)
                assert tolerance < 1e-3
                check(f"kernel_{name}_{mean}", tolerance, mean=mean, kernel_dim=dim, **options)


@pytest.mark.parametrize("name", OURS)
def test_the_script_still_makes_the_fixtures(name):
    make = runpy.run_path(str(FIXTURES / "make_micl.py"))
    assert list(make["CASES"]) == OURS
    again = make["arrays"](name)
    with np.load(FIXTURES / "micl" / f"{name}.npz") as stored:
        assert again.keys() == set(stored.files)
        for key, value in again.items():
            X, T, least = again["X"], again["T"], again["epsilon_sq"].min()
            options = {"kernel": poly2, "dim": int(again["kernel_dim"])} if "poly2" in key else {}
            np.testing.assert_allclose(value, stored[key], rtol=0, atol=rounding(X, T, least, **options), err_msg=key)


def test_fixtures_are_small_and_all_of_them_are_tested():
    assert sorted(path.stem for path in (FIXTURES / "micl").glob("*.npz")) == sorted(OURS)
    assert sum(path.stat().st_size for path in (FIXTURES / "micl").glob("*.npz")) < 30_000


def test_a_length_is_the_coding_length():
    """The oracle of this file and the one of the rates agree on what L is."""
    X, _, _ = clouds()
    for mean in MEANS:
        ours = rn.coding_length(X, epsilon_sq=0.3, mean=mean)
        assert length(X @ X.T, X.shape[1], 0.3, mean=mean) == pytest.approx(ours, abs=rounding(X, X, 0.3))


SHAPES = [((9, 14, 6), 4), ((1, 5, 2), 1), ((3, 4), 7), ((1, 1, 1), 5), ((20, 2), 3)]


@pytest.mark.parametrize("criterion", ["length", "rate"])
@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize(("sizes", "d"), SHAPES)
def test_scores_are_differences_of_coding_lengths(sizes, d, mean, criterion):
    """Fewer samples than dimensions, and more; one sample a class."""
    X, y, T = clouds(1, sizes, d)
    for epsilon_sq in (0.02, 1.0, 300.0):
        settings = {"mean": mean, "criterion": criterion}
        atol = rounding(X, T, epsilon_sq)
        expected = scores(X, y, T, epsilon_sq, **settings)
        np.testing.assert_allclose(MICL(epsilon_sq, **settings).fit(X, y).scores(T), expected, rtol=0, atol=atol)
        linear = MICL(epsilon_sq, kernel="linear", **settings).fit(X, y)
        np.testing.assert_allclose(linear.scores(T), expected, rtol=0, atol=atol)
        if criterion == "length":
            np.testing.assert_allclose(module.scores(X, y, T, epsilon_sq=epsilon_sq, mean=mean), expected, atol=atol)
            local = MICL(epsilon_sq, mean=mean, n_neighbors=max(sizes)).fit(X, y)
            whole = MICL(epsilon_sq, mean=mean, priors="equal").fit(X, y)
            np.testing.assert_allclose(local.scores(T), whole.scores(T), rtol=0, atol=atol)


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("n", [1, 2, 5, 9, 100])
def test_neighbours_of_classes_that_have_fewer(n, mean):
    X, y, T = clouds(2)
    found = MICL(0.3, mean=mean, n_neighbors=n).fit(X, y).scores(T)
    expected = scores(X, y, T, 0.3, mean=mean, n_neighbors=n)
    np.testing.assert_allclose(found, expected, rtol=0, atol=rounding(X, T, 0.3))


SETTINGS = [
    {},
    {"mean": "zero"},
    {"criterion": "rate"},
    {"n_neighbors": 4},
    {"n_neighbors": 4, "mean": "zero"},
    {"kernel": "rbf", "gamma": 0.3},
    {"kernel": "poly", "gamma": 0.5, "degree": 2, "mean": "zero"},
]


def bound(X, T, epsilon_sq, settings):
    kernels = {"rbf": rbf03, "poly": lambda A, B: (0.5 * A @ B.T + 1) ** 2}
    kernel = kernels.get(settings.get("kernel"))
    # Two scores, each with the rounding of samples that were mapped: twice, and d more terms of inner products, twice.
    return 4 * (rounding(X, T, epsilon_sq) if kernel is None else rounding(X, T, epsilon_sq, kernel=kernel))


@given(seed=st.integers(0, 10**6), d=st.integers(1, 6), exponent=st.integers(-2, 2))
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_orthogonal_maps_and_the_order_of_samples_change_nothing(settings, seed, d, exponent):
    X, y, T = clouds(seed, (5, 8, 3), d)
    epsilon_sq = 10.0**exponent
    atol = bound(X, T, epsilon_sq, settings)
    expected = MICL(epsilon_sq, **settings).fit(X, y).scores(T)
    Q = orthogonal(seed, d)
    moved = MICL(epsilon_sq, **settings).fit(X @ Q, y).scores(T @ Q)
    np.testing.assert_allclose(moved, expected, rtol=0, atol=atol)
    order = np.random.default_rng(seed).permutation(len(X))
    shuffled = MICL(epsilon_sq, **settings).fit(X[order], np.array(["c", "a", "b"])[y[order]]).scores(T[::-1])
    np.testing.assert_allclose(shuffled[::-1], expected[:, [1, 2, 0]], rtol=0, atol=atol)


@given(seed=st.integers(0, 10**6), unit=st.floats(1e-3, 1e3))
@pytest.mark.parametrize("settings", [s for s in SETTINGS if "kernel" not in s] + [{"kernel": "rbf"}], ids=str)
def test_a_unit_of_measurement_changes_nothing(settings, seed, unit):
    """(X, eps) and (c X, c eps); the bounded rbf kernel has no unit if its gamma is a scale."""
    X, y, T = clouds(seed)
    by = 1.0 if "kernel" in settings else unit**2
    expected = MICL(0.5, **settings).fit(X, y).scores(T)
    found = MICL(0.5 * by, **settings).fit(X * unit, y).scores(T * unit)
    np.testing.assert_allclose(found, expected, rtol=0, atol=4 * rounding(X, T, 0.5))


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_single_precision_is_computed_in_double(settings):
    """But for the inner products with neighbours: d + 2 roundings of a, eps^2-scaled, in either of two log dets."""
    X, y, T = (array.astype(np.float32) if array.dtype.kind == "f" else array for array in clouds(3))
    found = MICL(0.5, **settings).fit(X, y).scores(T)
    expected = MICL(0.5, **settings).fit(X.astype(float), y).scores(T.astype(float))
    assert found.dtype == np.float64
    if "n_neighbors" not in settings:
        np.testing.assert_array_equal(found, expected)
    else:
        atol = rounding(X, T, 0.5, unit=np.finfo(np.float32).eps)
        np.testing.assert_allclose(found, expected, rtol=0, atol=atol)
        assert np.abs(found - expected).max() > 0


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_pieces_pickles_and_repetition(settings, monkeypatch):
    X, y, T = clouds(4)
    fitted = MICL(0.5, **settings).fit(X, y)
    expected = fitted.scores(T)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.scores(T), expected)
    np.testing.assert_array_equal(again.predict(T), fitted.classes_[expected.argmin(axis=1)])
    assert again.score(T, again.predict(T)) == 1.0
    monkeypatch.setattr(base, "CHUNK_BYTES", 1)  # sample by sample: products in another order
    np.testing.assert_allclose(fitted.scores(T), expected, rtol=0, atol=bound(X, T, 0.5, settings))


def test_many_samples_are_a_regularised_gaussian():
    """Repeated r times: 1/2 y* C^-1 y + 1/2 log det C - 1/2 tr S C^-1, C = S + eps^2/D I, and the rest falls as 1/r."""
    X, _, T = clouds(5, (7,), 3)
    epsilon_sq, d = 0.4, 3
    mu = X.mean(axis=0)
    S = (X - mu).T @ (X - mu) / len(X)
    C = S + epsilon_sq / d * np.eye(d)
    y = T - mu
    gaussian = ((y @ np.linalg.inv(C)) * y).sum(axis=1) / 2
    gaussian += np.linalg.slogdet(C * d / epsilon_sq)[1] / 2 - np.trace(S @ np.linalg.inv(C)) / 2
    rest = [
        np.abs(MICL(epsilon_sq).fit(np.tile(X, (r, 1)), np.zeros(7 * r)).scores(T)[:, 0] - gaussian).max()
        for r in (100, 1000)
    ]
    assert rest[0] < 1
    assert rest[1] == pytest.approx(rest[0] / 10, rel=0.1)


def test_large_classes_lose_nothing_to_the_difference_of_log_dets():
    """Two long thin dimensions and 100 000 samples of integers, whose scatter is exact, against 50 decimals.

    With c the condition of A = I + a S of order N = 2, the inverse of A is off by 4 N u c, which is divided by n and
    multiplied by n/2; the log det of I + (I - A^-1)/n by 4 N u, times n/2; the other log det and the form by 4 N u c.
    Two log dets apart would be off by n c.
    """
    random = np.random.default_rng(0)
    n, epsilon_sq, x = 100_000, 1e-4, (7, 6)
    first = random.integers(-1000, 1001, n)
    X = np.stack([first, first + random.integers(-1, 2, n)], axis=1)
    s, t, r = (int(u) for u in (X[:, 0] @ X[:, 0], X[:, 1] @ X[:, 1], X[:, 0] @ X[:, 1]))
    with localcontext() as context:
        context.prec = 50

        def whole(m, s, t, r):
            a = Decimal(2) / (m * Decimal(epsilon_sq))
            return Decimal(m + 2) / 2 * ((1 + a * s) * (1 + a * t) - a * a * r * r).ln()

        expected = float(whole(n + 1, s + x[0] ** 2, t + x[1] ** 2, r + x[0] * x[1]) - whole(n, s, t, r))
    condition = np.linalg.cond(np.eye(2) + 2 / ((n + 1) * epsilon_sq) * np.array([[s, r], [r, t]], float))
    found = MICL(epsilon_sq, mean="zero").fit(X, np.zeros(n)).scores([x])[0, 0]
    assert abs(found - expected) < 4 * 2 * 2.0**-52 * (3 * condition + n / 2 * 1.01)


def test_equal_scores_are_the_first_class_and_priors_decide():
    X, _, T = clouds(6, (5,), 3)
    twice, y = np.vstack([X, X]), np.repeat(["b", "a"], 5)
    for settings in SETTINGS:
        assert MICL(0.5, **settings).fit(twice, y).predict(T).tolist() == ["a"] * len(T)
        assert MICL(0.5, priors=[0.4, 0.6], **settings).fit(twice, y).predict(T).tolist() == ["b"] * len(T)


def test_priors():
    X, y, T = clouds(7)
    equal = MICL(0.5, priors="equal").fit(X, y).scores(T)
    shares = np.bincount(y) / len(y)
    np.testing.assert_allclose(MICL(0.5).fit(X, y).scores(T), equal - np.log(shares), rtol=1e-14)
    np.testing.assert_allclose(MICL(0.5, priors=shares).fit(X, y).scores(T), equal - np.log(shares), rtol=1e-14)
    local = MICL(0.5, n_neighbors=3).fit(X, y).scores(T)
    np.testing.assert_array_equal(MICL(0.5, n_neighbors=3, priors="equal").fit(X, y).scores(T), local)
    rate = MICL(0.5, criterion="rate").fit(X, y).scores(T)
    with_priors = MICL(0.5, criterion="rate", priors=shares).fit(X, y).scores(T)
    np.testing.assert_allclose(with_priors, rate - np.log(shares) / (len(y) + 1), rtol=1e-13)


def test_probabilities_are_a_softmax():
    X, y, T = clouds(8)
    for settings, nats in (({}, 1), ({"n_neighbors": 3}, 1), ({"criterion": "rate"}, len(y) + 1)):
        fitted = MICL(0.5, **settings).fit(X, y)
        likely = np.exp(-nats * fitted.scores(T))
        found = fitted.probabilities(T)
        np.testing.assert_allclose(found, likely / likely.sum(axis=1, keepdims=True), rtol=1e-10)
        np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-14)
    far = MICL(1e-9).fit(X, y).probabilities(1e6 * T)  # increments of thousands of nats
    np.testing.assert_allclose(far.sum(axis=1), 1, rtol=1e-14)


def test_zero_rows_repeated_samples_and_one_class():
    X, _, T = clouds(9)
    zeros = MICL(0.5, mean="zero").fit(np.zeros((3, 4)), [0, 0, 0])
    expected = scores(np.zeros((3, 4)), [0, 0, 0], T, 0.5, mean="zero")
    np.testing.assert_allclose(zeros.scores(T), expected, rtol=0, atol=rounding(X, T, 0.5))
    same = np.vstack([X[:1]] * 5 + [X[1:2]] * 2)
    y = np.arange(7) // 5
    for n_neighbors in (None, 2):
        found = MICL(0.5, n_neighbors=n_neighbors).fit(same, y).scores(X)
        expected = scores(same, y, X, 0.5, mean="estimate", n_neighbors=n_neighbors)
        np.testing.assert_allclose(found, expected, rtol=0, atol=rounding(same, X, 0.5))


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_extreme_distortions_are_finite(settings):
    X, y, T = clouds(10)
    for epsilon_sq in (1e-10, 1e300):
        assert np.isfinite(MICL(epsilon_sq, **settings).fit(X, y).scores(T)).all()


def test_samples_in_the_span_of_few_have_no_negative_form():
    """|x - mu|^2 - a y* (I + a K)^-1 y is zero but for rounding, which is far above eps^2."""
    X, y, _ = clouds(10, (6, 5), 12)
    assert np.isfinite(MICL(1e-30, mean="zero").fit(X, y).scores(X)).all()


def test_far_from_the_origin():
    """About an estimated mean a shift by c leaves the log dets as they are: only log(eps^2 + |mu|^2) moves."""
    X, y, T = clouds(11)
    for settings in ({}, {"n_neighbors": 4}):
        shifted = MICL(0.5, **settings).fit(X + 1e5, y).scores(T + 1e5)
        expected = scores(X, y, T, 0.5, mean="estimate", n_neighbors=settings.get("n_neighbors"))
        for t, x in enumerate(T):
            for j in range(3):
                Z = X[y == j]
                if settings:
                    Z = Z[np.argsort(((Z - x) ** 2).sum(axis=1))[:4]]
                for c, sign in ((0.0, -1), (1e5, 1)):
                    before, after = Z.mean(axis=0) + c, np.vstack([Z, x]).mean(axis=0) + c
                    expected[t, j] += sign * 2 * np.log((0.5 + after @ after) / (0.5 + before @ before))  # D/2 = 2
        # Samples are off by u c, inner products of about |x| terms by that: a rounding unit of 1e5 u.
        atol = rounding(X, T, 0.5, unit=1e5 * np.finfo(float).eps)
        np.testing.assert_allclose(shifted, expected, rtol=0, atol=atol)


class TestKernels:
    def test_functions_and_matrices(self):
        X, y, T = clouds(12)
        for kernel, named in (
            (poly2, {"kernel": "poly", "gamma": 1, "degree": 2}),
            (rbf03, {"kernel": "rbf", "gamma": 0.3}),
        ):
            atol = 2 * rounding(X, T, 0.5, kernel=kernel)
            expected = MICL(0.5, **named).fit(X, y).scores(T)
            np.testing.assert_allclose(MICL(0.5, kernel=kernel).fit(X, y).scores(T), expected, rtol=0, atol=atol)
            given = MICL(0.5, kernel="precomputed", kernel_dim=4).fit(kernel(X, X), y)
            diagonal = np.diagonal(kernel(T, T))
            np.testing.assert_allclose(given.scores(kernel(T, X), diagonal=diagonal), expected, rtol=0, atol=atol)
            labels = given.predict(kernel(T, X), diagonal=diagonal)
            np.testing.assert_array_equal(labels, expected.argmin(axis=1))
            assert given.score(kernel(T, X), labels, diagonal=diagonal) == 1.0
        constant = given.scores(kernel(T, X))  # k(x, x) = 1
        np.testing.assert_allclose(constant, expected, rtol=0, atol=atol)

    def test_gamma_is_a_scale(self):
        X, y, T = clouds(13)
        gamma = 1 / (4 * X.var())
        expected = MICL(0.5, kernel="rbf", gamma=gamma).fit(X, y).scores(T)
        np.testing.assert_allclose(MICL(0.5, kernel="rbf").fit(X, y).scores(T), expected, rtol=1e-12)

    def test_distances_far_from_the_origin(self):
        X, y, T = clouds(21)
        expected = MICL(0.5, kernel="rbf", gamma=0.3).fit(X, y).scores(T)
        shifted = MICL(0.5, kernel="rbf", gamma=0.3).fit(X + 1e7, y).scores(T + 1e7)
        atol = rounding(X, T, 0.5, kernel=rbf03, unit=1e7 * np.finfo(float).eps)  # of the samples
        np.testing.assert_allclose(shifted, expected, rtol=0, atol=atol)

    def test_many_samples_have_a_diagonal(self):
        X, y, T = clouds(14, new=150)
        found = MICL(0.5, kernel=poly2).fit(X, y).scores(T)
        one_by_one = [MICL(0.5, kernel=poly2).fit(X, y).scores(x[None])[0] for x in T]
        np.testing.assert_allclose(found, one_by_one, rtol=0, atol=2 * rounding(X, T, 0.5, kernel=poly2))

    def test_errors(self):
        X, y, T = clouds(15)
        for kernel, message in (
            (lambda A, B: A @ B.T * np.inf, "kernel gives NaN or infinity; expected finite numbers"),
            (
                lambda A, B: A,
                "kernel gives a matrix of shape (9, 4) and dtype float64; expected real numbers of shape (9, 9)",
            ),
            (lambda A, B: -A @ B.T, "gives matrices that are not positive semidefinite, or epsilon_sq is too small"),
        ):
            with np.errstate(invalid="ignore"), pytest.raises(ValueError, match=re.escape(message)):
                MICL(0.01, kernel=kernel).fit(X, y).scores(T)
        with pytest.raises(ValueError, match=r"Z has shape \(29, 4\); expected \(m, m\): kernel is 'precomputed'"):
            MICL(kernel="precomputed", kernel_dim=4).fit(X, y)
        given = MICL(kernel="precomputed", kernel_dim=4).fit(X @ X.T, y)
        with pytest.raises(ValueError, match=r"diagonal is None, and k\(z, z\) differs among the features of fit"):
            given.scores(T @ X.T)
        with pytest.raises(ValueError, match=r"diagonal has shape \(7,\); expected \(8,\) finite numbers"):
            given.scores(T @ X.T, diagonal=np.ones(7))
        with pytest.raises(TypeError, match=r"diagonal has dtype .*; expected real numbers"):
            given.scores(T @ X.T, diagonal=["a"] * 8)
        with pytest.raises(ValueError, match="diagonal is given and kernel is None; expected None, or 'precomputed'"):
            MICL().fit(X, y).scores(T, diagonal=np.ones(8))


class TestCrossValidation:
    @pytest.mark.parametrize("settings", [*SETTINGS, {"kernel": "precomputed", "kernel_dim": 4}], ids=str)
    def test_one_pass_is_a_fit_for_every_fold_and_distortion(self, settings):
        X, y, _ = clouds(16, (9, 14, 6, 1), 4)  # the last class has no code in the first fold
        X = X + np.random.default_rng(0).standard_normal(X.shape)  # so that there are errors
        given = settings.get("kernel") == "precomputed"
        Z = rbf03(X, X) if given else X
        fitted = MICL("cv", cv=3, **settings).fit(Z, y)
        fold = np.concatenate([np.arange(n) % 3 for n in (9, 14, 6, 1)])
        errors, losses = [], []
        for epsilon_sq in fitted.candidates_.tolist():
            wrong, loss = 0, 0.0
            for left_out in range(3):
                train, test = fold != left_out, fold == left_out
                some = (Z[np.ix_(train, train)], Z[np.ix_(test, train)]) if given else (Z[train], Z[test])
                one = MICL(epsilon_sq, **settings).fit(some[0], y[train])
                wrong += (one.predict(some[1]) != y[test]).sum()
                known = y[test] < len(one.classes_)
                with np.errstate(divide="ignore"):
                    loss -= np.log(one.probabilities(some[1])[known, y[test][known]]).sum()
            errors.append(wrong / len(y))
            losses.append(loss)
        np.testing.assert_allclose(fitted.cv_errors_, errors, rtol=1e-12)
        assert len(set(errors)) > 1
        best = min(range(len(errors)), key=lambda e: (errors[e], losses[e]))
        assert fitted.epsilon_sq_ == fitted.candidates_[best]
        again = MICL(fitted.epsilon_sq_, **settings).fit(Z, y)
        np.testing.assert_array_equal(fitted.scores(Z[:4]), again.scores(Z[:4]))

    def test_candidates(self):
        X, y, _ = clouds(17)
        fitted = MICL("cv", candidates=[3, 1, 1, 0.1]).fit(X, y)
        assert fitted.candidates_.tolist() == [0.1, 1, 3]
        within = sum(((X[y == j] - X[y == j].mean(axis=0)) ** 2).sum() for j in range(3)) / len(X)
        for settings in ({}, {"kernel": "linear"}, {"n_neighbors": 3}):
            found = MICL("cv", **settings).fit(X, y).candidates_
            np.testing.assert_allclose(found, within * np.geomspace(1e-4, 10, 11), rtol=1e-12)
        np.testing.assert_array_equal(MICL("cv").fit(np.ones((4, 2)), [0, 0, 1, 1]).candidates_, module.CANDIDATES)
        about_zero = MICL("cv", mean="zero").fit(X, y).candidates_
        np.testing.assert_allclose(about_zero, (X**2).sum() / len(X) * np.geomspace(1e-4, 10, 11), rtol=1e-12)

    def test_classes_of_one_sample(self):
        X, y, _ = clouds(18, (1, 6, 2))
        fitted = MICL("cv", priors=[0.2, 0.5, 0.3]).fit(X, y)
        assert (fitted.cv_errors_ >= 1 / 9).all()  # held out, it has no class left
        losses = held_out(fitted._code, fitted.candidates_, X, X, y, 5, fitted._classes, fitted._prior_lengths)[1]
        assert np.isfinite(losses).all()  # it is left out of these, which would say nothing otherwise
        with pytest.raises(
            ValueError, match="epsilon_sq is 'cv' and y has one sample of every class; expected two of some"
        ):
            MICL("cv").fit(X[:3], [0, 1, 2])


def test_errors():
    X, y, T = clouds(19)
    for settings, message in (
        ({"epsilon_sq": 0}, "epsilon_sq is 0; expected a finite number > 0"),
        ({"epsilon_sq": "loo"}, "epsilon_sq is 'loo'; expected one of 'cv'"),
        ({"mean": "median"}, "mean is 'median'; expected one of 'zero', 'estimate'"),
        ({"criterion": "gain"}, "criterion is 'gain'; expected one of 'length', 'rate'"),
        ({"kernel": "cosine"}, "kernel is 'cosine'; expected one of 'linear', 'poly', 'rbf', 'precomputed'"),
        ({"gamma": "auto"}, "gamma is 'auto'; expected one of 'scale'"),
        ({"priors": "flat"}, "priors is 'flat'; expected one of 'empirical', 'equal'"),
        ({"priors": [0.5, 0.6]}, "priors sum to 1.1; expected 1"),
        ({"priors": [1.5, -0.5]}, "priors is [1.5, -0.5]; expected finite numbers > 0"),
        ({"candidates": []}, "candidates has shape (0,); expected positive numbers in one axis"),
        ({"cv": 1}, "cv is 1; expected an integer >= 2"),
        ({"n_neighbors": 3, "kernel": "rbf"}, "n_neighbors is 3 and kernel 'rbf'; expected one of the two to be None"),
        ({"n_neighbors": 3, "criterion": "rate"}, "n_neighbors is 3 and criterion 'rate'; expected None, or 'length'"),
        ({"kernel": "precomputed"}, "kernel_dim is None and kernel 'precomputed'; expected an integer >= 1"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            MICL(**settings)
    with pytest.raises(ValueError, match=r"priors has shape \(2,\); expected \(3,\): one per class"):
        MICL(priors=[0.5, 0.5]).fit(X, y)
    with pytest.raises(TypeError, match="Z has dtype complex128; expected real numbers"):
        MICL().fit(X + 1j, y)
    with pytest.raises(TypeError, match="Z has dtype complex128; expected real numbers"):
        MICL().fit(X, y).scores(T + 1j)
    with pytest.raises(ValueError, match="this MICL is not fitted; call fit first"):
        MICL().scores(T)
    with pytest.raises(ValueError, match="epsilon_sq is too small, or samples too large: their ratio exceeds double"):
        MICL(1e-300).fit(X * 1e30, y).scores(T)
    with pytest.raises(ValueError, match="epsilon_sq is too small for double precision"):
        # I + a S of two dimensions that are one: beside 2^134 the identity is nothing, and the pivots are 2^134 and 0.
        MICL(2.0**-134, mean="zero").fit([[1, 1], [1, 1], [0, 0], [1, 0]], [0, 0, 0, 1]).scores([[1.0, 1.0]])
    assert repr(MICL(2.0, mean="zero", n_neighbors=3)) == "MICL(2.0, mean='zero', n_neighbors=3)"


def test_images_are_vectors():
    X, y, T = clouds(20, d=6)
    table = MICL(0.5).fit(X, y).scores(T)
    np.testing.assert_array_equal(MICL(0.5).fit(X.reshape(-1, 1, 2, 3), y).scores(T.reshape(-1, 1, 2, 3)), table)
    with pytest.raises(ValueError, match=r"Z has shape \(8, 6\); expected \(m, 1, 2, 3\), like the features"):
        MICL(0.5).fit(X.reshape(-1, 1, 2, 3), y).scores(T)
