"""When a network helps on small data: tables and few images, against simple rivals.

Every method chooses what it has to choose by cross-validation on the training samples of a fold or a draw, and
is tested once on the others. "no network" is what a network is given, with the nearest subspace.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from redunet.experiments import needs
from redunet.experiments.digits import at_most, check_folder, folder, held_out_digits, mnist, training_digits
from redunet.experiments.options import DataMissing, Options
from redunet.experiments.report import Report, spread

Array = npt.NDArray[Any]
#: Samples and labels to something that predicts.
Method = Callable[[Array, Array], Any]

SETS = ("iris", "wine", "breast_cancer", "digits")
FOLDS, INNER = 5, 3
CHANNELS = 8
#: Training images of each class, test images of each class, and by how many pixels images are moved at most.
FEW, TESTED, MOVED = (5, 20), 50, 6
#: What is searched, of vectors, and of signals and images.
VECTORS: dict[str, list[Any]] = {"n_layers": [1, 5, 20], "n_components": [1, 2, 5, 10], "epsilon_sq": [0.1, 1.0]}
SIGNALS: dict[str, list[Any]] = {"n_layers": [1, 10], "n_components": [2, 10]}
KERNELS = [3, 9]
RIVALS: dict[str, dict[str, list[Any]]] = {
    "logistic regression": {"C": [0.01, 0.1, 1.0, 10.0, 100.0]},
    "nearest neighbours": {"n_neighbors": [1, 3, 5, 9, 15]},
    "SVM": {"C": [1.0, 10.0, 100.0], "gamma": [0.1, 0.3, 1.0, 3.0]},
}
#: Bins of probability for the expected calibration error.
BINS = 10


class Held(NamedTuple):
    """Training samples, and test samples."""

    X: Array
    y: Array
    T: Array
    t: Array


def small_data(options: Options) -> Report:
    """Networks against logistic regression, nearest neighbours and support vector machines, all tuned.

    Four tables of scikit-learn by nested cross-validation, with probabilities; 5 and 20 images of each class, upright
    and moved: scikit-learn's digits, and MNIST where its folder is given.
    """
    needs.require("sklearn")
    report = Report(
        "small",
        "small data: a network against simple rivals",
        {"seeds": options.seeds, "folds": FOLDS, "folds of a search": INNER, "channels of a lift": CHANNELS},
    )
    _tables(report, options)
    _images(report, "Digits of 8 x 8 pixels", _digits, options)
    try:
        check_folder(options)
    except DataMissing:
        report.remark("Without MNIST: --data names no folder.")
    else:
        report.settings["images"] = folder(options).name
        _images(report, "Digits of 28 x 28 pixels", _mnist, options)
    report.remark("± is the standard deviation over seeds: folds, or draws of training images and kernels.")
    return report


def _tables(report: Report, options: Options) -> None:
    """Accuracy, and what probabilities are worth, of samples in outer folds."""
    from sklearn import datasets as sets
    from sklearn.model_selection import StratifiedKFold

    methods = {**rivals(), **networks_of_vectors(options)}
    probable = {"logistic regression": _logistic, "ReduNet": _probable(options)}
    for name in SETS:
        X, y = getattr(sets, f"load_{name}")(return_X_y=True)
        X, y = at_most(X, y, options.n_train)
        right: dict[str, list[float]] = {method: [] for method in methods}
        losses: dict[str, list[tuple[float, float]]] = {method: [] for method in probable}
        for seed in range(options.seeds):
            folds = list(StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(X, y))
            for method, fit in methods.items():
                hits = [fit(X[train], y[train]).predict(X[test]) == y[test] for train, test in folds]
                right[method].append(float(np.concatenate(hits).mean()))
            for method, fit in probable.items():
                P = np.empty((len(y), int(y.max()) + 1))
                for train, test in folds:
                    P[test] = fit(X[train], y[train]).predict_proba(X[test])
                losses[method].append(_calibration(P, y))
        about = {"set": name.replace("_", " "), "samples": len(X), "columns": X.shape[1], "classes": int(y.max()) + 1}
        report.add("Tables: accuracy", **about, **{method: spread(found) for method, found in right.items()})
        columns: dict[str, Any] = {}
        for method, found in losses.items():
            loss, error = np.transpose(found)
            columns |= {f"{method}: log loss": spread(loss, 3), f"{method}: calibration error": spread(error, 3)}
        report.add("Tables: probabilities, with defaults", set=about["set"], **columns)


def _calibration(P: Array, y: Array) -> tuple[float, float]:
    """Log loss, and the expected error of the probability of the predicted class, in bins of equal width."""
    sure = P.max(axis=1)
    gaps = (P.argmax(axis=1) == y) - sure
    sums = np.bincount(np.minimum((sure * BINS).astype(int), BINS - 1), gaps, minlength=BINS)
    loss = -np.log(np.maximum(P[np.arange(len(y)), y], np.finfo(float).tiny)).mean()
    return float(loss), float(np.abs(sums).sum() / len(y))


def _images(report: Report, title: str, source: Callable[[int, int, Options], Held], options: Options) -> None:
    """Few images of each class, as they stand and moved, training images too."""
    sizes = sorted({options.samples(n) for n in FEW})
    for moved in (False, True):
        for n in sizes:
            right: dict[str, list[float]] = {}
            for seed in range(options.seeds):
                held = source(n, seed, options)
                if moved:
                    random = np.random.default_rng(seed)
                    held = held._replace(X=_moved(held.X, random), T=_moved(held.T, random))
                for method, accuracy in _accuracies(held, seed, options).items():
                    right.setdefault(method, []).append(accuracy)
            report.add(
                f"{title}: accuracy",
                images="moved" if moved else "as they stand",
                **{"of each class": n},
                **{method: spread(found) for method, found in right.items()},
            )


def _digits(n: int, seed: int, options: Options) -> Held:
    """scikit-learn's: n of each class at random, and some of the others."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(y))
    X, y = X[order].reshape(-1, 1, 8, 8) / 16, y[order]
    train = np.sort(np.concatenate([np.flatnonzero(y == label)[:n] for label in range(10)]))
    rest = np.setdiff1d(np.arange(len(y)), train)
    return Held(X[train], y[train], *at_most(X[rest], y[rest], min(TESTED, options.n_test or TESTED)))


def _mnist(n: int, seed: int, options: Options) -> Held:
    data = mnist(options)
    X, y = training_digits(data, n, range(10), seed)
    T, t = held_out_digits(data, range(10), min(TESTED, options.n_test or TESTED))
    return Held(X, y, T, t)


def _moved(X: Array, random: np.random.Generator) -> Array:
    """Each image by up to `MOVED` pixels in both directions, less if it is smaller; what leaves comes in again."""
    most = [min(MOVED, n // 2) for n in X.shape[2:]]
    moves = np.stack([random.integers(-m, m + 1, len(X)) for m in most], axis=1)
    return np.stack([np.roll(x, move, axis=(1, 2)) for x, move in zip(X, moves, strict=True)])


def _accuracies(held: Held, seed: int, options: Options) -> dict[str, float]:
    """Of rivals, which see vectors, and of networks, which see signals through random kernels.

    Points have one unit, in which their variance is one: deviations of single points would be larger for rare ones.
    """
    found = {}
    unit = held.X.std()
    for name, fit in {**rivals(standardised=False), **networks_of_signals(seed, options)}.items():
        X, T = ((some.reshape(len(some), -1) / unit if name in RIVALS else some) for some in (held.X, held.T))
        found[name] = float(np.mean(fit(X, held.y).predict(T) == held.t))
    return found


def tuned(model: Any, grid: dict[str, list[Any]]) -> Method:
    """By cross-validation in the samples that it is given; the first of equals, so grids begin with what is simple."""
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    def fit(X: Array, y: Array) -> Any:
        folds = StratifiedKFold(min(INNER, int(np.unique(y, return_counts=True)[1].min())))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of networks that do nothing, and iterations that end
            return GridSearchCV(model, grid, cv=folds, error_score="raise").fit(X, y)

    return fit


def rivals(*, standardised: bool = True) -> dict[str, Method]:
    """On columns that are standardised, or as they are."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    def after(model: Any) -> Any:
        return make_pipeline(*[StandardScaler()] * standardised, model)

    def machine(X: Array, y: Array) -> Any:
        grid = {"svc__C": RIVALS["SVM"]["C"], "svc__gamma": [g / X.shape[1] for g in RIVALS["SVM"]["gamma"]]}
        return tuned(after(SVC()), grid)(X, y)

    def near(X: Array, y: Array) -> Any:
        fewest = len(y) // 2  # samples of the smallest fold's training part, of two folds or more
        numbers = [n for n in RIVALS["nearest neighbours"]["n_neighbors"] if n <= fewest]
        grid = {"kneighborsclassifier__n_neighbors": numbers}
        return tuned(after(KNeighborsClassifier()), grid)(X, y)

    grid = {"logisticregression__C": RIVALS["logistic regression"]["C"]}
    linear = tuned(after(LogisticRegression(max_iter=2000)), grid)
    return {"logistic regression": linear, "nearest neighbours": near, "SVM": machine}


def _logistic(X: Array, y: Array) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(X, y)


def _searched(grid: dict[str, list[Any]], options: Options, step: str = "") -> dict[str, list[Any]]:
    """With no more layers than are asked for, for a step of a pipeline."""
    layers = sorted({options.layers(n) if n > options.layers(n) else n for n in grid["n_layers"]})
    return {f"{step}{name}": values for name, values in {**grid, "n_layers": layers}.items()}


def networks_of_vectors(options: Options) -> dict[str, Method]:
    """The estimator as it is, tuned, and what its network is given with the nearest subspace."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, Normalizer, StandardScaler

    from redunet.sklearn import NearestSubspaceClassifier, ReduNetClassifier

    default = ReduNetClassifier(options.layers(20))
    constant = FunctionTransformer(lambda X: np.column_stack([X, np.full(len(X), np.sqrt(X.shape[1]))]))
    without = make_pipeline(StandardScaler(), constant, Normalizer(), NearestSubspaceClassifier())
    grid = {"nearestsubspaceclassifier__n_components": VECTORS["n_components"]}
    return {
        "no network": tuned(without, grid),
        "ReduNet, defaults": lambda X, y: default.fit(X, y),
        "ReduNet": tuned(ReduNetClassifier(), _searched(VECTORS, options)),
    }


def _probable(options: Options) -> Method:
    from redunet.sklearn import ReduNetClassifier

    return lambda X, y: ReduNetClassifier(options.layers(20), probability=True).fit(X, y)


def networks_of_signals(seed: int, options: Options) -> dict[str, Method]:
    """Lifted by random kernels: the nearest subspace, and the network; of samples as they stand, and of all shifts."""
    from sklearn.pipeline import make_pipeline

    from redunet.sklearn import RandomLift, ReduNetClassifier

    kernels = {"randomlift__kernel_size": KERNELS}
    searched = _searched(SIGNALS, options, "redunetclassifier__")
    alone = {name: values for name, values in searched.items() if not name.endswith("n_layers")}
    found = {}
    kinds: tuple[tuple[Literal["best"] | None, str], ...] = ((None, ""), ("best", ", all shifts"))
    for shifts, of_all in kinds:
        network = ReduNetClassifier(dft_norm="backward", channels="first", shifts=shifts)
        without = ReduNetClassifier(1, eta=0.0, channels="first", shifts=shifts)  # whose layer does nothing
        for name, model, grid in ((f"no network{of_all}", without, alone), (f"ReduNet{of_all}", network, searched)):
            lift = RandomLift(CHANNELS, channels="first", random_state=seed)
            found[name] = tuned(make_pipeline(lift, model), {**kernels, **grid})
    return found
