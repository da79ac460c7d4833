"""The invariant answer: the nearest class over all cyclic shifts, against every shift as a copy.

Scores from spectra and from copies differ by rounding alone, bounded as in test_classifiers.py.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_classifiers import bound, clouds, rolled

import redunet as rn
from redunet import NearestSubspace
from redunet.classifiers import base

DTYPES = ["float32", "float64", "complex64", "complex128"]
shapes = st.tuples(st.integers(1, 3), st.integers(1, 7)) | st.tuples(*[st.integers(1, 4)] * 3)


@given(shapes, st.sampled_from(DTYPES), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_every_shift_has_the_same_label_and_the_smallest_distance(shape, dtype, r, seed):
    Z, y = clouds(shape, dtype, m=12, seed=seed)
    classifier = NearestSubspace(r).fit(Z, y)
    copies = rolled(Z, 1)
    every = np.stack([classifier.scores(copies[:, s]) for s in range(copies.shape[1])], axis=1)
    scores = classifier.scores(Z, shifts="best")
    assert scores.dtype == np.float64
    # Of two classes that tie the second is moved to the first, by at most another bound.
    np.testing.assert_allclose(scores, every.min(axis=1), rtol=0, atol=2 * bound(shape, r, "float64"))
    labels = classifier.predict(Z, shifts="best")
    np.testing.assert_array_equal(labels, classifier.classes_[scores.argmin(axis=1)])
    for s in range(copies.shape[1]):
        np.testing.assert_array_equal(classifier.predict(copies[:, s], shifts="best"), labels)
    assert classifier.score(Z, y, shifts="best") == np.mean(labels == y)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 9), (3, 16), (1, 5, 6)])
def test_a_class_made_of_the_shifts_of_another_ties_with_it(shape, dtype):
    """Both are as near to everything: the first wins, and not what the rounding of one shift prefers."""
    Z, y = clouds(shape, dtype, m=18, k=2)
    axes = tuple(range(2, Z.ndim))
    Z = np.concatenate([Z, np.roll(Z, [1] * len(axes), axes)])
    y = np.concatenate([y, y + 2])
    classifier = NearestSubspace(2).fit(Z, y)
    for copy in np.moveaxis(rolled(Z, 1), 1, 0):
        assert (classifier.predict(copy, shifts="best") < 2).all()


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
def test_the_unit_of_features_changes_no_label(scale):
    Z, y = clouds((2, 8), "float64")
    classifier = NearestSubspace(2).fit(Z, y)
    labels = classifier.predict(Z, shifts="best")
    np.testing.assert_array_equal(classifier.predict(Z * scale, shifts="best"), labels)
    np.testing.assert_array_equal(NearestSubspace(2).fit(Z * scale, y).predict(Z * scale, shifts="best"), labels)


def test_in_pieces(monkeypatch):
    Z, y = clouds((2, 3, 4), "float64")
    classifier = NearestSubspace(2).fit(Z, y)
    whole = classifier.scores(Z, shifts="best")
    monkeypatch.setattr(base, "CHUNK_BYTES", 1)
    np.testing.assert_allclose(classifier.scores(Z, shifts="best"), whole, rtol=0, atol=bound((2, 3, 4), 2, "float64"))


def test_a_network_gives_all_shifts_of_a_sample_one_label():
    """Which its features as they stand do not: they are equivariant."""
    X, y = rn.datasets.sinusoids(20, length=12, noise=0.8, random_state=0)
    X = np.concatenate([X, X**2, np.abs(X)], axis=1)
    net, Z = rn.build(X, y, n_layers=5)
    classifier = NearestSubspace(2).fit(Z, y)
    copies = np.moveaxis(rolled(X, 1), 1, 0)
    plain, best = ([classifier.predict(net.transform(copy), shifts=how) for copy in copies] for how in (None, "best"))
    assert (np.array(best) == best[0]).all()
    assert (np.array(plain) != plain[0]).any()


def test_errors():
    Z, y = np.eye(3), [0, 1, 2]
    with pytest.raises(ValueError, match="shifts is 'worst'; expected one of 'best'"):
        NearestSubspace().fit(Z, y).scores(Z, shifts="worst")
    for method in ("predict", "scores"):
        with pytest.raises(ValueError, match=r"Z has shape \(3, 3\); expected signals \(m, C, T\) or images"):
            getattr(NearestSubspace().fit(Z, y), method)(Z, shifts="best")


class TestReduNetClassifier:
    @pytest.fixture
    def data(self):
        return clouds((2, 3, 4), "float64")

    @pytest.fixture(params=["images", "table"])
    def fitted(self, request, data):
        sklearn = pytest.importorskip("redunet.sklearn", exc_type=ImportError)
        X, y = data
        if request.param == "images":
            return sklearn.ReduNetClassifier(3, n_components=2, shifts="best").fit(X, y), X, y
        table = X.reshape(len(X), -1)
        return sklearn.ReduNetClassifier(3, n_components=2, shifts="best", signal_shape=(3, 4)).fit(table, y), table, y

    def test_it_is_the_network_and_the_nearest_subspace_over_shifts(self, fitted, data):
        from redunet.sklearn.probabilities import excess

        classifier, X, y = fitted
        net, Z = rn.build(*data, n_layers=3)
        subspaces = NearestSubspace(2).fit(Z, y)
        features = net.transform(data[0])
        np.testing.assert_array_equal(classifier.predict(X), subspaces.predict(features, shifts="best"))
        np.testing.assert_array_equal(
            classifier.decision_function(X), -excess(subspaces.scores(features, shifts="best"))
        )
        assert classifier.score(X, y) == subspaces.score(features, y, shifts="best")

    def test_every_shift_has_the_same_prediction(self, fitted, data):
        classifier, X, _ = fitted
        labels = classifier.predict(X)
        for copy in np.moveaxis(rolled(data[0], 1), 1, 0):
            np.testing.assert_array_equal(classifier.predict(copy.reshape(X.shape)), labels)

    def test_it_is_a_parameter_like_others(self, fitted):
        from sklearn.base import clone

        classifier, X, y = fitted
        assert classifier.get_params()["shifts"] == "best"
        again = clone(classifier).fit(X, y)
        np.testing.assert_array_equal(again.predict(X), classifier.predict(X))
        assert type(classifier)().get_params()["shifts"] is None

    def test_vectors_have_no_shifts(self):
        sklearn = pytest.importorskip("redunet.sklearn", exc_type=ImportError)
        X, y = rn.datasets.gaussian_mixture(5, random_state=0)
        with pytest.raises(ValueError, match=r"shifts is 'best' and X has shape \(10, 2\); expected signals"):
            sklearn.ReduNetClassifier(1, shifts="best").fit(X, y)
        with pytest.raises(ValueError, match="shifts is 'all'; expected one of 'best'"):
            sklearn.ReduNetClassifier(1, shifts="all").fit(X, y)
