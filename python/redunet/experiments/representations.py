"""What features look like that are learned by rate reduction, beside those of cross-entropy: the lecture's figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from redunet import plot, rate_reduction
from redunet.experiments.digits import folder, held_out_digits, images_of, training_digits
from redunet.experiments.encoders import (
    CLASSES,
    EPSILON_SQ,
    NAMES,
    Protocol,
    Trained,
    effective_rank,
    protocol_of,
    trained_by,
)
from redunet.experiments.networks import accuracies
from redunet.experiments.options import Options
from redunet.experiments.report import Report, spread
from redunet.experiments.training import images, pytorch, reproducible
from redunet.plot import style

Array = npt.NDArray[Any]
#: Images of a class in the maps of cosines; components and images of a component in the pictures of classes.
SHOWN, COMPONENTS, PICTURES = 40, 8, 8


def representations(options: Options) -> Report:
    """Features by MCR2 and by cross-entropy: spectra, cosines, ranks of classes, and the images that a component is of.

    One encoder of three convolutions, trained by either loss for 20 passes on 300 images a class, as in labelnoise
    with right labels; features are those before the head of cross-entropy, of unit norm. Ranks are exponentials of the
    entropy of the squared singular values of a class, not centred. The folder holds MNIST's four files, others of
    their format, or CIFAR-10's; ``full`` is ResNet-18 by the authors' protocol. Needs PyTorch.
    """
    torch = pytorch()
    data = images_of(options)
    protocol, n_train, epochs = protocol_of(options, data)
    report = Report(
        "mcr2",
        "features by rate reduction and by cross-entropy",
        {"encoder": protocol.name, "d": protocol.d, "epsilon_sq": EPSILON_SQ, "images per class": n_train,
         "passes": epochs, "data": folder(options).name, "PyTorch": torch.__version__},
    )  # fmt: skip
    pictures_test, y_test = held_out_digits(data, range(CLASSES), options.n_test)
    X_test = images(pictures_test)
    found: dict[str, list[dict[str, float | None]]] = {loss: [] for loss in NAMES}
    first: dict[str, tuple[Trained, Array]] = {}
    for seed in range(options.seeds):
        pictures, y = training_digits(data, n_train, range(CLASSES), seed)
        X = images(pictures)
        for loss in NAMES:
            made, Z = _train(loss, protocol, X, y, epochs, seed, options)
            found[loss].append(_measures(made, Z, y, made.features(X_test), y_test, protocol))
            if seed == 0:
                first[loss] = made, Z
                _draw_class_pictures(report, loss, Z, y, pictures)
        if seed == 0:
            _draw(report, first, y)
    for loss, rows in found.items():
        for table in ("Accuracy on test images", "Test features"):
            names = [name for name in rows[0] if (name in _OF_FEATURES) == (table == "Test features")]
            numbers = {
                name: spread([np.nan if row[name] is None else row[name] for row in rows], 3 if table[0] == "A" else 2)
                for name in names
            }
            report.add(table, loss=NAMES[loss], **numbers)
    _remark(report, found)
    return report


_OF_FEATURES = ("R", "R_c", "ΔR", "rank of a class", "components of 95 %", "rank of all", "cosine of two classes")


def _train(
    loss: str, protocol: Protocol, X: Any, y: Array, epochs: int, seed: int, options: Options
) -> tuple[Trained, Array]:
    import torch

    def watch(made: Trained) -> dict[str, float]:
        delta, rate, class_rate = rate_reduction(made.features(X), y, epsilon_sq=EPSILON_SQ)
        return {"R": rate, "R_c": class_rate, "ΔR": delta}

    with reproducible(seed):
        made = trained_by(loss, protocol, X, torch.from_numpy(y), epochs=epochs, watch=watch, progress=options.progress)
        return made, made.features(X)


def _measures(
    made: Trained, Z: Array, y: Array, Z_test: Array, y_test: Array, protocol: Protocol
) -> dict[str, float | None]:
    """Of one encoder."""
    row: dict[str, float | None] = dict(accuracies(Z, y, Z_test, y_test, n_components=protocol.d // CLASSES))
    delta, rate, class_rate = rate_reduction(Z_test, y_test, epsilon_sq=EPSILON_SQ)
    of_classes = [Z_test[y_test == label] for label in range(CLASSES)]
    cosines = [np.abs(a @ b.T).mean() for i, a in enumerate(of_classes) for b in of_classes[:i]]
    return row | {
        "R": rate,
        "R_c": class_rate,
        "ΔR": delta,
        "rank of a class": float(np.mean([effective_rank(some) for some in of_classes])),
        "components of 95 %": float(np.mean([_components(some) for some in of_classes])),
        "rank of all": effective_rank(Z_test),
        "cosine of two classes": float(np.mean(cosines)),
    }


def _components(Z: Array, part: float = 0.95) -> int:
    """How many components hold this part of the energy of features (m, d)."""
    shares = np.linalg.svd(Z, compute_uv=False) ** 2
    return int(np.searchsorted(np.cumsum(shares) / shares.sum(), part)) + 1


def _draw(report: Report, first: dict[str, tuple[Trained, Array]], y: Array) -> None:
    losses = list(first)
    few = np.concatenate([np.flatnonzero(y == label)[:SHOWN] for label in range(CLASSES)])
    axes = report.axes("cosines", "Cosines of training features, class by class.", columns=2)
    for ax, loss in zip(axes, losses, strict=True):
        plot.cosines(first[loss][1][few], y[few], ax=ax, title=NAMES[loss], colorbar=loss == losses[-1])
    axes = report.axes("spectra", "Singular values of the training features of each class.", columns=2)
    for ax, loss in zip(axes, losses, strict=True):
        plot.singular_values(first[loss][1], y, ax=ax)
        ax.set_title(f"{NAMES[loss]}: classes")
    axes = report.axes("spectrum", "Singular values of all training features, and rates along the passes.", columns=2)
    for loss, dashes in zip(losses, ("-", "--"), strict=True):
        made, Z = first[loss]
        values = np.linalg.svd(Z, compute_uv=False)
        axes[0].plot(range(1, len(values) + 1), values, dashes, color=style.COLORS[-1], label=NAMES[loss])
        for key, color in style.RATES.items():
            along = made.along[key]
            axes[1].plot(range(1, len(along) + 1), along, dashes, color=color, label=f"{key}, {NAMES[loss]}")
            report.series[f"{key}, {loss}"] = along
    axes[0].set(xlabel="component", ylabel="singular value", title="all classes")
    axes[1].set(xlabel="pass", ylabel="nats", title="rates of the training features")
    for ax in axes:
        style.clean(ax, grid="both", integer=True)
    axes[0].legend(frameon=False, fontsize=8)
    axes[1].legend(frameon=False, fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.15))


def _draw_class_pictures(report: Report, loss: str, Z: Array, y: Array, pictures: Array) -> None:
    """For two classes, the images whose features lie nearest to each of the first components of their class."""
    n_classes = 2
    axes = report.axes(
        f"pictures-{loss}",
        f"{NAMES[loss]}: a row holds the images nearest to a principal component of their class, the first above.",
        columns=n_classes, size=(4.2, 4.4),
    )  # fmt: skip
    for ax, label in zip(axes, range(n_classes), strict=True):
        own, shown = Z[y == label], pictures[y == label]
        components = np.linalg.svd(own, full_matrices=False)[2][:COMPONENTS]
        nearest = np.argsort(-np.abs(own @ components.T), axis=0)[:PICTURES].T
        tiles = shown[nearest]  # (components, pictures, H, W), or (..., C, H, W)
        if tiles.ndim == 5:
            tiles = np.moveaxis(tiles, 2, -1)
        rows = np.concatenate(np.moveaxis(tiles, 1, 0), axis=2)  # one picture beside the other
        ax.imshow(np.concatenate(rows, axis=0), cmap="gray_r")
        ax.set(title=f"class {label}", xticks=[], yticks=[])


def _remark(report: Report, found: dict[str, list[dict[str, float | None]]]) -> None:
    def mean(loss: str, name: str) -> float:
        return float(np.mean([row[name] for row in found[loss] if row[name] is not None]))

    report.remark(
        f"A class has an effective rank of {mean('MCR2', 'rank of a class'):.1f} in features of MCR² and "
        f"{mean('CE', 'rank of a class'):.1f} in those of cross-entropy; all of them together "
        f"{mean('MCR2', 'rank of all'):.1f} and {mean('CE', 'rank of all'):.1f}. Features of two classes have a mean "
        f"cosine of {mean('MCR2', 'cosine of two classes'):.3f} and {mean('CE', 'cosine of two classes'):.3f}."
    )
    report.remark(
        "Rates say what they were made for: cross-entropy does not maximise ΔR, and is not to be judged by it. What "
        "its features look like depends on the layer: these are before its head, after a linear layer."
    )
