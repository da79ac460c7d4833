"""Features learned from labels of which some are wrong: by rate reduction, and by cross-entropy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from redunet.classifiers import CosineNeighbors, NearestSubspace
from redunet.datasets import Split
from redunet.experiments.digits import folder, held_out_digits, images_of, training_digits
from redunet.experiments.encoders import CLASSES, EPSILON_SQ, NAMES, Protocol, Trained, protocol_of, trained_by
from redunet.experiments.options import Options
from redunet.experiments.report import Report, spread
from redunet.experiments.training import images, pytorch, reproducible
from redunet.plot import style

if TYPE_CHECKING:
    import torch

Array = npt.NDArray[Any]
Labels = npt.NDArray[np.int64]
RATIOS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
HELD_OUT = 6  # one of so many images is kept to stop by
#: Published, with ResNet-18 on CIFAR-10, by loss and ratio.
PUBLISHED = {
    "CE": dict(zip(RATIOS, (0.939, 0.909, 0.861, 0.791, 0.724, 0.603), strict=True)),
    "MCR2": dict(zip(RATIOS, (0.940, 0.911, 0.897, 0.881, 0.866, 0.843), strict=True)),
}


@dataclass(frozen=True)
class Data:
    """Images to train on, to stop by and to test, with their labels; those of the first two are partly wrong."""

    X: torch.Tensor
    y: Labels
    X_held: torch.Tensor
    y_held: Labels
    X_test: torch.Tensor
    y_test: Labels
    clean: Labels


@dataclass(frozen=True)
class Row:
    """One encoder: accuracies on test images, after all passes and after that of `chosen`, and on its own labels."""

    last: float
    chosen: float
    best: float
    neighbours: float
    fitted: float
    seconds: float


def label_noise(options: Options) -> Report:
    """MCR2 against cross-entropy where a part of the training labels is drawn anew, from 0 to a half.

    One encoder of three convolutions, trained by either loss for 20 passes (SGD, momentum 0.9, weight decay 5e-4, a
    cosine: MCR2 in batches of 300 with rate 0.05, cross-entropy in batches of 100 with 0.02; no augmentation). Features
    of MCR2 are classified by the nearest subspace of the training features, *with the wrong labels*; those of
    cross-entropy by its head. Either is also stopped at the pass that is best on a sixth of the training images, whose
    labels are as wrong; and beside stands the best pass on the test images, which nobody knows. The folder holds
    MNIST's four files, others of their format, or CIFAR-10's; ``full`` trains as the authors of MCR2 did, ResNet-18 for
    500 passes with shifts and mirror images, and cross-entropy in batches of 128 with rate 0.1. Needs PyTorch.
    """
    torch = pytorch()
    data = images_of(options)
    protocol, n_train, epochs = protocol_of(options, data)
    report = Report(
        "labelnoise",
        "wrong labels: rate reduction against cross-entropy",
        {"encoder": protocol.name, "d": protocol.d, "epsilon_sq": EPSILON_SQ, "images per class": n_train,
         "passes": epochs, "data": folder(options).name, "dimensions of a subspace": components(protocol),
         "PyTorch": torch.__version__},
    )  # fmt: skip
    rows: dict[tuple[float, str], list[Row]] = {}
    curves: dict[tuple[float, str], Trained] = {}
    for seed in range(options.seeds):
        for ratio in RATIOS:
            some = _data(data, options, n_train, ratio, seed)
            for loss in NAMES:
                row, made = _run(loss, protocol, some, epochs, seed, options)
                rows.setdefault((ratio, loss), []).append(row)
                if seed == 0:
                    curves[ratio, loss] = made
    _tabulate(report, rows)
    _draw(report, rows, curves)
    _remark(report, rows)
    return report


def components(protocol: Protocol) -> int:
    """Dimensions of a class's subspace: as many as all classes have room for."""
    return protocol.d // CLASSES


def corrupted(y: Labels, ratio: float, random: np.random.Generator) -> Labels:
    """Labels of which floor(ratio m), chosen without replacement, are drawn from all classes: 0.9 of them are wrong."""
    y = y.copy()
    chosen = random.permutation(len(y))[: int(ratio * len(y))]
    y[chosen] = random.integers(0, CLASSES, len(chosen))
    return y


def _data(data: Split, options: Options, n_train: int, ratio: float, seed: int) -> Data:
    X, clean = training_digits(data, n_train, range(CLASSES), seed)
    random = np.random.default_rng(1000 + seed)
    order = random.permutation(len(clean))
    X, clean = X[order], clean[order]
    y = corrupted(clean, ratio, random)
    X_test, y_test = held_out_digits(data, range(CLASSES), options.n_test)
    held = max(1, len(y) // HELD_OUT)
    return Data(images(X[held:]), y[held:], images(X[:held]), y[:held], images(X_test), y_test, clean[held:])


def _run(loss: str, protocol: Protocol, data: Data, epochs: int, seed: int, options: Options) -> tuple[Row, Trained]:
    import torch

    from redunet import rate_reduction

    n_components = components(protocol)

    def answers(made: Trained, *some: torch.Tensor) -> list[Labels]:
        if made.head is not None:
            return [made.logits(X).argmax(1) for X in some]
        nearest = NearestSubspace(n_components).fit(made.features(data.X), data.y)
        return [nearest.predict(made.features(X)) for X in some]

    def watch(made: Trained) -> dict[str, float]:
        held, tested = answers(made, data.X_held, data.X_test)
        delta, rate, class_rate = rate_reduction(made.features(data.X), data.y, epsilon_sq=EPSILON_SQ)
        return {"held out": float((held == data.y_held).mean()), "test": float((tested == data.y_test).mean()),
                "R": rate, "R_c": class_rate, "ΔR": delta}  # fmt: skip

    with reproducible(seed):
        made = trained_by(
            loss, protocol, data.X, torch.from_numpy(data.y), epochs=epochs, watch=watch, progress=options.progress
        )
        (fitted,) = answers(made, data.X)
        neighbours = CosineNeighbors(5).fit(made.features(data.X), data.y)
        tested = made.along["test"]
        row = Row(
            last=tested[-1],
            chosen=tested[int(np.argmax(made.along["held out"]))],
            best=max(tested),
            neighbours=float(neighbours.score(made.features(data.X_test), data.y_test)),
            fitted=float((fitted == data.y).mean()),
            seconds=made.seconds,
        )
    return row, made


def _tabulate(report: Report, rows: dict[tuple[float, str], list[Row]]) -> None:
    for (ratio, loss), of_seeds in rows.items():
        columns = {
            "last pass": "last", "stopped": "chosen", "best pass on test images": "best", "5 neighbours": "neighbours",
            "agrees with its labels": "fitted",
        }  # fmt: skip
        report.add(
            "Accuracy on test images",
            ratio=ratio,
            loss=NAMES[loss],
            **{name: spread([getattr(row, key) for row in of_seeds], 3) for name, key in columns.items()},
            **{"published, CIFAR-10": PUBLISHED[loss][ratio]},
            seconds=min(row.seconds for row in of_seeds),
        )


def _draw(
    report: Report, rows: dict[tuple[float, str], list[Row]], curves: dict[tuple[float, str], Trained]
) -> None:  # fmt: skip
    axes = report.axes("accuracy", "Test accuracy against the part of the labels that is drawn anew.", columns=2)
    for ax, key, title in ((axes[0], "last", "after the last pass"), (axes[1], "chosen", "stopped by held-out images")):
        for loss, marker, color in (("MCR2", "o", style.COLORS[0]), ("CE", "s", style.COLORS[1])):
            values = np.array([[getattr(row, key) for row in rows[ratio, loss]] for ratio in RATIOS])
            ax.errorbar(RATIOS, values.mean(1), values.std(1), marker=marker, color=color, capsize=3, label=NAMES[loss])
        ax.set(xlabel="part of the labels drawn anew", ylabel="test accuracy", title=title)
        style.clean(ax, grid="both")
    axes[0].legend(frameon=False)
    shown = (RATIOS[0], RATIOS[len(RATIOS) // 2], RATIOS[-1])
    axes = report.axes(
        "rates", "Rates of the training features, by the labels trained on, pass by pass.", columns=len(shown)
    )
    for ax, ratio in zip(axes, shown, strict=True):
        for loss, dashes in (("MCR2", "-"), ("CE", "--")):
            for key, color in style.RATES.items():
                along = curves[ratio, loss].along[key]
                label = f"{key}, {NAMES[loss]}" if ratio == shown[0] else None
                ax.plot(range(1, len(along) + 1), along, dashes, color=color, label=label)
        ax.set(xlabel="pass", ylabel="nats", title=f"ratio {ratio:g}")
        style.clean(ax, grid="both", integer=True)
    axes[0].legend(frameon=False, fontsize=7)
    for (ratio, loss), made in curves.items():
        report.series[f"{loss}, ratio {ratio:g}"] = made.along


def _remark(report: Report, rows: dict[tuple[float, str], list[Row]]) -> None:
    def mean(loss: str, key: str) -> float:
        return float(np.mean([getattr(row, key) for row in rows[RATIOS[-1], loss]]))

    report.remark(
        f"With half of the labels drawn anew, MCR² has {mean('MCR2', 'last'):.3f} after the last pass and "
        f"cross-entropy {mean('CE', 'last'):.3f}, or {mean('CE', 'chosen'):.3f} where it is stopped by held-out images "
        f"and {mean('CE', 'best'):.3f} by the test images. Cross-entropy agrees with {mean('CE', 'fitted'):.2f} of the "
        f"labels that it was trained on, the subspaces of MCR² with {mean('MCR2', 'fitted'):.2f}."
    )
    report.remark(
        "Batches and rates are each loss's own, the number of passes is the same. Low-dimensional subspaces can't hold "
        "single wrong labels: that is what neighbours of the same features, which can, show beside them."
    )
