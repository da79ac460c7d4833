"""A CRATE on MNIST, or on what else lies in its four files: rates and sparsity by layer, and a ReduNet on top."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from redunet import plot
from redunet.classifiers import NearestSubspace
from redunet.experiments.digits import folder, held_out_digits, mnist, training_digits
from redunet.experiments.networks import timed_build
from redunet.experiments.options import Options
from redunet.experiments.report import Report, spread
from redunet.experiments.training import accuracy, fit, images, pytorch, reproducible
from redunet.plot import style
from redunet.transforms.norms import unit

if TYPE_CHECKING:
    import torch

    from redunet.torch.crate import CRATE, LayerStatistics

Array = npt.NDArray[Any]
DIM, DEPTH, HEADS, PATCH, EPOCHS = 96, 6, 6, 4, 6
RATE, DECAY, SMOOTHING, WARM = 2e-3, 0.05, 0.1, 0.1
#: Test images whose rates are measured, and the error of their code.
PROBED, EPSILON_SQ = 500, 0.01
#: Of each class, for the ReduNet on the class tokens.
FEW, LAYERS, DIMENSIONS = 100, 5, 10


@dataclass
class Run:
    """What one seed gives: accuracies, seconds, and the layers before and after training."""

    trained: float
    tested: float
    seconds: float
    before: list[LayerStatistics]
    after: list[LayerStatistics]
    on_top: dict[str, float] = field(default_factory=dict)


def white_box(options: Options) -> Report:
    """CRATE on 28 x 28 images: trained by cross-entropy, with the coding rate and the sparsity of tokens by layer.

    Dim 96, 6 layers of 6 heads, patches of 4; AdamW with a rate of 2e-3 that rises in a tenth of the steps and falls
    by a cosine, weight decay 0.05, batches of 100, label smoothing 0.1, no augmentation. Rates are those of 500 test
    images before and after training, eps^2 = 0.01. On the class tokens of the trained network then stand classifiers
    without training: nearest subspace, and the same on the features of a ReduNet built of 100 tokens a class. Needs
    PyTorch.
    """
    torch = pytorch()
    data = mnist(options)
    depth, n_train = options.layers(DEPTH), options.samples(1000)
    epochs = EPOCHS if options.epochs is None else options.epochs
    digits, labels = held_out_digits(data, range(10), options.n_test)
    X_test, y_test = images(digits), torch.from_numpy(labels)
    report = Report(
        "crate",
        "a white-box transformer on small images",
        {"dim": DIM, "layers": depth, "heads": HEADS, "patch": PATCH, "images per class": n_train,
         "passes": epochs, "test images": len(labels), "epsilon_sq of rates": EPSILON_SQ, "images of rates": PROBED,
         "data": folder(options).name, "PyTorch": torch.__version__},
    )  # fmt: skip
    runs = [_run(options, data, depth, n_train, epochs, X_test, y_test, seed, report) for seed in range(options.seeds)]
    report.add(
        "Accuracy",
        network="CRATE",
        **{
            "training images": spread([run.trained for run in runs]),
            "test images": spread([run.tested for run in runs]),
        },
        seconds=min(run.seconds for run in runs),
    )
    for name in runs[0].on_top:
        report.add(
            f"Classifiers of the class token, made of {min(FEW, n_train)} images a class",
            classifier=name,
            **{"test images": spread([run.on_top[name] for run in runs])},
        )
    for layer in range(depth):
        report.add(
            "Along the layers",
            layer=layer + 1,
            **{
                f"{what}, {when}": spread([getattr(getattr(run, attribute)[layer], key) for run in runs], digits)
                for what, key, digits in (("R_c", "rate", 1), ("nonzeros", "nonzeros", 3))
                for when, attribute in (("untrained", "before"), ("trained", "after"))
            },
        )
    _draw(report, runs)
    _remark(report, runs)
    return report


def _run(
    options: Options, data: Any, depth: int, n_train: int, epochs: int, X_test: torch.Tensor, y_test: torch.Tensor,
    seed: int, report: Report,
) -> Run:  # fmt: skip
    import torch

    from redunet.torch import CRATE, coding_rate_probe

    digits, labels = training_digits(data, n_train, range(10), seed)
    X, y = images(digits), torch.from_numpy(labels)
    some = X_test[np.random.default_rng(0).permutation(len(X_test))[:PROBED]]
    with reproducible(seed):
        model = CRATE(digits.shape[2:], PATCH, 10, DIM, depth, HEADS, in_channels=1)
        report.settings["parameters"] = sum(parameter.numel() for parameter in model.parameters())
        before = coding_rate_probe(model, some, EPSILON_SQ)

        def optimizer(steps: int) -> tuple[torch.optim.Optimizer, Any]:
            adam = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
            schedule = torch.optim.lr_scheduler.OneCycleLR(adam, RATE, total_steps=steps + 1, pct_start=WARM)
            return adam, schedule

        trained, seconds = fit(
            model, X, y, optimizer, epochs=epochs, label_smoothing=SMOOTHING, progress=options.progress
        )
        run = Run(trained, accuracy(model, X_test, y_test), seconds, before, coding_rate_probe(model, some, EPSILON_SQ))
        few = torch.cat([(y == label).nonzero()[: min(FEW, n_train), 0] for label in range(10)])
        run.on_top = _on_top(
            class_tokens(model, X[few]), labels[few], class_tokens(model, X_test), y_test.numpy(), options
        )
    return run


def class_tokens(model: CRATE, X: torch.Tensor) -> Array:
    """The normalised class token of every image, (m, dim), as the head sees it."""
    import torch

    with torch.no_grad():
        return torch.cat([model.head[0](model.tokens(x)[:, 0]) for x in X.split(500)]).numpy()


def _on_top(Z: Array, y: Array, Z_test: Array, y_test: Array, options: Options) -> dict[str, float]:
    """Accuracies of classifiers that are made of tokens, not trained."""
    dimensions = max(1, min(DIMENSIONS, len(y) // 10 - 1))
    built = timed_build(Z, y, options, n_layers=LAYERS, progress=False)
    return {
        f"nearest subspace of {dimensions} dimensions": NearestSubspace(dimensions)
        .fit(unit(Z), y)
        .score(unit(Z_test), y_test),
        f"the same on a ReduNet of {LAYERS} natural steps": NearestSubspace(dimensions)
        .fit(built.Z, y)
        .score(built.net.transform(Z_test), y_test),
    }


def _draw(report: Report, runs: list[Run]) -> None:
    caption = "Coding rate of the tokens in the subspaces of each layer, and how many of their numbers are not zero."
    axes = report.axes("layers", caption, columns=2)
    for ax, key, label in zip(axes, ("rate", "nonzeros"), ("R_c (nats)", "fraction of nonzeros"), strict=True):
        for color, when, what in zip(plot.COLORS, ("before", "after"), ("untrained", "trained"), strict=False):
            values = np.array([[getattr(layer, key) for layer in getattr(run, when)] for run in runs])
            places = np.arange(1, values.shape[1] + 1)
            ax.plot(places, values.mean(axis=0), "o-", color=color, label=what)
            ax.fill_between(places, values.min(axis=0), values.max(axis=0), color=color, alpha=0.2, linewidth=0)
            report.series[f"{label}, {what}"] = values
        ax.set(xlabel="layer", ylabel=label)
        style.clean(ax, grid="both", integer=True)
        ax.legend(frameon=False)


def _remark(report: Report, runs: list[Run]) -> None:
    """What holds for every seed, and no more."""
    rates = np.array([[layer.rate for layer in run.after] for run in runs])
    nonzeros = np.array([[layer.nonzeros for layer in run.after] for run in runs])
    start = next((k for k in range(rates.shape[1]) if (np.diff(rates[:, k:]) < 0).all()), rates.shape[1] - 1)
    if start < rates.shape[1] - 1:
        text = f"With every seed the coding rate of the trained network falls from layer {start + 1} on."
    else:
        text = "The coding rate of the trained network does not fall along the layers with every seed."
    falls = bool((np.diff(nonzeros) < 0).all())
    text += f" Its sparsity {'rises with' if falls else 'is not monotone in'} the layers."
    report.remark(text)
