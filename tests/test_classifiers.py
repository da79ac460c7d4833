"""Nearest subspace and cosine neighbours, against brute force and scikit-learn.

All-shift scores and brute force differ by rounding alone, with ||z|| = ||u|| = 1 (unit eps / 2): three FFTs
err by about 3 log2(N) units in norm, the sum over C channels by at most C, and brute force by at most d, in
each of r correlations c. Squared, |delta(c^2)| <= 2 |c| |delta c| and sum |c| <= sqrt(r): `bound` below.
"""

import re
import tracemalloc

import numpy as np
import pytest

import redunet as rn
from redunet import CosineNeighbors, NearestSubspace
from redunet.classifiers import base

SHAPES = [(3, 8), (2, 9), (1, 1), (2, 4, 6), (3, 5, 3), (1, 1, 7)]


def clouds(shape, dtype, m=30, k=3, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(m) % k
    X = rng.normal(size=(k, *shape))[y] + 0.5 * rng.normal(size=(m, *shape))
    if np.dtype(dtype).kind == "c":
        X = X + 1j * rng.normal(size=X.shape)
    X /= np.linalg.norm(X.reshape(m, -1), axis=1).reshape(-1, *[1] * len(shape))
    return X.astype(dtype), y


def rolled(Z, stride):
    """Every shift as a copy, (m, S, ...)."""
    axes = tuple(range(1, Z.ndim - 1)) if Z.ndim > 2 else ()
    shifts = np.ndindex(*[-(-n // stride) for n in Z.shape[2:]])
    axes = tuple(a + 1 for a in axes)
    return np.stack([np.roll(Z, [stride * s for s in shift], axis=axes) for shift in shifts], 1)


def bound(shape, r, dtype):
    N, d = np.prod(shape[1:]), np.prod(shape)
    per_correlation = 4 * (3 * np.log2(N + 1) + shape[0]) + d  # a complex operation rounds up to 4 real ones
    return (2 * np.sqrt(r) * per_correlation + 2 * d) * np.finfo(dtype).eps / 2


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_all_shifts_equal_brute_force(shape, stride, dtype):
    Z, y = clouds(shape, dtype)
    classifier = NearestSubspace(2).fit(Z, y)
    copies = rolled(Z, stride)
    brute = np.stack([classifier.scores(copies[:, s]) for s in range(copies.shape[1])], axis=1)
    scores = classifier.scores_all_shifts(Z, stride=stride)
    assert scores.dtype == np.float64
    assert scores.shape == brute.shape
    atol = bound(shape, 2, "float64")
    assert atol < 1e-10
    np.testing.assert_allclose(scores, brute, rtol=0, atol=atol)
    clear = np.abs(np.diff(np.sort(brute, axis=2)[:, :, :2], axis=2))[:, :, 0] > 1e-4
    labels = classifier.predict_all_shifts(Z, stride=stride)
    assert (labels == classifier.classes_[brute.argmin(axis=2)])[clear].all()
    assert classifier.score_all_shifts(Z, y, stride=stride) == np.mean(labels == y[:, None])


def test_all_shifts_in_pieces(monkeypatch):
    Z, y = clouds((2, 9), "float64")
    classifier = NearestSubspace(2).fit(Z, y)
    whole = classifier.scores_all_shifts(Z)
    monkeypatch.setattr(base, "CHUNK_BYTES", 1)
    np.testing.assert_allclose(classifier.scores_all_shifts(Z), whole, rtol=0, atol=1e-14)


@pytest.mark.parametrize("m", [6, 40])
def test_subspaces_are_those_of_the_svd(m):
    rng = np.random.default_rng(1)
    Z = rng.normal(size=(m, 12)) * np.geomspace(1, 0.1, 12)
    basis = NearestSubspace(3).fit(Z, np.zeros(m)).bases_[0]
    U = np.linalg.svd(Z.T, full_matrices=False)[0][:, :3]
    np.testing.assert_allclose(basis @ basis.T, U @ U.T, atol=1e-10)
    np.testing.assert_allclose(basis.T @ basis, np.eye(3), atol=1e-12)


def test_scores_are_squared_distances():
    Z, y = clouds((7,), "float64")
    classifier = NearestSubspace(2).fit(Z, y)
    for j, U in enumerate(classifier.bases_):
        residual = Z - Z @ U @ U.T
        np.testing.assert_allclose(classifier.scores(Z)[:, j], (residual**2).sum(axis=1), atol=1e-13)
    assert (classifier.scores(np.stack([U[:, 0] for U in classifier.bases_])) >= 0).all()


def test_dimensions_never_fill_the_space_and_never_exceed_the_rank():
    Z = np.eye(4)[[0, 1, 2, 3, 0, 0]]
    classifier = NearestSubspace(10).fit(Z, [0, 0, 0, 0, 1, 1])
    assert [U.shape for U in classifier.bases_] == [(4, 3), (4, 1)]
    assert NearestSubspace(1).fit(np.zeros((2, 3)), [0, 0]).bases_[0].shape == (3, 0)


@pytest.mark.parametrize("labels", [["b", "a", "c"], [True, False, True], [-1, 5, 9], [0.5, 2.5, 1.5]])
@pytest.mark.parametrize("make", [lambda: NearestSubspace(2), lambda: CosineNeighbors(1)])
def test_labels_of_any_dtype(make, labels):
    Z = np.eye(3)
    classifier = make().fit(Z, labels)
    assert classifier.predict(Z).tolist() == labels
    assert classifier.score(Z, labels) == 1.0
    assert classifier.classes_.tolist() == sorted(set(labels))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_neighbours_are_those_of_scikit_learn(dtype):
    neighbors = pytest.importorskip("sklearn.neighbors")
    Z, y = clouds((5,), dtype, m=200, k=4)
    ours = CosineNeighbors(5).fit(Z[:150], y[:150]).predict(Z[150:])
    theirs = neighbors.KNeighborsClassifier(5, metric="cosine").fit(Z[:150], y[:150]).predict(Z[150:])
    assert (ours == theirs).all()


def test_neighbours_of_complex_and_zero_vectors_and_ties():
    classifier = CosineNeighbors(9).fit(np.array([[1j], [1], [-1j]]), [2, 1, 2])
    assert classifier.predict(np.array([[1j]])).tolist() == [2]
    assert CosineNeighbors(2).fit(np.eye(2), [1, 0]).predict([[0.0, 0.0], [1.0, 1.0]]).tolist() == [0, 0]


def test_errors():
    Z = np.eye(3)
    with pytest.raises(ValueError, match=r"n_components is 0; expected an integer >= 1"):
        NearestSubspace(0)
    with pytest.raises(TypeError, match=r"n_neighbors is 1.5 of type float; expected an integer"):
        CosineNeighbors(1.5)
    with pytest.raises(ValueError, match=r"this NearestSubspace is not fitted; call fit first"):
        NearestSubspace().predict(Z)
    with pytest.raises(ValueError, match=r"y has shape \(3, 1\); expected labels \(3,\)"):
        NearestSubspace().fit(Z, np.zeros((3, 1)))
    with pytest.raises(ValueError, match=r"y has shape \(2,\); expected labels \(3,\)"):
        CosineNeighbors().fit(Z, [0, 1])
    with pytest.raises(ValueError, match=r"Z holds NaN or infinity; expected finite numbers"):
        NearestSubspace().fit(Z * np.nan, [0, 1, 2])
    classifier = NearestSubspace().fit(Z, [0, 1, 2])
    with pytest.raises(ValueError, match=r"Z has shape \(2, 4\); expected \(m, 3\), like the features"):
        classifier.scores(np.ones((2, 4)))
    with pytest.raises(ValueError, match=r"Z has shape \(3, 3\); expected signals \(m, C, T\) or images"):
        classifier.scores_all_shifts(Z)
    signals = NearestSubspace().fit(np.ones((2, 1, 3)), [0, 1])
    with pytest.raises(ValueError, match=r"stride is 0; expected an integer >= 1"):
        signals.scores_all_shifts(np.ones((2, 1, 3)), stride=0)


@pytest.mark.parametrize("fitted", ["float32", "float64", "complex64"])
@pytest.mark.parametrize("asked", ["float32", "float64", "complex128"])
def test_all_shifts_of_mixed_dtypes(fitted, asked):
    shape = (3, 4, 5)
    Z, y = clouds(shape, fitted)
    classifier = NearestSubspace(2).fit(Z, y)
    Z = clouds(shape, asked, seed=1)[0]
    copies = rolled(Z, 1)
    brute = np.stack([classifier.scores(copies[:, s]) for s in range(20)], axis=1)
    atol = bound(shape, 2, "float32")
    np.testing.assert_allclose(classifier.scores_all_shifts(Z), brute, rtol=0, atol=atol)


@pytest.mark.parametrize("r", [1, 2])
def test_all_shifts_follow_the_order_of_shifts(r):
    Z, y = clouds((2, 5, 4), "float64", m=6, k=2)
    classifier = NearestSubspace(r).fit(Z, y)
    copies = rn.shifts(Z, stride=2)
    brute = np.stack([classifier.scores(copies[:, s]) for s in range(copies.shape[1])], axis=1)
    np.testing.assert_allclose(
        classifier.scores_all_shifts(Z, stride=2), brute, rtol=0, atol=bound((2, 5, 4), r, "float64")
    )


def test_memory_is_bounded_with_many_channels(monkeypatch):
    Z, y = clouds((64, 32), "float32", m=400, k=2)
    classifier = NearestSubspace(1).fit(Z, y)
    monkeypatch.setattr(base, "CHUNK_BYTES", 1 << 18)
    classifier.predict_all_shifts(Z[:2])
    tracemalloc.start()
    classifier.predict_all_shifts(Z)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    labels = 2 * 400 * 32 * 8  # the pieces and the whole, as 64-bit numbers
    checked = Z.size  # the mask of finite entries
    assert peak < labels + checked + 2 * (1 << 18)


@pytest.mark.parametrize("m", [12, 60])
def test_known_subspaces_are_recovered(m):
    rng = np.random.default_rng(3)
    truth = [np.linalg.qr(rng.normal(size=(40, 3)) + 1j * rng.normal(size=(40, 3)))[0] for _ in range(2)]
    coefficients = rng.normal(size=(2, m, 3))
    Z = np.concatenate([c @ U.T for c, U in zip(coefficients, truth, strict=True)])
    y = np.repeat(["p", "q"], m)
    classifier = NearestSubspace(10).fit(Z, y)
    for U, V in zip(truth, classifier.bases_, strict=True):
        assert V.shape == (40, 3)
        np.testing.assert_allclose(V @ V.conj().T, U @ U.conj().T, atol=1e-12)
    assert classifier.score(Z, y) == 1.0


def test_weak_directions_are_orthonormal():
    rng = np.random.default_rng(4)
    Z = rng.normal(size=(12, 4)) @ (np.array([1, 1e-2, 1e-4, 1e-6])[:, None] * rng.normal(size=(4, 40)))
    U = NearestSubspace(4).fit(Z, np.zeros(12)).bases_[0]
    np.testing.assert_allclose(U.T @ U, np.eye(4), rtol=0, atol=40 * np.finfo("d").eps)


def test_rounding_adds_no_dimension():
    rng = np.random.default_rng(5)
    Z = (rng.normal(size=(20, 2)) @ rng.normal(size=(2, 12))).astype("float32")
    assert NearestSubspace(10).fit(Z, np.zeros(20)).bases_[0].shape == (12, 2)


@pytest.mark.parametrize("scale", [2.0**-500, 2.0**500])
def test_the_scale_of_features_changes_nothing(scale):
    Z, y = clouds((6,), "float64")
    U, V = NearestSubspace(2).fit(Z, y).bases_, NearestSubspace(2).fit(Z * scale, y).bases_
    assert all((a == b).all() for a, b in zip(U, V, strict=True))
    expected = CosineNeighbors(3).fit(Z, y).predict(Z)
    assert (CosineNeighbors(3).fit(Z * scale, y).predict(Z / scale) == expected).all()


def test_features_without_a_subspace():
    zeros = np.zeros((2, 1, 3))
    classifier = NearestSubspace(2).fit(zeros, [0, 1])
    assert (classifier.scores_all_shifts(zeros + 1) == 3).all()
    assert NearestSubspace(1).fit([[1.0], [2.0]], [0, 1]).scores([[2.0]]).tolist() == [[4.0, 4.0]]


def test_neighbours_of_real_and_complex_features():
    Z, y = clouds((5,), "complex128", m=60)
    for fitted, asked in [(Z[:40], Z[40:].real), (Z[:40].real, Z[40:])]:
        expected = CosineNeighbors(3).fit(fitted.astype(complex), y[:40]).predict(asked.astype(complex))
        assert (CosineNeighbors(3).fit(fitted, y[:40]).predict(asked) == expected).all()


def test_equally_similar_neighbours_and_pieces(monkeypatch):
    classifier = CosineNeighbors(3).fit([[1.0, 0.0]] * 6, [2, 2, 1, 1, 1, 1])
    assert classifier.predict([[1.0, 0.0], [0.0, 0.0]]).tolist() == [2, 2]
    Z, y = clouds((5,), "float64", m=60)
    whole = CosineNeighbors(3).fit(Z, y).predict(Z)
    monkeypatch.setattr(base, "CHUNK_BYTES", 1)
    assert (CosineNeighbors(3).fit(Z, y).predict(Z) == whole).all()


@pytest.mark.parametrize("classifier", [NearestSubspace(1), CosineNeighbors(1)])
def test_errors_of_samples_and_labels(classifier):
    Z = np.ones((2, 1, 3))
    name = type(classifier).__name__
    methods = ["predict", "score", "scores", "scores_all_shifts", "predict_all_shifts", "score_all_shifts"]
    for method in methods:
        if hasattr(classifier, method):
            y = ([0, 1],) if method.startswith("score") and not method.startswith("scores") else ()
            with pytest.raises(ValueError, match=f"this {name} is not fitted; call fit first"):
                getattr(type(classifier)(), method)(Z, *y)
    with pytest.raises(ValueError, match=r"Z has shape \(3,\); expected \(m, d\), \(m, C, T\) or"):
        classifier.fit(np.ones(3), [0, 1, 2])
    with pytest.raises(TypeError, match=r"Z has dtype <U1; expected real or complex numbers"):
        classifier.fit([["a"]], [0])
    with pytest.raises(ValueError, match=r"y holds a NaN or infinite label; expected a label"):
        classifier.fit(Z, [0, np.nan])
    with pytest.raises(TypeError, match=r"y holds labels that cannot be compared with one another"):
        classifier.fit(Z, np.array([0, "a"], dtype=object))
    classifier.fit(Z, [0, 1])
    with pytest.raises(ValueError, match=r"Z holds NaN or infinity; expected finite numbers"):
        classifier.predict(Z * np.inf)
    for y in (0, [0], [[0], [1]], [0, 1, 1]):
        message = rf"y has shape {re.escape(str(np.shape(y)))}; expected labels \(2,\)"
        with pytest.raises(ValueError, match=message):
            classifier.score(Z, y)
        if isinstance(classifier, NearestSubspace):
            with pytest.raises(ValueError, match=message):
                classifier.score_all_shifts(Z, y)


def test_repr():
    assert repr(NearestSubspace(3)) == "NearestSubspace(n_components=3)"
    assert repr(CosineNeighbors(3)) == "CosineNeighbors(n_neighbors=3)"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_subspaces_that_are_close(dtype):
    """Residuals are 3e-4 of the norm: their squares would drown in single precision's 1e-7 ||z||^2."""
    rng = np.random.default_rng(0)
    U = np.linalg.qr(rng.normal(size=(60, 6)))[0]
    first, second = U[:, :3], U[:, :3] * np.cos(3e-4) + U[:, 3:] * np.sin(3e-4)
    Z = np.concatenate([rng.normal(size=(50, 3)) @ first.T, rng.normal(size=(50, 3)) @ second.T])
    Z = (Z / np.linalg.norm(Z, axis=1, keepdims=True)).astype(dtype).reshape(-1, 3, 20)
    y = np.repeat([0, 1], 50)
    classifier = NearestSubspace(3).fit(Z, y)
    assert classifier.score(Z, y) == 1.0
    assert (classifier.predict_all_shifts(Z)[:, 0] == y).all()
