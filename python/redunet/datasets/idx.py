"""IDX files, the format of MNIST: two zero bytes, a type, the number of axes, their lengths, then the values."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from redunet._inputs import checks
from redunet.datasets.reading import missing, opened, read
from redunet.datasets.samples import Split

Array = npt.NDArray[Any]

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MOST_AXES = 32
MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def load_idx(path: str | os.PathLike[str]) -> Array:
    """Read an IDX file, the format of MNIST, plain or compressed by gzip.

    Parameters
    ----------
    path : path
        The file; where it is missing, the same with ``.gz``.

    Returns
    -------
    ndarray
        The shape and type that the file says (uint8 for MNIST), in the machine's byte order.

    Raises
    ------
    FileNotFoundError
        If there is neither file.
    ValueError
        If it is no regular file, not IDX, cut short, damaged or too long. The message names the file.

    Examples
    --------
    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "labels")
    ...     with open(path, "wb") as file:
    ...         _ = file.write(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]))
    ...     load_idx(path)
    array([7, 2, 1], dtype=uint8)
    """
    with opened(Path(checks.path(path, "path"))) as stream:
        return _read_idx(stream)


def _read_idx(stream: IO[bytes]) -> Array:
    """The values of a stream: lengths are 32 bits, and all numbers big-endian."""
    head = stream.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in TYPES:
        raise ValueError(f"it begins with {head.hex(' ') or 'nothing'}; expected an IDX file: 00 00, a type, axes")
    if head[3] > MOST_AXES:
        raise ValueError(f"it has {head[3]} axes; expected at most {MOST_AXES}")
    lengths = stream.read(4 * head[3])
    if len(lengths) < 4 * head[3]:
        raise ValueError(f"it is cut short in its head; expected the lengths of {head[3]} axes")
    shape = tuple(np.frombuffer(lengths, ">u4").tolist())
    dtype = np.dtype(TYPES[head[2]])
    if math.prod(max(n, 1) for n in shape) * dtype.itemsize > sys.maxsize:
        raise ValueError(f"it has the shape {shape}, which no memory can hold")
    expected = math.prod(shape) * dtype.itemsize
    values = read(stream, expected)
    if len(values) < expected:
        raise ValueError(f"it is cut short: {len(values)} bytes of values; expected {expected} for the shape {shape}")
    if len(values) > expected:
        raise ValueError(f"it goes on after its values; expected {expected} bytes for the shape {shape}")
    return np.frombuffer(values, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def mnist(folder: str | os.PathLike[str]) -> Split:
    """MNIST, or data in the same four files (Fashion-MNIST, KMNIST), from a folder.

    Parameters
    ----------
    folder : path
        Holds ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte`` and
        ``t10k-labels-idx1-ubyte``, each plain or with ``.gz``.

    Returns
    -------
    Split
        X_train, y_train, X_test, y_test: uint8 images (m, 1, H, W), as `redunet.build` and all front ends take them,
        and int64 labels (m,).

    Raises
    ------
    FileNotFoundError
        If a file is missing: the message says which, and where it was sought.
    ValueError
        If a file is damaged, or images and labels do not belong together.

    Examples
    --------
    >>> data = mnist("path/to/mnist")  # doctest: +SKIP
    >>> data.X_train.shape  # doctest: +SKIP
    (60000, 1, 28, 28)
    """
    where = Path(checks.path(folder, "folder"))
    missing(where, MNIST_FILES)
    parts: list[Array] = []
    for images_name, labels_name in (MNIST_FILES[:2], MNIST_FILES[2:]):
        images, labels = load_idx(where / images_name), load_idx(where / labels_name)
        if images.ndim != 3 or images.dtype != np.uint8 or labels.shape != images.shape[:1]:
            raise ValueError(
                f"{where / images_name} holds {images.dtype} of shape {images.shape} and {labels_name} holds shape "
                f"{labels.shape}; expected uint8 images (m, H, W) and labels (m,)"
            )
        parts += [images[:, None], labels.astype(np.int64)]
    return Split(*parts)
