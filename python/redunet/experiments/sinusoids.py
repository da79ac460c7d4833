"""Sine waves against square waves at random phases: two classes that differ by nothing but their shape."""

from __future__ import annotations

import numpy as np

from redunet import datasets, plot
from redunet.classifiers import NearestSubspace
from redunet.experiments.networks import agreement, timed_build
from redunet.experiments.options import Options
from redunet.experiments.report import Report, spread
from redunet.experiments.rotations import heat_maps
from redunet.frontends.lift import RandomLift
from redunet.transforms.norms import unit


def sinusoid(options: Options) -> Report:
    """Sines and square waves, T = 150, noise 0.1, 400 a class, lifted to C = 7 by kernels of 3: 2000 layers, step 0.1.

    Test signals are drawn like the training signals. Nearest subspace has 5 dimensions; the authors give none.
    """
    n, n_layers = options.samples(400), options.layers(2000)
    report = Report(
        "sinusoid",
        "sine and square waves at random phases",
        {"T": 150, "C": 7, "kernel": 3, "signals per class": n, "noise": 0.1, "eta": 0.1, "epsilon_sq": 0.1,
         "lambda": 500.0, "layers": n_layers, "classifier": "nearest subspace, 5 dimensions"},
    )  # fmt: skip
    found: dict[tuple[str, int], list[list[float]]] = {}
    for seed in range(options.seeds):
        lift = RandomLift(7, 3, activation="relu", random_state=10 + seed)
        signals, y = datasets.sinusoids(n, length=150, noise=0.1, random_state=seed)
        others, y_test = datasets.sinusoids(n, length=150, noise=0.1, random_state=1000 + seed)
        X, X_test = (np.asarray(lift(some), np.float32) for some in (signals, others))
        for eta, layers in ((0.1, n_layers), ("auto", min(n_layers, 40))):
            built = timed_build(X, y, options, n_layers=layers, eta=eta, epsilon_sq=0.1)
            Z_test = built.net.transform(X_test)
            row = []
            for n_components in (1, 5, 10):
                nearest = NearestSubspace(n_components).fit(built.Z, y)
                row += [nearest.score(Z_test, y_test), nearest.score_all_shifts(Z_test, y_test)]
            delta = built.net.rates.delta
            found.setdefault((str(eta), layers), []).append([*row, delta[0], delta[-1], built.seconds])
            if seed == 0 and eta == 0.1:
                heat_maps(report, X, y, built, stride=8)
                few = X_test[:: max(1, len(X_test) // 6)]
                report.add(
                    "One forward pass against shifted copies",
                    signals=len(few),
                    shifts=150,
                    **{"same answers": agreement(built.net, nearest, few)},
                )
        samples = NearestSubspace(5).fit(unit(X), y)
        report.add(
            "Without a network",
            seed=seed,
            **{"test signals": samples.score(unit(X_test), y_test)},
            **{"all shifts": samples.score_all_shifts(unit(X_test), y_test)},
        )
    for (eta, layers), rows in found.items():
        columns = np.array(rows).T
        entries = {}
        for i, n_components in enumerate((1, 5, 10)):
            entries[f"test, {n_components}"] = spread(columns[2 * i])
            entries[f"all shifts, {n_components}"] = spread(columns[2 * i + 1])
        report.add(
            "Accuracy by dimensions of the subspaces",
            eta=eta,
            layers=layers,
            **entries,
            **{"ΔR before": spread(columns[6]), "ΔR after": spread(columns[7]), "build, s": float(columns[8].min())},
        )
    (ax,) = report.axes("signals", "A signal of each class.")
    for label in (0, 1):
        ax.plot(signals[y == label][0, 0], color=plot.COLORS[label], label=f"class {label}")
    ax.set(xlabel="t", ylabel="signal")
    ax.grid(True, **plot.GRID)
    ax.legend(frameon=False)
    return report
