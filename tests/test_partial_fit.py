"""`partial_fit` of the estimators: after any pieces they are what `fit` makes of all samples, bit for bit."""

from __future__ import annotations

import inspect
import pickle
from typing import Any

import numpy as np
import pytest

import redunet as rn

pytest.importorskip("sklearn")

from sklearn.base import clone

from redunet.sklearn import ReduNetClassifier, ReduNetTransformer

MADE: list[Any] = [ReduNetTransformer(3), ReduNetClassifier(3, n_components=2)]


@pytest.fixture(params=[(5,), (3, 7), (2, 4, 5)], ids=["vectors", "signals", "images"])
def data(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray]:
    """Classes that come one after the other, and all of them once more."""
    random = np.random.default_rng(3)
    y = np.array(["a", "bird", "c"])[np.r_[np.arange(18) // 6, np.arange(6) % 3]]
    X = random.standard_normal((24, *request.param))
    X += 2 * random.standard_normal((3, *request.param))[np.unique(y, return_inverse=True)[1]]
    return X, y


def outputs(estimator: Any, X: np.ndarray) -> list[np.ndarray]:
    ask = "transform" if hasattr(estimator, "transform") else "decision_function"
    return [getattr(estimator, ask)(X), estimator.classes_, estimator.net_.etas, estimator.net_.rates.delta]


def same(one: Any, other: Any, X: np.ndarray) -> None:
    for a, b in zip(outputs(one, X), outputs(other, X), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("estimator", MADE, ids=lambda made: type(made).__name__)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pieces_are_all_samples(backend: str, estimator: Any, dtype: type, data: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = data[0].astype(dtype), data[1]
    some = clone(estimator)
    for stop, start in ((6, 0), (7, 6), (18, 7), (24, 18)):
        assert some.partial_fit(X[start:stop], y[start:stop]) is some
        same(some, clone(estimator).fit(X[:stop], y[:stop]), X)
    assert some.classes_.tolist() == ["a", "bird", "c"]
    again = pickle.loads(pickle.dumps(some)).partial_fit(X[:2], y[:2])
    same(again, clone(estimator).fit(np.r_[X, X[:2]], np.r_[y, y[:2]]), X)


@pytest.mark.parametrize("estimator", MADE, ids=lambda made: type(made).__name__)
def test_weights_buffers_and_precisions(estimator: Any, data: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = data
    weights = np.arange(24) % 4.0
    ones = np.r_[np.ones(10), weights[10:]]
    some = clone(estimator)
    buffer, labels = X[:10].astype(np.float32), y[:10].copy()
    expected = np.r_[buffer.astype(float), X[10:]]
    some.partial_fit(buffer, labels)
    buffer[:], labels[:] = 0, "x"  # is read once
    some.partial_fit(X[10:], y[10:], sample_weight=weights[10:])
    same(some, clone(estimator).fit(expected, y, sample_weight=ones), X)


@pytest.mark.parametrize("estimator", MADE, ids=lambda made: type(made).__name__)
def test_fit_begins_anew(estimator: Any, data: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = data
    first = clone(estimator).fit(X[:12], y[:12])
    assert len(pickle.dumps(first)) < len(pickle.dumps(clone(estimator).partial_fit(X[:12], y[:12])))
    same(clone(estimator).partial_fit(X[:12], y[:12]).fit(X, y).partial_fit(X[:18], y[:18]),
         clone(estimator).fit(X[:18], y[:18]), X)  # fmt: skip
    if hasattr(first, "fit_transform"):
        first.partial_fit(X, y).fit_transform(X, y)
        same(first.partial_fit(X[:7], y[:7]), clone(estimator).fit(X[:7], y[:7]), X)
    assert not hasattr(clone(first), "net_")


@pytest.mark.parametrize("estimator", MADE, ids=lambda made: type(made).__name__)
def test_classes_as_scikit_learn_has_them(estimator: Any, data: tuple[np.ndarray, np.ndarray]) -> None:
    """Named in the first call, or not; those that have come are what the estimator knows."""
    X, y = data
    order = ["X", "y", "classes", "sample_weight"]
    assert list(inspect.signature(estimator.partial_fit).parameters) == order
    some = clone(estimator).partial_fit(X[:12], y[:12], ["c", "bird", "a", "a"])
    assert some.classes_.tolist() == ["a", "bird"]
    some.partial_fit(X[12:], y[12:], classes=["a", "bird", "c"])
    same(some, clone(estimator).fit(X, y), X)
    with pytest.raises(ValueError, match=r"y holds the label 'd'; expected classes \['a', 'bird', 'c'\]"):
        some.partial_fit(X[:1], ["d"])
    with pytest.raises(ValueError, match=r"classes are \['a'\]; expected \['a', 'bird', 'c'\], as in the first call"):
        some.partial_fit(X[:1], ["a"], classes=["a"])
    with pytest.raises(ValueError, match=r"classes are \['a'\]; expected None, as in the first call"):
        clone(estimator).partial_fit(X, y).partial_fit(X, y, classes=["a"])
    with pytest.raises(ValueError, match=r"classes has shape \(\); expected labels"):
        clone(estimator).partial_fit(X, y, classes="a")
    for first, second in (("U", "O"), ("O", "U")):
        mixed = clone(estimator).partial_fit(X[:12], y[:12].astype(first), classes=np.array(["a", "bird", "c"], second))
        mixed.partial_fit(X[12:], y[12:].astype(second))
        assert mixed.classes_.tolist() == ["a", "bird", "c"]
    numbers = clone(estimator).partial_fit(X[:6], np.arange(6) % 2 * 1.0, classes=[0, 1, 2])
    with pytest.raises(ValueError, match=r"y holds the label 3\.0; expected classes \[0, 1, 2\]"):
        numbers.partial_fit(X[:1], [3.0])
    same(some, clone(estimator).fit(X, y), X)


@pytest.mark.parametrize("estimator", MADE, ids=lambda made: type(made).__name__)
def test_what_does_not_fit_changes_nothing(estimator: Any, data: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = data
    some = clone(estimator).partial_fit(X[:12], y[:12])
    with pytest.raises(ValueError, match=r"^X (has|and y cannot be used)"):
        some.partial_fit(X[:, 1:], y)
    if X.ndim > 2:
        with pytest.raises(ValueError, match=r"X has shape .*; expected \(m, .*\), as before"):
            some.partial_fit(X[..., 1:], y)
    with pytest.raises(TypeError, match="y has labels of the dtypes <U4, int64; expected one kind"):
        some.partial_fit(X, np.arange(24) % 2)
    with pytest.raises(ValueError, match="n_layers is 0"):
        some.set_params(n_layers=0).partial_fit(X[12:], y[12:])
    some.set_params(n_layers=3).partial_fit(X[12:], y[12:])
    same(some, clone(estimator).fit(X, y), X)


def test_tables_and_one_layer_of_grams() -> None:
    """Signals as tables; and of one layer `ClassGrams` gives the same without samples."""
    random = np.random.default_rng(0)
    X, y = random.standard_normal((30, 3 * 8)), np.arange(30) % 3
    some = ReduNetTransformer(1, signal_shape=8).partial_fit(X[:14], y[:14]).partial_fit(X[14:], y[14:])
    signals = X.reshape(30, 3, 8)
    grams = rn.ClassGrams.of(signals[:14], y[:14]).add(signals[14:], y[14:])
    expected = grams.layer(eta=some.net_.etas).transform(signals)
    np.testing.assert_allclose(some.transform(X), expected.reshape(30, -1), atol=1e-10)
