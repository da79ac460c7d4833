"""Every argument of every public function, with wrong values of every kind: a TypeError or ValueError names it.

The table below says what an argument takes; a test goes over the signatures and fails where an argument is new and has
no line in the table, so that none is forgotten.
"""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import redunet as rn
from redunet import clustering, datasets, distributed, experiments, linalg, segmentation, sparse
from redunet.classifiers import MICL, micl

X = np.random.default_rng(0).normal(size=(12, 4))
SIGNALS = X.reshape(12, 2, 2)
Y = np.arange(12) % 2
IMAGE = Y.reshape(3, 4)

OBJECT = object()
NUMBERS = [
    "fast",
    b"1",
    None,
    True,
    1j,
    [1.0],
    (),
    {},
    OBJECT,
    np.array([0.1]),
    np.nan,
    np.inf,
    -np.inf,
    -1,
    "nan",
    print,
]
ZERO = 0
INTEGERS = [
    "2",
    None,
    True,
    2.5,
    2.0,
    np.nan,
    1j,
    [2],
    (2, 2, 2),
    {},
    OBJECT,
    -1,
    ZERO,
    np.array([2, 2]),
    np.float64(2),
]
LENGTHS = ["2", None, True, 2.5, np.nan, 1j, (2, 2, 2), (), ("2",), [2.5], {}, OBJECT, -1, 0, (0,), np.float64(2)]
WORDS = ["no such word", "", None, True, 3, 2.5, ["ortho"], {}, OBJECT, b"ortho", np.array(["a", "b"])]
FLAGS = ["no", "yes", "", None, 0, 1, 2.5, [], [True], {}, OBJECT, np.array([True, False]), 1j, b"no"]
CALLS = ["print", 3, True, False, 2.5, [], [print], {}, OBJECT, np.eye(2)]
ARRAYS = ["text", None, {}, OBJECT, 3, 2.5, [], [[]], np.ones((2, 2, 2, 2, 2)), [["a", "b"]], print]
LABELS = [None, 3, "text", {}, OBJECT, [0, 1], np.zeros((12, 2, 2)), [None] * 12, [0] * 13, print]

INDICES = ["text", None, {}, OBJECT, 2, -1, [2], [0.5], [[-1]], np.nan, True, print]

#: Wrong values by the argument's name. None is left out where it is the default.
WRONG = {
    "X": ARRAYS, "Z": ARRAYS, "images": ARRAYS, "A": ["text", None, {}, OBJECT, 3, [1, 2], np.ones((2, 3)), print],
    "B": ["text", None, {}, OBJECT, 3, np.ones(7), print], "y": LABELS,
    "first": INDICES, "second": INDICES,
    "n_layers": INTEGERS, "n_threads": INTEGERS, "patience": INTEGERS, "n_channels": INTEGERS, "n_angles": INTEGERS,
    "n_components": INTEGERS, "n_neighbors": INTEGERS, "stride": LENGTHS, "kernel_size": LENGTHS, "n": INTEGERS,
    "n_samples_per_class": INTEGERS, "n_features": INTEGERS, "length": INTEGERS, "n_train_per_class": INTEGERS,
    "n_bins": INTEGERS, "n_values": INTEGERS, "skip": [value for value in INTEGERS if value is not ZERO],
    "number": ["2", None, True, 2.5, [2], OBJECT, -1, 99], "layer": ["2", None, 2.5, [2], OBJECT],
    "epsilon_sq": [*NUMBERS, 0, 0.0], "lam": NUMBERS, "tol": NUMBERS, "threshold": NUMBERS, "noise": NUMBERS,
    "eta": ["fast", None, True, 1j, {}, OBJECT, [0.1, 0.2, 0.3], np.nan, -1, np.inf, print, [["a"]]],
    "sample_weight": ["a", 3, {}, OBJECT, [1.0], -np.ones(12), np.full(12, np.nan), np.ones(12) * 1j, list("ab" * 6)],
    "assignment": WORDS, "dft_norm": WORDS, "keep": WORDS, "backend": WORDS, "unit": WORDS, "mean": WORDS,
    "activation": WORDS, "boundary": WORDS, "group": WORDS, "channels": WORDS,
    "dtype": ["foo", "float16", int, bool, object, "U3", 3, [], {}, OBJECT, "f4,f4", np.longdouble, "M8[s]", print],
    "momentum": FLAGS, "progress": FLAGS, "per_class": FLAGS, "compat": FLAGS, "endpoint": FLAGS, "shifts": FLAGS,
    "colorbar": FLAGS, "shared_scale": FLAGS, "complement": FLAGS, "on_layer": CALLS,
    "random_state": ["seed", 2.5, True, -1, 1 << 32, [1], {}, OBJECT],
    "signal_shape": ["4", 0, -4, 2.5, True, (), (4, 0), (2.0,), [[2]], {}, OBJECT, (1, 2, 2)],
    "seeds": INTEGERS, "epochs": INTEGERS, "n_train": INTEGERS, "n_test": INTEGERS, "plain": FLAGS, "full": FLAGS,
    "name": WORDS,
    "options": [3, "options", {}, OBJECT], "data": [3, [], {}, OBJECT, 2.5], "folder": [3, None, [], {}, OBJECT, 2.5],
    "bsds": [3, [], {}, OBJECT, 2.5],
    "classes": [3, "a", [], [[1]], {}, OBJECT],
    "criterion": WORDS, "kernel": WORDS, "gamma": [*NUMBERS, 0], "degree": INTEGERS, "coef0": NUMBERS,
    "kernel_dim": INTEGERS, "cv": [*INTEGERS, 1],
    "priors": ["no such word", None, 3, 2.5, {}, OBJECT, [], [[0.5, 0.5]], [0.5, 0.6], [1.5, -0.5], [np.nan, 1], print],
    "candidates": ["cv", 3, 2.5, {}, OBJECT, [], [[1.0]], [0.0], [-1.0], [np.inf], ["a"], [True], print],
    "diagonal": ["text", 3, {}, OBJECT, np.ones(3), print],
    "resume": [3, 2.5, True, [], {}, OBJECT, X, print, "a\0b"],
    "checkpoint": [3, 2.5, True, [], {}, OBJECT, X, print, "a\0b", "no such folder/net"], "every": INTEGERS,
    "connectivity": ["text", {}, OBJECT, 3, np.eye(3), np.full((12, 12), np.nan), np.eye(12) * 1j, print],
    "init": LABELS, "labels": LABELS, "truth": LABELS, "truths": LABELS, "thick": FLAGS,
    "stop": WORDS, "n_clusters": [*INTEGERS, 13], "min_cluster_size": INTEGERS,
    "n_init": INTEGERS, "max_iter": INTEGERS, "refine": FLAGS,
    "epsilons": ["a", None, {}, OBJECT, 0.1, [], [0.0], [-1], [[0.1]], [np.nan], [1j], ["a"], print],
    "n_samples": INTEGERS, "n_outliers": [value for value in INTEGERS if value is not ZERO],
    "path": [None, 3, "path", OBJECT, {}, X], "transition": [None, 3, "path", OBJECT, {}, X], "n_merges": INTEGERS,
    "Y": ["text", {}, OBJECT, [1, 2, 3], [[1, 2], [3]], np.ones((2, 2, 4)), np.full(4, np.nan), [None] * 4, print],
    "x0": ["text", {}, OBJECT, 3, [1, 2], np.full(4, np.inf), ["a"] * 4, np.ones((3, 4)), print],
    "n_iter": INTEGERS, "source": WORDS, "with_respect_to": WORDS, "L": [*NUMBERS, 0], "return_path": FLAGS,
    "x": ["text", None, {}, OBJECT, ["a"], print],
    "t": ["text", None, {}, OBJECT, 1j, -1, [-0.5], np.nan, np.inf, np.ones(7), print],
    "kernels": ["text", None, {}, OBJECT, 3, np.ones((2, 2)), np.full((1, 1, 2), np.nan), [[["a"]]], print],
    "features": ["text", None, {}, OBJECT, 3, [], np.ones(3), np.ones((3, 4)) * 1j, print],
    "image": ["text", None, {}, OBJECT, 3, [], np.ones(3), np.full((3, 4), -1.0), np.ones((3, 4)) * 1j, print],
    "superpixels": ["text", None, {}, OBJECT, 0, -1, 2.5, True, [], np.zeros((2, 2), int), print],
    "window": [*INTEGERS, 4], "overlap": [*NUMBERS, 0], "boundary_bits": NUMBERS, "n_segments": [*INTEGERS, 13],
    "mask": ["text", {}, OBJECT, 3, [], np.ones((3, 4)), np.ones((2, 4), bool), np.zeros((3, 4), bool), print],
    "color": WORDS,
    "symmetric": FLAGS, "differences": FLAGS, "affine": FLAGS, "probability": FLAGS,
    "class_weight": ["no such word", "", True, 3, 2.5, ["a"], OBJECT, b"balanced", {0: 0.0}, {0: "a"}, {"a": 1}, print],
    "early_stopping": FLAGS, "validation_fraction": [*NUMBERS, 0, 1], "n_iter_no_change": INTEGERS,
    "comm": [None, 3, "mpi", OBJECT], "layout": WORDS, "n_classes": INTEGERS,
    "shape": [None, 3, "text", (), (3,), (0, 3), (3, 2.5), (1, 2, 3, 4, 5), {}, OBJECT],
    "net": [None, 3, "net", OBJECT, {}, X], "ax": [3, "ax", OBJECT, {}, X],
    "label": ["no such", None, 2.5, True, [0], {}, OBJECT, X, print], "other": [None, 3, "net", OBJECT, {}, X],
    "largest_error": [*NUMBERS, 0],
    "results": [None, 3, {}, {"a": 3}, {"a": {"b": "c"}}, {"a": {"b": 2}}, {"a": {"b": None}}, "text", OBJECT],
}  # fmt: skip

#: Arguments that anything may be, or that belong to others' tests.
FREE = {"title": "text of anything"}


def network():
    return rn.build(X, Y, n_layers=1)[0]


def subspace():
    return rn.NearestSubspace(1).fit(SIGNALS, Y)


def over_ranks(**given):
    return distributed.build(**given)


over_ranks.__signature__ = inspect.Signature(
    parameter.replace(kind=parameter.KEYWORD_ONLY)
    for function in (rn.build, distributed.build)
    for name, parameter in inspect.signature(function).parameters.items()
    if function is rn.build or name in ("comm", "layout")
)


def public():
    """Where, the callable, and arguments that it takes."""
    signals = {"X": SIGNALS}
    yield "build", rn.build, {"X": X, "y": Y, "n_layers": 1}
    alone = {"comm": distributed.single()}
    yield "distributed.build", over_ranks, {"X": X, "y": Y, "n_layers": 1, **alone}
    yield "distributed.plan", distributed.plan, {"shape": (12, 4), "n_classes": 2, **alone}
    yield "ReduNet.transform", network().transform, {"X": X}
    yield "ReduNet.assign", network().assign, {"X": X}
    yield "ReduNet.staged_transform", network().staged_transform, {"X": X}
    yield "ReduNet.truncate", network().truncate, {"n_layers": 1}
    yield "forget_class", rn.forget_class, {"net": network(), "X": X, "y": Y, "label": 0}
    grams = rn.ClassGrams.of(X, Y)
    yield "ClassGrams.of", rn.ClassGrams.of, {"X": SIGNALS, "y": Y}
    for method in ("add", "forget"):
        yield f"ClassGrams.{method}", getattr(grams, method), {"X": X, "y": Y}
    yield "ClassGrams.merge", grams.merge, {"other": grams}
    yield "ClassGrams.forget_class", grams.forget_class, {"label": 0}
    yield "ClassGrams.rebuild", grams.rebuild, {"label": 0, "X": X}
    for method in ("rates", "layer"):
        yield f"ClassGrams.{method}", getattr(grams, method), {}
    yield "coding_length", rn.coding_length, {"Z": X, "epsilon_sq": 0.1}
    yield "coding_rate", rn.coding_rate, {"Z": X}
    yield "clustering.merge_path", clustering.merge_path, {"X": X, "epsilon_sq": 0.1}
    yield "clustering.vertex_steps", clustering.vertex_steps, {"X": X, "labels": Y, "epsilon_sq": 0.1}
    yield "clustering.phase_transition", clustering.phase_transition, {"X": X, "epsilons": [0.1]}
    for name in ("code_length", "effective_dimensions"):
        yield f"clustering.{name}", getattr(clustering, name), {"X": X, "labels": Y, "epsilon_sq": 0.1}
    for name in segmentation.__all__:
        if name in ("segment", "merge_regions"):
            continue
        truth = {"boundaries": {}, "probabilistic_rand_index": {"truths": IMAGE}}.get(name, {"truth": IMAGE})
        yield f"segmentation.{name}", getattr(segmentation, name), {"labels": IMAGE, **truth}
    yield "segmentation.segment", segmentation.segment, {"image": IMAGE.astype(float)}
    given = {"features": IMAGE.astype(float), "labels": IMAGE, "epsilon_sq": 0.1}
    yield "segmentation.merge_regions", segmentation.merge_regions, given
    yield "rate_reduction", rn.rate_reduction, {"Z": X, "y": Y}
    yield "rate_reduction_gradient", rn.rate_reduction_gradient, {"Z": X, "y": Y}
    yield "shifts", rn.shifts, signals
    yield "to_polar", rn.to_polar, {"images": SIGNALS, "n_channels": 2, "n_angles": 2}
    yield "use_backend", lambda backend: rn.use_backend(backend).__enter__(), {"backend": "auto"}
    others = {"solve": {"B": np.ones(3)}, "quadratic_forms": {"X": np.ones(3)}}
    sums = {"A": np.stack([np.eye(3)] * 2), "first": [0, 1], "second": 1}
    yield "linalg.logdet_of_sums", linalg.logdet_of_sums, sums
    for name in ("cholesky", "det", "inv", "logdet", "quadratic_forms", "slogdet", "solve"):
        yield f"linalg.{name}", getattr(linalg, name), {"A": np.eye(3)} | others.get(name, {})
    yield "RandomLift", rn.RandomLift, {"n_channels": 2, "kernel_size": 2}
    for method in ("fit", "transform", "fit_transform", "__call__"):
        yield f"RandomLift.{method}", getattr(rn.RandomLift(2, 2), method), signals
    yield "SparseLift", rn.SparseLift, {"n_channels": 2, "kernel_size": 2}
    for method in ("fit", "transform", "fit_transform", "__call__"):
        yield f"SparseLift.{method}", getattr(rn.SparseLift(2, 2), method), signals
    yield "PooledLift", rn.PooledLift, {}
    for method in ("fit", "transform", "fit_transform"):
        yield f"PooledLift.{method}", getattr(rn.PooledLift(4, 2).fit(SIGNALS), method), signals
    for make in (rn.NearestSubspace, rn.CosineNeighbors):
        yield make.__name__, make, {}
        yield f"{make.__name__}.fit", make().fit, {"Z": SIGNALS, "y": Y}
        yield f"{make.__name__}.predict", make().fit(SIGNALS, Y).predict, {"Z": SIGNALS}
        yield f"{make.__name__}.score", make().fit(SIGNALS, Y).score, {"Z": SIGNALS, "y": Y}
    yield "MICL", MICL, {}
    yield "MICL.fit", MICL().fit, {"Z": SIGNALS, "y": Y}
    yield "MICL.score", MICL().fit(SIGNALS, Y).score, {"Z": SIGNALS, "y": Y}
    for method in ("scores", "predict", "probabilities"):
        yield f"MICL.{method}", getattr(MICL().fit(SIGNALS, Y), method), {"Z": SIGNALS}
    yield "micl.scores", micl.scores, {"Z": X, "y": Y, "X": X, "epsilon_sq": 1.0}
    for method in ("scores", "scores_all_shifts", "predict_all_shifts", "score_all_shifts"):
        given = {"Z": SIGNALS} | ({"y": Y} if method == "score_all_shifts" else {})
        yield f"NearestSubspace.{method}", getattr(subspace(), method), given
    yield "gaussian_mixture", datasets.gaussian_mixture, {"n_samples_per_class": 2}
    yield "lines_and_plane", datasets.lines_and_plane, {"n_samples": 8}
    yield "sinusoids", datasets.sinusoids, {"n_samples_per_class": 2}
    yield "mnist", datasets.mnist, {"folder": "nowhere"}
    yield "cifar10", datasets.cifar10, {"folder": "nowhere"}
    yield "first_per_class", datasets.first_per_class, {"X": X, "y": Y, "n": 1}
    yield "digits", datasets.digits, {}
    for name in ("ista", "fista"):
        yield f"sparse.{name}", getattr(sparse, name), {"A": np.eye(4), "Y": X, "lam": 0.1, "n_iter": 2}
    yield "sparse.soft_threshold", sparse.soft_threshold, {"x": X, "t": 0.1}
    yield "sparse.objective", sparse.objective, {"A": np.eye(4), "Y": X, "X": X, "lam": 0.1}
    convolutions = {"kernels": np.ones((2, 1, 2)), "signal_shape": 4}
    yield "sparse.ConvolutionalDictionary", sparse.ConvolutionalDictionary, convolutions
    yield "experiments.Options", experiments.Options, {}
    yield "experiments.run", experiments.run, {"name": "gauss2d"}


def faces():
    from redunet import sklearn

    for name in sklearn.__all__:
        make = getattr(sklearn, name)

        def fit(X=X, y=Y, sample_weight=None, *, _make=make, **options):
            weights = () if sample_weight is None else (sample_weight,)
            return _make(**options).fit(X, y, *weights)

        every = {**inspect.signature(make).parameters, **inspect.signature(make.fit).parameters}
        del every["self"]
        fit.__signature__ = inspect.Signature([p.replace(kind=p.KEYWORD_ONLY) for p in every.values()])
        yield f"sklearn.{name}", fit, {}


def pictures():
    from redunet import plot

    yield "plot.rates", plot.rates, {"net": network()}
    yield "plot.operator", plot.operator, {"net": network()}
    path = clustering.merge_path(X, epsilon_sq=0.1)
    yield "plot.merge_tree", plot.merge_tree, {"path": path}
    yield "plot.code_lengths", plot.code_lengths, {"path": path}
    transition = clustering.phase_transition(X, [0.1, 1.0])
    yield "plot.phase_transition", plot.phase_transition, {"transition": transition}
    yield "plot.accuracies", plot.accuracies, {"results": {"a": {"b": 0.5}}}
    for name in ("cosines", "cosine_histogram", "singular_values"):
        yield f"plot.{name}", getattr(plot, name), {"Z": SIGNALS, "y": Y}
    yield "plot.segments", plot.segments, {"image": IMAGE.astype(float), "labels": IMAGE}
    yield "plot.scatter", plot.scatter, {"Z": X[:, :2], "y": Y}


def check(where, function, given):
    for parameter in inspect.signature(function).parameters.values():
        name = parameter.name
        if name in FREE or (
            name == "y" and any(face in where for face in ("Lift", "CodingLength", "CodingRate"))
        ):  # which nobody reads
            continue
        assert name in WRONG, f"{where} has an argument {name} that this table does not know"
        for value in WRONG[name]:
            if value is None and parameter.default is None:
                continue
            with pytest.raises((TypeError, ValueError), match=rf"\b{name}\b"):
                function(**{**given, name: value})


@pytest.mark.parametrize(("where", "function", "given"), [pytest.param(*case, id=case[0]) for case in public()])
def test_core(where, function, given):
    if where == "digits":
        pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    check(where, function, given)


def test_estimators():
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    for case in faces():
        check(*case)


def test_pictures():
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    for case in pictures():
        check(*case)


def test_every_public_function_is_in_the_table():
    listed = {where.partition(".")[0] for where, _, _ in public()} | {
        "linalg",
        "clustering",
        "datasets",
        "distributed",
        "plot",
        "segmentation",
        "sklearn",
        "sparse",
    }
    others = {
        "BuildInterrupted",
        "CudaError",
        "RateReduction",
        "ReduNet",
        "__version__",
        "empty_cache",
        "load",
        "show_config",
    }  # without arguments to check
    assert set(rn.__all__) == (listed & set(rn.__all__)) | others
    assert set(linalg.__all__) - {"QuadraticForms", "SlogDet"} == {
        where.partition(".")[2] for where, _, _ in public() if where.startswith("linalg.")
    }
    functions = {where.partition(".")[2] for where, _, _ in public() if where.startswith("clustering.")}
    assert set(clustering.__all__) - {"MergePath", "PhaseTransition", "VertexSteps"} == functions
    assert set(sparse.__all__) - {"Dictionary"} == {
        where.partition(".")[2] for where, _, _ in public() if where.startswith("sparse.")
    }
    assert set(datasets.__all__) - {"Split", "load_idx"} <= {where for where, _, _ in public()}
