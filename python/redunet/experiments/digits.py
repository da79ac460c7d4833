"""MNIST's digits: from their folder, some of each class, as vectors, and shifted."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet import datasets
from redunet.datasets.idx import MNIST_FILES
from redunet.datasets.reading import missing
from redunet.experiments.options import DataMissing, Options

Array = npt.NDArray[Any]


def folder(options: Options) -> Path:
    """The folder of MNIST's files, or of others in the same format.

    Raises
    ------
    DataMissing
        If none was given.
    """
    given = options.data or os.environ.get("REDUNET_MNIST")
    if not given:
        raise DataMissing("this experiment needs MNIST: give --data DIR, the folder of its four IDX files")
    return Path(given)


def check_folder(options: Options) -> None:
    """An error where the data that `images_of` reads are missing; nothing is read.

    Raises
    ------
    DataMissing
        If no folder was given.
    FileNotFoundError
        If it holds neither set.
    """
    where = folder(options)
    if not is_cifar(where):
        missing(where, MNIST_FILES)


def is_cifar(where: Path) -> bool:
    """Whether a folder holds CIFAR-10's files."""
    return any((where / f"data_batch_1.bin{end}").is_file() for end in ("", ".gz"))


def mnist(options: Options) -> datasets.Split:
    """MNIST from the folder of the options.

    Raises
    ------
    DataMissing
        If no folder was given.
    FileNotFoundError
        If it doesn't hold the four files.
    """
    return datasets.mnist(folder(options))


def images_of(options: Options) -> datasets.Split:
    """MNIST, or another set in the format of its files or of CIFAR-10's, from the folder of the options.

    Raises
    ------
    DataMissing
        If no folder was given.
    FileNotFoundError
        If it holds neither.
    """
    where = folder(options)
    return datasets.cifar10(where) if is_cifar(where) else datasets.mnist(where)


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


def at_most(X: Array, y: Array, n: int | None) -> tuple[Array, Array]:
    """The first n samples of each class, or all, in their order."""
    index = np.sort(np.concatenate([np.flatnonzero(y == label)[:n] for label in np.unique(y)]))
    return X[index], y[index]


def vectors(X: Array) -> Array:
    """Signals and images as vectors, (m, d)."""
    return X.reshape(len(X), -1)


def shifted_copies(X: Array, stride: int) -> Iterator[Array]:
    """The samples at every stride-th cyclic shift of each axis, (m, C, ...) each time; the first are the samples."""
    axes = tuple(range(2, X.ndim))
    for shift in np.ndindex(*(-(-n // stride) for n in X.shape[2:])):
        yield np.roll(X, tuple(s * stride for s in shift), axis=axes)
