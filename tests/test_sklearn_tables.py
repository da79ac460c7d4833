"""What estimators add to `build` for tables: the affine lift, weights of classes, probabilities, names of columns."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import pytest

import redunet as rn

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.datasets import load_wine
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_predict, cross_val_score

from redunet.sklearn import NearestSubspaceClassifier, RandomLift, ReduNetClassifier, ReduNetTransformer
from redunet.sklearn.probabilities import HIGHEST, LOWEST, behind, excess, softmax, temperature


def table(m: int = 90, d: int = 4, k: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian classes that are not at the origin, in columns of different units."""
    random = np.random.default_rng(seed)
    y = np.arange(m) % k
    X = 2 * random.standard_normal((k, d))[y] + random.standard_normal((m, d))
    return (X + 5) * 10.0 ** np.arange(d), y


def lifted(X: np.ndarray, of: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """The affine lift in formulas."""
    mean = np.average(of, axis=0, weights=weights)
    scale = np.sqrt(np.average((of - mean) ** 2, axis=0, weights=weights))
    return np.column_stack([(X - mean) / scale, np.full(len(X), np.sqrt(X.shape[1]))])


class TestAffineLift:
    @pytest.mark.parametrize("weighted", [False, True])
    def test_is_build_of_standardised_columns_and_a_constant(self, weighted: bool) -> None:
        X, y = table()
        new, _ = table(seed=1)
        weights = np.arange(90) % 5.0 if weighted else None
        used = slice(None) if weights is None else weights > 0
        w = None if weights is None else weights[used]
        options: dict[str, Any] = {"n_layers": 4, "epsilon_sq": 1.0, "sample_weight": w}
        net, Z = rn.build(lifted(X[used], X[used], w), y[used], **options)
        transformer = ReduNetTransformer(4, class_weight=None).fit(X, y, sample_weight=weights)
        np.testing.assert_allclose(transformer.transform(new), net.transform(lifted(new, X[used], w)), atol=1e-8)
        if weights is None:
            np.testing.assert_allclose(transformer.fit_transform(X, y), Z, atol=1e-8)
        classifier = ReduNetClassifier(4, class_weight=None).fit(X, y, sample_weight=weights)
        copies = np.arange(90) if weights is None else np.repeat(np.arange(90), weights.astype(int))
        subspaces = rn.NearestSubspace(1).fit(net.transform(lifted(X[copies], X[used], w)), y[copies])
        distances = subspaces.scores(net.transform(lifted(new, X[used], w)))
        np.testing.assert_allclose(classifier.decision_function(new), -excess(distances), atol=1e-7)

    def test_keeps_offset_and_size_in_any_unit(self) -> None:
        """Two classes on a ray, which unit norm makes one; and a column that is constant is no error."""
        random = np.random.default_rng(0)
        y = np.arange(200) % 2
        X = (1 + y)[:, None] * [3.0, 4.0, 0.0] + 0.2 * random.standard_normal((200, 3)) * [1, 1, 0]
        X[:, 2] = 0.1  # whose mean is no multiple of it
        train, test = slice(0, 100), slice(100, 200)
        model = ReduNetClassifier(n_layers=5).fit(X[train], y[train])
        assert model.score(X[test], y[test]) > 0.95
        assert model.score(X[test] * [1, 1, 1 + 1e-15], y[test]) > 0.95
        units, offset = np.array([1e-30, 1e30, 1.0]), np.array([3.0, -8.0, 0.0])
        other = clone(model).fit((X[train] + offset) * units, y[train])
        np.testing.assert_array_equal(other.predict((X[test] + offset) * units), model.predict(X[test]))
        plain = ReduNetClassifier(n_layers=5, affine=False, n_components=1).fit(X[train], y[train])
        assert plain.score(X[test], y[test]) < 0.7

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_samples_far_outside_have_finite_features(self, dtype: type) -> None:
        X, y = table()
        model = ReduNetTransformer(2).fit((X / 1e5).astype(dtype) / np.finfo(dtype).max ** 0.5, y)
        far = np.full((1, 4), np.finfo(dtype).max, dtype)
        Z = model.transform(far)
        assert Z.dtype == dtype
        np.testing.assert_allclose(np.linalg.norm(Z, axis=1), 1, rtol=1e-5)

    def test_is_for_vectors(self) -> None:
        X, y = table(d=6)
        assert ReduNetTransformer(1).fit(X, y).affine_ is not None
        assert ReduNetTransformer(1, signal_shape=3).fit(X, y).affine_ is None
        assert ReduNetTransformer(1).fit(X.reshape(90, 2, 3), y).affine_ is None
        assert ReduNetTransformer(1, affine=False).fit(X, y).transform(X).shape == (90, 6)
        for shape, options in (((90, 6), {"signal_shape": 3}), ((90, 2, 3), {})):
            said = rf"^affine is True and X has shape {re.escape(str(shape))}, of signals or images; expected vectors"
            with pytest.raises(ValueError, match=said):
                ReduNetClassifier(1, affine=True, **options).fit(X.reshape(shape), y)
        expected = {"affine": "True, False", "epsilon_sq": "a number > 0", "n_components": "an integer >= 1"}
        for name, what in expected.items():
            with pytest.raises(ValueError, match=rf"^{name} is 'none'; expected {what} or 'auto'$"):
                ReduNetClassifier(1, **{name: "none"}).fit(X, y)

    def test_defaults_reach_a_linear_model_on_wine(self) -> None:
        """A table whose columns have very different units: without the lift four in ten are wrong."""
        X, y = load_wine(return_X_y=True)
        assert cross_val_score(ReduNetClassifier(), X, y).mean() > 0.96
        assert cross_val_score(ReduNetClassifier(affine=False), X, y).mean() < 0.7


class TestClassWeight:
    def test_balanced_is_the_same_weight_for_every_class(self) -> None:
        X, y = table()
        some = (y != 0) | (np.arange(90) < 30)
        X, y, omega = X[some], y[some], 1 + np.arange(some.sum()) % 3.0
        for given in (None, omega):
            mass = np.bincount(y, given)
            each = (np.ones(len(y)) if given is None else given) * (mass.sum() / (3 * mass))[y]
            model = ReduNetTransformer(3, affine=False).fit(X, y, given)
            plain = ReduNetTransformer(3, affine=False, class_weight=None).fit(X, y, each)
            np.testing.assert_array_equal(model.transform(X), plain.transform(X))
            assert model.net_.layers[0].gammas == pytest.approx([1 / 3] * 3)
            mapping = dict(enumerate(mass.sum() / (3 * mass)))
            by_hand = ReduNetTransformer(3, affine=False, class_weight=mapping).fit(X, y, given)
            np.testing.assert_array_equal(by_hand.transform(X), model.transform(X))

    def test_equal_classes_are_left_as_they_are(self) -> None:
        X, y = table()
        models = (ReduNetTransformer(3, class_weight=w).fit(X, y) for w in ("balanced", None, {0: 1.0}))
        one, *others = (model.transform(X) for model in models)
        for other in others:
            np.testing.assert_array_equal(one, other)

    def test_errors(self) -> None:
        X, y = table()
        for class_weight, error, said in (
            ("equal", ValueError, r"^class_weight is 'equal'; expected 'balanced', a mapping of labels"),
            ([1.0, 2.0, 3.0], TypeError, r"^class_weight is \[1\.0, 2\.0, 3\.0\]; expected 'balanced', a mapping"),
            ({0: 0.0}, ValueError, r"^class_weight is 0\.0; expected a finite number > 0"),
            (
                {"a": 2.0, 1: 1.0},
                ValueError,
                r"^class_weight has the labels \['a', 1\]; expected those of y, \[0, 1, 2\]$",
            ),
        ):
            with pytest.raises(error, match=said):
                ReduNetClassifier(1, class_weight=class_weight).fit(X, y)
        text = np.array(["a", "b", "c"])[y]
        ReduNetClassifier(1, class_weight={"a": 2.0, "b": 1.0, "c": 1.0, "d": 7.0}).fit(X, text)  # one is not here yet


class TestProbabilities:
    def test_are_the_softmax_of_relative_cosines(self) -> None:
        X, y = table(150)
        model = ReduNetClassifier(5, probability=True).fit(X[:90], y[:90])
        P = model.predict_proba(X[90:])
        Z = model._features(X[90:])
        cosines = np.stack([np.linalg.norm(Z @ U, axis=1) for U in model.subspaces_.bases_], axis=1)
        exponents = np.exp(cosines / cosines.max(axis=1, keepdims=True) / model.temperature_)
        np.testing.assert_allclose(P, exponents / exponents.sum(axis=1, keepdims=True), rtol=1e-6)
        np.testing.assert_array_equal(model.classes_[P.argmax(axis=1)], model.predict(X[90:]))
        np.testing.assert_array_equal(P, clone(model).fit(X[:90], y[:90]).predict_proba(X[90:]))
        without = ReduNetClassifier(5).fit(X[:90], y[:90])
        np.testing.assert_array_equal(without.predict(X), model.predict(X))
        two = ReduNetClassifier(5, probability=True).fit(X[y < 2], y[y < 2])
        np.testing.assert_array_equal(two.predict_proba(X)[:, 1] > 0.5, two.decision_function(X) > 0)

    @pytest.mark.parametrize("weighted", [False, True])
    def test_the_temperature_is_the_best_of_all(self, weighted: bool) -> None:
        """Of networks that were built without the samples, the i-th of each class in fold i mod 5."""
        X, y = table(75)
        weights = 1 + np.arange(75) % 2.0 if weighted else None
        model = ReduNetClassifier(4, probability=True).fit(X, y, weights)
        D, fold = np.empty((75, 3)), np.arange(75) // 3 % 5
        for number in range(5):
            kept, held = fold != number, fold == number
            w = None if weights is None else weights[kept]
            D[held] = behind(-ReduNetClassifier(4).fit(X[kept], y[kept], w).decision_function(X[held]))
        wanted = np.full((75, 3), 1 / (2 * 77))
        wanted[np.arange(75), y] = 1 - 1 / 77

        def loss(T: float) -> float:
            return float(np.average(-(wanted * np.log(softmax(D, T))).sum(axis=1), weights=weights))

        assert model.temperature_ == pytest.approx(temperature(D, y, weights))
        assert loss(model.temperature_) <= min(loss(T) for T in model.temperature_ * np.geomspace(0.1, 10, 201)) + 1e-12

    def test_temperatures_at_the_ends(self) -> None:
        y = np.arange(8) % 2
        apart = np.eye(2)[1 - y]
        assert temperature(apart, y, None) == pytest.approx(1 / np.log(9), rel=1e-5)  # odds of 9 : 1, as labels say
        assert temperature(1 - apart, y, None) == HIGHEST  # all wrong
        assert temperature(1e-9 * apart, y, None) == LOWEST
        assert temperature(np.zeros((8, 1)), np.zeros(8, int), None) == 1.0

    def test_early_stopping_has_samples_held_out_already(self) -> None:
        from redunet.sklearn.stopping import hold_out

        X, y = table(120)
        options: dict[str, Any] = {"early_stopping": True, "validation_fraction": 0.3, "random_state": 0}
        model = ReduNetClassifier(12, probability=True, **options).fit(X, y)
        held = hold_out(y, 0.3, 0)[1]
        assert model.temperature_ == pytest.approx(
            temperature(behind(-model.decision_function(X[held])), y[held], None)
        )
        assert model.set_params(probability=False).fit(X, y).__dict__.get("temperature_") is None

    def test_are_calibrated_as_far_as_cross_validation_can_say(self) -> None:
        """Overlapping classes: the log loss of new samples is near the best that any temperature gives."""
        X, y = table(600, seed=2)
        model = ReduNetClassifier(5, probability=True).fit(X[:200], y[:200])
        new, labels = X[200:], y[200:]

        def loss(P: np.ndarray) -> float:
            return float(-np.log(P[np.arange(len(labels)), labels]).mean())

        D = behind(model.subspaces_.scores(model._features(new)))
        best = min(loss(softmax(D, T)) for T in np.geomspace(0.01, 10, 400))
        assert loss(model.predict_proba(new)) < best + 0.02

    def test_other_estimators_find_them(self) -> None:
        X, y = table()
        text = np.array(["a", "b", "c"])[y]
        P = cross_val_predict(ReduNetClassifier(3, probability=True), X, text, cv=3, method="predict_proba")
        np.testing.assert_allclose(P.sum(axis=1), 1)
        assert cross_val_score(ReduNetClassifier(3, probability=True), X, text, cv=3, scoring="neg_log_loss").min() > -1

    def test_of_signals_with_their_shifts(self) -> None:
        random = np.random.default_rng(0)
        y = np.arange(60) % 2
        X = np.sin(2 * np.pi * (1 + y[:, None]) * np.arange(16) / 16 + random.uniform(0, 6, (60, 1)))[:, None]
        X = np.concatenate([X, np.abs(X)], axis=1) + 0.4 * random.standard_normal((60, 2, 16))
        model = ReduNetClassifier(3, probability=True, shifts="best", n_components=2).fit(X, y)
        P = model.predict_proba(X)
        np.testing.assert_allclose(model.predict_proba(np.roll(X, 5, axis=-1)), P, atol=1e-8)
        last = clone(model).set_params(channels="last").fit(np.moveaxis(X, 1, -1), y)
        np.testing.assert_allclose(last.predict_proba(np.moveaxis(X, 1, -1)), P, atol=1e-10)

    def test_are_there_on_request(self) -> None:
        X, y = table()
        model = ReduNetClassifier(2).fit(X, y)
        assert not hasattr(model, "predict_proba")
        with pytest.raises(
            NotFittedError, match=r"^probability was False in fit, and is True; expected it True before$"
        ):
            model.set_params(probability=True).predict_proba(X)
        with pytest.raises(
            ValueError, match=r"^probability is True and y has one sample of the class 'c'; expected two"
        ):
            model.fit(X[:31], ["a", "b"] * 15 + ["c"])
        with pytest.raises(TypeError, match=r"^probability is "):
            ReduNetClassifier(2, probability="yes").fit(X, y)


class TestNamesOfColumns:
    @pytest.mark.parametrize("channels", ["first", "last"])
    def test_say_channel_and_point(self, channels: str) -> None:
        random = np.random.default_rng(0)
        y = np.arange(12) % 2
        for points, letters in (((3,), "t"), ((2, 3), "yx")):
            C, shape = 2, points
            X = random.standard_normal((12, C, *shape))
            where = [f"_c{c}" + "".join(f"_{a}{i}" for a, i in zip(letters, at, strict=True))
                     for c in range(C) for at in np.ndindex(shape)]  # fmt: skip
            order = np.arange(len(where)).reshape(C, *shape)
            if channels == "last":
                X, order = np.moveaxis(X, 1, -1), np.moveaxis(order, 0, -1)
            options: dict[str, Any] = {"channels": channels, "signal_shape": shape}
            net = ReduNetTransformer(1, eta=0.5, **options).fit(X.reshape(12, -1), y)
            lift = RandomLift(C, 1, random_state=0, **options).fit(X.reshape(12, -1))
            for estimator, name in ((net, "redunettransformer"), (lift, "randomlift")):
                found = estimator.get_feature_names_out()
                assert found.dtype == object
                assert found.tolist() == [name + where[i] for i in order.reshape(-1)]

    def test_of_rows_that_are_signals_of_one_channel(self) -> None:
        names = RandomLift(2, 1, random_state=0).fit(np.ones((3, 2))).get_feature_names_out().tolist()
        assert names == ["randomlift_c0_t0", "randomlift_c0_t1", "randomlift_c1_t0", "randomlift_c1_t1"]

    def test_before_fit(self) -> None:
        with pytest.raises(NotFittedError):
            ReduNetTransformer().get_feature_names_out()
        with pytest.raises(NotFittedError):
            RandomLift().get_feature_names_out()


def test_nothing_else_warns() -> None:
    X, y = table()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for estimator in (ReduNetClassifier(probability=True), ReduNetTransformer(), NearestSubspaceClassifier()):
            estimator.fit(X, y)
