"""How few layers a network needs: the published step, the natural one, a search, momentum.

Every scheme is options of `redunet.build`. The rate reduction along the layers is the network's own; accuracies and
seconds after n layers are those of the network with n layers, built at once and timed alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet import datasets, plot
from redunet.classifiers import NearestSubspace
from redunet.experiments.digits import held_out_digits, mnist, training_digits
from redunet.experiments.networks import timed_build
from redunet.experiments.options import Options
from redunet.experiments.report import Report, spread
from redunet.experiments.rotations import polar
from redunet.experiments.translations import lifted
from redunet.terminal import tell

Array = npt.NDArray[Any]
EPSILON_SQ, LAMBDA, PUBLISHED_STEP = 0.1, 500.0, 0.5
#: Layers of the schemes that are not the published one, at most.
FEW = 60
#: Networks of these many layers, and times 10, 100, ..., are tested.
MARKS = (1, 2, 3, 5, 7)
#: Seconds for which a build is repeated, to take the fastest.
TIMED = 0.5
#: Options of `build`; a step {"multiple": s} is s / alpha.
SCHEMES: dict[str, dict[str, Any]] = {
    "0.5": {"eta": PUBLISHED_STEP},
    "1/α": {"multiple": 1.0},
    "2/α, natural": {"eta": "auto"},
    "3/α": {"multiple": 3.0},
    "search": {"eta": "search"},
    "momentum": {"momentum": True},
    "momentum, search": {"momentum": True, "eta": "search"},
}


@dataclass(frozen=True)
class Task:
    """Samples to build from and to test, and what was published about them.

    Attributes
    ----------
    n_components : int
        Dimensions of the nearest subspace.
    n_layers : int
        With the published step.
    accuracy : sequence of float
        Published: on test samples and, where they are looked at, on their shifts. Empty where nothing was.
    stride : int
        Of the shifts that are tested; 0: none.
    dft_norm : str
        See `redunet.build`.
    """

    X: Array
    y: Array
    X_test: Array
    y_test: Array
    n_components: int
    n_layers: int
    accuracy: Sequence[float] = ()
    stride: int = 0
    dft_norm: str = "ortho"

    @property
    def alpha(self) -> float:
        """C / (m eps^2)."""
        return float(self.X.shape[1]) / (len(self.X) * EPSILON_SQ)


@dataclass
class Curve:
    """What a scheme did: ΔR along the layers; seconds and accuracies of the networks of some numbers of layers.

    Attributes
    ----------
    delta : (n_layers + 1,) array
        Where each layer is built, which with momentum is ahead of the features, and after the last.
    enough : int or None
        The first number of layers with which ΔR reaches the goal.
    seconds : dict of int to float
        Of a build of this many layers.
    accuracy : dict of int to list of float
        On test samples, and on their shifts.
    """

    delta: Array
    enough: int | None
    seconds: dict[int, float] = field(default_factory=dict)
    accuracy: dict[int, list[float]] = field(default_factory=dict)

    def layers_to(self, accuracy: Sequence[float]) -> int | None:
        """The fewest layers of a tested network that has these accuracies; None without, or if there are none."""
        good = [n for n, found in self.accuracy.items() if accuracy and np.all(np.greater_equal(found, accuracy))]
        return min(good, default=None)


def climb(task: Task, options: Options, goal: float | None, *, n_layers: int, **steps: Any) -> Curve:
    """Build with a scheme's options; test after 1, 2, 3, 5, 7, 10, ... layers, the first that reach the goal, and all.

    Without a goal it is 99 % of the last ΔR.
    """
    if "multiple" in steps:
        steps["eta"] = steps.pop("multiple") / task.alpha
    settings = {"epsilon_sq": EPSILON_SQ, "lam": LAMBDA, "dft_norm": task.dft_norm, "progress": False, **steps}
    whole = timed_build(task.X, task.y, options, n_layers=n_layers, **settings)
    delta = whole.net.rates.delta
    reached = np.flatnonzero(delta[1:] >= (0.99 * delta[-1] if goal is None else goal)) + 1
    curve = Curve(delta, int(reached[0]) if len(reached) else None)
    marks = {mark * 10**e for mark in MARKS for e in range(5)} | {n_layers, curve.enough or n_layers}
    for n in sorted(mark for mark in marks if mark <= n_layers):
        built = whole if n == n_layers else timed_build(task.X, task.y, options, n_layers=n, **settings)
        seconds = [built.seconds]
        while sum(seconds) < TIMED:
            seconds.append(timed_build(task.X, task.y, options, n_layers=n, **settings).seconds)
        nearest = NearestSubspace(task.n_components).fit(built.Z, task.y)
        Z_test = built.net.transform(task.X_test)
        curve.seconds[n] = min(seconds)
        curve.accuracy[n] = [nearest.score(Z_test, task.y_test)]
        if task.stride:
            curve.accuracy[n].append(nearest.score_all_shifts(Z_test, task.y_test, stride=task.stride))
    return curve


def _gauss3d(options: Options, seed: int) -> Task:
    (X, y), (X_test, y_test) = (
        datasets.gaussian_mixture(options.samples(500), n_features=3, noise=0.1, random_state=state)
        for state in (seed, 1000 + seed)
    )
    return Task(X.astype(np.float32), y, X_test.astype(np.float32), y_test, 1, 2000)


def _digits(
    options: Options, seed: int, classes: Sequence[int], n_train: int, front_end: Callable[[Array], Array], **about: Any
) -> Task:
    data = mnist(options)
    images, y_test = held_out_digits(data, classes, options.n_test)
    digits, y = training_digits(data, options.samples(n_train), classes, seed)
    return Task(front_end(digits), y, front_end(images), y_test, 10, **about)


def _rot01(options: Options, seed: int) -> Task:
    about = {"n_layers": 3500, "accuracy": (0.996, 0.993), "stride": 1}
    return _digits(options, seed, (0, 1), 1000, lambda images: polar(images, 5), **about)


def _trans01(options: Options, seed: int) -> Task:
    about = {"n_layers": 2000, "accuracy": (0.975, 0.909), "stride": 4}
    return _digits(options, seed, (0, 1), 500, lambda images: lifted(images, 5, 9, seed), **about)


def _forward10(options: Options, seed: int) -> Task:
    about = {"n_layers": 30, "accuracy": (0.898,), "dft_norm": "backward"}
    return _digits(options, seed, range(10), 50, lambda images: lifted(images, 16, 9, seed), **about)


TASKS = {"gauss3d": _gauss3d, "rot01": _rot01, "trans01": _trans01, "forward10": _forward10}


def depth(options: Options) -> Report:
    """How few layers do: gauss3d, rot01, trans01 and forward10 with seven schemes.

    Layers and seconds until ΔR is 99 % of what the published step of 0.5 ends with, and to the published accuracy:
    of the networks of 1, 2, 3, 5, 7, 10, ... layers, the first that has it. Seconds are those of a build of so many
    layers, the fastest of those that fit into half a second. All test digits; of their shifts all rotations and every
    4th translation in both directions.
    """
    report = Report(
        "depth",
        "how few layers",
        {"epsilon_sq": EPSILON_SQ, "lambda": LAMBDA, "seeds": options.seeds, "layers of the other schemes": FEW,
         "dft_norm": 'ortho; of forward10 "backward"'},
    )  # fmt: skip
    for name, make in TASKS.items():
        found: dict[str, list[Curve]] = {scheme: [] for scheme in SCHEMES}
        for seed in range(options.seeds):
            task = make(options, seed)
            n_layers, goal = options.layers(task.n_layers), None
            for scheme, steps in SCHEMES.items():
                if options.progress:
                    tell(f"{name}, seed {seed}: {scheme}")
                layers = n_layers if goal is None else min(n_layers, FEW)
                curve = climb(task, options, goal, n_layers=layers, **steps)
                goal = 0.99 * float(curve.delta[-1]) if goal is None else goal
                found[scheme].append(curve)
        for scheme, curves in found.items():
            report.add(name, step=scheme, **_row(curves, found["0.5"], task.accuracy))
        _figure(report, name, {scheme: curves[0] for scheme, curves in found.items()})
        report.series[name] = {scheme: vars(curves[0]) for scheme, curves in found.items()}
    return report


def _row(curves: list[Curve], published: list[Curve], accuracy: Sequence[float]) -> dict[str, Any]:
    """One scheme over the seeds."""

    def number(value: float | None) -> float:
        return np.nan if value is None else value

    def accuracies(layers: list[int]) -> list[str | None]:
        columns = np.array([curve.accuracy[n] for curve, n in zip(curves, layers, strict=True)]).T
        return [spread(columns[0]), spread(columns[1]) if len(columns) > 1 else None]

    enough = np.array([number(curve.enough) for curve in curves])
    ends = [len(curve.delta) - 1 for curve in curves]
    there = accuracies([curve.enough or end for curve, end in zip(curves, ends, strict=True)])
    good = [(curve, n) for curve in curves if (n := curve.layers_to(accuracy)) is not None]
    digits = 1 if len(curves) > 1 else 0
    test, shifts = accuracies(ends)
    return {
        "layers to 99 %": spread(enough, digits),
        "times fewer": float(np.round(np.mean([number(curve.enough) for curve in published] / enough), 1)),
        "seconds to 99 %": float(np.median([number(curve.seconds.get(curve.enough or 0)) for curve in curves])),
        "test there": there[0],
        "shifts there": there[1],
        "largest ΔR / published": spread(
            [curve.delta.max() / other.delta[-1] for curve, other in zip(curves, published, strict=True)]
        ),
        "seeds with the published accuracy": len(good) if accuracy else None,
        "layers to it": spread([n for _, n in good], digits) if good else None,
        "seconds to it": float(np.median([curve.seconds[n] for curve, n in good])) if good else None,
        "test at the end": test,
        "shifts at the end": shifts,
    }


def _figure(report: Report, name: str, curves: dict[str, Curve]) -> None:
    axes = report.axes(name, f"{name}: ΔR along layers and seconds, accuracy along layers.", columns=3)
    which = min(len(next(iter(curves["0.5"].accuracy.values()))) - 1, 1)
    for (scheme, curve), color, dashes in zip(curves.items(), plot.COLORS, "-" * 4 + ":" * 3, strict=True):
        style: dict[str, Any] = {"color": color, "linestyle": dashes, "label": scheme}
        layers = sorted(curve.seconds)
        axes[0].plot(np.maximum(np.arange(len(curve.delta)), 0.7), curve.delta, **style)
        axes[1].plot([curve.seconds[n] for n in layers], curve.delta[layers], marker="o", ms=3, **style)
        axes[2].plot(layers, [curve.accuracy[n][which] for n in layers], marker="o", ms=3, **style)
    axes[0].set(xlabel="layers", ylabel="ΔR (nats)", xscale="log")
    axes[1].set(xlabel="seconds", ylabel="ΔR (nats)", xscale="log")
    axes[2].set(xlabel="layers", ylabel="accuracy, shifts" if which else "accuracy", xscale="log")
    for ax in axes:
        ax.grid(True, **plot.GRID)
    axes[0].figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=7, frameon=False)
