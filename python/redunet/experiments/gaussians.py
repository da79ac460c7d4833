"""Mixtures of Gaussians on the circle and on the sphere, the first experiments of the lecture."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from redunet import datasets, plot
from redunet.experiments.networks import accuracies, timed_build
from redunet.experiments.options import Options
from redunet.experiments.report import Report, spread
from redunet.network import ReduNet

Array = npt.NDArray[Any]
LAYERS, ETA, EPSILON_SQ = 2000, 0.5, 0.1


def gauss2d(options: Options) -> Report:
    """Two Gaussians on the circle, 500 samples a class, deviation 0.1: 2000 layers with a step of 0.5.

    The natural step stands beside it. Nearest subspace has one dimension a class, as in the authors' code. Test samples
    are drawn like the training samples.
    """
    return _gaussians("gauss2d", 2, 1, options)


def gauss3d(options: Options) -> Report:
    """Three Gaussians on the sphere, 500 samples a class, deviation 0.1: 2000 layers with a step of 0.5.

    The natural step stands beside it. Nearest subspace has two dimensions a class, as in the authors' code; the obvious
    choice, one, is reported too.
    """
    return _gaussians("gauss3d", 3, 2, options)


def _gaussians(name: str, d: int, n_components: int, options: Options) -> Report:
    n, n_layers = options.samples(500), options.layers(LAYERS)
    report = Report(
        name,
        f"{d} Gaussians on the {'circle' if d == 2 else 'sphere'}",
        {"samples per class": n, "layers": n_layers, "eta": ETA, "epsilon_sq": EPSILON_SQ, "lambda": 500.0},
    )
    found: dict[tuple[str, int], list[list[float]]] = {}
    for seed in range(options.seeds):
        X, y = datasets.gaussian_mixture(n, n_features=d, noise=0.1, random_state=seed)
        X_test, y_test = datasets.gaussian_mixture(n, n_features=d, noise=0.1, random_state=1000 + seed)
        for eta, layers in ((ETA, n_layers), ("auto", min(n_layers, 10))):
            built = timed_build(X, y, options, n_layers=layers, eta=eta, epsilon_sq=EPSILON_SQ)
            Z_test = built.net.transform(X_test)
            scores = accuracies(built.Z, y, Z_test, y_test, n_components=n_components)
            one = accuracies(built.Z, y, Z_test, y_test, n_components=1)["nearest subspace"]
            cosines = np.abs(built.Z @ built.Z.T)
            between = float(cosines[y[:, None] != y[None, :]].max())
            delta = built.net.rates.delta
            numbers = [scores["nearest subspace"], one, scores["5 neighbours"], scores["linear SVM"]]
            found.setdefault((str(eta), layers), []).append(
                [np.nan if v is None else v for v in numbers] + [between, delta[0], delta[-1], built.seconds]
            )
            if seed == 0 and eta == ETA:
                _figures(report, built.net, X, y, built.Z, X_test, y_test, Z_test)
    for (eta, layers), rows in found.items():
        columns = np.array(rows).T
        report.add(
            "Test samples",
            eta=eta,
            layers=layers,
            **{f"nearest subspace, {n_components}": spread(columns[0]), "nearest subspace, 1": spread(columns[1])},
            **{"5 neighbours": spread(columns[2]), "linear SVM": spread(columns[3])},
            **{"largest cosine between classes": spread(columns[4]), "ΔR before": spread(columns[5])},
            **{"ΔR after": spread(columns[6]), "build, s": float(columns[7].min())},
        )
    limit = (d * np.log(1 + 1 / EPSILON_SQ) - np.log(1 + d / EPSILON_SQ)) / 2
    report.remark(
        f"Every class ends in one direction and the directions are orthogonal: ΔR reaches the largest value that {d} "
        f"orthogonal lines can have, ½ (d log(1 + 1/ε²) − log(1 + d/ε²)) = {limit:.4f}."
    )
    return report


def _figures(
    report: Report, net: ReduNet, X: Array, y: Array, Z: Array, X_test: Array, y_test: Array, Z_test: Array
) -> None:
    projection = "3d" if X.shape[1] == 3 else None
    axes = report.axes(
        "scatter",
        "Samples before and after, training and test.",
        columns=2,
        rows=2,
        size=(4.4, 4.2),
        projection=projection,
        of=net,
    )
    for ax, (points, labels, title) in zip(
        axes,
        (
            (X, y, "training samples"),
            (Z, y, "their features"),
            (X_test, y_test, "test samples"),
            (Z_test, y_test, "their features"),
        ),
        strict=True,
    ):
        plot.scatter(points, labels, ax=ax, title=title)
    (ax,) = report.axes("rates", "Coding rates along the layers.", of=net)
    plot.rates(net, ax=ax)
    axes = report.axes("cosines", "Cosines of all pairs of training samples, before and after.", columns=2, of=net)
    plot.cosines(X, y, ax=axes[0], title="samples", colorbar=False)
    plot.cosines(Z, y, ax=axes[1], title="features")
