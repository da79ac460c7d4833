"""Where samples have their channels: the keyword, and the warning about shapes that would be misread in silence.

Oracle: the same samples with their axes moved by NumPy before they are given.
"""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest

import redunet as rn
from redunet import distributed

random = np.random.default_rng(3)
Y = np.arange(12) % 3
SHAPES = {"vectors": (12, 5), "signals": (12, 3, 7), "images": (12, 2, 4, 3)}
OPTIONS = {"n_layers": 3, "epsilon_sq": 0.5, "lam": 20.0}


def samples(kind, dtype=np.float64):
    X = random.normal(size=SHAPES[kind])
    return (X + 1j * random.normal(size=X.shape)).astype(dtype) if np.dtype(dtype).kind == "c" else X.astype(dtype)


def last(X):
    return np.ascontiguousarray(np.moveaxis(X, 1, -1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
@pytest.mark.parametrize("kind", SHAPES)
def test_channels_last_is_channels_first_with_the_axes_moved(backend, kind, dtype):
    X, X_new = samples(kind, dtype), samples(kind, dtype)
    net, Z = rn.build(X, Y, **OPTIONS)
    other, Z_last = rn.build(last(X), Y, **OPTIONS, channels="last")
    np.testing.assert_array_equal(Z_last, last(Z))
    np.testing.assert_array_equal(other.rates.delta, net.rates.delta)
    assert (other.n_channels, other.signal_shape) == (net.n_channels, net.signal_shape)
    np.testing.assert_array_equal(net.transform(last(X_new), channels="last"), last(net.transform(X_new)))
    np.testing.assert_array_equal(net.assign(last(X_new), channels="last"), net.assign(X_new))


def test_mirror_images(backend):
    X = samples("images")
    _, Z = rn.build(X, Y, **OPTIONS, group="dihedral")
    np.testing.assert_array_equal(rn.build(last(X), Y, **OPTIONS, group="dihedral", channels="last")[1], last(Z))


def test_several_ranks():
    X = samples("signals")
    _, Z = rn.build(X, Y, **OPTIONS)
    _, other = distributed.build(last(X), Y, comm=distributed.single(), channels="last", **OPTIONS)
    np.testing.assert_allclose(other, last(Z), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("make", [rn.RandomLift, rn.SparseLift])
@pytest.mark.parametrize("kind", ["signals", "images"])
def test_lifts(make, kind):
    X = samples(kind)
    lift = make(4, 2, random_state=0)
    Z = lift.fit_transform(X)
    np.testing.assert_array_equal(lift(last(X), channels="last"), last(Z))
    np.testing.assert_array_equal(make(4, 2, random_state=0).fit_transform(last(X), channels="last"), last(Z))
    np.testing.assert_array_equal(make(4, 2, random_state=0)(last(X), channels="last"), last(Z))


@pytest.mark.parametrize("kind", ["signals", "images"])
@pytest.mark.parametrize("table", [False, True])
def test_estimators(kind, table):
    sklearn = pytest.importorskip("redunet.sklearn", reason="scikit-learn is not installed")
    X = samples(kind)
    given, options = last(X), {"channels": "last"}
    if table:
        given, options = given.reshape(12, -1), {**options, "signal_shape": X.shape[2:]}

    def as_given(Z):
        return last(Z).reshape(12, -1) if table else last(Z)

    plain = sklearn.ReduNetTransformer(3, epsilon_sq=0.5).fit(X, Y)
    moved = sklearn.ReduNetTransformer(3, epsilon_sq=0.5, **options).fit(given, Y)
    np.testing.assert_array_equal(moved.transform(given), as_given(plain.transform(X)))
    np.testing.assert_array_equal(moved.fit_transform(given, Y), as_given(plain.fit_transform(X, Y)))
    for shifts in (None, "best"):
        plain = sklearn.ReduNetClassifier(3, n_components=2, shifts=shifts).fit(X, Y)
        moved = sklearn.ReduNetClassifier(3, n_components=2, shifts=shifts, **options).fit(given, Y)
        np.testing.assert_array_equal(moved.decision_function(given), plain.decision_function(X))
    plain = sklearn.RandomLift(4, 2, random_state=0)
    moved = sklearn.RandomLift(4, 2, random_state=0, **options)
    np.testing.assert_array_equal(moved.fit_transform(given), as_given(plain.fit_transform(X)))
    names = len(moved.get_feature_names_out())
    assert names == 4 * X[0, 0].size


def test_one_signal_in_a_row_of_a_table():
    sklearn = pytest.importorskip("redunet.sklearn", reason="scikit-learn is not installed")
    X = samples("vectors")
    first, moved = (sklearn.RandomLift(4, 2, random_state=0, channels=where) for where in ("first", "last"))
    Z = first.fit_transform(X).reshape(12, 4, 5)
    np.testing.assert_array_equal(moved.fit_transform(X), last(Z).reshape(12, -1))


#: Shapes, and what the warning says of them.
SUSPECT = {
    (12, 32, 28, 3): "as 12 images of 32 channels and 28 x 3 pixels. Images (m, H, W, C) need channels='last'",
    (12, 8, 8, 1): "as 12 images of 8 channels and 8 x 1 pixels. Images (m, H, W, C) need channels='last'",
    (
        12,
        8,
        8,
    ): "as 12 signals of 8 channels and 8 points. Gray images (m, H, W) need an axis of one channel, X[:, None]",
    (12, 128, 9): "as 12 signals of 128 channels and 9 points. Signals (m, T, C) need channels='last'",
}
INNOCENT = [
    (12, 3, 32, 28),
    (12, 16, 8, 8),
    (12, 1, 8, 8),
    (12, 7, 7),
    (12, 9, 128),
    (12, 64, 16),
    (12, 7, 4, 3),
    (12, 64),
]


def calls(X):
    """Everything that looks at the axes of samples for the first time, with options."""
    yield lambda **options: rn.build(X, Y, n_layers=1, **options)
    yield lambda **options: distributed.build(X, Y, n_layers=1, comm=distributed.single(), **options)
    if X.ndim > 2:
        yield lambda **options: rn.RandomLift(2, 1, random_state=0)(X, **options)
        yield lambda **options: rn.RandomLift(2, 1, random_state=0).fit_transform(X, **options)
        yield lambda **options: rn.SparseLift(2, 1, n_iter=1, random_state=0).fit(X, **options)


@pytest.mark.parametrize("shape", SUSPECT)
def test_a_shape_that_looks_like_a_mistake_is_a_warning(shape):
    said = f"X has shape {shape}, which is taken {SUSPECT[shape]}; channels='first' says that it is right as it stands."
    for call in calls(random.normal(size=shape)):
        with pytest.warns(UserWarning, match=f"^{re.escape(said)}$") as caught:
            call()
        assert [warning.filename for warning in caught] == [__file__]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            call(channels="first")


@pytest.mark.parametrize("shape", INNOCENT)
def test_other_shapes_are_not(shape):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for call in calls(random.normal(size=shape)):
            call()


def test_estimators_warn_too():
    sklearn = pytest.importorskip("redunet.sklearn", reason="scikit-learn is not installed")
    X = random.normal(size=(12, 8, 8))
    with pytest.warns(UserWarning, match="Gray images") as caught:
        sklearn.ReduNetClassifier(1, n_components=1).fit(X, Y)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sklearn.ReduNetClassifier(1, n_components=1, channels="first").fit(X, Y).predict(X)


def test_a_network_says_how_its_samples_are_passed():
    net, _ = rn.build(samples("images"), Y, **OPTIONS)
    message = r"X has shape \(12, 4, 3, 2\); this network expects \(m, 2, 4, 3\): pass channels='last'$"
    with pytest.raises(ValueError, match=message):
        net.transform(last(samples("images")))
    message = r"X has shape \(12, 2, 4, 3\); this network expects \(m, 4, 3, 2\)$"
    with pytest.raises(ValueError, match=message):
        net.transform(samples("images"), channels="last")
    one, _ = rn.build(random.normal(size=(12, 1, 6, 6)), Y, **OPTIONS)
    with pytest.raises(
        ValueError, match=r"X has shape \(2, 6, 6\); this network expects \(m, 1, 6, 6\): pass X\[:, None\]$"
    ):
        one.transform(np.ones((2, 6, 6)))


def test_digits_of_mnist_are_samples(tmp_path):
    from strokes import write_strokes

    write_strokes(tmp_path)
    data = rn.datasets.mnist(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net, Z = rn.build(data.X_train[:40], data.y_train[:40], n_layers=1)
    assert (net.n_channels, Z.shape) == (1, data.X_train[:40].shape)
    polar = rn.to_polar(data.X_train[:4], n_channels=3, n_angles=8)
    np.testing.assert_array_equal(polar, rn.to_polar(data.X_train[:4, 0], n_channels=3, n_angles=8))
