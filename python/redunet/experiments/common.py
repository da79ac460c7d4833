"""What the experiments share: their options, digits from a folder, networks with their times, accuracies."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet import datasets
from redunet._inputs import checks
from redunet.classifiers import CosineNeighbors, NearestSubspace
from redunet.network import ReduNet, build
from redunet.transforms.norms import unit

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Options:
    """How an experiment is run.

    Attributes
    ----------
    data : path, optional
        Folder of MNIST's four IDX files. Default: the environment variable REDUNET_MNIST.
    n_layers : int, optional
        Layers of the networks with the published step size. Default: as published.
    n_train, n_test : int, optional
        Samples of each class, at most. Default: as published; all test samples.
    seeds : int
        Choices of training samples and random kernels; the first takes the first samples, as published.
    plain : bool
        Whether to build the plain networks beside the equivariant ones, which take most of the time.
    progress : bool
        Progress bars on standard error.

    Raises
    ------
    ValueError, TypeError
        If one is out of range or of another type.
    """

    data: Path | None = None
    n_layers: int | None = None
    n_train: int | None = None
    n_test: int | None = None
    seeds: int = 1
    plain: bool = True
    progress: bool = False

    def __post_init__(self) -> None:
        for name in ("n_layers", "n_train", "n_test"):
            if (value := getattr(self, name)) is not None:
                checks.integer(value, name, 1)
        checks.integer(self.seeds, "seeds", 1)
        checks.flag(self.plain, "plain")
        checks.flag(self.progress, "progress")
        if self.data is not None:
            checks.path(self.data, "data")

    def layers(self, published: int) -> int:
        """Layers with the published step size."""
        return published if self.n_layers is None else self.n_layers

    def samples(self, published: int) -> int:
        """Training samples of each class."""
        return published if self.n_train is None else min(published, self.n_train)


class DataMissing(RuntimeError):
    """The data that an experiment is about are not here."""


def mnist(options: Options) -> datasets.Split:
    """MNIST from the folder of the options.

    Raises
    ------
    DataMissing
        If no folder was given.
    FileNotFoundError
        If it doesn't hold the four files.
    """
    folder = options.data or os.environ.get("REDUNET_MNIST")
    if not folder:
        raise DataMissing("this experiment needs MNIST: give --data DIR, the folder of its four IDX files")
    return datasets.mnist(folder)


def training_digits(data: datasets.Split, n: int, classes: Sequence[int], seed: int) -> tuple[Array, Array]:
    """n digits of each class: the first of the training set, or, with another seed than 0, any."""
    images, labels = data.X_train, data.y_train
    if seed:
        order = np.random.default_rng(seed).permutation(len(labels))
        images, labels = images[order], labels[order]
    return datasets.first_per_class(images, labels, n, classes=list(classes))


def held_out_digits(data: datasets.Split, classes: Sequence[int], n: int | None) -> tuple[Array, Array]:
    """All test digits of these classes, or the first n of each."""
    index = np.concatenate([np.flatnonzero(data.y_test == label)[:n] for label in classes])
    return data.X_test[index], data.y_test[index]


@dataclass(frozen=True)
class Built:
    """A network with its training features, and the seconds that it took."""

    net: ReduNet
    Z: Array
    seconds: float


def timed_build(X: Array, y: Array, options: Options, **settings: Any) -> Built:
    """`redunet.build`, with its time."""
    start = time.perf_counter()
    net, Z = build(X, y, **{"progress": options.progress, **settings})
    return Built(net, Z, time.perf_counter() - start)


def build_in_sections(
    X: Array, y: Array, X_new: Array, options: Options, *, n_layers: int, eta: float, epsilon_sq: float
) -> tuple[Array, Array, float, float]:
    """Features of training and new samples after many layers of a network whose operators would not fit into memory.

    Sections of the network are built one after the other, each from the features that the one before left, and the new
    samples go through each as soon as it is there. Returns both features, the rate reduction, and the build's seconds.
    """
    section = 100
    seconds = 0.0
    delta = 0.0
    for start in range(0, n_layers, section):
        layers = min(section, n_layers - start)
        built = timed_build(X, y, options, n_layers=layers, eta=eta, epsilon_sq=epsilon_sq)
        X, X_new = built.Z, built.net.transform(X_new)
        seconds += built.seconds
        delta = float(built.net.rates.delta[-1])
    return X, X_new, delta, seconds


def plain_network(
    X: Array, y: Array, X_test: Array, y_test: Array, options: Options, *, n_layers: int, eta: float, epsilon_sq: float,
    every: int, stride: int,
) -> list[float]:  # fmt: skip
    """A network of vectors with a fixed step, tested by the nearest subspace of 10 dimensions.

    Returns accuracy on the test samples and on shifted copies of every few of them, the rate reduction, and the seconds
    of building.
    """
    copies = [vectors(some) for some in shifted_copies(X_test[::every], stride)]
    Z, Z_new, delta, seconds = build_in_sections(
        vectors(X), y, np.concatenate([vectors(X_test), *copies]), options,
        n_layers=n_layers, eta=eta, epsilon_sq=epsilon_sq,
    )  # fmt: skip
    nearest = NearestSubspace(10).fit(Z, y)
    m = len(X_test)
    shifted = nearest.score(Z_new[m:], np.tile(y_test[::every], len(copies)))
    return [nearest.score(Z_new[:m], y_test), shifted, delta, seconds]


def vectors(X: Array) -> Array:
    """Signals and images as vectors, (m, d)."""
    return X.reshape(len(X), -1)


def accuracies(Z: Array, y: Array, Z_test: Array, y_test: Array, *, n_components: int) -> dict[str, float | None]:
    """Accuracy on test features of the three classifiers of the authors' code.

    They are nearest subspace, 5 nearest neighbours by cosine, and a linear support vector machine (None without
    scikit-learn).
    """
    found: dict[str, float | None] = {
        "nearest subspace": NearestSubspace(n_components).fit(Z, y).score(Z_test, y_test),
        "5 neighbours": CosineNeighbors(5).fit(Z, y).score(Z_test, y_test),
        "linear SVM": None,
    }
    try:
        from sklearn.svm import LinearSVC
    except ImportError:
        return found
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has not converged, as the authors' has not
        machine = LinearSVC(random_state=10, dual="auto").fit(vectors(unit(Z)), y)
    found["linear SVM"] = float(machine.score(vectors(unit(Z_test)), y_test))
    return found


def shifted_copies(X: Array, stride: int) -> Iterator[Array]:
    """The samples at every stride-th cyclic shift of each axis, (m, C, ...) each time; the first are the samples."""
    axes = tuple(range(2, X.ndim))
    for shift in np.ndindex(*(-(-n // stride) for n in X.shape[2:])):
        yield np.roll(X, tuple(s * stride for s in shift), axis=axes)


def brute_force(net: ReduNet | None, classifier: NearestSubspace, X: Array, y: Array, *, stride: int) -> float:
    """Accuracy on shifted copies that are made one by one and sent through the network; plain networks see vectors."""
    hits = []
    for copies in shifted_copies(X, stride):
        seen = copies if net is None or net.signal_shape else vectors(copies)
        hits.append(classifier.score(vectors(seen) if net is None else net.transform(seen), y))
    return float(np.mean(hits))


def agreement(net: ReduNet, classifier: NearestSubspace, X: Array) -> float:
    """How often one forward pass says of a shift what a forward pass of the shifted copy says; X is a few samples."""
    at_once = classifier.predict_all_shifts(net.transform(X))  # (m, *signal_shape)
    one_by_one = [classifier.predict(net.transform(copies)) for copies in shifted_copies(X, 1)]
    return float(np.mean(at_once.reshape(len(X), -1) == np.stack(one_by_one, axis=1)))
