"""Nearest subspace and cosine neighbours, against brute force and scikit-learn.

All-shift scores and brute force differ by the rounding of one FFT correlation: a few log2(N) units of ||z||^2 = 1.
"""

import numpy as np
import pytest

import redunet as rn
from redunet import CosineNeighbors, NearestSubspace

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
    return np.stack([np.roll(Z, [stride * s for s in shift], axis=tuple(a + 1 for a in axes)) for shift in shifts], 1)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_all_shifts_equal_brute_force(shape, stride, dtype):
    Z, y = clouds(shape, dtype)
    classifier = NearestSubspace(2).fit(Z, y)
    copies = rolled(Z, stride)
    brute = np.stack([classifier.scores(copies[:, s]) for s in range(copies.shape[1])], axis=1)
    scores = classifier.scores_all_shifts(Z, stride=stride)
    assert scores.dtype == np.dtype(dtype).type(0).real.dtype
    assert scores.shape == brute.shape
    N = np.prod(shape)
    np.testing.assert_allclose(scores, brute, rtol=0, atol=8 * (4 + np.log2(N)) * np.finfo(dtype).eps)
    clear = np.abs(np.diff(np.sort(brute, axis=2)[:, :, :2], axis=2))[:, :, 0] > 1e-4
    labels = classifier.predict_all_shifts(Z, stride=stride)
    assert (labels == classifier.classes_[brute.argmin(axis=2)])[clear].all()
    assert classifier.score_all_shifts(Z, y, stride=stride) == np.mean(labels == y[:, None])


def test_all_shifts_in_pieces(monkeypatch):
    Z, y = clouds((2, 9), "float64")
    classifier = NearestSubspace(2).fit(Z, y)
    whole = classifier.scores_all_shifts(Z)
    monkeypatch.setattr(rn.classifiers, "CHUNK_BYTES", 1)
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


def test_repr():
    assert repr(NearestSubspace(3)) == "NearestSubspace(n_components=3)"
    assert repr(CosineNeighbors(3)) == "CosineNeighbors(n_neighbors=3)"
