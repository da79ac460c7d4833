"""Digits under translation and in mirrors: what a network of the dihedral group gains, and what it can't tell apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from redunet.classifiers import NearestSubspace
from redunet.experiments.digits import held_out_digits, mnist, training_digits
from redunet.experiments.networks import timed_build
from redunet.experiments.options import Options
from redunet.experiments.report import Report, spread
from redunet.experiments.translations import EPSILON_SQ, pixels
from redunet.frontends.lift import RandomLift

Array = npt.NDArray[Any]
PAIRS = ((0, 1), (0, 8), (1, 8), (2, 5), (6, 9), (4, 7))
#: Axes of (m, 1, H, W) along which an image is flipped.
FLIPS = ((3,), (2,), (2, 3))


def mirrors(options: Options) -> Report:
    """Pairs of MNIST's digits, at every translation, by a network that knows mirror images and by one that does not.

    A digit 2 in a mirror is much like a 5, and a 6 upside down is a 9; 0, 1 and 8 are much the same in any mirror.
    Images are lifted to C = 5 by symmetric random kernels of 9, 200 digits a class, 10 natural layers, nearest subspace
    of 10 dimensions; tested on 200 digits a class at every translation, and on their three mirror images.
    """
    data = mnist(options)
    n_layers, n_train = options.layers(10), options.samples(200)
    n_test = 200 if options.n_test is None else options.n_test
    report = Report(
        "mirrors",
        "digits and their mirror images",
        {"C": 5, "kernel": "9, symmetric", "digits per class": n_train, "test digits per class": n_test,
         "eta": "auto", "epsilon_sq": EPSILON_SQ, "lambda": 500.0, "layers": n_layers,
         "classifier": "nearest subspace, 10 dimensions"},
    )  # fmt: skip
    for pair in PAIRS:
        images, y_test = held_out_digits(data, pair, n_test)
        found: dict[str, list[list[float]]] = {"cyclic": [], "dihedral": []}
        for seed in range(options.seeds):
            digits, y = training_digits(data, n_train, pair, seed)
            lift = RandomLift(5, 9, symmetric=True, random_state=10 + seed)
            for group, rows in found.items():
                built = timed_build(
                    lift(pixels(digits)), y, options, n_layers=n_layers, epsilon_sq=EPSILON_SQ, group=group
                )
                nearest = NearestSubspace(10).fit(built.Z, y)
                Z_test, *mirrored = (built.net.transform(lift(np.flip(pixels(images), axes))) for axes in ((), *FLIPS))
                rows.append(
                    [nearest.score(Z_test, y_test), nearest.score_all_shifts(Z_test, y_test),
                     float(np.mean([nearest.score_all_shifts(Z, y_test) for Z in mirrored])),
                     built.net.rates.delta[0], built.net.rates.delta[-1]]
                )  # fmt: skip
        for group, rows in found.items():
            test, shifts, mirror, before, after = np.array(rows).T
            report.add(
                "Accuracy",
                pair=f"{pair[0]} and {pair[1]}",
                group=group,
                **{"test digits": spread(test), "all translations": spread(shifts), "of mirror images": spread(mirror)},
                **{"ΔR before": spread(before, 5), "ΔR after": spread(after, 5)},
            )
    report.remark(
        "To the dihedral network a class is its digits and their mirror images, at every translation. Where those of "
        "two classes look alike, ΔR has little to gain, and over all translations little tells the classes apart. "
        "Test digits as they stand show little of that: they lie where the training digits do, and upright."
    )
    return report
