"""Digits under rotation: polar coordinates turn a rotation into a cyclic shift of T angles."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from redunet import plot
from redunet.classifiers import NearestSubspace
from redunet.experiments.digits import held_out_digits, mnist, training_digits, vectors
from redunet.experiments.networks import (
    Built,
    accuracies,
    agreement,
    brute_force,
    plain_network,
    subspaces,
    timed_build,
)
from redunet.experiments.options import Options
from redunet.experiments.report import Report, spread
from redunet.frontends.lift import RandomLift
from redunet.frontends.polar import to_polar
from redunet.network import ReduNet
from redunet.transforms.norms import unit

Array = npt.NDArray[Any]
EPSILON_SQ, ETA, ANGLES = 0.1, 0.5, 200
NATURAL_LAYERS = 40
PUBLISHED = {"equivariant": (0.996, 0.993), "plain": (0.983, 0.707)}  # test digits, all rotations


def polar(images: Array, n_channels: int, *, compat: bool = True) -> Array:
    """Images at n_channels radii and 200 angles as the authors' code samples them: (m, n_channels, 200), float32.

    ``compat=False`` is the obvious alternative: bilinear, and angles that go round once.
    """
    sampled = to_polar(images, n_channels=n_channels, n_angles=ANGLES, compat=compat, endpoint=compat)
    return np.asarray(sampled, np.float32)


def rot01(options: Options) -> Report:
    """Digits 0 and 1 of MNIST at every rotation: C = 5 radii, T = 200 angles, 1000 digits a class, 3500 layers.

    The equivariant network is built from signals (m, 5, 200), the plain one from the same as vectors of 1000. Both
    see the training digits as they stand. The classifier is the nearest subspace of 10 dimensions; others are reported.
    All rotations of a test digit are all 200 shifts of its samples: for the equivariant network by one forward pass and
    correlation, which is compared with shifted copies on a few digits; for the plain network by shifted copies, every
    10th with the natural step, and every 20th of every 20th digit with the published one.
    """
    data = mnist(options)
    n_layers, n_train = options.layers(3500), options.samples(1000)
    report = Report(
        "rot01",
        "digits 0 and 1 at every rotation",
        {"C": 5, "T": ANGLES, "digits per class": n_train, "eta": ETA, "epsilon_sq": EPSILON_SQ, "lambda": 500.0,
         "layers": n_layers, "classifier": "nearest subspace, 10 dimensions"},
    )  # fmt: skip
    images, y_test = held_out_digits(data, (0, 1), options.n_test)
    X_test = polar(images, 5)
    schemes = ((ETA, n_layers), ("auto", min(n_layers, NATURAL_LAYERS)))
    found: dict[tuple[str, str, int], list[list[float]]] = {}
    for seed in range(options.seeds):
        digits, y = training_digits(data, n_train, (0, 1), seed)
        X = polar(digits, 5)
        for eta, layers in schemes:
            built = timed_build(X, y, options, n_layers=layers, eta=eta, epsilon_sq=EPSILON_SQ)
            nearest = NearestSubspace(10).fit(built.Z, y)
            Z_test = built.net.transform(X_test)
            row = [nearest.score(Z_test, y_test), nearest.score_all_shifts(Z_test, y_test)]
            found.setdefault(("equivariant", str(eta), layers), []).append(
                [*row, built.net.rates.delta[-1], built.seconds]
            )
            if seed == 0:
                _check(report, built, nearest, X_test, str(eta))
                if eta == "auto":
                    _classifiers(report, built, y, Z_test, y_test)
                    _sampling(report, options, digits, y, images, y_test)
                else:
                    _figures(report, built, nearest, X, y, X_test, y_test, Z_test)
    if options.plain:
        digits, y = training_digits(data, n_train, (0, 1), 0)
        X = polar(digits, 5)
        layers = min(n_layers, NATURAL_LAYERS)
        built = timed_build(vectors(X), y, options, n_layers=layers, epsilon_sq=EPSILON_SQ)
        nearest = NearestSubspace(10).fit(built.Z, y)
        tested = nearest.score(built.net.transform(vectors(X_test)), y_test)
        shifted = brute_force(built.net, nearest, X_test, y_test, stride=10)
        found[("plain", "auto", layers)] = [[tested, shifted, built.net.rates.delta[-1], built.seconds]]
        found[("plain", str(ETA), n_layers)] = [
            plain_network(X, y, X_test, y_test, options, n_layers=n_layers, eta=ETA, epsilon_sq=EPSILON_SQ,
                          every=20, stride=20)
        ]  # fmt: skip
    X, y = polar(training_digits(data, n_train, (0, 1), 0)[0], 5), y
    nearest = NearestSubspace(10).fit(unit(X), y)
    found[("none: the samples", "", 0)] = [
        [nearest.score(unit(X_test), y_test), nearest.score_all_shifts(unit(X_test), y_test), 0.0, 0.0]
    ]
    for (network, eta, layers), rows in found.items():
        _add(report, network, eta, layers, np.array(rows).T)
    for network, (test, shifts) in PUBLISHED.items():
        _add(report, f"{network}, published", "0.5", 3500, np.array([[test], [shifts], [np.nan], [np.nan]]))
    report.remark(
        "The authors do not publish the protocol of their plain network; here it is the network of vectors, built from "
        "the same samples with the same settings, so that its accuracies are to be compared in kind."
    )
    return report


def _add(report: Report, network: str, eta: str, layers: int, columns: Array) -> None:
    test, shifts, delta, seconds = columns
    known = not np.isnan(delta).any()
    report.add(
        "Accuracy",
        network=network,
        eta=eta,
        layers=layers or None,
        **{"test digits": spread(test), "all rotations": spread(shifts)},
        **{
            "ΔR": spread(delta) if known and layers else None,
            "build, s": float(seconds.min()) if known and layers else None,
        },
    )


def _check(report: Report, built: Built, nearest: NearestSubspace, X_test: Array, eta: str) -> None:
    few = X_test[:: max(1, len(X_test) // 10)][:10]
    report.add(
        "One forward pass against shifted copies",
        eta=eta,
        digits=len(few),
        shifts=ANGLES,
        **{"same answers": agreement(built.net, nearest, few)},
    )


def _classifiers(report: Report, built: Built, y: Array, Z_test: Array, y_test: Array) -> None:
    for n_components, nearest in subspaces(built.Z, y, (1, 2, 5, 10, 20, 50)):
        report.add(
            "Other classifiers, natural step",
            classifier=f"nearest subspace, {n_components}",
            **{"test digits": nearest.score(Z_test, y_test), "all rotations": nearest.score_all_shifts(Z_test, y_test)},
        )
    for name, value in accuracies(built.Z, y, Z_test, y_test, n_components=10).items():
        if name != "nearest subspace":
            report.add(
                "Other classifiers, natural step", classifier=name, **{"test digits": value, "all rotations": None}
            )


def _sampling(report: Report, options: Options, digits: Array, y: Array, images: Array, y_test: Array) -> None:
    for compat in (True, False):
        for C in (5, 10, 15):
            X, X_test = polar(digits, C, compat=compat), polar(images, C, compat=compat)
            built = timed_build(X, y, options, n_layers=NATURAL_LAYERS, epsilon_sq=EPSILON_SQ)
            nearest = NearestSubspace(10).fit(built.Z, y)
            Z_test = built.net.transform(X_test)
            report.add(
                "Other samplings, natural step",
                sampling="the authors'" if compat else "bilinear, no angle twice",
                C=C,
                **{"test digits": nearest.score(Z_test, y_test)},
                **{"all rotations": nearest.score_all_shifts(Z_test, y_test)},
            )


def _figures(
    report: Report,
    built: Built,
    nearest: NearestSubspace,
    X: Array,
    y: Array,
    X_test: Array,
    y_test: Array,
    Z_test: Array,
) -> None:
    net = built.net
    (ax,) = report.axes("rates", "Coding rates along the layers.", of=net)
    plot.rates(net, ax=ax)
    few = np.concatenate([np.flatnonzero(y_test == label)[:100] for label in (0, 1)])
    axes = report.axes("cosines", "Test digits against each other, at the shift that fits best.", columns=2, of=net)
    plot.cosines(X_test[few], y_test[few], ax=axes[0], shifts=True, title="samples", colorbar=False)
    plot.cosines(Z_test[few], y_test[few], ax=axes[1], shifts=True, title="features")
    axes = report.axes("singular-values", "Singular values of the training features of each class.", columns=2, of=net)
    plot.singular_values(unit(X), y, ax=axes[0], n_values=40)
    axes[0].set_title("samples")
    plot.singular_values(built.Z, y, ax=axes[1], n_values=40)
    axes[1].set_title("features")
    operators(report, net, "What the operators of the first layer take away, as convolution kernels.")
    axes = report.axes(
        "shifts", "Distance of one digit of each class from both subspaces at every rotation.", columns=2, of=net
    )
    scores = nearest.scores_all_shifts(Z_test[few[[0, -1]]])
    for ax, distances, label in zip(axes, scores, y_test[few[[0, -1]]], strict=True):
        for j, name in enumerate(nearest.classes_):
            ax.plot(
                np.arange(ANGLES) * 360 / ANGLES, distances[:, j], color=plot.COLORS[j], label=f"subspace of {name}"
            )
        ax.set(xlabel="rotation (degrees)", ylabel="squared distance", title=f"a test digit {label}", ylim=(0, 1.05))
        ax.grid(True, **plot.GRID)
        ax.legend(frameon=False)


def rot10(options: Options) -> Report:
    """All ten digits of MNIST: 15 polar channels lifted to 20 by random kernels of 5, 10 digits a class, 40 layers.

    The result is a picture: features of the training digits and of 20 shifts of each, stride 10, cluster by class.
    Accuracy on all test digits is reported too, which the lecture does not give: ten digits a class are few.
    """
    data = mnist(options)
    n_layers, n_train = options.layers(40), options.samples(10)
    classes = range(10)
    report = Report(
        "rot10",
        "ten digits at every rotation",
        {"polar channels": 15, "C": 20, "kernel": 5, "T": ANGLES, "digits per class": n_train, "eta": ETA,
         "epsilon_sq": EPSILON_SQ, "lambda": 500.0, "layers": n_layers},
    )  # fmt: skip
    images, y_test = held_out_digits(data, classes, 100 if options.n_test is None else options.n_test)
    found: dict[tuple[str, int], list[list[float]]] = {}
    for seed in range(options.seeds):
        digits, y = training_digits(data, n_train, classes, seed)
        lift = RandomLift(20, 5, activation="relu", random_state=10 + seed)
        X, X_test = (np.asarray(lift(polar(some, 15)), np.float32) for some in (digits, images))
        for eta, layers in ((ETA, n_layers), ("auto", min(n_layers, NATURAL_LAYERS))):
            built = timed_build(X, y, options, n_layers=layers, eta=eta, epsilon_sq=EPSILON_SQ)
            nearest = NearestSubspace(10).fit(built.Z, y)
            Z_test = built.net.transform(X_test)
            found.setdefault((str(eta), layers), []).append(
                [nearest.score(Z_test, y_test), nearest.score_all_shifts(Z_test, y_test, stride=10),
                 built.net.rates.delta[0], built.net.rates.delta[-1], built.seconds]
            )  # fmt: skip
            if seed == 0 and eta == ETA:
                heat_maps(report, X, y, built, stride=10)
    for (eta, layers), rows in found.items():
        test, shifts, before, after, seconds = np.array(rows).T
        report.add(
            "Results",
            eta=eta,
            layers=layers,
            **{"1000 test digits": spread(test), "their rotations": spread(shifts), "ΔR before": spread(before)},
            **{"ΔR after": spread(after), "build, s": float(seconds.min())},
        )
    report.remark(f"The natural step 2 m ε² / C is {2 * len(y) * EPSILON_SQ / 20:g} here; the published one is {ETA}.")
    return report


def operators(report: Report, net: ReduNet, caption: str, *, size: tuple[float, float] = (5.2, 3.9)) -> None:
    """What E and the C^j of the first layer take away, in the same colours for the same numbers."""
    for number, ax in enumerate(report.axes("operators", caption, columns=1 + net.n_classes, size=size, of=net)):
        last = number == net.n_classes
        plot.operator(net, 0, number, complement=True, ax=ax, shared_scale=True, colorbar=last)


def heat_maps(report: Report, X: Array, y: Array, built: Built, *, stride: int) -> None:
    """Cosines of samples and features, each with shifts of itself beside it, and how often which cosine comes."""
    net = built.net
    (ax,) = report.axes("rates", "Coding rates along the layers.", of=net)
    plot.rates(net, ax=ax)
    per_class = max(1, 30 // len(np.unique(y)))
    few = np.concatenate([np.flatnonzero(y == label)[:per_class] for label in np.unique(y)])
    axes = tuple(range(2, X.ndim))
    steps = [tuple(s * stride for s in step) for step in np.ndindex(*(-(-n // stride) for n in X.shape[2:]))][:20]

    def orbit(samples: Array) -> Array:
        return np.concatenate([np.roll(samples[few], step, axis=axes) for step in steps])

    labels = np.tile(y[few], len(steps))
    pictures = report.axes(
        "cosines",
        f"Samples and {len(steps)} shifts of each: cosines of all pairs, sorted by class.",
        columns=2,
        of=net,
    )
    plot.cosines(orbit(X), labels, ax=pictures[0], title="shifted samples", colorbar=False)
    plot.cosines(orbit(built.Z), labels, ax=pictures[1], title="shifted features")
    pictures = report.axes("histogram", "How often pairs of shifted samples have which cosine.", columns=2, of=net)
    plot.cosine_histogram(orbit(X), labels, ax=pictures[0], title="samples")
    plot.cosine_histogram(orbit(built.Z), labels, ax=pictures[1], title="features")
