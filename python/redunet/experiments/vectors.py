"""Vectors: Fisher's irises, and MNIST without any symmetry."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from redunet import plot
from redunet.experiments import needs
from redunet.experiments.digits import held_out_digits, mnist, training_digits
from redunet.experiments.networks import accuracies, timed_build
from redunet.experiments.options import Options
from redunet.experiments.report import Report, spread
from redunet.experiments.rotations import operators
from redunet.transforms.norms import unit

Array = npt.NDArray[Any]


def iris(options: Options) -> Report:
    """Fisher's irises, 70 % for training (seed 42): 4000 layers with a step of 0.1, and the natural step.

    Nearest subspace has one dimension a class, as in the authors' code.
    """
    needs.require("sklearn")
    from sklearn.datasets import load_iris
    from sklearn.model_selection import train_test_split

    X_all, y_all = load_iris(return_X_y=True)
    n_layers = options.layers(4000)
    report = Report(
        "iris",
        "Fisher's irises",
        {"eta": 0.1, "epsilon_sq": 0.1, "lambda": 500.0, "layers": n_layers, "test share": 0.3},
    )
    found: dict[tuple[str, int], list[list[float]]] = {}
    for seed in range(options.seeds):
        X, X_test, y, y_test = train_test_split(X_all, y_all, test_size=0.3, random_state=42 + seed)
        X, X_test = unit(X), unit(X_test)
        found.setdefault(("samples", 0), []).append([*_scores(X, y, X_test, y_test, 1), np.nan, np.nan, np.nan])
        for eta, layers in ((0.1, n_layers), ("auto", min(n_layers, 40))):
            built = timed_build(X, y, options, n_layers=layers, eta=eta, epsilon_sq=0.1)
            Z_test = built.net.transform(X_test)
            delta = built.net.rates.delta
            found.setdefault((str(eta), layers), []).append(
                [*_scores(built.Z, y, Z_test, y_test, 1), delta[0], delta[-1], built.seconds]
            )
            if seed == 0 and eta == 0.1:
                (ax,) = report.axes("rates", "Coding rates along the layers.", of=built.net)
                plot.rates(built.net, ax=ax)
                axes = report.axes("cosines", "Cosines of all pairs of training samples.", columns=2, of=built.net)
                plot.cosines(X, y, ax=axes[0], title="samples", colorbar=False)
                plot.cosines(built.Z, y, ax=axes[1], title="features")
                caption = "What the operators of the first layer take away."
                operators(report, built.net, caption, size=(4.4, 3.8))
    _add(report, "Test samples", found)
    return report


def mnist_vectors(options: Options) -> Report:
    """MNIST as vectors of 784, 1000 digits a class, 50 layers with a step of 0.5, tested on all 10 000."""
    data = mnist(options)
    n_layers, n_train = options.layers(50), options.samples(1000)
    report = Report(
        "mnist",
        "MNIST as vectors",
        {"digits per class": n_train, "eta": 0.5, "epsilon_sq": 0.1, "lambda": 500.0, "layers": n_layers,
         "classifier": "nearest subspace, 10 dimensions"},
    )  # fmt: skip
    images, y_test = held_out_digits(data, range(10), options.n_test)
    found: dict[tuple[str, int], list[list[float]]] = {}
    for seed in range(options.seeds):
        digits, y = training_digits(data, n_train, range(10), seed)
        X, X_test = (unit(some.reshape(len(some), -1).astype(np.float32)) for some in (digits, images))
        found.setdefault(("samples", 0), []).append([*_scores(X, y, X_test, y_test, 10), np.nan, np.nan, np.nan])
        for eta, layers in ((0.5, n_layers), ("auto", n_layers)):
            built = timed_build(X, y, options, n_layers=layers, eta=eta, epsilon_sq=0.1)
            Z_test = built.net.transform(X_test)
            delta = built.net.rates.delta
            found.setdefault((str(eta), layers), []).append(
                [*_scores(built.Z, y, Z_test, y_test, 10), delta[0], delta[-1], built.seconds]
            )
            if seed == 0:
                few = np.concatenate([np.flatnonzero(y == label)[:50] for label in range(10)])
                name = "published" if eta == 0.5 else "natural"
                caption = f"Rates, and cosines before and after: {name} step."
                axes = report.axes(f"features-{name}", caption, columns=3, of=built.net)
                plot.rates(built.net, ax=axes[0])
                plot.cosines(X[few], y[few], ax=axes[1], title="samples", colorbar=False)
                plot.cosines(built.Z[few], y[few], ax=axes[2], title="features")
    _add(report, "Test digits", found)
    report.remark(f"The natural step 2 m ε² / d is {2 * len(y) * 0.1 / X.shape[1]:.3g} here; the published one is 0.5.")
    return report


def _scores(Z: Array, y: Array, Z_test: Array, y_test: Array, n_components: int) -> list[float]:
    found = accuracies(Z, y, Z_test, y_test, n_components=n_components)
    return [np.nan if value is None else value for value in found.values()]


def _add(report: Report, table: str, found: dict[tuple[str, int], list[list[float]]]) -> None:
    for (eta, layers), rows in found.items():
        nearest, neighbours, machine, before, after, seconds = np.array(rows).T
        built = layers > 0
        report.add(
            table,
            eta=eta if built else "no network",
            layers=layers or None,
            **{"nearest subspace": spread(nearest), "5 neighbours": spread(neighbours), "linear SVM": spread(machine)},
            **{"ΔR before": spread(before) if built else None, "ΔR after": spread(after) if built else None},
            **{"build, s": float(seconds.min()) if built else None},
        )
