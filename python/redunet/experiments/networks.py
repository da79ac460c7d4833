"""Networks with the time that they took to build, and how often classifiers on their features are right."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet.classifiers import CosineNeighbors, NearestSubspace
from redunet.experiments.digits import shifted_copies, vectors
from redunet.experiments.options import Options
from redunet.network import ReduNet, build
from redunet.transforms.norms import unit

Array = npt.NDArray[Any]


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


def subspaces(Z: Array, y: Array, dimensions: Sequence[int]) -> Iterator[tuple[int, NearestSubspace]]:
    """Classifiers by subspaces of these dimensions, which lie in each other: the largest ones are sought, once."""
    widest = NearestSubspace(max(dimensions)).fit(Z, y)
    for n in dimensions:
        nearest = copy.copy(widest)
        nearest.n_components, nearest.bases_ = n, [U[:, :n] for U in widest.bases_]
        yield n, nearest


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
