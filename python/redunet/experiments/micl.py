"""Minimum incremental coding length, MICL, against other classifiers: MNIST, with many samples and few, and small sets.

Whatever a method can choose it chooses on training samples alone.
"""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet import datasets
from redunet._inputs import words
from redunet.classifiers import MICL
from redunet.classifiers.increments import Code
from redunet.classifiers.members import NearestOfClasses
from redunet.experiments import needs
from redunet.experiments.digits import at_most, held_out_digits, mnist, training_digits, vectors
from redunet.experiments.options import Options
from redunet.experiments.report import Report, spread
from redunet.plot import style

Array = npt.NDArray[Any]
#: Digits at the end of the training set on which neighbours and distortion are chosen, a sixth of fewer.
HELD_OUT = 10_000
NEIGHBORS = (5, 10, 15, 20, 30)
NEIGHBORS_OF_DIGITS = (*NEIGHBORS, 40, 60)  # of 30 there are fewer errors than of 20, about zero
#: In grey levels, 0 to 255, over a whole image.
EPSILONS = np.array([75.0, 150.0, 300.0, 600.0, 1200.0])
VOTERS = (1, 3, 5)
COMPONENTS = (50, 100)
#: Samples of each class where there are few.
FEW = (5, 10, 20, 50, 200)
SETS = ("digits", "wine", "iris", "breast_cancer")
FOLDS = 5


def micl(options: Options) -> Report:
    """Coding length against nearest neighbours, support vector machines and discriminant analysis.

    MNIST whole, n and eps of local MICL chosen on the last 10 000 training digits; principal components, one code a
    class; ``seeds`` draws of 5 to 200 digits of each class, every rival tuned by cross-validation; digits, wine, iris
    and breast cancer by nested cross-validation, ``seeds`` times.
    """
    needs.require("sklearn")
    data = mnist(options)
    report = Report(
        "micl",
        "minimum incremental coding length",
        {"digits per class, at most": options.n_train, "test digits per class, at most": options.n_test,
         "draws": options.seeds, "folds": FOLDS},
    )  # fmt: skip
    _whole(report, data, options)
    _components(report, data, options)
    _few(report, data, options)
    _small_sets(report, options)
    report.remark("± is the standard deviation over draws. A method that refuses the data has no number.")
    return report


def _whole(report: Report, data: datasets.Split, options: Options) -> None:
    """Pixels: local MICL and nearest neighbours, parameters from the end of the training set."""
    n_held = min(HELD_OUT, len(data.y_train) // 6)
    pixels, T, t = _digits(data, options)
    X, y = at_most(pixels[:-n_held], data.y_train[:-n_held], options.n_train)
    V, v = at_most(pixels[-n_held:], data.y_train[-n_held:], options.n_test)
    every, labels = np.concatenate([X, V]), np.concatenate([y, v])
    means: tuple[tuple[words.Mean, str], ...] = (("estimate", "estimated"), ("zero", "zero"))
    for mean, name in means:
        found = {n: _local_errors(X, y, V, v, n, mean) for n in NEIGHBORS_OF_DIGITS}
        n = min(found, key=lambda n: found[n].min())
        epsilon = float(EPSILONS[found[n].argmin()])
        error, seconds = _timed(MICL(epsilon**2, mean=mean, n_neighbors=n).fit(every, labels).predict, T, t)
        report.add(
            "MNIST, pixels",
            method=f"local MICL, {name} mean",
            chosen=f"n = {n}, ε = {epsilon:g}",
            **{"held out, %": _percent(found[n].min()), "test, %": _percent(error), "predict, s": seconds},
        )
        report.series[f"held-out errors, {name} mean"] = {str(n): errors for n, errors in found.items()}
    from sklearn.neighbors import KNeighborsClassifier

    held = {k: float(np.mean(KNeighborsClassifier(k).fit(X, y).predict(V) != v)) for k in VOTERS}
    k = min(held, key=lambda k: held[k])
    error, seconds = _timed(KNeighborsClassifier(k).fit(every, labels).predict, T, t)
    report.add(
        "MNIST, pixels",
        method="nearest neighbours",
        chosen=f"k = {k}",
        **{"held out, %": _percent(held[k]), "test, %": _percent(error), "predict, s": seconds},
    )


def _local_errors(X: Array, y: Array, V: Array, v: Array, n: int, mean: str) -> Array:
    """Share of errors for every one of `EPSILONS`: neighbours are found once."""
    classes, codes = np.unique(y, return_inverse=True)
    code = Code(X.shape[1], mean == "estimate", True)
    lengths = NearestOfClasses(X, codes, n).lengths(code, EPSILONS**2, V)
    result: Array = (classes[lengths.argmin(axis=2)] != v).mean(axis=1)
    return result


def _components(report: Report, data: datasets.Split, options: Options) -> None:
    """Principal components of all training digits: one code a class."""
    pixels, T, t = _digits(data, options)
    X, y = at_most(pixels, data.y_train, options.n_train)
    for d in COMPONENTS:
        Z, Z_test = _projected(X, T, d)
        for name, make in _methods().items():
            if name == "SVM":  # hours
                continue
            error, seconds = _fitted(make, Z, y, Z_test, t)
            report.add(
                "MNIST, principal components",
                components=Z.shape[1],
                method=name,
                **{"test, %": _percent(error), "fit with choice, and predict, s": seconds},
            )


def _few(report: Report, data: datasets.Split, options: Options) -> None:
    """Few digits of each class, on 50 principal components of all training digits, whose labels nobody saw."""
    most = min(int(np.bincount(data.y_train).min()), options.samples(max(FEW)))
    methods = _methods()
    sizes = [n for n in FEW if n <= most] or [most]
    X, T, t = _digits(data, options)
    Z_train, Z_test = _projected(X, T, 50)
    split = datasets.Split(Z_train, data.y_train, Z_test, t)
    curves: dict[str, list[float]] = {name: [] for name in methods}
    for n in sizes:
        errors: dict[str, list[float]] = {name: [] for name in methods}
        for seed in range(options.seeds):
            Z, y = training_digits(split, n, range(10), seed)
            for name, make in methods.items():
                errors[name].append(_fitted(make, Z, y, Z_test, t)[0])
        report.add(
            "Few digits of each class: test error, %",
            **{"per class": n},
            **{name: spread(100 * np.array(found), 2) for name, found in errors.items()},
        )
        for name, found in errors.items():
            curves[name].append(100 * float(np.mean(found)))
    (ax,) = report.axes("few", "Test error against the training digits of each class, 50 principal components.")
    for name, color, marker, dashes in style.styles(list(curves)):
        ax.plot(sizes, curves[name], marker=marker, color=color, linestyle=dashes, label=name)
    ax.set(xscale="log", ylim=(0, None), xlabel="training digits of each class", ylabel="test error, %")
    ax.set_xticks(sizes, [str(n) for n in sizes])
    ax.minorticks_off()
    ax.grid(True, **style.GRID)
    ax.legend(frameon=False)


def _small_sets(report: Report, options: Options) -> None:
    """Nested cross-validation: what is chosen is chosen inside each of the outer folds, on standardised features."""
    from sklearn import datasets as sets
    from sklearn.model_selection import StratifiedKFold

    methods = {"MICL": _code, "local MICL": _local_code, **_rivals()}
    for name in SETS:
        X, y = getattr(sets, f"load_{name}")(return_X_y=True)
        X, y = at_most(X, y, options.n_train)
        errors: dict[str, list[float]] = {method: [] for method in methods}
        for seed in range(options.seeds):
            wrong = dict.fromkeys(methods, 0.0)
            for train, test in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(X, y):
                mean, scale = X[train].mean(axis=0), X[train].std(axis=0)
                Z = (X - mean) / np.where(scale > 0, scale, 1)
                for method, make in methods.items():
                    wrong[method] += _fitted(make, Z[train], y[train], Z[test], y[test])[0] * len(test) / len(X)
            for method in methods:
                errors[method].append(wrong[method])
        report.add(
            "Small sets, nested cross-validation: error, %",
            set=name.replace("_", " "),
            samples=len(X),
            **{method: spread(100 * np.array(found), 2) for method, found in errors.items()},
        )


Method = Callable[[Array, Array], Any]


def _methods() -> dict[str, Method]:
    """What is compared on MNIST: each takes samples and labels, chooses what it can, and is fitted."""
    return {"MICL": _code, "MICL, zero mean": lambda X, y: MICL("cv", mean="zero", cv=FOLDS).fit(X, y), **_rivals()}


def _code(X: Array, y: Array) -> MICL:
    return MICL("cv", cv=FOLDS).fit(X, y)


def _local_code(X: Array, y: Array) -> MICL:
    """Neighbours and distortion with the fewest errors."""
    fitted = [MICL("cv", n_neighbors=n, cv=FOLDS).fit(X, y) for n in NEIGHBORS]
    return min(fitted, key=lambda one: one.cv_errors_.min())


def _rivals() -> dict[str, Method]:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC

    def tuned(make: Callable[[], Any], grid: dict[str, Any]) -> Method:
        def fit(X: Array, y: Array) -> Any:
            folds = StratifiedKFold(min(FOLDS, int(np.unique(y, return_counts=True)[1].min())))
            search = GridSearchCV(make(), grid, cv=folds)
            try:
                return search.fit(X, y)
            except ValueError as error:
                if "fits failed" not in str(error):
                    raise
                raise np.linalg.LinAlgError("every setting refuses") from error

        return fit

    def machine(X: Array, y: Array) -> Any:
        gammas = np.array([0.1, 0.3, 1.0, 3.0]) / (X.shape[1] * X.var())  # about gamma="scale"
        return tuned(SVC, {"C": [1.0, 10.0, 100.0], "gamma": gammas})(X, y)

    rivals: dict[str, Method] = {
        "SVM": machine,
        "QDA": tuned(QuadraticDiscriminantAnalysis, {"reg_param": [0.0, 0.01, 0.1, 0.3, 0.6]}),
    }
    if "shrinkage" in inspect.signature(QuadraticDiscriminantAnalysis).parameters:  # of scikit-learn since 1.8
        rivals["QDA, shrunk"] = lambda X, y: QuadraticDiscriminantAnalysis(solver="eigen", shrinkage="auto").fit(X, y)
    rivals["LDA, shrunk"] = lambda X, y: LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(X, y)
    rivals["nearest neighbours"] = tuned(KNeighborsClassifier, {"n_neighbors": VOTERS})
    return rivals


def _fitted(make: Method, X: Array, y: Array, T: Array, t: Array) -> tuple[float, float]:
    """Share of errors and seconds; the share is not a number where the method refuses the data."""
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of features that are collinear, and fits that fail
        try:
            error = float(np.mean(make(X, y).predict(T) != t))
        except np.linalg.LinAlgError:
            error = np.nan
    return error, time.perf_counter() - start


def _timed(predict: Callable[[Array], Array], T: Array, t: Array) -> tuple[float, float]:
    start = time.perf_counter()
    error = float(np.mean(predict(T) != t))
    return error, time.perf_counter() - start


def _percent(share: float) -> float | None:
    return None if np.isnan(share) else 100 * float(share)


def _digits(data: datasets.Split, options: Options) -> tuple[Array, Array, Array]:
    """Pixels of all training digits, and of the test digits with their labels."""
    images, t = held_out_digits(data, range(10), options.n_test)
    X, T = (vectors(some).astype(np.float32) for some in (data.X_train, images))
    return X, T, t


def _projected(X: Array, T: Array, d: int) -> tuple[Array, Array]:
    """X and T on the first principal components of X, in double precision."""
    from sklearn.decomposition import PCA

    pca = PCA(min(d, *X.shape), random_state=0).fit(X)
    return pca.transform(X).astype(np.float64), pca.transform(T).astype(np.float64)
