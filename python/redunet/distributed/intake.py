"""From a source to a scratch folder, in one pass: spectra of samples of unit norm, and what the classes are.

Classes are known when all samples have been seen. Until then labels are numbers of the classes in the order in which
they came; these are put right in a second pass over the labels alone.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from redunet._inputs import checks, prepare
from redunet._inputs.problem import check_sizes, class_sizes
from redunet.distributed.scratch import Scratch, Spectra, Table, append, write_npy
from redunet.distributed.shares import KINDS, own_samples
from redunet.distributed.sources import Piece, pieces
from redunet.network import label_codec

Array = npt.NDArray[Any]
#: Bytes of labels, membership or weights that are copied at a time.
PIECE = 1 << 22


@dataclass(frozen=True, eq=False)
class Taken:
    """The samples of a scratch folder.

    Attributes
    ----------
    n : int
        m.
    shape : tuple of int
        (C, *signal_shape).
    dtype : numpy dtype
        To compute in.
    classes : (k,) array
    sizes, counts : (k,), (1 + k,) arrays
        As of `shares.Share`.
    first : int
        A checksum of the first sample and its label, by which a source is known again.
    """

    n: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    classes: Array
    sizes: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]
    first: int

    def write(self, scratch: Scratch, settings: dict[str, Any]) -> None:
        """To the manifest, which says that all samples are there."""
        classes, words = label_codec.encode(self.classes)
        about = {"m": self.n, "shape": self.shape, "dtype": self.dtype.name, "words": words, "first": self.first}
        tensors = {"classes": np.ascontiguousarray(classes), "sizes": self.sizes, "counts": self.counts}
        scratch.write_manifest({"samples": about, "settings": settings}, tensors)

    @classmethod
    def read(cls, about: dict[str, Any], tensors: dict[str, Array]) -> Taken:
        """From there."""
        k = len(tensors["sizes"])
        return cls(
            n=about["m"],
            shape=tuple(about["shape"]),
            dtype=np.dtype(about["dtype"]),
            classes=label_codec.decode(tensors["classes"], about["words"], k),
            sizes=tensors["sizes"],
            counts=tensors["counts"],
            first=about["first"],
        )


class Intake:
    """Samples on their way to a folder.

    Parameters
    ----------
    scratch : Scratch
    n_bytes : int
        Of X, at most, that are taken at a time.
    where : dict
        ``group``, ``channels``, ``dtype``, ``backend`` and ``n_threads`` of `build`.
    check : callable
        Of the first samples: raises where the others should not be taken in.
    """

    def __init__(
        self, scratch: Scratch, n_bytes: int, where: dict[str, Any], check: Callable[[prepare.Samples], None]
    ) -> None:
        self.scratch, self.n_bytes, self.where, self.check = scratch, n_bytes, where, check
        self.like: prepare.Samples | None = None
        self.n = self.first = 0
        self.axes, self.soft, self.weighted = 0, False, False
        self.seen: Array = np.empty(0)

    def run(self, source: Any) -> Taken:
        """All samples of a source; their features after no layer, labels and weights are files afterwards."""
        paths = [self.scratch.work() for _ in range(3)]
        with ExitStack() as stack:
            opened = [stack.enter_context(open(path, "wb", buffering=0)) for path in paths]
            for piece in pieces(source, self.n_bytes):
                self._add(piece, *opened)
        if self.like is None:
            raise ValueError("source has no samples; expected at least one")
        classes, numbers = checks.labels(self.seen, len(self.seen))
        self._write_tables(paths[1], paths[2], numbers)
        sizes, counts = self._class_sizes(len(classes))
        check_sizes(sizes, classes)
        given = self.like
        Spectra(spectra_table(paths[0], given)).keep(self.scratch.kept(0))
        for path in paths[1:]:
            os.unlink(path)
        return Taken(self.n, given.array.shape[1:], given.dtype, classes, sizes, counts, self.first)

    def begins_like(self, source: Any, taken: Taken) -> bool:
        """Whether the first sample of a source is that of one that samples were taken from."""
        for piece in pieces(source, self.n_bytes):
            given, y = self._checked(piece)[:2]
            if y is not None:
                return given.dtype == taken.dtype and _first(given, y, np.ndim(piece.y)) == taken.first
        return False

    def _checked(self, piece: Piece) -> tuple[prepare.Samples, Any, Any]:
        """Samples, labels or membership, as of `checks.membership`, unless there is none, and weights."""
        try:
            given, n = own_samples(piece.X, **self.where)
            y = checks.membership(piece.y, n, whole=False) if n else None
            weights = checks.sample_weights(piece.weights, n)
            if self.like is not None:
                _expect_like(given, self.like)
        except (TypeError, ValueError) as error:
            raise _at(piece, error) from error
        return given, y, weights

    def _add(self, piece: Piece, V: BinaryIO, y: BinaryIO, w: BinaryIO) -> None:
        given, theirs, weights = self._checked(piece)
        if theirs is None:
            return
        if self.like is None:
            self.check(given)
        try:
            spectra = given.spectra(normalize=True)
            axes = np.ndim(piece.y)
            if self.like is None:
                self.like = replace(given, array=np.empty((0, *given.array.shape[1:]), given.array.dtype), given=None)
                self.axes, self.weighted, self.first = axes, weights is not None, _first(given, theirs, axes)
                self.where = {**self.where, "channels": self.where["channels"] or "first"}  # a warning is said once
            if axes != self.axes:
                raise ValueError(f"y has {axes} axes; expected {self.axes}, as before")
            if (weights is not None) != self.weighted:
                raise ValueError(f"sample_weight is {'not ' * self.weighted}given; expected it for all samples or none")
            labels, Pi = self._in_numbers_of_all(*theirs)
        except (TypeError, ValueError) as error:
            raise _at(piece, error) from error
        self.n += len(given)
        append(V, spectra)
        if self.axes == 1:
            append(y, labels)
        else:
            self.soft = self.soft or Pi is not None
            append(y, np.eye(len(self.seen))[labels] if Pi is None else Pi)
        if weights is not None:
            append(w, weights)

    def _in_numbers_of_all(self, labels: Any, Pi: Any, classes: Array) -> tuple[Any, Any]:
        """Labels or membership in the numbers of the classes seen, which may be more afterwards."""
        if not len(self.seen):
            self.seen = classes
        n = len(self.seen)
        if self.axes == 2:
            if len(classes) != n:
                raise ValueError(f"y has {len(classes)} classes; expected {n}, as before")
            return labels, Pi
        if KINDS[classes.dtype.kind] != KINDS[self.seen.dtype.kind]:
            raise TypeError(f"y has dtype {classes.dtype}, and had {self.seen.dtype} before; expected one type")
        both = np.concatenate([self.seen, classes])
        union, codes = checks.labels(both, len(both))
        numbers = np.full(len(union), -1)
        numbers[codes[:n]] = np.arange(n)
        fresh = numbers[codes[n:]] < 0
        numbers[codes[n:][fresh]] = n + np.arange(np.count_nonzero(fresh))
        self.seen = np.concatenate([both[:n], both[n:][fresh]])
        return numbers[codes[n:]][labels], None

    def _write_tables(self, y: str, w: str, numbers: Array) -> None:
        """Labels in the order of the classes; a membership of zeros and ones is labels."""
        hard, double, k = np.dtype(np.int64), np.dtype(np.float64), len(numbers)

        def parts(path: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Iterator[Array]:
            table = Table(path, dtype, shape)
            step = max(1, PIECE // table.row_bytes)
            for start in range(0, self.n, step):
                yield table.read(slice(start, min(start + step, self.n)))

        if self.soft:
            write_npy(self.scratch.at("membership.npy"), double, (self.n, k), parts(y, double, (k,)))
        else:
            rows = parts(y, hard, ()) if self.axes == 1 else (Pi.argmax(axis=1) for Pi in parts(y, double, (k,)))
            write_npy(self.scratch.at("labels.npy"), hard, (self.n,), (numbers[some] for some in rows))
        if self.weighted:
            write_npy(self.scratch.at("weights.npy"), double, (self.n,), parts(w, double, ()))

    def _class_sizes(self, k: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """What the classes weigh, and samples of all and of each; in steps that do not depend on the pieces."""
        tables = [tables_of(self.scratch)[name] for name in ("labels", "membership", "weights")]
        sizes, counts = np.zeros(k), np.zeros(k, np.int64)
        step = max(1, PIECE // (8 * k))
        for start in range(0, self.n, step):
            some = slice(start, min(start + step, self.n))
            labels, Pi, weights = (None if table is None else table.read(some) for table in tables)
            more, n = class_sizes(labels, Pi, weights, k)
            sizes += more
            counts += n
        return sizes, np.concatenate([[self.n], counts])


def tables_of(scratch: Scratch) -> dict[str, Table | None]:
    """Labels, membership and weights, where they are there."""
    paths = {name: scratch.at(f"{name}.npy") for name in ("labels", "membership", "weights")}
    return {name: Table.of_npy(path) if os.path.isfile(path) else None for name, path in paths.items()}


def spectra_table(path: str, given: prepare.Samples) -> Table:
    """Of a file with the spectra of samples like these."""
    fourier = given.fourier
    shape = given.n_channels, fourier.n_freqs * fourier.n_columns
    return Table(path, np.dtype(fourier.spectral_dtype(given.dtype)), shape)


def _first(given: prepare.Samples, y: Any, axes: int) -> int:
    """A checksum of the first sample, and of its label or membership, whatever the samples after it are."""
    labels, Pi, classes = y
    if Pi is None:
        Pi = np.eye(len(classes))[labels[:1]]
    label = classes[labels[:1]] if axes == 1 else Pi[0]
    X = np.ascontiguousarray(given.array[:1], np.result_type(given.array, given.dtype))
    return zlib.crc32(repr(label.tolist()).encode(), zlib.crc32(X.tobytes()))


def _expect_like(given: prepare.Samples, like: prepare.Samples) -> None:
    if given.array.shape[1:] != like.array.shape[1:]:
        wanted = ", ".join(map(str, ("n", *like.array.shape[1:])))
        raise ValueError(f"X has shape {given.array.shape}; expected ({wanted}), as before")
    if given.dtype != like.dtype:
        raise TypeError(f"X has dtype {given.array.dtype}; expected {like.dtype}, as before")


def _at(piece: Piece, error: Exception) -> Exception:
    kind = TypeError if isinstance(error, TypeError) else ValueError
    return kind(f"source, {piece.place}: {error}")
