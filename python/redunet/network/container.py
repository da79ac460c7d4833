"""The safetensors container: 8 bytes of length, a JSON header, and the tensors one after the other, little-endian.

Nothing that a header says is believed: it is read up to a limit, every tensor must lie inside the file, and the file's
bytes are read piece by piece, so that what is damaged costs no more memory than a piece. Nothing is ever executed.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from redunet import files

Array = npt.NDArray[Any]
DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "I64": np.dtype("<i8"),
    "U8": np.dtype("|u1"),
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
#: Longest header that is read: a network's has about 2 kB.
LONGEST_HEADER = 1 << 16
#: A network's tensors have at most six axes.
MOST_AXES = 8
PIECE = 1 << 20
#: What reading a damaged header can end in.
UNSOUND = (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError)


def write(path: str, tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Write contiguous tensors of the dtypes of `DTYPES`; the file appears whole or not at all."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    # In the order of falling alignment, as safetensors lays them out: all are aligned then.
    names = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    for name in names:
        tensor = tensors[name]
        begin, end = end, end + tensor.nbytes
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    files.write(path, [struct.pack("<Q", len(text)), text, *(_bytes(tensors[name]) for name in names)])


def checksum(tensor: Array) -> int:
    """CRC-32 of a contiguous tensor's bytes."""
    return _crc(_bytes(tensor)[i : i + PIECE] for i in range(0, tensor.nbytes, PIECE))


@dataclass(frozen=True)
class Entry:
    """Where a tensor lies after the header, and what it is."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def nbytes(self) -> int:
        """Its bytes in the file."""
        return self.end - self.begin


class Container:
    """An open file: its metadata, and its tensors, whose bytes are looked at when they are asked for.

    Raises
    ------
    ValueError
        If it is no safetensors file, or truncated, or its header is damaged.
    """

    metadata: dict[str, str]
    entries: dict[str, Entry]

    def __init__(self, file: BinaryIO, *, mmap: bool) -> None:
        size = file.seek(0, 2)
        file.seek(0)
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= size - 8:
            raise ValueError("it is truncated, or no safetensors file")
        if length > LONGEST_HEADER:
            raise ValueError(f"its header is damaged: it has {length} bytes, and a network's at most {LONGEST_HEADER}")
        try:
            header = json.loads(file.read(length))
            self.metadata = header.pop("__metadata__", {})
            self.entries = {name: _entry(entry) for name, entry in header.items()}
        except UNSOUND:
            raise ValueError("its header is damaged") from None
        self._file = file
        self._offset = 8 + length
        self._size = size - self._offset
        for name, entry in self.entries.items():
            self._check_entry(name, entry)
        self._memory: Array | None = None
        self._mmap = mmap and files.MAPPED_ARE_REPLACED

    def _check_entry(self, name: str, entry: Entry) -> None:
        if not 0 <= entry.begin <= entry.end <= self._size:
            raise ValueError(f"it is truncated: tensor {name!r} ends at byte {entry.end} of {self._size}")
        if entry.nbytes != math.prod(entry.shape) * entry.dtype.itemsize:
            raise ValueError(f"the size of tensor {name!r} does not fit its shape {entry.shape}")
        if (self._offset + entry.begin) % entry.dtype.itemsize:
            raise ValueError(f"tensor {name!r} is not aligned")

    def check_layout(self) -> None:
        """An error where tensors overlap, or bytes belong to none."""
        end = 0
        for name, entry in sorted(self.entries.items(), key=lambda item: (item[1].begin, item[1].end)):
            if entry.begin != end:
                raise ValueError(f"tensor {name!r} begins at byte {entry.begin}; expected {end}, where the last ends")
            end = entry.end
        if end != self._size:
            raise ValueError(f"its tensors end at byte {end} of {self._size}")

    def tensor(self, name: str) -> Array:
        """A tensor, read-only: a view of the file's map, or of the file in memory."""
        if self._memory is None:
            self._memory = self._mapped() if self._mmap else self._read()
            self._memory.flags.writeable = False
        entry = self.entries[name]
        return self._memory[entry.begin : entry.end].view(entry.dtype).reshape(entry.shape)

    def _mapped(self) -> Array:
        if self._size == 0:
            return np.empty(0, np.uint8)
        try:
            return np.asarray(np.memmap(self._file, mode="r", offset=self._offset, shape=(self._size,)))
        except (OSError, OverflowError) as error:
            raise ValueError(f"it cannot be mapped: {error}") from error

    def _read(self) -> Array:
        """All of it; holes of a sparse file are left out, since memory that is not written to costs nothing."""
        memory = np.zeros(self._size, np.uint8)
        piece = np.empty(PIECE, np.uint8)
        self._file.seek(self._offset)
        for start in range(0, self._size, PIECE):
            part = piece[: self._size - start]
            self._fill(part)
            if part.any():
                memory[start : start + PIECE] = part
        return memory

    def pieces(self, name: str) -> Iterator[Array]:
        """A tensor's numbers in order, flat, from memory or from the file itself: a map would stay resident."""
        entry = self.entries[name]
        for start in range(entry.begin, entry.end, PIECE):
            if self._memory is not None and not self._mmap:
                piece = self._memory[start : min(start + PIECE, entry.end)]
            else:
                piece = np.empty(min(PIECE, entry.end - start), np.uint8)
                self._file.seek(self._offset + start)
                self._fill(piece)
            yield piece.view(entry.dtype)

    def numbers(self, name: str) -> Array:
        """A tensor's numbers in order, flat, in an array of their own."""
        entry = self.entries[name]
        return np.concatenate([np.empty(0, entry.dtype), *self.pieces(name)])

    def checksum(self, name: str) -> int:
        """CRC-32 of a tensor's bytes, as `checksum` has it."""
        return _crc(piece.view(np.uint8).data for piece in self.pieces(name))

    def _fill(self, target: Array) -> None:
        rest = target.data
        while len(rest):
            n = self._file.readinto(rest)  # type: ignore[attr-defined]
            if not n:
                raise ValueError("it is truncated: it became shorter while it was read")
            rest = rest[n:]


def _entry(entry: dict[str, Any]) -> Entry:
    begin, end = entry["data_offsets"]
    shape = entry["shape"]
    if not isinstance(shape, list) or len(shape) > MOST_AXES or any(type(n) is not int for n in (*shape, begin, end)):
        raise ValueError("a shape or an offset is not a list of a few natural numbers")
    if any(not 0 <= n < 2**63 for n in shape):
        raise ValueError("an axis is negative or too long")
    return Entry(DTYPES[entry["dtype"]], tuple(shape), begin, end)


def _bytes(tensor: Array) -> memoryview:
    return tensor.reshape(-1).view(np.uint8).data


def _crc(pieces: Iterator[memoryview]) -> int:
    crc = 0
    for piece in pieces:
        crc = zlib.crc32(piece, crc)
    return crc
