"""The scikit-learn estimators: scikit-learn's own checks, and that they are the public functions and nothing else."""

from __future__ import annotations

import inspect
import itertools
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import redunet as rn

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from redunet.classifiers import MICL
from redunet.sklearn import (
    CodingLengthClustering,
    CodingRateKSubspaces,
    MICLClassifier,
    NearestSubspaceClassifier,
    PooledLift,
    RandomLift,
    ReduNetClassifier,
    ReduNetTransformer,
)
from redunet.sklearn.network import BUILD_OPTIONS, EPSILON_SQ, NO_PARAMETERS
from redunet.sklearn.probabilities import excess

ESTIMATORS = [
    ReduNetTransformer(),
    ReduNetTransformer(affine=False, class_weight=None),
    ReduNetClassifier(),
    ReduNetClassifier(affine=False, class_weight=None),
    ReduNetClassifier(3, probability=True),
    NearestSubspaceClassifier(),
    MICLClassifier(),
    RandomLift(),
    PooledLift(40),
    CodingLengthClustering(),
    CodingLengthClustering(refine=True),
    CodingRateKSubspaces(random_state=0),
]


# Some of them have samples without a class to be seen, or weigh one class a million times the other.
@parametrize_with_checks(ESTIMATORS)
def test_scikit_learn_checks(estimator: Any, check: Any) -> None:
    weights = "check_sample_weight_equivalence" in str(getattr(check, "func", check))
    if weights and getattr(estimator, "probability", False):
        pytest.skip("a sample of weight 2 is in one fold, and two samples are in two")
    check(estimator)


@pytest.fixture(params=[(5,), (3, 7), (2, 4, 5)], ids=["vectors", "signals", "images"])
def data(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    y = np.array(["no", "yes", "why"])[np.arange(24) % 3]
    prototypes = dict(zip(np.unique(y), random.standard_normal((3, *request.param)), strict=True))
    X = np.stack([prototypes[label] for label in y]) + 0.3 * random.standard_normal((24, *request.param))
    return X, y


SETTINGS: dict[str, Any] = {
    "eta": 0.3,
    "epsilon_sq": 0.2,
    "lam": 50.0,
    "assignment": "given",
    "dft_norm": "backward",
    "n_threads": 1,
    "backend": "numpy",
}
#: With these the network is `build`'s of the samples as they are.
PLAIN: dict[str, Any] = {"affine": False, "class_weight": None}


@pytest.mark.parametrize("estimator", [ReduNetTransformer, ReduNetClassifier])
def test_estimators_have_the_options_of_build(estimator: Any) -> None:
    """Under the same names, with the same defaults, but for those that have no meaning in an estimator."""
    options = {name: p.default for name, p in inspect.signature(rn.build).parameters.items()}
    parameters = {name: p.default for name, p in inspect.signature(estimator).parameters.items()}
    without = {"X", "y", "sample_weight", "dtype", "keep", "on_layer", "resume", "checkpoint", "every"}
    assert without == set(NO_PARAMETERS)
    assert set(BUILD_OPTIONS) == options.keys() - without
    assert not without - {"sample_weight"} & parameters.keys()
    missing = set(BUILD_OPTIONS) - parameters.keys()
    assert not missing, f"{estimator.__name__}.__init__ has no {missing}, which build has"
    # The number of layers has a default here only, and eps^2 is that of `build` but of vectors with the affine lift.
    for name in options.keys() - without - {"n_layers", "epsilon_sq"}:
        assert parameters[name] == options[name], name
    assert parameters["epsilon_sq"] == "auto"
    assert EPSILON_SQ[False] == options["epsilon_sq"]
    assert estimator(eta=0.25).get_params()["eta"] == 0.25


def test_the_transformer_is_build_and_transform(data: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = data
    weights = np.arange(24) % 4
    transformer = ReduNetTransformer(3, **SETTINGS, **PLAIN).fit(X, y, sample_weight=weights)
    used = weights > 0  # a sample of weight zero is no sample
    net, _ = rn.build(X[used], y[used], n_layers=3, sample_weight=weights[used], **SETTINGS)
    np.testing.assert_array_equal(transformer.transform(X), net.transform(X, backend="numpy"))
    np.testing.assert_array_equal(transformer.net_.rates.delta, net.rates.delta)
    np.testing.assert_array_equal(transformer.classes_, ["no", "why", "yes"])


def test_fit_transform_is_fit_and_transform(data: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = data
    weights = np.arange(24) % 3
    for settings, weight in (({}, None), ({}, weights), ({"assignment": "given"}, None)):
        transformer = ReduNetTransformer(5, **settings)
        Z = transformer.fit_transform(X, y, sample_weight=weight)
        assert Z.shape == (X.shape if X.ndim > 2 else (24, 6))  # vectors have the constant column
        np.testing.assert_allclose(Z, transformer.transform(X), atol=1e-8)  # what is promised after several layers
        np.testing.assert_array_equal(
            transformer.net_.etas, clone(transformer).fit(X, y, sample_weight=weight).net_.etas
        )


def test_the_classifier_is_the_network_and_the_nearest_subspace(data: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = data
    net, Z = rn.build(X, y, n_layers=3, **SETTINGS)
    subspaces = rn.NearestSubspace(n_components=2).fit(Z, y)
    classifier = ReduNetClassifier(3, n_components=2, **SETTINGS, **PLAIN).fit(X, y)
    features = net.transform(X, backend="numpy")
    np.testing.assert_array_equal(classifier.decision_function(X), -excess(subspaces.scores(features)))
    np.testing.assert_array_equal(classifier.predict(X), subspaces.predict(features))
    assert classifier.n_features_in_ == X.shape[1]


def test_tables_with_a_signal_shape_are_signals(data: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = data
    if X.ndim == 2:
        pytest.skip("vectors are tables")
    shape, table = X.shape[2:], X.reshape(len(X), -1)
    Z = ReduNetTransformer(3).fit(X, y).transform(X)
    Z_table = ReduNetTransformer(3, signal_shape=shape).fit(table, y).transform(table)
    np.testing.assert_array_equal(Z_table, Z.reshape(len(X), -1))
    assert Z.shape == X.shape
    np.testing.assert_array_equal(ReduNetTransformer(3, signal_shape=list(shape)).fit(X, y).transform(X), Z)
    classifier = ReduNetClassifier(3, signal_shape=shape, n_components=2).fit(table, y)
    np.testing.assert_array_equal(classifier.predict(table), ReduNetClassifier(3, n_components=2).fit(X, y).predict(X))
    lift = RandomLift(6, 2, signal_shape=shape, random_state=0).fit(table)
    lifted = rn.RandomLift(6, 2, random_state=0).fit_transform(X)
    np.testing.assert_array_equal(lift.transform(table), lifted.reshape(len(X), -1))
    np.testing.assert_array_equal(RandomLift(6, 2, random_state=0).fit_transform(X), lifted)
    assert len(lift.get_feature_names_out()) == lifted[0].size
    options: dict[str, Any] = {"differences": False, "boundary": "zero", "random_state": 0}
    pooled = rn.PooledLift(6, 2, **options).fit_transform(X)
    np.testing.assert_array_equal(PooledLift(6, 2, **options).fit_transform(X), pooled)
    of_table = PooledLift(6, 2, signal_shape=shape, **options).fit(table)
    np.testing.assert_array_equal(of_table.transform(table), pooled)
    assert of_table.get_feature_names_out().tolist() == [f"pooledlift{i}" for i in range(6)]


def test_rows_without_a_signal_shape_are_lifted_as_signals_of_one_channel() -> None:
    X = np.random.default_rng(0).standard_normal((4, 9))
    lifted = rn.RandomLift(3, 4, activation="soft", threshold=0.5, random_state=1).fit_transform(X[:, None])
    lift = RandomLift(3, 4, activation="soft", threshold=0.5, random_state=1)
    np.testing.assert_array_equal(lift.fit_transform(X), lifted.reshape(4, -1))


def test_series_of_any_phase_are_told_apart_by_a_pooled_lift() -> None:
    """Waves of two frequencies in two channels, (n_cases, n_channels, n_timepoints), at any phase and level."""
    random = np.random.default_rng(0)
    y, t = np.arange(60) % 2, np.arange(40)
    phases = random.uniform(0, 2 * np.pi, (60, 2, 1))
    X = np.sin(2 * np.pi * (2 + y[:, None, None]) * t / 40 + phases) + 0.3 * random.standard_normal((60, 2, 40))
    X += random.normal(0, 3, (60, 2, 1))
    model = make_pipeline(PooledLift(300, random_state=0), ReduNetClassifier(5))
    assert model.fit(X[:20], y[:20]).score(X[20:], y[20:]) > 0.95
    points = X.reshape(60, -1)
    assert ReduNetClassifier(5).fit(points[:20], y[:20]).score(points[20:], y[20:]) < 0.85


def test_a_pipeline_of_tables_tells_shifted_images_apart() -> None:
    """Bars at 0, 45 and 90 degrees, anywhere: what the equivariant network is for."""
    random = np.random.default_rng(0)
    shapes = np.zeros((3, 7, 7))
    shapes[0, 3, :4] = shapes[1, :4, 3] = shapes[2, range(4), range(4)] = 1
    y = np.arange(90) % 3
    moves = random.integers(0, 7, (90, 2))
    X = np.stack([np.roll(shapes[label], move, axis=(0, 1)) for label, move in zip(y, moves, strict=True)])
    X = X.reshape(90, -1) + 0.05 * random.standard_normal((90, 49))
    model = make_pipeline(
        RandomLift(12, 3, signal_shape=(7, 7), random_state=0),
        ReduNetClassifier(20, signal_shape=(7, 7), dft_norm="backward"),
    )
    assert model.fit(X[:45], y[:45]).score(X[45:], y[45:]) == 1.0
    search = GridSearchCV(model, {"redunetclassifier__n_components": [1, 5]}, cv=2).fit(X[:45], y[:45])
    assert search.best_score_ > 0.9
    calibrated = CalibratedClassifierCV(model, cv=2).fit(X[:45], y[:45])
    np.testing.assert_allclose(calibrated.predict_proba(X[45:]).sum(axis=1), 1)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda estimator: type(estimator).__name__)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision_pickle_and_clone(estimator: Any, dtype: type, data: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = data
    X = X.astype(dtype)
    if isinstance(estimator, (CodingLengthClustering, CodingRateKSubspaces)):  # of vectors only
        X = X.reshape(len(X), -1)
    fitted = clone(estimator).fit(X, y)
    again = pickle.loads(pickle.dumps(fitted))
    for method in ("transform", "decision_function", "predict"):
        if hasattr(fitted, method):
            result = getattr(fitted, method)(X)
            if method == "transform":
                assert result.dtype == dtype
            if method == "decision_function":  # subspaces may be close: scored in double precision
                assert result.dtype == np.float64
            if isinstance(estimator, (RandomLift, PooledLift)):
                continue  # kernels drawn without a seed; the pickled ones are compared below
            np.testing.assert_array_equal(getattr(again, method)(X), result)
            np.testing.assert_array_equal(getattr(clone(fitted).fit(X, y), method)(X), result)
    if isinstance(estimator, (RandomLift, PooledLift)):
        np.testing.assert_array_equal(again.transform(X), fitted.transform(X))


def test_the_clusterer_is_merge_path() -> None:
    X, _ = rn.datasets.lines_and_plane(120, noise=0.02, n_outliers=12, random_state=0)
    settings: dict[str, Any] = {"epsilon_sq": 0.001, "mean": "zero", "length": "rate"}
    path = rn.clustering.merge_path(X, **settings)
    for options, labels in (
        ({}, path.labels()),
        ({"stop": "first"}, path.labels("first")),
        ({"n_clusters": 9, "stop": "first"}, path.labels(9)),
        ({"min_cluster_size": 4}, path.labels(min_cluster_size=4)),
    ):
        model = CodingLengthClustering(**settings, **options).fit(X)
        np.testing.assert_array_equal(model.labels_, labels)
        np.testing.assert_array_equal(model.fit_predict(X), labels)
        np.testing.assert_array_equal(model.children_, path.children)
        np.testing.assert_array_equal(model.gains_, path.gains)
        np.testing.assert_array_equal(model.code_lengths_, path.code_lengths)
        kept = labels >= 0
        np.testing.assert_array_equal(model.sizes_, np.bincount(labels[kept]))
        assert model.n_clusters_ == labels.max() + 1
        dims = rn.clustering.effective_dimensions(X[kept], labels[kept], epsilon_sq=0.001, mean="zero")
        np.testing.assert_array_equal(model.dims_, dims)
    assert (labels < 0).any()
    apart = np.arange(132)[:, None] % 2 == np.arange(132) % 2
    model = CodingLengthClustering(epsilon_sq=10.0, connectivity=apart).fit(X)
    np.testing.assert_array_equal(model.labels_, np.arange(132) % 2)


def test_the_clusterer_predicts_the_cluster_whose_code_grows_least() -> None:
    """By the lengths of the definition: of each cluster with the sample, and without."""
    X, _ = rn.datasets.lines_and_plane(80, noise=0.02, random_state=0)
    new, _ = rn.datasets.lines_and_plane(40, noise=0.02, random_state=0)
    for mean, length in itertools.product(("zero", "estimate"), ("full", "rate")):
        settings: dict[str, Any] = {"epsilon_sq": 0.001, "mean": mean, "length": length}
        model = CodingLengthClustering(**settings).fit(X)
        assert model.n_clusters_ > 1

        def of(W, settings=settings):
            return rn.clustering.code_length(W, np.zeros(len(W)), **settings)

        clusters = [X[model.labels_ == j] for j in range(model.n_clusters_)]
        scores = [[of(np.vstack([W, x])) - of(W) - np.log(len(W) / 80) for W in clusters] for x in new]
        np.testing.assert_array_equal(model.predict(new), np.argmin(scores, axis=1))
    assert (CodingLengthClustering(min_cluster_size=81).fit(X).predict(new) == -1).all()


def test_refining_moves_samples_and_never_makes_the_code_longer() -> None:
    """The vertex steps of the kept samples, from the clusters of the merging; noise stays noise."""
    X, _ = rn.datasets.lines_and_plane(120, noise=0.05, n_outliers=12, random_state=0)
    moved = []
    for mean, options in itertools.product(("zero", "estimate"), ({"n_clusters": 6}, {"min_cluster_size": 4})):
        settings: dict[str, Any] = {"epsilon_sq": 0.005, "mean": mean, "length": "rate"}
        before = CodingLengthClustering(**settings, **options).fit(X)
        model = CodingLengthClustering(**settings, **options, refine=True).fit(X)
        np.testing.assert_array_equal(model.children_, before.children_)
        kept = before.labels_ >= 0
        np.testing.assert_array_equal(model.labels_ >= 0, kept)
        steps = rn.clustering.vertex_steps(X[kept], before.labels_[kept], epsilon_sq=0.005, mean=mean)
        moved.append(steps.n_steps > 0)
        pairs = set(zip(model.labels_[kept].tolist(), steps.labels.tolist(), strict=True))
        assert len(pairs) == model.n_clusters_ == len(set(steps.labels.tolist()))
        lengths = [rn.clustering.code_length(X[kept], m.labels_[kept], **settings) for m in (before, model)]
        assert lengths[1] < lengths[0] if moved[-1] else lengths[1] == pytest.approx(lengths[0], rel=1e-12)
        first = [int(np.flatnonzero(model.labels_ == j)[0]) for j in range(model.n_clusters_)]
        assert first == sorted(first)
        np.testing.assert_array_equal(model.sizes_, np.bincount(model.labels_[kept]))
        dims = rn.clustering.effective_dimensions(X[kept], model.labels_[kept], epsilon_sq=0.005, mean=mean)
        np.testing.assert_array_equal(model.dims_, dims)
    assert not kept.all()
    assert sum(moved) > 1
    noise = CodingLengthClustering(refine=True, min_cluster_size=200).fit(X)
    assert (noise.labels_ == -1).all()
    full = CodingLengthClustering(0.005, refine=True).fit(X)  # from the clusters of either length
    start = CodingLengthClustering(0.005).fit_predict(X)
    steps = rn.clustering.vertex_steps(X, start, epsilon_sq=0.005)
    assert len(set(zip(full.labels_.tolist(), steps.labels.tolist(), strict=True))) == full.n_clusters_


def test_subspaces_by_vertex_steps() -> None:
    """The best of the starts, by the public function; predictions by the step, in any unit."""
    X, _ = rn.datasets.lines_and_plane(150, noise=0.03, random_state=0)
    for mean in ("zero", "estimate"):
        random = np.random.default_rng(1)
        starts = [random.permutation(150) % 4 for _ in range(5)]
        runs = [rn.clustering.vertex_steps(X, start, epsilon_sq=0.003, mean=mean) for start in starts]
        best = min(runs, key=lambda run: run.objectives[-1])
        assert max(run.objectives[-1] for run in runs) > best.objectives[-1]  # a start matters
        model = CodingRateKSubspaces(4, 0.003, mean=mean, n_init=5, random_state=1).fit(X)
        assert model.objective_ == best.objectives[-1]
        assert model.n_iter_ == best.n_steps
        pairs = set(zip(model.labels_.tolist(), best.labels.tolist(), strict=True))
        assert len(pairs) == model.n_clusters_ == len(set(best.labels.tolist())) > 1
        _, first = np.unique(model.labels_, return_index=True)
        assert (np.diff(first) > 0).all()
        np.testing.assert_array_equal(model.sizes_, np.bincount(model.labels_))
        dims = rn.clustering.effective_dimensions(X, model.labels_, epsilon_sq=0.003, mean=mean)
        np.testing.assert_array_equal(model.dims_, dims)
        np.testing.assert_array_equal(model.predict(X), model.labels_)
        unit = 2.0**500
        far = CodingRateKSubspaces(4, 0.003 / unit**2, mean=mean, n_init=5, random_state=1).fit(X / unit)
        np.testing.assert_array_equal(far.labels_, model.labels_)
        with np.errstate(all="raise", under="ignore"):
            huge = far.predict(X * unit)  # squares of 2^1000 in its unit
        np.testing.assert_array_equal(huge, model.predict(X * 2.0**100))
        assert len(set(huge.tolist())) > 1


def test_subspaces_predict_by_the_criterion_of_a_step() -> None:
    """By determinants and inverses, for samples that are much smaller and larger than those of `fit`, too."""
    X, _ = rn.datasets.lines_and_plane(150, noise=0.05, random_state=0)
    new = X[:60] * np.geomspace(0.1, 100, 60)[:, None]
    for mean in ("zero", "estimate"):
        model = CodingRateKSubspaces(3, 0.01, mean=mean, random_state=0).fit(X)
        scores = []
        for j in range(model.n_clusters_):
            W = X[model.labels_ == j]
            mu = W.mean(axis=0) if mean == "estimate" else np.zeros(3)
            A = np.eye(3) + 3 / (len(W) * 0.01) * (W - mu).T @ (W - mu)
            forms = 3 / 0.01 * np.einsum("id,de,ie->i", new - mu, np.linalg.inv(A), new - mu)
            constant = np.linalg.slogdet(A)[1] + np.trace(np.linalg.inv(A)) - 2 * np.log(len(W) / 150)
            scores.append(constant + forms)
        np.testing.assert_array_equal(model.predict(new), np.argmin(scores, axis=0))
        assert len(scores) > 1


def test_subspaces_through_zero_that_cross() -> None:
    """Two lines and a plane in five dimensions, without noise: found exactly, with their dimensions."""
    random = np.random.default_rng(0)
    bases = [random.standard_normal((d, 5)) for d in (1, 1, 2)]
    X = np.concatenate([random.standard_normal((40, len(basis))) @ basis for basis in bases])
    model = CodingRateKSubspaces(3, 1e-4, mean="zero", n_init=20, random_state=0).fit(X)
    np.testing.assert_array_equal(model.labels_, np.repeat([0, 1, 2], 40))
    assert model.dims_.round().tolist() == [1, 1, 2]


def test_weights_are_repetitions_for_the_classifiers() -> None:
    random = np.random.default_rng(5)
    X, y = random.standard_normal((12, 6)), np.arange(12) % 2
    weights = np.array([0, 1, 2, 3, 1, 2, 0, 1, 4, 1, 1, 2])
    for estimator in (ReduNetClassifier(4, n_components=2), NearestSubspaceClassifier(2)):
        weighted = clone(estimator).fit(X, y, sample_weight=weights).decision_function(X)
        repeated = clone(estimator).fit(X.repeat(weights, axis=0), y.repeat(weights)).decision_function(X)
        # Squared distances below 1 after a few layers of well-conditioned operators: a million rounding units.
        np.testing.assert_allclose(weighted, repeated, atol=1e6 * np.finfo(float).eps * np.abs(repeated).max())


def test_binary_decisions_are_positive_for_the_second_class() -> None:
    X, y = rn.datasets.gaussian_mixture(20, n_features=2, random_state=0)
    classifier = NearestSubspaceClassifier(1).fit(X, y)
    assert classifier.decision_function(X).shape == (40,)
    np.testing.assert_array_equal(classifier.decision_function(X) > 0, classifier.predict(X) == 1)


def test_the_coding_length_estimator_is_the_classifier(data: tuple[np.ndarray, np.ndarray]) -> None:
    """With the same parameters and defaults."""
    X, y = data
    ours, theirs = (inspect.signature(make).parameters for make in (MICLClassifier, MICL))
    assert [(p.name, p.kind, p.default) for p in ours.values()] == [
        (p.name, p.kind, p.default) for p in theirs.values()
    ]
    for settings in ({}, {"epsilon_sq": "cv", "cv": 3}, {"n_neighbors": 3}, {"kernel": "rbf"}, {"criterion": "rate"}):
        micl, estimator = MICL(**settings).fit(X, y), MICLClassifier(**settings).fit(X, y)
        np.testing.assert_array_equal(estimator.decision_function(X), -micl.scores(X))
        np.testing.assert_array_equal(estimator.predict(X), micl.predict(X))
        np.testing.assert_array_equal(estimator.predict_proba(X), micl.probabilities(X))
        assert estimator.epsilon_sq_ == micl.epsilon_sq_
        assert estimator.score(X, y) == micl.score(X, y)
    two = y != "why"
    binary = MICLClassifier().fit(X[two], y[two])
    scores = MICL().fit(X[two], y[two]).scores(X)
    np.testing.assert_array_equal(binary.decision_function(X), scores[:, 0] - scores[:, 1])


def test_kernel_matrices_are_split_by_scikit_learn() -> None:
    """k(x, x) is one number, so that folds need no diagonal; a quarter of the classes' distance is no error."""
    random = np.random.default_rng(0)
    y = np.arange(30) % 2
    X = np.array([[0.0, 0.0], [4.0, 0.0]])[y] + 0.5 * random.standard_normal((30, 2))
    K = np.exp(-((X[:, None] - X[None]) ** 2).sum(axis=2) / 8)
    given = MICLClassifier(kernel="precomputed", kernel_dim=2)
    function = MICLClassifier(kernel="rbf", gamma=1 / 8)
    grid = {"epsilon_sq": [0.01, 0.1, 1.0]}
    searches = [GridSearchCV(one, grid, cv=3).fit(Z, y) for one, Z in ((given, K), (function, X))]
    np.testing.assert_array_equal(*(search.cv_results_["mean_test_score"] for search in searches))
    assert searches[0].best_score_ == 1.0
    with pytest.raises(ValueError, match=r"X has shape \(30, 2\); expected \(m, m\): kernel is 'precomputed'"):
        given.fit(X, y)


def test_fewer_samples_than_dimensions() -> None:
    """Where a covariance has no inverse: two lines in 20 dimensions, three samples each."""
    random = np.random.default_rng(1)
    directions = np.linalg.qr(random.standard_normal((20, 2)))[0].T
    X, X_new = (
        random.uniform(1, 3, (n, 1)) * directions[np.arange(n) % 2] + 0.05 * random.standard_normal((n, 20))
        for n in (6, 40)
    )
    for settings in ({}, {"mean": "zero"}, {"n_neighbors": 2, "mean": "zero"}, {"epsilon_sq": "cv"}):
        classifier = MICLClassifier(**{"epsilon_sq": 0.1, **settings}).fit(X, np.arange(6) % 2)
        assert classifier.score(X_new, np.arange(40) % 2) == 1.0


def test_set_output_names_the_columns() -> None:
    pandas = pytest.importorskip("pandas")
    X, y = rn.datasets.gaussian_mixture(10, n_features=3, random_state=0)
    frame = pandas.DataFrame(X, columns=list("abc"))
    transformer = ReduNetTransformer(2).set_output(transform="pandas").fit(frame, y)
    assert list(transformer.transform(frame).columns) == [f"redunettransformer{i}" for i in range(4)]
    np.testing.assert_array_equal(transformer.feature_names_in_, ["a", "b", "c"])


def test_errors_name_the_argument() -> None:
    X, y = np.ones((4, 6)), [0, 1, 0, 1]
    images = np.ones((4, 1, 2, 3))
    with pytest.raises(ValueError, match=r"signal_shape is \(1, 2, 3\); expected \(T,\) or \(H, W\)"):
        ReduNetTransformer(signal_shape=(1, 2, 3)).fit(X, y)
    with pytest.raises(ValueError, match=r"X has shape \(4, 6\); expected \(m, C \* 4\), as signal_shape says"):
        ReduNetTransformer(signal_shape=(4,)).fit(X, y)
    with pytest.raises(ValueError, match=r"X has shape \(4, 6\); expected \(m, C \* 3 \* 4\)"):
        RandomLift(signal_shape=(3, 4)).fit(X)
    with pytest.raises(ValueError, match=r"X has shape \(4, 1, 2, 3\); signal_shape says \(m, C, 3, 2\)"):
        ReduNetClassifier(signal_shape=(3, 2)).fit(images, y)
    with pytest.raises(ValueError, match="signal_shape is 0; expected an integer >= 1"):
        ReduNetTransformer(signal_shape=(0,)).fit(X, y)
    with pytest.raises(ValueError, match="sample_weight is zero for every sample; expected a positive weight"):
        ReduNetTransformer().fit(X, y, sample_weight=np.zeros(4))
    with pytest.raises(ValueError, match=r"sample_weight has shape \(3,\); expected \(4,\)"):
        NearestSubspaceClassifier().fit(X, y, sample_weight=np.ones(3))
    with pytest.raises(ValueError, match="n_layers is 0; expected an integer >= 1"):
        ReduNetTransformer(0).fit(X, y)
    with pytest.raises(ValueError, match="requires y to be passed, but the target y is None"):
        ReduNetTransformer().fit(X, None)
    for estimator in ESTIMATORS:
        said = r"^Complex data not supported: X has dtype complex128; expected real numbers\. Complex samples are for "
        with pytest.raises(ValueError, match=said):
            clone(estimator).fit(X + 1j, y)
    with pytest.raises(ValueError, match="n_clusters is 5; expected at most 4, as many as samples"):
        CodingLengthClustering(n_clusters=5).fit(X)
    with pytest.raises(ValueError, match="n_clusters is 1; expected at least 4: connectivity keeps so many apart"):
        CodingLengthClustering(n_clusters=1, connectivity=np.eye(4)).fit(X)
    for clusterer in (CodingLengthClustering(), CodingRateKSubspaces()):
        with pytest.raises(ValueError, match="Found array with dim 3"):
            clusterer.fit(images[:, 0])
    with pytest.raises(ValueError, match="connectivity is given and refine True; expected None: vertex steps know no"):
        CodingLengthClustering(refine=True, connectivity=np.eye(4)).fit(X)
    with pytest.raises(ValueError, match="n_clusters is 8; expected at most 4, as many as samples"):
        CodingRateKSubspaces().fit(X)
    for estimator in ESTIMATORS:
        method = "transform" if hasattr(estimator, "transform") else "predict"
        with pytest.raises(NotFittedError):
            getattr(clone(estimator), method)(X)


def test_without_scikit_learn_the_error_names_the_extra() -> None:
    script = """
import sys
sys.modules["sklearn"] = None
import redunet as rn
try:
    rn.sklearn
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.strip() == "redunet.sklearn needs scikit-learn: pip install 'redunet[sklearn]'"


def test_importing_redunet_does_not_import_scikit_learn() -> None:
    script = "import sys, redunet; print('sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.strip() == "False"
