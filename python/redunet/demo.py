"""``redunet demo``: a translation-equivariant ReduNet beside a plain one, on scikit-learn's 8x8 digits.

The plain network sees vectors (m, 64). The equivariant one sees lifted images (m, C, 8, 8): features of a translated
digit are the translated features, so that one forward pass of a digit gives those of all its 64 cyclic translations.
Both are built from the same digits as they stand, without shifted copies, and classify by the nearest subspace of the
features. The nearest over all translations of the equivariant features is a third answer, which no translation changes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from redunet import datasets, plot
from redunet._backends import instead_of_engine, select
from redunet._inputs import checks, words
from redunet.classifiers import NearestSubspace
from redunet.frontends.lift import RandomLift
from redunet.network import ReduNet, build
from redunet.terminal import show, tell

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = npt.NDArray[Any]

PICTURE = "redunet-demo.png"
SHIFTS = [(down, right) for down in range(8) for right in range(8)]

# Settings of the two networks, by experiment (test accuracy, then on all translations, of the equivariant network):
# channels 16: 94.7, 94.7; 24: 96, 96; 32: 97, 97; 48: 97.5, 97.5; 64: 98, 98, at 20 times the time of 16.
# The distortion matters most: with the scale of the formula on paper ("backward") 0.1 gives 97, 97, and 6.4, which is
# what 0.1 means at the scale "ortho", gives 93, 84. Kernels of 3 to 8 pixels, 50 to 120 digits a class and 10 to 30
# components change little. At 12 layers the features of shifts are still settling (97, 86), from 24 on they stay.
N_LAYERS = 30
N_TRAIN_PER_CLASS = 100
N_CHANNELS = 32
KERNEL_SIZE = 5
N_COMPONENTS = 10
EPSILON_SQ = 0.1
DFT_NORM: words.DftNorm = "backward"
SEED = 0

# Digits of each class in the pictures of cosines.
N_SHOWN_PER_CLASS = 12


@dataclass(frozen=True)
class Outcome:
    """What one classifier did: accuracies in [0, 1], and its network with the seconds of its construction."""

    name: str
    net: ReduNet
    test: float
    shifts: float
    seconds: float

    @property
    def layers_per_second(self) -> float:
        """Speed of the construction."""
        return self.net.n_layers / self.seconds


@dataclass(frozen=True)
class Comparison:
    """The outcomes, and some test digits with their labels before and after the equivariant network."""

    plain: Outcome
    equivariant: Outcome
    invariant: Outcome
    before: Array
    after: Array
    labels: Array
    n_train: int
    n_test: int

    @property
    def outcomes(self) -> tuple[Outcome, Outcome, Outcome]:
        """All three, in the order of the table."""
        return self.plain, self.equivariant, self.invariant


def main(
    out: Path,
    *,
    n_layers: int | None = None,
    backend: words.Backend = "auto",
    n_threads: int | None = None,
    progress: bool = True,
) -> Comparison:
    """Run the comparison, print its table, and write its picture.

    Parameters
    ----------
    out : Path
        Folder of the picture; made if it is missing.
    n_layers : int, optional
        Layers of each network; default: `N_LAYERS`.
    backend, n_threads
        As in `redunet.build`.
    progress : bool, default True
        Whether to show what is being done.

    Returns
    -------
    Comparison
        What the table and the picture show.

    Raises
    ------
    ImportError
        If scikit-learn or matplotlib is missing: the message says which extra brings it.
    OSError
        If the picture can't be written.
    """
    try:
        import matplotlib  # noqa: F401  (missing, it should be missed before the work)
    except ImportError as error:
        raise ImportError("redunet demo needs matplotlib: pip install 'redunet[plot]'") from error
    out.mkdir(parents=True, exist_ok=True)
    comparison = compare(n_layers=n_layers, backend=backend, n_threads=n_threads, progress=progress)
    threads = 1 if comparison.equivariant.net.backend == "numpy" else checks.threads(n_threads)
    show(table(comparison, threads=threads))
    picture = out / PICTURE
    draw(comparison).savefig(picture, dpi=150)
    show(f"\npicture: {picture}")
    return comparison


def compare(
    *,
    n_layers: int | None = None,
    backend: words.Backend = "auto",
    n_threads: int | None = None,
    progress: bool = False,
) -> Comparison:
    """Build both networks and test them.

    Parameters
    ----------
    n_layers, backend, n_threads, progress
        As in `main`.

    Examples
    --------
    >>> from redunet import demo
    >>> demo.compare(n_layers=2).equivariant.net.signal_shape
    (8, 8)
    """
    slow = instead_of_engine(backend)
    chosen, _ = select(backend)
    data = datasets.digits(n_train_per_class=N_TRAIN_PER_CLASS, random_state=SEED)
    if slow:
        tell(f"redunet: {slow}")
    from threadpoolctl import threadpool_limits  # which scikit-learn brings

    # The matrices are small: threads of NumPy's BLAS gain little, and where others use the cores they wait for one
    # another (2 threads on 2 busy cores: 46 s for the equivariant network; 1 thread: 10 s). The engine has its own.
    with threadpool_limits(1, user_api="blas"):
        return _compare(data, n_layers, {"backend": chosen, "n_threads": n_threads}, progress)


def _compare(data: datasets.Split, n_layers: int | None, chosen: Any, progress: bool) -> Comparison:
    X, X_test = (images.astype(np.float32) for images in (data.X_train, data.X_test))
    y, y_test = data.y_train, data.y_test

    def construct(samples: Array, what: str) -> tuple[ReduNet, NearestSubspace, float]:
        if progress:
            tell(f"{what}: {len(samples)} samples of {' x '.join(map(str, samples.shape[1:]))}")
        start = time.perf_counter()
        net, Z = build(
            samples,
            y,
            n_layers=N_LAYERS if n_layers is None else n_layers,
            epsilon_sq=EPSILON_SQ,
            dft_norm=DFT_NORM,
            progress=progress,
            **chosen,
        )
        seconds = time.perf_counter() - start
        return net, NearestSubspace(n_components=N_COMPONENTS).fit(Z, y), seconds

    def vectors(images: Array) -> Array:
        return images.reshape(len(images), -1)

    net, classifier, seconds = construct(vectors(X), "plain network")
    moved = (np.roll(X_test, by, axis=(2, 3)) for by in SHIFTS)
    hits = [classifier.score(net.transform(vectors(images), **chosen), y_test) for images in moved]
    plain = Outcome("plain", net, hits[0], float(np.mean(hits)), seconds)

    lift = RandomLift(N_CHANNELS, KERNEL_SIZE, random_state=SEED).fit(X)
    net, classifier, seconds = construct(lift(X), "translation-equivariant network")
    lifted = lift(X_test)
    Z_test = net.transform(lifted, **chosen)
    at_rest, moved_too = classifier.score(Z_test, y_test), classifier.score_all_shifts(Z_test, y_test)
    equivariant = Outcome("equivariant", net, at_rest, moved_too, seconds)
    best = classifier.score(Z_test, y_test, shifts="best")  # of a digit and of all its translations
    invariant = Outcome("invariant", net, best, best, seconds)
    shown = np.concatenate([np.flatnonzero(y_test == label)[:N_SHOWN_PER_CLASS] for label in np.unique(y)])
    return Comparison(plain, equivariant, invariant, lifted[shown], Z_test[shown], y_test[shown], len(y), len(y_test))


def table(comparison: Comparison, *, threads: int) -> str:
    """The outcomes as text.

    Parameters
    ----------
    comparison : Comparison
        What `compare` gave.
    threads : int
        How many threads it ran on.
    """
    heads = ("network", "samples", "test digits", "all translations", "build", "speed")
    rows = [heads] + [
        (
            outcome.name,
            "vectors of 64" if not outcome.net.signal_shape else f"{outcome.net.n_channels} x 8 x 8 images",
            f"{outcome.test:.1%}",
            f"{outcome.shifts:.1%}",
            f"{outcome.seconds:.2f} s",
            f"{outcome.layers_per_second:.3g} layers/s",
        )
        for outcome in comparison.outcomes
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    lines = [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    lines.insert(1, "-" * len(lines[0]))
    net = comparison.equivariant.net
    n_train, n_test = comparison.n_train, comparison.n_test
    lines += [
        "",
        f"{net.n_layers} layers from {n_train} digits; {n_test} test digits, {64 * n_test} translated ones",
        "invariant: the equivariant network, and of each digit the translation that is nearest to a class",
        f"backend {net.backend}, {threads} thread{'s' if threads > 1 else ''}",
    ]
    return "\n".join(lines)


def draw(comparison: Comparison) -> Figure:
    """The picture: rates along the layers, accuracies, and cosines before and after the equivariant network.

    Parameters
    ----------
    comparison : Comparison
        What `compare` gave.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 8.6), layout="constrained")
    top, bottom = figure.subplots(2, 2)
    net = comparison.equivariant.net
    figure.suptitle(f"A translation-equivariant ReduNet of {net.n_layers} layers on 8 × 8 digits", fontsize="x-large")
    plot.rates(net, ax=top[0]).set_title("Coding rates of the equivariant network")
    results = {
        outcome.name: {"test digits": outcome.test, "all 64 translations of them": outcome.shifts}
        for outcome in comparison.outcomes
    }
    plot.accuracies(results, ax=top[1])
    for ax, features, which in zip(
        bottom, (comparison.before, comparison.after), ("lifted digits", "features"), strict=True
    ):
        plot.cosines(features, comparison.labels, ax=ax, shifts=True)
        ax.set(title=f"Similarity over all translations: {which}", xlabel="digit", ylabel="digit")
    return figure
