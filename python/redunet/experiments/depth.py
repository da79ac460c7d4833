"""How few layers a network needs: the published step, the natural one, a line search, momentum.

Every scheme runs in the same loop, made of the backend's own parts, with the test samples carried along, so that ΔR and
accuracies are known at every layer and seconds compare.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet import datasets, plot
from redunet._backends.contract import Operators, RateReduction
from redunet._inputs import prepare
from redunet.classifiers import NearestSubspace
from redunet.experiments.common import Options, held_out_digits, mnist, training_digits
from redunet.experiments.report import Report, spread
from redunet.experiments.rotations import polar
from redunet.experiments.translations import pixels
from redunet.frontends.lift import RandomLift
from redunet.network.line_search import best_step
from redunet.network.progress import RateProgress
from redunet.transforms.norms import unit_sphere

Array = npt.NDArray[Any]
EPSILON_SQ, LAMBDA = 0.1, 500.0
#: The natural step in units of 1/alpha.
NATURAL = 2.0


@dataclass
class Point:
    """Features of training and test samples, with the operators and the rate reduction at the former."""

    V: Array
    V_test: Array
    operators: tuple[Array, Array, Array]
    delta: float


class Ascent:
    """One problem, and a step of gradient ascent on it."""

    def __init__(self, X: Array, y: Array, X_test: Array) -> None:
        backend = "cpu" if "cpu" in _usable() else "numpy"
        self.samples, test = (prepare.samples(Z, dtype=np.float32, backend=backend) for Z in (X, X_test))
        self.module, self.threads = self.samples.module, self.samples.n_threads
        self.problem, _ = prepare.problem(self.samples, y, sample_weight=None, epsilon_sq=EPSILON_SQ, dft_norm="ortho")
        self.alpha = float(self.problem.alphas[0])
        V, V_test = (given.spectra(normalize=True) for given in (self.samples, test))
        self.evaluations = 0
        self.start = self.at(V, V_test)

    def at(self, V: Array, V_test: Array) -> Point:
        """The point with these features."""
        self.evaluations += 1
        operators = self.module.layer_operators(V, self.problem, n_threads=self.threads)
        rates = operators[2]
        return Point(V, V_test, operators, RateReduction.of(rates, self.problem.gammas).delta)

    def step(self, point: Point, multiple: float) -> Point:
        """One layer with the step multiple / alpha."""
        dense, factors, _ = point.operators
        layer = Operators.single(self.problem, dense, factors, eta=multiple / self.alpha, lam=LAMBDA)
        moved = [V.copy() for V in (point.V, point.V_test)]
        for V in moved:
            self.module.apply(V, layer, n_threads=self.threads)
        return self.at(*moved)

    def extrapolated(self, now: Point, before: Point, beta: float) -> Point:
        """The point beyond, on the sphere: normalise(z + beta (z - z_before))."""

        def beyond(V: Array, old: Array) -> Array:
            return unit_sphere(V + np.float32(beta) * (V - old), self.problem.freq_weights)

        return self.at(beyond(now.V, before.V), beyond(now.V_test, before.V_test))

    def features(self, V: Array) -> Array:
        """Features as samples."""
        return self.samples.from_spectra(V)


def _usable() -> list[str]:
    from redunet._backends import status

    return [name for name, state in status().items() if state == "available"]


Scheme = Callable[[Ascent, Point], Point]


def fixed(multiple: float) -> Callable[[], Scheme]:
    """Steps of multiple / alpha."""
    return lambda: lambda ascent, point: ascent.step(point, multiple)


def published() -> Scheme:
    """Steps of 0.5."""
    return lambda ascent, point: ascent.step(point, 0.5 * ascent.alpha)


def searched() -> Scheme:
    """The line search of ``build(eta="search")``."""
    last = NATURAL

    def move(ascent: Ascent, point: Point) -> Point:
        nonlocal last

        def trial(multiple: float) -> tuple[float, Point]:
            reached = ascent.step(point, multiple)
            return reached.delta, reached

        last, (delta, best) = best_step(trial, last, trial(last), point.delta, (1e-3, 1e4))
        return best if delta > point.delta else point

    return move


def momentum(inner: Callable[[], Scheme]) -> Callable[[], Scheme]:
    """Nesterov's: a step from beyond the point, with the operators there; from the point where that falls (restart)."""

    def make() -> Scheme:
        step = inner()
        t = 1.0
        before: Point | None = None

        def move(ascent: Ascent, point: Point) -> Point:
            nonlocal t, before
            following = (1 + np.sqrt(1 + 4 * t * t)) / 2
            beta, t = (t - 1) / following, following
            base = point if before is None or beta == 0 else ascent.extrapolated(point, before, beta)
            moved = step(ascent, base)
            if moved.delta < point.delta and base is not point:
                t = (1 + np.sqrt(5)) / 2
                moved = step(ascent, point)
            before = point
            return moved

        return move

    return make


SCHEMES: dict[str, Callable[[], Scheme]] = {
    "0.5": published,
    "1/α": fixed(1.0),
    "2/α, natural": fixed(2.0),
    "3/α": fixed(3.0),
    "line search": searched,
    "momentum, 2/α": momentum(fixed(2.0)),
    "momentum, line search": momentum(searched),
}


@dataclass
class Curve:
    """What happened along the layers; accuracies at some of them."""

    delta: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    evaluations: int = 0
    accuracy: dict[int, tuple[float, float]] = field(default_factory=dict)

    def layers_to(self, goal: float) -> int | None:
        """The first layer whose output has this rate reduction."""
        reached = np.flatnonzero(np.array(self.delta) >= goal)
        return int(reached[0]) if len(reached) else None


def climb(ascent: Ascent, scheme: Scheme, n_layers: int, y: Array, y_test: Array, n_components: int, *, goal: float,
          stride: int, progress: bool) -> Curve:  # fmt: skip
    """Run a scheme; accuracies after 1, 2, 5, 10, ... layers, after the one that reaches the goal, and the last."""
    curve, point, spent, evaluations = Curve(), ascent.start, 0.0, ascent.evaluations
    marks = {n * 10**e for n in (1, 2, 5) for e in range(5)} | {n_layers}
    with RateProgress(n_layers, progress) as bar:
        for layer in range(n_layers + 1):
            if layer:
                begin = time.perf_counter()
                point = scheme(ascent, point)
                spent += time.perf_counter() - begin
            first = point.delta >= goal and max(curve.delta, default=-np.inf) < goal
            curve.delta.append(point.delta)
            curve.seconds.append(spent)
            rate = float(point.operators[2][0])
            bar.update(layer, RateReduction(point.delta, rate, rate - point.delta))
            if layer in marks or first:
                nearest = NearestSubspace(n_components).fit(ascent.features(point.V), y)
                Z_test = ascent.features(point.V_test)
                shifts = nearest.score_all_shifts(Z_test, y_test, stride=stride) if Z_test.ndim > 2 else np.nan
                curve.accuracy[layer] = (nearest.score(Z_test, y_test), shifts)
    curve.evaluations = ascent.evaluations - evaluations
    return curve


def _problems(options: Options, seed: int) -> dict[str, tuple[Array, Array, Array, Array, int, int, int]]:
    """X, y, X_test, y_test, dimensions of subspaces, published layers, stride of shifts."""
    n = options.samples(500)
    points, y = datasets.gaussian_mixture(n, n_features=3, noise=0.1, random_state=seed)
    others, y_test = datasets.gaussian_mixture(n, n_features=3, noise=0.1, random_state=1000 + seed)
    found: dict[str, tuple[Array, Array, Array, Array, int, int, int]] = {
        "gauss3d": (points.astype(np.float32), y, others.astype(np.float32), y_test, 1, 2000, 1)
    }
    data = mnist(options)
    images, labels = held_out_digits(data, (0, 1), 200 if options.n_test is None else options.n_test)
    digits, y = training_digits(data, options.samples(1000), (0, 1), seed)
    found["rot01"] = (polar(digits, 5), y, polar(images, 5), labels, 10, 3500, 1)
    digits, y = training_digits(data, options.samples(500), (0, 1), seed)
    lift = RandomLift(5, 9, activation="relu", random_state=10 + seed)
    X, X_test = (np.asarray(lift(pixels(some)), np.float32) for some in (digits, images))
    found["trans01"] = (X, y, X_test, labels, 10, 2000, 4)
    return found


def depth(options: Options) -> Report:
    """How few layers do: gauss3d, rot01 and trans01 with seven schemes.

    Layers, seconds and accuracy at 99 % of the ΔR that the published step of 0.5 ends with. An evaluation is the
    operators at one set of features, most of the cost of a layer. All rotations are tested, and every 4th translation
    in both directions, of 200 test digits a class.
    """
    report = Report(
        "depth",
        "how few layers",
        {"epsilon_sq": EPSILON_SQ, "lambda": LAMBDA, "seeds": options.seeds, "layers of the schemes": 60},
    )
    numbers: dict[tuple[str, str], list[list[float]]] = {}
    for seed in range(options.seeds):
        for name, (X, y, X_test, y_test, n_components, full, stride) in _problems(options, seed).items():
            n_layers = options.layers(full)
            curves: dict[str, Curve] = {}
            goal = np.inf
            for scheme, make in SCHEMES.items():
                ascent = Ascent(X, y, X_test)
                layers = n_layers if scheme == "0.5" else min(n_layers, 60)
                curve = climb(
                    ascent, make(), layers, y, y_test, n_components, goal=goal, stride=stride,
                    progress=options.progress,
                )  # fmt: skip
                if scheme == "0.5":
                    goal = 0.99 * curve.delta[-1]
                curves[scheme] = curve
                at = curve.layers_to(goal)
                test, shifts = curve.accuracy[min(curve.accuracy, key=lambda layer: abs(layer - (at or layers)))]
                numbers.setdefault((name, scheme), []).append(
                    [np.nan if at is None else at, np.nan if at is None else curve.seconds[at],
                     curve.evaluations / layers, max(curve.delta) / goal * 0.99, test, shifts,
                     *curve.accuracy[layers]]
                )  # fmt: skip
            if seed == 0:
                _figure(report, name, curves)
                report.series[name] = {scheme: vars(curve) for scheme, curve in curves.items()}
    for (name, scheme), rows in numbers.items():
        columns = np.array(rows).T
        base = np.array(numbers[name, "0.5"]).T
        report.add(
            name,
            step=scheme,
            **{
                "layers to 99 %": spread(columns[0], 1 if options.seeds > 1 else 0),
                "times fewer": round(float(np.mean(base[0] / columns[0])), 1),
            },
            **{"seconds to 99 %": float(np.median(columns[1])), "evaluations a layer": float(np.mean(columns[2]))},
            **{"largest ΔR / published": spread(columns[3]), "test there": spread(columns[4])},
            **{"shifts there": spread(columns[5]), "test at the end": spread(columns[6])},
            **{"shifts at the end": spread(columns[7])},
        )
    return report


def _figure(report: Report, name: str, curves: dict[str, Curve]) -> None:
    axes = report.axes(name, f"{name}: ΔR along layers and seconds, accuracy along layers.", columns=3)
    for (scheme, curve), color, dashes in zip(curves.items(), plot.COLORS, "-" * 4 + ":" * 3, strict=True):
        style: dict[str, Any] = {"color": color, "linestyle": dashes, "label": scheme}
        axes[0].plot(np.maximum(np.arange(len(curve.delta)), 0.7), curve.delta, **style)
        axes[1].plot(np.maximum(curve.seconds, 1e-4), curve.delta, **style)
        layers = sorted(curve.accuracy)
        which = 0 if np.isnan(curve.accuracy[layers[0]][1]) else 1
        axes[2].plot(
            np.maximum(layers, 0.7), [curve.accuracy[layer][which] for layer in layers], marker="o", ms=3, **style
        )
    axes[0].set(xlabel="layers", ylabel="ΔR (nats)", xscale="log")
    axes[1].set(xlabel="seconds", ylabel="ΔR (nats)", xscale="log")
    axes[2].set(xlabel="layers", ylabel="accuracy, all shifts" if which else "accuracy", xscale="log")
    for ax in axes:
        ax.grid(True, **plot.GRID)
    report.figures[name].legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=7, frameon=False
    )
