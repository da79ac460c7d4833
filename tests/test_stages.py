"""A network's first layers, features along them, and how many of them accuracy on samples held out asks for.

Oracle: networks that were built with so many layers; and, of the choice, the whole search written out.
"""

from __future__ import annotations

import pickle
from typing import ClassVar

import numpy as np
import pytest
from oracle import relative

import redunet as rn

SHAPES = {"vectors": (30, 5), "signals": (30, 3, 8), "many channels": (30, 20, 6), "images": (30, 2, 4, 5)}
Y = np.arange(30) % 3
OPTIONS = {"n_layers": 6, "epsilon_sq": 0.5, "lam": 20.0}
ROUNDING = {"float64": 1e-10, "float32": 1e-4}  # of a layer, as tests/test_backends.py promises


def samples(kind="signals", dtype="float64", seed=0):
    return np.random.default_rng(seed).normal(size=SHAPES[kind]).astype(dtype)


@pytest.mark.parametrize("eta", ["auto", 0.5, "search"])
@pytest.mark.parametrize("kind", SHAPES)
def test_the_first_layers_are_a_network_of_so_many(backend, kind, eta):
    X = samples(kind)
    net, _ = rn.build(X, Y, **OPTIONS, eta=eta)
    for n in (1, 4, 6):
        short, (wanted, Z) = net.truncate(n), rn.build(X, Y, **{**OPTIONS, "n_layers": n}, eta=eta)
        assert short.n_layers == n
        np.testing.assert_array_equal(short.etas, wanted.etas)
        np.testing.assert_array_equal(short.rates.rate, wanted.rates.rate)
        np.testing.assert_array_equal(short.rates.per_class, wanted.rates.per_class)
        np.testing.assert_array_equal(short.transform(X), wanted.transform(X))
        assert relative(short.transform(X), Z) < n * ROUNDING["float64"]
        if net.operators.there is None:
            assert np.shares_memory(short.operators.dense, net.operators.dense)
        else:  # on a device, where the copies of the host are made when they are asked for
            addresses = (one.operators.there[0].__cuda_array_interface__["data"][0] for one in (short, net))
            assert len({*addresses}) == 1


def test_the_first_layers_can_be_saved_copied_and_gone_on_with(backend, tmp_path):
    X = samples()
    net, Z = rn.build(X, Y, **OPTIONS, momentum=True)
    short = net.truncate(3)
    short.save(tmp_path / "net")
    for other in (rn.load(tmp_path / "net"), pickle.loads(pickle.dumps(short)), short):
        assert other.n_layers == 3
        np.testing.assert_array_equal(other.transform(X), short.transform(X))
        again, Z_again = rn.build(X, Y, **OPTIONS, momentum=True, resume=other)
        np.testing.assert_array_equal(Z_again, Z)
        np.testing.assert_array_equal(again.rates.delta, net.rates.delta)
        with pytest.raises(ValueError, match="read-only"):
            other.etas[0] = 1


def test_features_only():
    net, _ = rn.build(samples(), Y, **OPTIONS, keep="features")
    assert net.truncate(2).rates.delta.shape == (3,)
    with pytest.raises(ValueError, match='was built with keep="features"'):
        net.truncate(2).transform(samples())


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("momentum", [False, True])
@pytest.mark.parametrize("kind", SHAPES)
def test_stages_are_the_features_of_the_first_layers(backend, kind, momentum, dtype):
    X, X_new = samples(kind, dtype), samples(kind, dtype, seed=1)
    net, _ = rn.build(X, Y, **OPTIONS, momentum=momentum)
    stages = list(net.staged_transform(X_new))
    assert len(stages) == 6
    for n, Z in enumerate(stages, start=1):
        assert Z.dtype == dtype
        assert Z.shape == X.shape
        assert relative(Z, net.truncate(n).transform(X_new)) < n * ROUNDING[dtype]
    for every, layers in ((2, (2, 4, 6)), (4, (4, 6)), (99, (6,))):
        some = list(net.staged_transform(X_new, every=every))
        assert len(some) == len(layers)
        for n, Z in zip(layers, some, strict=True):
            np.testing.assert_array_equal(Z, stages[n - 1])


def test_stages_of_mirrors_and_of_channels_that_are_last(backend):
    X = samples("images")
    net, _ = rn.build(X, Y, **OPTIONS, group="dihedral")
    for Z, Z_last in zip(
        net.staged_transform(X), net.staged_transform(np.moveaxis(X, 1, -1), channels="last"), strict=True
    ):
        np.testing.assert_array_equal(Z_last, np.moveaxis(Z, 1, -1))
    assert relative(Z, net.transform(X)) < 6 * ROUNDING["float64"]


def test_stages_check_at_once():
    net, _ = rn.build(samples(), Y, **OPTIONS)
    with pytest.raises(ValueError, match=r"X has shape \(2, 3, 7\); this network expects \(m, 3, 8\)"):
        net.staged_transform(np.ones((2, 3, 7)))
    with pytest.raises(ValueError, match="X holds NaN or infinity in sample 1"):
        net.staged_transform(np.full((2, 3, 8), [[[1]], [[np.nan]]]))
    bare, _ = rn.build(samples(), Y, **{**OPTIONS, "keep": "features"})
    with pytest.raises(ValueError, match="operators"):
        bare.staged_transform(samples())
    with pytest.raises(ValueError, match="n_layers is 7; expected at most 6, the layers of this network"):
        net.truncate(7)


def noisy(m, seed):
    """Three classes of shifted signals, whose accuracy rises and falls along the layers."""
    random = np.random.default_rng(seed)
    y = np.arange(m) % 3
    prototypes = np.random.default_rng(0).normal(size=(3, 2, 8))
    X = prototypes[y] + 0.8 * random.normal(size=(m, 2, 8))
    return np.stack([np.roll(x, s, axis=-1) for x, s in zip(X, random.integers(0, 8, m), strict=True)]), y


class TestEarlyStopping:
    SETTINGS: ClassVar = {"n_components": 3, "epsilon_sq": 0.1, "eta": 2.0, "lam": 50.0, "class_weight": None}

    @pytest.fixture(autouse=True)
    def needs_sklearn(self):
        pytest.importorskip("redunet.sklearn", reason="scikit-learn is not installed")

    def search(self, X, y, weights, kept, held, most, wait, shifts):
        """All layers are built; then layers are looked at until the best is `wait` behind."""
        given = {name: self.SETTINGS[name] for name in ("epsilon_sq", "eta", "lam")}
        w = None if weights is None else weights[kept]
        net, _ = rn.build(X[kept], y[kept], sample_weight=w, n_layers=most, **given)
        scores = []
        for n in range(1, most + 1):
            short = net.truncate(n)
            copies = kept if weights is None else np.repeat(kept, weights[kept])
            model = rn.NearestSubspace(3).fit(short.transform(X[copies]), y[copies])
            right = model.predict(short.transform(X[held]), shifts=shifts) == y[held]
            scores.append(np.average(right, weights=None if weights is None else weights[held]))
            best = int(np.argmax(scores)) + 1
            if n - best >= wait:
                break
        return best, scores

    @pytest.mark.parametrize("wait", [1, 4, 10, 50])
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("shifts", [None, "best"])
    def test_keeps_the_layers_of_the_best_score(self, shifts, weighted, wait):
        from sklearn.model_selection import train_test_split

        from redunet.sklearn import ReduNetClassifier

        X, y = noisy(150, seed=3)
        weights = np.random.default_rng(1).integers(1, 4, 150) if weighted else None
        model = ReduNetClassifier(
            30,
            **self.SETTINGS,
            shifts=shifts,
            early_stopping=True,
            validation_fraction=0.3,
            n_iter_no_change=wait,
            random_state=2,
        ).fit(X, y, weights)
        kept, held = map(np.sort, train_test_split(np.arange(150), test_size=0.3, stratify=y, random_state=2))
        best, scores = self.search(X, y, weights, kept, held, 30, wait, shifts)
        np.testing.assert_allclose(model.validation_scores_, scores, rtol=1e-12)
        assert model.net_.n_layers == best
        if wait == 10:
            assert 1 < best < len(scores)  # there is something to choose
        np.testing.assert_allclose(
            model.score(X[held], y[held], None if weights is None else weights[held]), max(scores)
        )

    def test_looks_at_no_more_layers_than_it_has_to(self):
        from redunet.sklearn import ReduNetClassifier

        X, y = rn.datasets.gaussian_mixture(40, n_features=3, noise=0.05, random_state=0)
        options = {"early_stopping": True, "n_iter_no_change": 3, "random_state": 0, "n_components": 1}
        model = ReduNetClassifier(10**5, **options).fit(X, y)  # right from the first layer on
        assert model.validation_scores_.tolist() == [1.0] * 4
        assert model.net_.n_layers == 1
        steps = ReduNetClassifier(8, eta=np.linspace(0.1, 0.8, 8), **options).fit(X, y)
        np.testing.assert_array_equal(steps.net_.etas, [0.1])
        model.set_params(n_layers=2, early_stopping=False).fit(X, y)
        assert not hasattr(model, "validation_scores_")

    def test_the_same_samples_are_held_out_for_the_same_seed(self):
        from redunet.sklearn import ReduNetClassifier

        X, y = noisy(90, seed=4)
        for make in (lambda: 5, lambda: np.random.RandomState(5), lambda: np.random.default_rng(5)):
            one, two = (
                ReduNetClassifier(6, **self.SETTINGS, early_stopping=True, random_state=make()).fit(X, y) for _ in "ab"
            )
            np.testing.assert_array_equal(one.validation_scores_, two.validation_scores_)
            np.testing.assert_array_equal(one.decision_function(X), two.decision_function(X))

    def test_says_what_cannot_be_split(self):
        from redunet.sklearn import ReduNetClassifier

        X, y = noisy(90, seed=4)
        model = ReduNetClassifier(2, early_stopping=True, validation_fraction=0.01)
        with pytest.raises(ValueError, match=r"^validation_fraction is 0\.01 and y cannot be split: "):
            model.fit(X, y)
        few = np.r_[np.zeros(20, int), np.ones(20, int), [2, 2]]  # both of the last class are held out
        with pytest.raises(ValueError, match=r"^validation_fraction is 0\.8 and holds out all samples of the class 2;"):
            ReduNetClassifier(2, early_stopping=True, validation_fraction=0.8).fit(np.eye(42), few)
        with pytest.raises(ValueError, match=r"^validation_fraction is 1\.5; expected a number between 0 and 1$"):
            ReduNetClassifier(2, validation_fraction=1.5).fit(X, y)
