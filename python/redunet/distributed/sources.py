"""Where samples come from that do not fit into memory: pieces of (X, y), or (X, y, sample_weight), one after another.

A source is a tuple of arrays, a folder of .npy files, or an iterable of such tuples; arrays may be memory maps, or lazy
ones with ``blocks`` and ``compute`` as those of Dask. No more than a piece is looked at.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from redunet._inputs import checks

EXPECTED = (
    "expected pairs (X, y), or (X, y, sample_weight): a tuple of arrays, an iterable of such tuples, or a folder with "
    "X*.npy and y*.npy"
)
#: What files of a folder hold, by the first letter of their names.
LETTERS = {"X": "samples", "y": "labels", "w": "weights"}


class Piece(NamedTuple):
    """Some samples.

    Attributes
    ----------
    place : str
        Where they come from, for messages.
    X, y : array-like
    weights : array-like, or None
    """

    place: str
    X: Any
    y: Any
    weights: Any


def pieces(source: Any, n_bytes: int) -> Iterator[Piece]:
    """Of a source, each with at most ``n_bytes`` of X, or one sample."""
    for given in _given(source):
        yield from _cut(given, n_bytes)


def _given(source: Any) -> Iterator[Piece]:
    """As they come."""
    if isinstance(source, (str, bytes, os.PathLike)):
        yield from _of_folder(checks.path(source, "source"))
        return
    if isinstance(source, tuple) and len(source) in (2, 3) and _is_array(source[0]):
        yield from _of_arrays(*source)
        return
    if not isinstance(source, Iterable) or _is_array(source):
        raise TypeError(f"source is a {type(source).__name__}; {EXPECTED}")
    for number, item in enumerate(source):
        if not isinstance(item, (tuple, list)) or len(item) not in (2, 3):
            came = type(item).__name__ + (f" of {len(item)}" if isinstance(item, (tuple, list)) else "")
            raise TypeError(f"source has a {came} as item {number}; {EXPECTED}")
        yield _piece(f"item {number}", *item)


def _of_arrays(X: Any, y: Any, weights: Any = None) -> Iterator[Piece]:
    """Of a lazy X by its blocks of samples, each computed once."""
    if not hasattr(X, "compute"):
        yield _piece("arrays", X, y, weights)
        return
    start = 0
    for number in range(X.numblocks[0]):
        block = X.blocks[number].compute()
        some = slice(start, start + len(block))
        yield _piece(f"block {number}", block, *(part if part is None else _rows(part, some) for part in (y, weights)))
        start = some.stop
    for name, part in (("y", y), ("sample_weight", weights)):
        if part is not None and len(part) != start:
            raise ValueError(f"source: {name} has {len(part)} rows and X {start}; expected as many")


def _of_folder(folder: str) -> Iterator[Piece]:
    """X<rest>.npy, y<rest>.npy and, if there are weights, w<rest>.npy, in the order of their names."""
    if not os.path.isdir(folder):
        raise ValueError(f"source is {folder!r}, no folder; {EXPECTED}")
    names = {name for name in os.listdir(folder) if name.endswith(".npy") and name[0] in LETTERS}
    rests = sorted(name[1:] for name in names if name[0] == "X")
    if not rests:
        raise ValueError(f"source is {folder!r}, a folder without X*.npy; {EXPECTED}")
    letters = [letter for letter in LETTERS if letter != "w" or any(name[0] == "w" for name in names)]
    for rest in rests:
        for letter in letters:
            if letter + rest not in names:
                raise ValueError(f"source lacks {letter + rest!r}, the {LETTERS[letter]} of {'X' + rest!r}")
        yield _piece(repr("X" + rest), *(_load(os.path.join(folder, letter + rest)) for letter in letters))


def _load(path: str) -> Any:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not _is_array(array):
            raise ValueError("it is an archive of arrays; expected one array")
    except (EOFError, ValueError) as error:
        raise ValueError(f"source has {os.path.basename(path)!r}, which cannot be read: {error}") from error
    return array


def _piece(place: str, X: Any, y: Any, weights: Any = None) -> Piece:
    """Its parts in memory, or mapped."""
    X, y, weights = (part.compute() if hasattr(part, "compute") else part for part in (X, y, weights))
    return Piece(place, X if _is_array(X) else checks.array(X, "X"), y, weights)


def _cut(given: Piece, n_bytes: int) -> Iterator[Piece]:
    shape = given.X.shape
    item = getattr(given.X.dtype, "itemsize", 8) if hasattr(given.X, "dtype") else 8
    step = max(1, n_bytes // max(1, item * math.prod(shape[1:])))
    if not shape or shape[0] <= step:
        yield given
        return
    for name, part in (("y", given.y), ("sample_weight", given.weights)):
        if part is not None and len(part) != shape[0]:
            raise ValueError(f"source, {given.place}: {name} has {len(part)} rows and X {shape[0]}; expected as many")
    for start in range(0, shape[0], step):
        some = slice(start, start + step)
        place = f"{given.place}, samples from {start} on"
        yield Piece(place, *(part if part is None else _rows(part, some) for part in given[1:]))


def _rows(part: Any, some: slice) -> Any:
    return part.iloc[some] if hasattr(part, "iloc") else part[some]


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape")
