"""Digits that come two classes at a time, and one that is forgotten: against networks built at once, and without it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet import datasets, plot
from redunet.classifiers import NearestSubspace
from redunet.experiments.digits import held_out_digits, mnist, training_digits, vectors
from redunet.experiments.networks import Built, timed_build
from redunet.experiments.options import Options
from redunet.experiments.report import Report, spread
from redunet.experiments.translations import lifted
from redunet.network import ClassGrams, ReduNet, forget_class
from redunet.transforms.norms import unit

Array = npt.NDArray[Any]
EPSILON_SQ, LAMBDA, N_COMPONENTS = 0.1, 500.0, 10
#: Classes arrive in this order, two at a time; the last is forgotten.
ORDER = tuple(range(10))
FORGOTTEN = 9
#: Samples of a class that are left, of all, in the figure of rounding.
PARTS = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005)


@dataclass(frozen=True)
class Task:
    """Training and test digits behind a front end."""

    X: Array
    y: Array
    X_test: Array
    y_test: Array
    dft_norm: str

    def some(self, classes: tuple[int, ...]) -> tuple[Array, Array]:
        """Training digits of these classes."""
        rows = np.isin(self.y, classes)
        return self.X[rows], self.y[rows]

    def tests(self, classes: tuple[int, ...]) -> tuple[Array, Array]:
        """Test digits of these classes."""
        rows = np.isin(self.y_test, classes)
        return self.X_test[rows], self.y_test[rows]

    def build(self, classes: tuple[int, ...], options: Options, **settings: Any) -> Built:
        """Of all digits of these classes at once."""
        X, y = self.some(classes)
        return timed_build(X, y, options, **self.settings, **settings)

    @property
    def settings(self) -> dict[str, Any]:
        """Of layers."""
        return {"epsilon_sq": EPSILON_SQ, "lam": LAMBDA, "dft_norm": self.dft_norm}


def _tasks(data: datasets.Split, options: Options, seed: int) -> dict[str, Task]:
    images, y_test = held_out_digits(data, ORDER, 500 if options.n_test is None else options.n_test)
    made = {}
    for name, n, dft_norm in (("vectors", 200, "ortho"), ("translations", 50, "backward")):
        digits, y = training_digits(data, options.samples(n), ORDER, seed)
        if name == "vectors":
            X, X_test = (unit(vectors(some).astype(np.float32)) for some in (digits, images))
        else:
            X, X_test = (lifted(some, 16, 9, seed) for some in (digits, images))
        made[name] = Task(X, y, X_test, y_test, dft_norm)
    return made


def incremental(options: Options) -> Report:
    """MNIST's digits 0 and 1, then 2 and 3, ..., then 8 and 9; and the 9 forgotten.

    Two front ends: vectors of 784, 200 digits a class, and images lifted to C = 16 by kernels of 9, 50 a class. One
    layer is made of Gram matrices that were added to, without the digits that came before, and predicts the class with
    the largest assignment; the network, of 10 natural layers with nearest subspace of 10 dimensions, is
    ``ReduNetClassifier.partial_fit``. Both beside what `redunet.build` makes of the same classes at once; tested on 500
    test digits a class.
    """
    data = mnist(options)
    n_layers = options.layers(10)
    report = Report(
        "incremental",
        "digits two classes at a time, and one forgotten",
        {"digits per class": f"{options.samples(200)} as vectors, {options.samples(50)} as images", "eta": "auto",
         "epsilon_sq": EPSILON_SQ, "lambda": LAMBDA, "layers": f"1 and {n_layers}", "seeds": options.seeds,
         "test digits per class": 500 if options.n_test is None else options.n_test,
         "dft_norm": 'ortho; of images "backward"', "classifier": "assignment; nearest subspace, 10 dimensions"},
    )  # fmt: skip
    come: dict[tuple[str, int], list[Array]] = {}
    gone: dict[tuple[str, str], list[Array]] = {}
    for seed in range(options.seeds):
        for name, task in _tasks(data, options, seed).items():
            grams, at_once = _arrive(name, task, n_layers, options, come)
            _forget(name, task, grams, at_once, n_layers, options, gone)
            if seed == 0:
                report.add(
                    "What is kept of all classes",
                    digits=name,
                    **{"samples, MB": task.X.nbytes / 1e6, "Gram matrices, MB": grams.nbytes / 1e6},
                    **{"operators of a layer, MB": at_once.net.nbytes / at_once.net.n_layers / 1e6},
                    **{"bound of the error of a Gram matrix": f"{grams.bounds.max():.1e}"},
                )
                if name == "vectors":
                    _draw_rounding(report, task)
    _tabulate(report, come, gone)
    _draw(report, come)
    report.remark(
        "What came in pieces is what was built at once: the same answers of one layer, whose old digits were not kept, "
        "and the same bits of the network, whose estimator keeps them and builds again, as long as it takes at once."
    )
    report.remark(
        "A class that is dropped from Gram matrices, or from a network by a replay with steps that are chosen again, "
        "leaves nothing: features are those of a network that never saw it, to the last bit. The old steps know of it: "
        "natural steps are as long as there are digits, so those of ten classes are too long for nine."
    )
    return report


def _arrive(
    name: str, task: Task, n_layers: int, options: Options, come: dict[tuple[str, int], list[Array]]
) -> tuple[ClassGrams, Built]:
    """Two classes at a time; the Gram matrices of all, and the network of all at once."""
    from redunet.sklearn import ReduNetClassifier

    as_build: dict[str, Any] = {"affine": False, "class_weight": None, **task.settings}  # what it is compared with
    network = ReduNetClassifier(n_layers, n_components=N_COMPONENTS, progress=options.progress, **as_build)
    grams: ClassGrams | None = None
    for last in range(2, len(ORDER) + 1, 2):
        new, known = ORDER[last - 2 : last], ORDER[:last]
        X_test, y_test = task.tests(known)
        start = time.perf_counter()
        grams = ClassGrams.of(*task.some(new)) if grams is None else grams.add(*task.some(new))
        layer = grams.layer(dtype=np.float32, **task.settings)
        between = time.perf_counter()
        network.partial_fit(*task.some(new))
        seconds = [between - start, time.perf_counter() - between]
        one = task.build(known, options, n_layers=1)
        again = grams.layer(dtype=np.float32, eta=float(one.net.etas[0]), **task.settings)
        answers = [_assigned(net, X_test) for net in (layer, one.net)]
        at_once = task.build(known, options, n_layers=n_layers)
        nearest = NearestSubspace(N_COMPONENTS).fit(at_once.Z, task.some(known)[1])
        Z, W = network.net_.transform(X_test), at_once.net.transform(X_test)
        come.setdefault((name, last), []).append(
            np.array(
                [*((some == y_test).mean() for some in answers), (answers[0] == answers[1]).mean(),
                 _distance(again.transform(X_test), one.net.transform(X_test)), seconds[0], one.seconds,
                 network.subspaces_.score(Z, y_test), nearest.score(W, y_test),
                 _distance(Z, W), seconds[1], at_once.seconds]
            )
        )  # fmt: skip
    assert grams is not None
    return grams, at_once


def _forget(
    name: str, task: Task, grams: ClassGrams, at_once: Built, n_layers: int, options: Options,
    gone: dict[tuple[str, str], list[Array]],
) -> None:  # fmt: skip
    """One class, from Gram matrices and from the network; half of the digits, from Gram matrices."""
    left = tuple(digit for digit in ORDER if digit != FORGOTTEN)
    X_left, y_left = task.some(left)
    remain = np.isin(task.y_test, left)
    y_test = task.y_test[remain]

    def note(what: str, Z: Array, W: Array, accuracy: float, seconds: float = np.nan, anew: float = np.nan) -> None:
        row = [_distance(Z, W), accuracy, seconds, anew]
        gone.setdefault((name, what), []).append(np.array(row))

    def layer(of: ClassGrams) -> tuple[Array, float, float]:
        start = time.perf_counter()
        made = of.layer(**task.settings)  # in double precision, to see its rounding
        seconds = time.perf_counter() - start
        return made.transform(task.X_test), float((_assigned(made, task.X_test[remain]) == y_test).mean()), seconds

    def network(net: ReduNet, Z: Array) -> tuple[Array, float]:
        features = net.transform(task.X_test)
        return features, NearestSubspace(N_COMPONENTS).fit(Z, y_left).score(features[remain], y_test)

    never, summed = _timed(lambda: ClassGrams.of(X_left, y_left))
    W, _, anew = layer(never)
    Z, accuracy, seconds = layer(grams.forget_class(FORGOTTEN))
    note("one layer: class dropped", Z, W, accuracy, seconds, summed + anew)
    Z, accuracy, _ = layer(grams)
    note("one layer: nothing forgotten", Z, W, accuracy)
    half = np.arange(len(task.y)) % 2 == 0
    other, summed = _timed(lambda: ClassGrams.of(task.X[~half], task.y[~half]))
    rest, subtracted = _timed(lambda: grams.forget(task.X[half], task.y[half]))
    W, _, anew = layer(other)
    Z, accuracy, seconds = layer(rest)
    note("one layer: half of the digits subtracted", Z, W, accuracy, subtracted + seconds, summed + anew)

    fresh = task.build(left, options, n_layers=n_layers)
    W, _ = network(fresh.net, fresh.Z)
    steps: dict[str, Any] = {"steps chosen again": "auto", "its old steps": at_once.net.etas}
    for what, eta in steps.items():
        start = time.perf_counter()
        net, features = forget_class(at_once.net, task.X, task.y, FORGOTTEN, eta=eta)
        seconds = time.perf_counter() - start
        Z, accuracy = network(net, features)
        note(f"network: replayed, {what}", Z, W, accuracy, seconds, fresh.seconds)
    Z, accuracy = network(at_once.net, at_once.Z[np.isin(task.some(ORDER)[1], left)])
    note("network: nothing forgotten", Z, W, accuracy)


def _timed(make: Callable[[], ClassGrams]) -> tuple[ClassGrams, float]:
    start = time.perf_counter()
    return make(), time.perf_counter() - start


def _assigned(net: ReduNet, X: Array) -> Array:
    """The class of the largest assignment."""
    labels: Array = net.classes_[net.assign(X).argmax(axis=1)]
    return labels


def _distance(Z: Array, W: Array) -> float:
    """Relative, in Frobenius norm."""
    return float(np.linalg.norm(Z - W) / np.linalg.norm(W))


def _exponent(values: Array) -> str | None:
    """The largest distance of all seeds."""
    largest = float(np.max(values))
    return "0" if largest == 0 else f"{largest:.1e}"


def _tabulate(
    report: Report, come: dict[tuple[str, int], list[Array]], gone: dict[tuple[str, str], list[Array]]
) -> None:
    for (name, last), rows in come.items():
        added, one, same, far, seconds, anew, *_ = np.array(rows).T
        report.add(
            "One layer, of Gram matrices that are added to",
            digits=name,
            classes=last,
            **{"accuracy": spread(added), "at once": spread(one), "same answers": float(same.min())},
            **{"largest distance of features": _exponent(far)},
            **{"seconds": float(np.median(seconds)), "seconds at once": float(np.median(anew))},
        )
    for (name, last), rows in come.items():
        pieces, whole, far, seconds, anew = np.array(rows).T[6:]
        report.add(
            "Network, by partial_fit",
            digits=name,
            classes=last,
            **{"accuracy": spread(pieces), "at once": spread(whole), "largest distance of features": _exponent(far)},
            **{"seconds": float(np.median(seconds)), "seconds at once": float(np.median(anew))},
        )
    for (name, what), rows in gone.items():
        far, accuracy, seconds, anew = np.array(rows).T
        report.add(
            f"The {FORGOTTEN} is forgotten: against a network that never saw it",
            digits=name,
            what=what,
            **{"largest distance of features": _exponent(far), "accuracy on those that remain": spread(accuracy)},
            **{"seconds": None if np.isnan(seconds).any() else float(np.median(seconds))},
            **{"seconds anew": None if np.isnan(anew).any() else float(np.median(anew))},
        )


def _draw(report: Report, come: dict[tuple[str, int], list[Array]]) -> None:
    axes = report.axes("accuracy", "Accuracy on test digits of the classes that have come.", columns=2)
    for ax, name in zip(axes, ("vectors", "translations"), strict=True):
        lasts = sorted(last for of, last in come if of == name)
        mean = np.array([np.mean(come[name, last], axis=0) for last in lasts])
        for column, color, label, dashes, marker, size in (
            (0, plot.COLORS[0], "one layer", "-", "s", 12),
            (6, plot.COLORS[1], "network", "--", "o", 7),
        ):
            ax.plot(lasts, mean[:, column], dashes, color=color, marker=".", label=f"{label}, as classes come")
            ax.plot(lasts, mean[:, column + 1], marker, color=color, mfc="none", ms=size, label=f"{label}, at once")
        ax.set(xlabel="classes", ylabel="test accuracy", title=name, xticks=lasts)
        ax.grid(True, **plot.GRID)
    axes[0].legend(frameon=False)


def _draw_rounding(report: Report, task: Task) -> None:
    """What is left of a class's Gram matrix as its digits are subtracted: rounding, against one made anew."""
    X = task.some((0,))[0]
    y, Z = np.zeros(len(X), int), X.astype(np.float32)
    whole = ClassGrams.of(X, y)
    rows: list[list[float]] = []
    for n in sorted({max(1, round(part * len(X))) for part in PARTS[1:]}, reverse=True):
        left = whole.forget(X[n:], y[n:], largest_error=1.0)
        anew = ClassGrams.of(X[:n], y[:n]).grams[0]
        single = Z.T @ Z - Z[n:].T @ Z[n:]
        rows.append([n, *(float(np.linalg.norm(G - anew)) / n for G in (left.grams[0], single)), left.bounds[0]])
    n, double, single, bound = np.array(rows).T
    (ax,) = report.axes("rounding", f"Digits of one class, {len(X)}, subtracted until few are left: relative error.")
    ax.loglog(n, single, marker="o", color=plot.COLORS[1], label="if sums were kept in single precision")
    ax.loglog(n, bound, "--", color=plot.COLORS[0], label="bound")
    ax.loglog(n, double, marker="o", color=plot.COLORS[0], label="in double precision")
    ax.set(xlabel="digits left", ylabel="error of the Gram matrix")
    ax.grid(True, **plot.GRID)
    ax.legend(frameon=False)
    report.series["rounding"] = {"left": n, "double": double, "single": single, "bound": bound}
