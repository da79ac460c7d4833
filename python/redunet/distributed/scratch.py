"""The folder of a build from chunks: its samples, their features after some layers, and the network so far.

    chunks          a container: what the samples are; without tensors until all of them are there
    labels.npy      (m,) numbers of the classes, or membership.npy, (m, k); weights.npy, (m,), if there are any
    features-N      V, (m, C, F d), after N layers: the checkpoint, and with momentum the layer before
    network         the network of so many layers, as `ReduNet.save` writes it
    features.npy    features of the samples after the last layer
    work-N          features that nobody would go on from, gone when the build ends
    lock            who works in the folder holds its lock

Whatever is there under another name than ``work-N`` was whole, and on the disk, before it got its name.
"""

from __future__ import annotations

import io
import json
import os
import re
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from redunet import files
from redunet.network.container import UNSOUND, Container
from redunet.network.container import write as write_container

Array = npt.NDArray[Any]
VERSION = 1
MANIFEST, NETWORK, FEATURES, LOCK = "chunks", "network", "features.npy", "lock"
TABLES = ("labels.npy", "membership.npy", "weights.npy")
OURS = re.compile(r"features-\d{6,}|work-\d+")
#: Of a save that was killed.
PART = re.compile(r"\.[0-9a-f]+-[0-9a-f]+\.part")


@dataclass(frozen=True)
class Table:
    """Rows of numbers in a file, (m, *shape), of which some are read at a time."""

    path: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int = 0

    @classmethod
    def of_npy(cls, path: str) -> Table:
        """Of a file of NumPy's that this module wrote."""
        with open(path, "rb") as file:
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            return cls(path, dtype, shape[1:], file.tell())

    @property
    def row_bytes(self) -> int:
        """Of one row."""
        return self.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))

    def read(self, rows: slice) -> Array:
        """Rows, in an array of their own."""
        out = np.empty((rows.stop - rows.start, *self.shape), self.dtype)
        rest = _bytes(out)
        with open(self.path, "rb", buffering=0) as file:
            file.seek(self.offset + rows.start * self.row_bytes)
            while len(rest):
                n = file.readinto(rest[: files.PIECE])
                if not n:
                    raise OSError(f"{self.path!r} is shorter than it was")
                rest = rest[n:]
        return out

    def mapped(self, rows: slice) -> Array:
        """Rows, mapped: read where they lie, when they are used."""
        start = self.offset + rows.start * self.row_bytes
        shape = (rows.stop - rows.start, *self.shape)
        return np.memmap(self.path, self.dtype, "r", start, shape)


def append(file: BinaryIO, rows: Array) -> None:
    """Rows at the end of a file that was opened without a buffer."""
    rest = _bytes(np.ascontiguousarray(rows))
    while len(rest):
        rest = rest[file.write(rest[: files.PIECE]) :]


class Spectra:
    """Features of all samples at one place of a build, in a file that goes with this object unless it is kept."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.grams: Array | None = None  # where they were made on the way
        self._goes = weakref.finalize(self, _remove_of, os.getpid(), table.path)

    def keep(self, path: str) -> None:
        """On the disk and under this name, whatever happens to the process."""
        if self.table.path == path:
            return
        with open(self.table.path, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(self.table.path, path)
        self._goes.detach()
        self.table = Table(path, self.table.dtype, self.table.shape)

    @classmethod
    def kept(cls, table: Table) -> Spectra:
        """Those of such a name."""
        spectra = cls(table)
        spectra._goes.detach()
        return spectra

    def let_go(self) -> None:
        """The reverse of `keep`."""
        self._goes = weakref.finalize(self, _remove_of, os.getpid(), self.table.path)


class Scratch:
    """A folder, and who works in it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._numbers = count()

    def at(self, name: str) -> str:
        """The path of a file."""
        return os.path.join(self.path, name)

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return os.path.isfile(self.at(name))

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Made if need be, locked, and without what a killed build left; an error where it is not ours."""
        if not os.path.isdir(self.path):
            if os.path.lexists(self.path) or not os.path.isdir(os.path.dirname(os.path.abspath(self.path))):
                raise ValueError(f"scratch is {self.path!r}; expected a folder, or a new one in a folder that exists")
            os.mkdir(self.path)
        names = {name for name in os.listdir(self.path) if not PART.fullmatch(name)} - {LOCK}
        if names and MANIFEST not in names:
            raise ValueError(
                f"scratch is {self.path!r}, which holds {min(names)!r} and no build from chunks; expected an empty "
                "folder, or one that such a build left"
            )
        with open(self.at(LOCK), "ab") as lock:
            if not files.lock_now(lock.fileno()):
                raise ValueError(f"scratch is {self.path!r}, where another build works")
            self._remove(lambda name: name.startswith("work-"))
            try:
                yield
            finally:
                self._remove(lambda name: name.startswith("work-"))

    def work(self) -> str:
        """A new path for features."""
        return self.at(f"work-{next(self._numbers)}")

    def kept(self, n_layers: int) -> str:
        """The path of those after so many layers."""
        return self.at(f"features-{n_layers:06d}")

    def keep_only(self, *n_layers: int) -> None:
        """Of the features that are kept those after so many layers."""
        names = {os.path.basename(self.kept(n)) for n in n_layers}
        self._remove(lambda name: name.startswith("features-") and name not in names)

    def clear(self) -> None:
        """All that is ours, but for the lock and what says that it is ours."""
        self._remove(lambda name: True)
        for name in (NETWORK, FEATURES, *TABLES):
            _remove(self.at(name))

    def _remove(self, which: Callable[[str], bool]) -> None:
        for name in os.listdir(self.path):
            if OURS.fullmatch(name) and which(name):
                _remove(self.at(name))

    def write_manifest(self, about: Mapping[str, Any], tensors: Mapping[str, Array]) -> None:
        """What the samples are."""
        text = json.dumps({"version": VERSION, **about})
        write_container(self.at(MANIFEST), tensors, {"redunet.chunks": text})

    def read_manifest(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """The same; no tensors where not all samples are there, and nothing where there is no file."""
        if not self.has(MANIFEST):
            return {}, {}
        try:
            with files.open_regular(self.at(MANIFEST)) as file:
                container = Container(file, mmap=False)
                about = json.loads(container.metadata["redunet.chunks"])
                if about.pop("version") != VERSION:
                    raise ValueError("it is of another version")
                return about, {name: container.numbers(name) for name in container.entries}
        except UNSOUND as error:
            raise ValueError(
                f"scratch is {self.path!r}, and {MANIFEST!r} in it is of no build from chunks: {error}"
            ) from error


def write_npy(path: str, dtype: np.dtype[Any], shape: tuple[int, ...], parts: Iterator[Array]) -> None:
    """A file of NumPy's, (m, ...), of its rows in parts; whole or not at all."""

    def chunks() -> Iterator[memoryview]:
        yield _header(dtype, shape)
        for part in parts:
            yield _bytes(np.ascontiguousarray(part, dtype))

    files.write(path, chunks())


def _header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> memoryview:
    file = io.BytesIO()
    form = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, form)
    return memoryview(file.getvalue())


def _bytes(array: Array) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _remove_of(process: int, path: str) -> None:
    """A file of this process, not of the one that it was forked from."""
    if os.getpid() == process:
        _remove(path)


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
