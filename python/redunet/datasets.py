"""Data to try a network on: made here, scikit-learn's digits, and IDX files (MNIST) from a folder.

Samples come as `redunet.build` takes them, (m, d), (m, C, T) or (m, C, H, W), with labels (m,). Nothing is downloaded.
"""

from __future__ import annotations

import gzip
import math
import os
import sys
import zlib
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from redunet import files
from redunet._inputs import checks
from redunet._inputs.randomness import Seed, generator

__all__ = [
    "Split",
    "digits",
    "first_per_class",
    "gaussian_mixture",
    "lines_and_plane",
    "load_idx",
    "mnist",
    "sinusoids",
]

Array = npt.NDArray[Any]
Labels = npt.NDArray[np.int64]

_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MOST_AXES = 32
_PIECE = 1 << 20
_MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


class Split(NamedTuple):
    """Samples and labels to train on and to test with."""

    X_train: Array
    y_train: Labels
    X_test: Array
    y_test: Labels


def gaussian_mixture(
    n_samples_per_class: int, *, n_features: int = 2, noise: float = 0.1, random_state: Seed = None
) -> tuple[npt.NDArray[np.float64], Labels]:
    """Points on the unit sphere around the coordinate axes, one class an axis.

    Class j is x = (e_j + noise * n) / norm with n ~ N(0, I).

    Parameters
    ----------
    n_samples_per_class : int
        Points in every class.
    n_features : int
        d, the dimension and the number of classes.
    noise : float
        Standard deviation in every coordinate, before the points are put on the sphere; >= 0.
    random_state : int, numpy.random.Generator, numpy.random.RandomState or None
        A seed for ``numpy.random.default_rng``, or a generator.

    Returns
    -------
    X : ndarray of float64, (d * n_samples_per_class, d)
        Rows of norm 1, class by class.
    y : ndarray of int64
        The classes 0 to d - 1.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of another type.

    Examples
    --------
    >>> X, y = gaussian_mixture(100, n_features=3, random_state=0)
    >>> X.shape, y[[0, 100, 200]].tolist()
    ((300, 3), [0, 1, 2])
    """
    n = checks.integer(n_samples_per_class, "n_samples_per_class", 1)
    d = checks.integer(n_features, "n_features", 1)
    noise = checks.non_negative(noise, "noise")
    random = generator(random_state)
    X = np.concatenate([random.normal(centre, noise, (n, d)) for centre in np.eye(d)])
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return X, np.repeat(np.arange(d), n)


def sinusoids(
    n_samples_per_class: int, *, length: int = 150, noise: float = 0.1, random_state: Seed = None
) -> tuple[npt.NDArray[np.float64], Labels]:
    """Sine waves and square waves of one period at random phases: two classes that no shift tells apart.

    Class 0 is sin(2 pi (t / T + phase)) and class 1 its sign, for t = 0 to T - 1, both with Gaussian noise.

    Parameters
    ----------
    n_samples_per_class : int
        Signals in every class.
    length : int
        T, the number of points; >= 2.
    noise : float
        Standard deviation of the noise at every point; the amplitude is 1.
    random_state : int, numpy.random.Generator, numpy.random.RandomState or None
        A seed for ``numpy.random.default_rng``, or a generator.

    Returns
    -------
    X : ndarray of float64, (2 * n_samples_per_class, 1, T)
        Signals, class by class.
    y : ndarray of int64
        The classes 0 (sine) and 1 (square).

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of another type.

    Examples
    --------
    >>> X, y = sinusoids(3, length=8, noise=0, random_state=0)
    >>> X.shape, y.tolist()
    ((6, 1, 8), [0, 0, 0, 1, 1, 1])
    """
    n = checks.integer(n_samples_per_class, "n_samples_per_class", 1)
    T = checks.integer(length, "length", 2)
    noise = checks.non_negative(noise, "noise")
    random = generator(random_state)
    X = np.sin(2 * np.pi * (np.arange(T) / T + random.uniform(0.0, 1.0, (2 * n, 1, 1))))
    X[n:] = np.sign(X[n:])
    X += random.normal(0.0, noise, X.shape)
    return X, np.repeat(np.arange(2), n)


def lines_and_plane(
    n_samples: int, *, noise: float = 0.03, n_outliers: int = 0, random_state: Seed = None
) -> tuple[npt.NDArray[np.float64], Labels]:
    """Two lines and a plane through the origin of R^3, of random directions: clusters that cross each other.

    Coordinates within each are uniform in [-1, 1]; a quarter of the samples lies on each line, the rest on the plane.

    Parameters
    ----------
    n_samples : int
        Samples on the lines and the plane; >= 4.
    noise : float
        Root mean square length of the Gaussian noise, noise / sqrt(3) in every coordinate; >= 0.
    n_outliers : int
        Samples beside, uniform in the cube [-1, 1]^3.
    random_state : int, numpy.random.Generator, numpy.random.RandomState or None
        A seed for ``numpy.random.default_rng``, or a generator.

    Returns
    -------
    X : ndarray of float64, (n_samples + n_outliers, 3)
        Samples, cluster by cluster; outliers last.
    y : ndarray of int64
        The lines 0 and 1, the plane 2, and -1 of outliers.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of another type.

    Examples
    --------
    >>> X, y = lines_and_plane(8, n_outliers=1, random_state=0)
    >>> X.shape, y.tolist()
    ((9, 3), [0, 0, 1, 1, 2, 2, 2, 2, -1])
    """
    n = checks.integer(n_samples, "n_samples", 4)
    noise = checks.non_negative(noise, "noise")
    n_out = checks.integer(n_outliers, "n_outliers", 0)
    random = generator(random_state)
    counts = (n // 4, n // 4, n - 2 * (n // 4))
    bases = [np.linalg.qr(random.normal(size=(3, dim)))[0] for dim in (1, 1, 2)]
    parts = [random.uniform(-1, 1, (m, B.shape[1])) @ B.T for m, B in zip(counts, bases, strict=True)]
    X = np.concatenate(parts)
    X += noise / math.sqrt(3) * random.normal(size=X.shape)
    outliers = random.uniform(-1, 1, (n_out, 3))
    return np.concatenate([X, outliers]), np.repeat([0, 1, 2, -1], (*counts, n_out))


def digits(*, n_train_per_class: int | None = None, random_state: Seed = 0) -> Split:
    """Scikit-learn's 1797 handwritten digits of 8 x 8 pixels, split class by class. Needs scikit-learn.

    Parameters
    ----------
    n_train_per_class : int, optional
        Training samples of every digit, 1 to 173; all others are for testing. By default half of each digit's.
    random_state : int, numpy.random.Generator, numpy.random.RandomState or None
        Which samples are for training. The default always gives the same split.

    Returns
    -------
    Split
        X_train, y_train, X_test, y_test: images (m, 1, 8, 8) of float64 in [0, 1], and labels 0 to 9 of int64; in
        scikit-learn's order, which mixes the digits.

    Raises
    ------
    ImportError
        If scikit-learn is not installed.
    ValueError, TypeError
        If an argument is out of range or of another type.

    Examples
    --------
    >>> data = digits(n_train_per_class=50)
    >>> data.X_train.shape, data.X_test.shape
    ((500, 1, 8, 8), (1297, 1, 8, 8))
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("redunet.datasets.digits needs scikit-learn: pip install 'redunet[sklearn]'") from error
    random = generator(random_state)
    values, labels = load_digits(return_X_y=True)
    X, y = values.reshape(-1, 1, 8, 8) / 16.0, labels.astype(np.int64)
    counts = np.bincount(y)
    if n_train_per_class is not None:
        asked = checks.integer(n_train_per_class, "n_train_per_class", 1)
        if asked >= counts.min():
            raise ValueError(
                f"n_train_per_class is {asked}; expected at most {counts.min() - 1}, "
                "to leave test samples of every digit"
            )
    train = np.zeros(len(y), dtype=bool)
    for digit, count in enumerate(counts):
        n = count // 2 if n_train_per_class is None else n_train_per_class
        train[random.permutation(np.flatnonzero(y == digit))[:n]] = True
    return Split(X[train], y[train], X[~train], y[~train])


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
    file = Path(checks.path(path, "path"))
    if not file.exists():
        compressed = file.with_name(f"{file.name}.gz") if file.name else file
        if not compressed.exists():
            raise FileNotFoundError(f"no file {file}, and no {compressed.name} beside it")
        file = compressed
    try:
        with files.open_regular(str(file)) as stream:
            magic = stream.read(2)
            stream.seek(0)
            if magic != b"\x1f\x8b":
                return _read_idx(stream)
            with gzip.open(stream, "rb") as plain:
                return _read_idx(cast("IO[bytes]", plain))
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{file} cannot be read: it is cut short or damaged: {error}") from error
    except ValueError as error:
        raise ValueError(f"{file} cannot be read: {error}") from None


def _read_idx(stream: IO[bytes]) -> Array:
    """Two zero bytes, a type, the number of axes, their lengths (32 bits, big-endian), then the values.

    The values are read in pieces: a damaged head may ask for more than there is, and for more than there is memory.
    """
    head = stream.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _IDX_TYPES:
        raise ValueError(f"it begins with {head.hex(' ') or 'nothing'}; expected an IDX file: 00 00, a type, axes")
    if head[3] > _MOST_AXES:
        raise ValueError(f"it has {head[3]} axes; expected at most {_MOST_AXES}")
    lengths = stream.read(4 * head[3])
    if len(lengths) < 4 * head[3]:
        raise ValueError(f"it is cut short in its head; expected the lengths of {head[3]} axes")
    shape = tuple(np.frombuffer(lengths, ">u4").tolist())
    dtype = np.dtype(_IDX_TYPES[head[2]])
    if math.prod(max(n, 1) for n in shape) * dtype.itemsize > sys.maxsize:
        raise ValueError(f"it has the shape {shape}, which no memory can hold")
    expected = math.prod(shape) * dtype.itemsize
    values = bytearray()
    while len(values) <= expected and (piece := stream.read(min(_PIECE, expected + 1 - len(values)))):
        values += piece
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
        X_train, y_train, X_test, y_test: uint8 images (m, H, W) and int64 labels (m,). For `redunet.build` give the
        images a channel, ``X[:, None]``, or sample them with `redunet.to_polar`.

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
    (60000, 28, 28)
    """
    where = Path(checks.path(folder, "folder"))
    missing = [name for name in _MNIST_FILES if not any((where / (name + end)).is_file() for end in ("", ".gz"))]
    if missing:
        raise FileNotFoundError(
            f"no {', '.join(missing)} in the folder {where.absolute()}; "
            f"expected {', '.join(_MNIST_FILES)}, each plain or with .gz"
        )
    parts: list[Array] = []
    for images_name, labels_name in (_MNIST_FILES[:2], _MNIST_FILES[2:]):
        images, labels = load_idx(where / images_name), load_idx(where / labels_name)
        if images.ndim != 3 or images.dtype != np.uint8 or labels.shape != images.shape[:1]:
            raise ValueError(
                f"{where / images_name} holds {images.dtype} of shape {images.shape} and {labels_name} holds shape "
                f"{labels.shape}; expected uint8 images (m, H, W) and labels (m,)"
            )
        parts += [images, labels.astype(np.int64)]
    return Split(*parts)


def first_per_class(
    X: npt.ArrayLike, y: npt.ArrayLike, n: int, *, classes: npt.ArrayLike | None = None, skip: int = 0
) -> tuple[Array, Array]:
    """The first n samples of every class, after some that are skipped.

    Parameters
    ----------
    X : array_like, (m, ...)
        Samples.
    y : array_like, (m,)
        Labels of any type.
    n : int
        Samples of each class.
    classes : sequence of labels, optional
        Which classes, in the order wanted; by default all, sorted.
    skip : int
        Samples of each class to pass over first, for a second part that does not overlap.

    Returns
    -------
    X : ndarray, (n * len(classes), ...)
        The samples, class by class; a copy.
    y : ndarray
        Their labels, unchanged.

    Raises
    ------
    ValueError, TypeError
        If X and y differ in length, a class has too few samples, or an argument is out of range.

    Examples
    --------
    >>> X, y = first_per_class([10, 11, 12, 13, 14], [0, 1, 0, 1, 2], 1, classes=[1, 0], skip=1)
    >>> X.tolist(), y.tolist()
    ([13, 12], [1, 0])
    """
    samples, labels = checks.array(X, "X"), checks.array(y, "y")
    if labels.ndim != 1 or samples.ndim == 0 or len(samples) != len(labels):
        raise ValueError(f"X has shape {samples.shape} and y {labels.shape}; expected (m, ...) and labels (m,)")
    checks.complete(labels)
    n = checks.integer(n, "n", 1)
    skip = checks.integer(skip, "skip", 0)
    wanted = np.unique(labels) if classes is None else checks.array(classes, "classes")
    if wanted.ndim != 1 or len(wanted) == 0:
        raise ValueError(f"classes has shape {wanted.shape}; expected a sequence of labels")
    chosen = []
    for label in wanted.tolist():
        found = np.flatnonzero(labels == label)
        if len(found) < skip + n:
            raise ValueError(
                f"class {label!r} has {len(found)} samples; expected at least {skip + n}: {n} after {skip} skipped"
            )
        chosen.append(found[skip : skip + n])
    index = np.concatenate(chosen)
    return samples[index], labels[index]
