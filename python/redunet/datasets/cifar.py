"""CIFAR-10 from its binary files: records of a label and 3 x 32 x 32 bytes, red, green and blue, row by row."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet._inputs import checks
from redunet.datasets.reading import missing, opened, read
from redunet.datasets.samples import Split

Array = npt.NDArray[Any]

TRAINING = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST = "test_batch.bin"
SHAPE, CLASSES = (3, 32, 32), 10
RECORD = 1 + 3 * 32 * 32
MOST_RECORDS = 10_000


def cifar10(folder: str | os.PathLike[str]) -> Split:
    """CIFAR-10, the binary version, from a folder.

    Parameters
    ----------
    folder : path
        Holds ``data_batch_1.bin`` to ``data_batch_5.bin`` and ``test_batch.bin``, each plain or with ``.gz``: what
        the published archive unpacks to.

    Returns
    -------
    Split
        X_train, y_train, X_test, y_test: uint8 images (m, 3, 32, 32), red, green and blue, and int64 labels 0 to 9
        (m,): airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck.

    Raises
    ------
    FileNotFoundError
        If a file is missing: the message says which, and where it was sought.
    ValueError
        If a file is damaged.

    Notes
    -----
    Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009). A file has 10 000 images; fewer are
    taken, more are not.

    Examples
    --------
    >>> data = cifar10("path/to/cifar-10-batches-bin")  # doctest: +SKIP
    >>> data.X_train.shape  # doctest: +SKIP
    (50000, 3, 32, 32)
    """
    where = Path(checks.path(folder, "folder"))
    missing(where, (*TRAINING, TEST))
    parts = [_batch(where / name) for name in TRAINING]
    X_test, y_test = _batch(where / TEST)
    return Split(np.concatenate([X for X, _ in parts]), np.concatenate([y for _, y in parts]), X_test, y_test)


def _batch(path: Path) -> tuple[Array, npt.NDArray[np.int64]]:
    """Images (m, 3, 32, 32) and labels (m,) of one file."""
    with opened(path) as stream:
        content = read(stream, MOST_RECORDS * RECORD)
        if len(content) > MOST_RECORDS * RECORD:
            raise ValueError(f"it goes on after {MOST_RECORDS} images; expected CIFAR-10's binary version")
        if not content or len(content) % RECORD:
            raise ValueError(f"it holds {len(content)} bytes; expected images of {RECORD} bytes each, at least one")
        records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
        labels = records[:, 0].astype(np.int64)
        if labels.max() >= CLASSES:
            bad = int(np.argmax(labels))
            raise ValueError(f"image {bad} has the label {labels[bad]}; expected 0 to {CLASSES - 1}")
    return records[:, 1:].reshape(-1, *SHAPE), labels
