"""What each choice does: one at a time, around the rotation-equivariant network of digits 0 and 1."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet import plot
from redunet._backends.contract import Operators
from redunet._inputs import prepare
from redunet._inputs.prepare import Samples
from redunet.classifiers import NearestSubspace
from redunet.experiments.digits import held_out_digits, mnist, training_digits
from redunet.experiments.networks import timed_build
from redunet.experiments.options import Options
from redunet.experiments.report import Report, spread
from redunet.experiments.rotations import polar
from redunet.rates import rate_reduction
from redunet.transforms.norms import unit

Array = npt.NDArray[Any]
BASE = {"n_layers": 40, "epsilon_sq": 0.1, "lam": 500.0}
#: Of the natural step, in units of 1 / alpha.
NATURAL = 2.0
VARIANTS: dict[str, tuple[Any, ...]] = {
    "lambda": (0.0, 1.0, 10.0, 50.0, 100.0, 500.0, 2000.0, 10000.0),
    "eta alpha": (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0),
    "epsilon_sq": (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
    "layers": (1, 2, 5, 10, 20, 40, 100, 300),
    "channels": (2, 3, 5, 8, 10, 15),
    "assignment": ("estimated", "given"),
    "membership": ("softmax", "ReLU"),
    "dft_norm": ("ortho", "backward"),
}


def ablations(options: Options) -> Report:
    """Each choice alone, the others as in rot01 with 40 natural steps.

    The choices are λ, η, ε², layers, channels, assignment of the training samples, membership by softmax or by ReLU
    (equation 17 of the lecture), and scale of the Fourier transform.
    ΔR is measured with ε² = 0.1 and the unitary transform whatever the network was built with. Nearest subspace of 10
    dimensions; all 200 rotations.
    """
    data = mnist(options)
    n_train = options.samples(1000)
    report = Report(
        "ablations",
        "what each choice does",
        {"digits": "0 and 1", "digits per class": n_train, "layers": BASE["n_layers"], "eta": "2/α, halved if it falls",
         "epsilon_sq": 0.1, "lambda": 500.0, "C": 5, "seeds": options.seeds},
    )  # fmt: skip
    images, y_test = held_out_digits(data, (0, 1), options.n_test)
    digits = [training_digits(data, n_train, (0, 1), seed) for seed in range(options.seeds)]
    for choice, values in VARIANTS.items():
        for value in values:
            rows = [_one(choice, value, some, y, images, y_test, options) for some, y in digits]
            test, shifts, delta, seconds = np.array(rows).T
            report.add(
                f"{choice}",
                **{choice: value, "test digits": spread(test), "all rotations": spread(shifts), "ΔR": spread(delta)},
                **{"build, s": float(np.median(seconds))},
            )
    _figure(report)
    return report


def _one(
    choice: str, value: Any, digits: Array, y: Array, images: Array, y_test: Array, options: Options
) -> list[float]:
    C = value if choice == "channels" else 5
    X, X_test = polar(digits, C), polar(images, C)
    settings: dict[str, Any] = dict(BASE)
    if options.n_layers is not None:
        settings["n_layers"] = options.n_layers
    alpha = C / (len(X) * BASE["epsilon_sq"])
    if choice == "membership" and value == "ReLU":
        Z, Z_test, seconds = relu_network(X, y, X_test, n_layers=settings["n_layers"])
    else:
        key = {"lambda": "lam", "layers": "n_layers", "eta alpha": "eta"}.get(choice, choice)
        if choice not in ("channels", "membership"):
            settings[key] = value / alpha if choice == "eta alpha" else value
        if choice == "layers" and options.n_layers is not None:
            settings[key] = min(value, options.n_layers)
        built = timed_build(X, y, options, **settings)
        Z, Z_test, seconds = built.Z, built.net.transform(X_test), built.seconds
    nearest = NearestSubspace(10).fit(Z, y)
    delta = rate_reduction(Z, y, epsilon_sq=0.1).delta
    return [nearest.score(Z_test, y_test), nearest.score_all_shifts(Z_test, y_test), delta, seconds]


def relu_network(X: Array, y: Array, X_test: Array, *, n_layers: int) -> tuple[Array, Array, float]:
    """Equation 17: the part of a sample that its class explains is sum_j ReLU(P_j z), without a softmax.

    P_j = I - C^j / alpha_j projects, nearly, onto the subspace of class j. A layer is, for all samples,
    z <- normalise(z + eta (E z - alpha (z - sum_j ReLU(P_j z)))), with ReLU in the signal domain and eta = 2 / alpha:
    alpha is gamma_j alpha_j, so that the bracket is gamma_j C^j z where one P_j explains z and the others nothing.

    Returns features of training and test samples, and the seconds that both took.
    """
    start = time.perf_counter()
    both = [X, X_test]
    for _ in range(n_layers):
        given = [prepare.samples(Z, dtype=np.float32) for Z in both]
        spectra = [some.spectra(normalize=True) for some in given]
        problem, _ = prepare.problem(given[0], y, sample_weight=None, epsilon_sq=BASE["epsilon_sq"], dft_norm="ortho")
        state = given[0].module.state(spectra[0], problem, n_threads=given[0].n_threads)
        dense, factors, _ = state.operators()
        layer = Operators.single(problem, dense, factors)
        both = [_relu_step(some, V, layer) for some, V in zip(given, spectra, strict=True)]
    return unit(both[0]), unit(both[1]), time.perf_counter() - start


def _relu_step(given: Samples, V: Array, layer: Operators) -> Array:
    """z + eta (E z - alpha (z - sum_j ReLU(P_j z))) of samples with spectra V, which are lost.

    A step with pi = 0 is z + eta E z, and one with pi = e_j is shorter by eta gamma_j C^j z = 2 (z - P_j z).
    """

    def step(pi: Array) -> Array:
        state = given.module.state(V, layer, n_threads=given.n_threads)
        state.step(layer, np.tile(pi, (len(given), 1)), NATURAL / float(layer.alphas[0]))
        return given.from_spectra(state.features())

    k = len(layer.gammas)
    expanded, compressed = step(np.zeros(k)), [step(one) for one in np.eye(k)]
    z = given.from_spectra(V)
    explained = sum(np.maximum(z + (less - expanded) / NATURAL, 0) for less in compressed)
    moved: Array = expanded - NATURAL * (z - explained)
    return moved


def _figure(report: Report) -> None:
    axes = report.axes(
        "ablations",
        "Accuracy on test digits and on all their rotations, mean of the seeds.",
        columns=4,
        rows=2,
        size=(4, 3.2),
    )
    for ax, (choice, rows) in zip(axes, report.tables.items(), strict=True):
        values = [row[choice] for row in rows]
        words = isinstance(values[0], str)
        places = np.arange(len(values)) if words or 0.0 in values else np.array(values, dtype=float)
        for i, column in enumerate(("test digits", "all rotations")):
            heights = [float(row[column].split()[0]) for row in rows]
            ax.plot(places, heights, "o" if words else "o-", ms=4, color=plot.COLORS[i], label=column)
        if words or 0.0 in values:
            ax.set_xticks(places, [f"{v:g}" if isinstance(v, float) else str(v) for v in values], fontsize="small")
        elif choice != "channels":
            ax.set_xscale("log")
        ax.margins(x=0.25 if words else 0.05)
        ax.set(xlabel=choice, ylabel="accuracy")
        ax.grid(True, **plot.GRID)
    axes[0].legend(frameon=False)
