"""The named workloads: the experiments of the ReduNet papers plus one wide synthetic one.

`load(name)` gives X (float32; (m, d), (m, C, T) or (m, C, H, W); real, before the DFT, not normalised), y
(labels 0..k-1), as many new samples and the hyperparameters. MNIST is read from the folder given, else
`$REDUNET_MNIST`, else `../shared/data/mnist` beside the repository; without it the workloads that need it say
so and are skipped.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import redunet as rn

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

# Layers of the published experiments: what a user would build.
FULL_LAYERS = {
    "gauss2d": 2000, "gauss3d": 2000, "mnist_vec": 50, "rot01": 3500, "rot10": 40,
    "trans01": 2000, "trans10": 25, "bp2d": 30, "wide1d": 20,
}  # fmt: skip
# Layers of a shorter and a longer build on a GPU, whose difference is a layer: long enough for its clock, and both long
# enough for a graph of a layer to be captured, where there is one.
DEVICE_LAYERS = {
    "gauss2d": (100, 2000), "gauss3d": (100, 2000), "mnist_vec": (3, 13), "rot01": (100, 3500), "rot10": (10, 210),
    "trans01": (100, 2000), "trans10": (3, 25), "bp2d": (5, 55), "wide1d": (3, 20),
}  # fmt: skip
NAMES = tuple(FULL_LAYERS)
NEEDS_MNIST = frozenset(NAMES) - {"gauss2d", "gauss3d", "wide1d"}
REPOSITORY = Path(__file__).resolve().parents[1]


class WorkloadUnavailable(RuntimeError):
    """The data of a workload are not on this machine; the message says what is missing."""


@dataclass(frozen=True)
class Workload:
    """One workload.

    Attributes
    ----------
    X, X_new : ndarray of float32, shape (m, d) | (m, C, T) | (m, C, H, W)
        Training samples and as many new ones.
    y : ndarray of int64, shape (m,)
        Labels 0..n_classes-1.
    n_layers : int
        Layers of the published experiment.
    """

    name: str
    X: FloatArray
    y: IntArray
    X_new: FloatArray
    n_classes: int
    n_layers: int
    eta: float = 0.5
    epsilon_sq: float = 0.1
    lam: float = 500.0

    @property
    def n_samples(self) -> int:
        return int(self.X.shape[0])

    @property
    def n_channels(self) -> int:
        """C, or d for vectors."""
        return int(self.X.shape[1])

    @property
    def signal_shape(self) -> tuple[int, ...]:
        return tuple(int(n) for n in self.X.shape[2:])

    @property
    def n_freqs(self) -> int:
        """Frequencies of the half spectrum; 1 for vectors."""
        if not self.signal_shape:
            return 1
        return int(np.prod(self.signal_shape[:-1], dtype=np.int64)) * (self.signal_shape[-1] // 2 + 1)

    @property
    def class_sizes(self) -> IntArray:
        return np.bincount(self.y, minlength=self.n_classes).astype(np.int64)


def mnist_folder(data: str | os.PathLike[str] | None = None) -> Path:
    """Folder of the four MNIST IDX files (gzipped or not).

    Raises
    ------
    WorkloadUnavailable
        If no candidate folder holds them.
    """
    candidates = [data] if data else [os.environ.get("REDUNET_MNIST"), REPOSITORY.parent / "shared" / "data" / "mnist"]
    folders = [Path(c) for c in candidates if c]
    for folder in folders:
        if any((folder / f"train-images-idx3-ubyte{end}").exists() for end in ("", ".gz")):
            return folder
    raise WorkloadUnavailable(
        f"MNIST not found in {', '.join(map(str, folders))}: "
        "give --data DIR or set REDUNET_MNIST to the folder of its IDX files"
    )


def _gaussians(d: int, seed: int) -> tuple[FloatArray, IntArray]:
    """Gaussians of deviation 0.1 around the d unit vectors, projected to the sphere."""
    X, y = rn.datasets.gaussian_mixture(500, n_features=d, noise=0.1, random_state=seed)
    return X.astype(np.float32), y


def _wide_signals(small: bool) -> tuple[FloatArray, IntArray, FloatArray]:
    """Ten random signals, each seen many times in noise of its own strength."""
    C, T, m = (16, 32, 200) if small else (64, 256, 2000)
    rng = np.random.default_rng(0)
    base = rng.standard_normal((10, C, T), dtype=np.float32)
    y = np.repeat(np.arange(10), m // 10).astype(np.int64)
    X = base[y] + rng.standard_normal((m, C, T), dtype=np.float32)
    return X, y, base[y] + rng.standard_normal((m, C, T), dtype=np.float32)


def _lift(n_channels: int, kernel_size: int) -> Callable[[FloatArray], FloatArray]:
    """The authors' lift: fixed Gaussian kernels drawn with seed 10, circular, ReLU."""
    lift = rn.RandomLift(n_channels, kernel_size, activation="relu", random_state=10)
    return lambda X: np.asarray(lift(X), dtype=np.float32)


def _polar(images: NDArray[np.uint8], n_channels: int) -> FloatArray:
    """(m, H, W) to (m, C, 200), sampled as the authors sample."""
    polar = rn.to_polar(images, n_channels=n_channels, n_angles=200, compat=True, endpoint=True)
    return np.asarray(polar, dtype=np.float32)


def _entrance(name: str, small: bool) -> Callable[[NDArray[np.uint8]], FloatArray]:
    """What turns images (m, 1, 28, 28) into the samples of a workload."""
    if name == "mnist_vec":
        return lambda images: images.reshape(len(images), -1).astype(np.float32) / np.float32(255)
    if name == "rot01":
        return lambda images: _polar(images, 5)
    if name == "rot10":
        lift = _lift(20, 5)
        return lambda images: lift(_polar(images, 15))
    lift = _lift({"trans01": 5, "trans10": 20 if small else 75, "bp2d": 16}[name], 9)
    return lambda images: lift(images.astype(np.float32))


def _digits(name: str, data: str | os.PathLike[str] | None, small: bool) -> tuple[FloatArray, IntArray, FloatArray]:
    """The MNIST workloads: X, y, X_new, class by class."""
    digits = rn.datasets.mnist(mnist_folder(data))
    classes = [0, 1] if name in ("rot01", "trans01") else list(range(10))
    n = {"mnist_vec": 1000, "rot01": 1000, "rot10": 10, "trans01": 500, "trans10": 10, "bp2d": 50}[name]
    if small:
        n = {"mnist_vec": 150, "rot01": 60, "trans01": 40, "trans10": 6, "bp2d": 12}.get(name, n)
    first = rn.datasets.first_per_class
    old, y = first(digits.X_train, digits.y_train, n, classes=classes)
    new, _ = first(digits.X_train, digits.y_train, n, classes=classes, skip=n)
    enter = _entrance(name, small)
    return enter(old), y, enter(new)


def load(name: str, *, data: str | os.PathLike[str] | None = None, small: bool = False) -> Workload:
    """One workload by name.

    Parameters
    ----------
    name : str
        One of `NAMES`.
    data : path, optional
        Folder of the MNIST files.
    small : bool
        A cut-down version with the same structure, for checks of agreement.

    Raises
    ------
    WorkloadUnavailable
        If it needs MNIST and no folder has it.
    """
    if name not in FULL_LAYERS:
        raise ValueError(f"name must be one of {', '.join(NAMES)}; got {name!r}")
    if name.startswith("gauss"):
        d = int(name[5])
        X, y = _gaussians(d, seed=1)
        X_new, _ = _gaussians(d, seed=2)
    elif name == "wide1d":
        X, y, X_new = _wide_signals(small)
    else:
        X, y, X_new = _digits(name, data, small)
    order = np.random.default_rng(0).permutation(len(y))
    return Workload(
        name=name,
        X=np.ascontiguousarray(X[order]),
        y=y[order],
        X_new=np.ascontiguousarray(X_new),
        n_classes=int(y.max()) + 1,
        n_layers=FULL_LAYERS[name],
    )
