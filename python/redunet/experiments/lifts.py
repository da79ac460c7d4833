"""Random lifts against sparse codes as lifts: whether classes separate better, with a ReduNet and without."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet._inputs import words
from redunet.classifiers import NearestSubspace
from redunet.experiments.digits import held_out_digits, mnist, training_digits
from redunet.experiments.networks import timed_build
from redunet.experiments.options import Options
from redunet.experiments.report import Report, spread
from redunet.experiments.translations import pixels
from redunet.frontends.lift import RandomLift
from redunet.frontends.sparse_lift import SparseLift
from redunet.transforms.norms import unit

Array = npt.NDArray[Any]
KERNEL = 9
#: Channels, training and test digits of a class, normalisation of the DFT: of the experiments forward10 and trans10.
SETTINGS = {"forward10": (16, 50, 100, "backward"), "trans10": (75, 10, 20, "ortho")}
LAYERS = 3
STEPS = 10


def lifts(options: Options) -> Report:
    """Ten digits lifted by random kernels and a nonlinearity, or to sparse codes, in two settings.

    They are those of the experiments forward10, 16 channels and 50 digits a class, and trans10, 75 channels and 10
    digits a class, with 3 natural steps; tested on the first 100 and 20 test digits of a class. Kernels are 9 x 9,
    eps^2 = 0.1, and the classifier is the nearest subspace of 10 dimensions, or of one less than there are digits of a
    class. Sparse codes take 10 steps of FISTA; lambda is in units of the price at which a code is zero; patches are
    pieces of the training digits.
    """
    data = mnist(options)
    report = Report(
        "lifts",
        "random lifts and sparse codes",
        {
            "kernel": KERNEL,
            "epsilon_sq": 0.1,
            "classifier": "nearest subspace of 10 dimensions",
            "steps of FISTA": STEPS,
            "layers": options.layers(LAYERS),
        },
    )
    for setting, (channels, per_class, per_test, norm) in SETTINGS.items():
        n_train, n_test = options.samples(per_class), min(per_test, options.n_test or per_test)
        images, y_test = held_out_digits(data, range(10), n_test)
        for name, make in _lifts(channels).items():
            rows = []
            for seed in range(options.seeds):
                digits, y = training_digits(data, n_train, range(10), seed)
                rows.append(_scores(make(10 + seed), pixels(digits), y, pixels(images), y_test, norm, options))
            nonzeros, before, without, delta, tested, seconds = np.array(rows).T
            report.add(
                f"{setting}: {channels} channels, {n_train} digits a class",
                lift=name,
                nonzeros=spread(nonzeros, 3),
                **{"ΔR of the samples": spread(before), "no network": spread(without)},
                **{"ΔR of the features": spread(delta), "ReduNet": spread(tested), "lift, s": float(seconds.min())},
            )
    return report


def _lifts(channels: int) -> dict[str, Callable[[int], Any]]:
    """Lifts by their names, of a seed."""

    def sparse(lam: float, source: words.Source = "random") -> Callable[[int], Any]:
        return lambda seed: SparseLift(channels, KERNEL, lam=lam, n_iter=STEPS, source=source, random_state=seed)

    return {
        "random, ReLU": lambda seed: RandomLift(channels, KERNEL, random_state=seed),
        "random, identity": lambda seed: RandomLift(channels, KERNEL, activation="identity", random_state=seed),
        "codes, λ = 0.1": sparse(0.1),
        "codes, λ = 0.3": sparse(0.3),
        "codes of patches, λ = 0.1": sparse(0.1, "patches"),
        "codes of patches, λ = 0.3": sparse(0.3, "patches"),
    }


def _scores(lift: Any, X: Array, y: Array, X_test: Array, y_test: Array, norm: str, options: Options) -> list[float]:
    """Nonzeros, ΔR and accuracy of the lifted samples and of the features, and seconds of lifting the test digits."""
    Z = lift.fit_transform(X)
    start = time.perf_counter()
    Z_test = lift.transform(X_test)
    seconds = time.perf_counter() - start
    dimensions = max(1, min(10, len(y) // 10 - 1))
    without = NearestSubspace(dimensions).fit(unit(Z), y).score(unit(Z_test), y_test)
    built = timed_build(Z, y, options, n_layers=options.layers(LAYERS), epsilon_sq=0.1, dft_norm=norm)
    tested = NearestSubspace(dimensions).fit(built.Z, y).score(built.net.transform(Z_test), y_test)
    delta = built.net.rates.delta
    return [float((Z != 0).mean()), float(delta[0]), without, float(delta[-1]), tested, seconds]
