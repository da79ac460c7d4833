"""From Gram matrices of every rank's samples to the operators of all.

Gram matrices are sums over samples. Each rank makes those of its own; the sum of a class at a frequency is made, and
inverted, by one rank, and the operators go to all: to the same bits, whatever processors the ranks have. Lower
triangles travel, of Gram matrices in double precision, of operators in that of the features. All operators are dense.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from redunet._backends.contract import Array, Backend, Problem
from redunet.distributed.communicator import Bytes, Communicator, in_order, parts_of, slices

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
#: Bytes of matrices that are packed, or unpacked, at a time.
PIECE = 1 << 20


class Block(NamedTuple):
    """Operators of some numbers, 0 for all classes and 1 + j for class j, at some frequencies."""

    numbers: slice
    freqs: slice
    whole: bool  # it has all numbers

    @property
    def summed(self) -> slice:
        """The numbers whose Gram matrices are sent: those of all classes add up to that of all samples."""
        return slice(1, self.numbers.stop) if self.whole else self.numbers

    def size(self, numbers: slice) -> int:
        """Pairs of these numbers and the frequencies."""
        return len(range(numbers.start, numbers.stop)) * len(range(self.freqs.start, self.freqs.stop))


def blocks_of(n_numbers: int, n_freqs: int, size: int) -> list[list[Block]]:
    """The work of every rank: pairs of a frequency and a number, in this order, of which each has a run.

    Runs differ by a pair at most. A run is frequencies whole and, before and after them, parts of one: three blocks.
    """
    shares = []
    for run in slices(n_freqs * n_numbers, size):
        blocks, at = [], run.start
        while at < run.stop:
            freq, number = divmod(at, n_numbers)
            whole = number == 0 and run.stop - at >= n_numbers
            last = run.stop // n_numbers if whole else freq + 1
            stop = n_numbers if whole else min(n_numbers, number + run.stop - at)
            blocks.append(Block(slice(number, stop), slice(freq, last), whole))
            at += blocks[-1].size(blocks[-1].numbers)
        shares.append(blocks)
    return shares


class OperatorsOfAll:
    """Of problems with F frequencies and k classes."""

    def __init__(
        self,
        comm: Communicator,
        module: Backend,
        problem: Problem,
        n_channels: int,
        dtype: np.dtype[Any],
        n_threads: int,
    ) -> None:
        self.comm, self.module, self.problem, self.dtype, self.n_threads = comm, module, problem, dtype, n_threads
        self.shape = len(problem.alphas), len(problem.freq_weights), n_channels, n_channels
        shares = blocks_of(*self.shape[:2], comm.size)
        mine = shares[comm.rank]
        # Which matrices of (k + 1, F, C, C) travel, rank by rank and block by block: sums, and operators.
        places = np.arange(self.shape[0] * self.shape[1]).reshape(self.shape[:2])
        every = [block for share in shares for block in share]
        self.sent = np.concatenate([places[block.summed, block.freqs].reshape(-1) for block in every])
        self.made = np.concatenate([places[block.numbers, block.freqs].reshape(-1) for block in every])
        self.parts = parts_of([sum(block.size(block.summed) for block in share) for share in shares])
        summed = parts_of([block.size(block.summed) for block in mine])
        made = parts_of([block.size(block.numbers) for block in mine])
        self.n_made = made[-1].stop if made else 0
        self.work = list(zip(mine, summed, made, strict=True))
        rows, columns = np.tril_indices(n_channels)
        self.lower, self.upper = rows * n_channels + columns, columns * n_channels + rows

    def of(self, grams: Array, layer: int | None) -> tuple[Array, Array, Floats]:
        """As `State.operators` of all samples, of the Gram matrices of this rank's."""
        mine = self._summed(grams)
        message = np.zeros(8 * self.shape[0] + self.dtype.itemsize * self.n_made * len(self.lower), np.uint8)
        rates, operators = message[: 8 * self.shape[0]].view(np.float64), message[8 * self.shape[0] :].view(self.dtype)
        operators = operators.reshape(-1, len(self.lower))
        for block, summed, made in self.work:
            sums = mine[summed].reshape(-1, block.freqs.stop - block.freqs.start, *self.shape[2:])
            if block.whole:
                sums = np.concatenate([in_order(list(sums))[None], sums])
            with placed(layer, block.numbers.start, block.freqs.start):
                dense, row = self.module.operators_of_grams(sums, self._problem(block), n_threads=self.n_threads)
            rates[block.numbers] += row
            self._pack(dense.reshape(-1, *self.shape[2:]), operators[made])
        return self._collected(message)

    def _problem(self, block: Block) -> Problem:
        """The problem of a block."""
        n = block.numbers.stop - block.numbers.start
        return replace(
            self.problem,
            freq_weights=self.problem.freq_weights[block.freqs],
            alphas=self.problem.alphas[block.numbers].copy(),
            gammas=np.ones(n - 1),
            counts=self.problem.counts[block.numbers].copy(),
            ranks=np.zeros(n, np.int64),
        )

    def _summed(self, grams: Array) -> Array:
        """The share of this rank, of the Gram matrices of all samples: (n, C, C), block by block."""
        triangles = np.empty((len(self.sent), len(self.lower)), grams.dtype)
        self._pack(grams.reshape(-1, *self.shape[2:]), triangles, self.sent)
        total = in_order(self.comm.all_to_all([triangles[part] for part in self.parts]))
        total = total.reshape(-1, len(self.lower))
        sums = np.empty((len(total), *self.shape[2:]), grams.dtype)
        self._unpack(total, sums)
        return sums

    def _collected(self, message: Bytes) -> tuple[Array, Array, Floats]:
        """The operators and rates that all ranks made."""
        n = 8 * self.shape[0]
        parts = self.comm.share(message)
        triangles = np.concatenate([part[n:] for part in parts]).view(self.dtype)
        dense = np.empty(self.shape, self.dtype)
        self._unpack(triangles.reshape(-1, len(self.lower)), dense.reshape(-1, *self.shape[2:]), self.made)
        rates = in_order([part[:n].view(np.float64) for part in parts])
        return dense, np.empty((*self.shape[1:3], 0), self.dtype), rates

    def _pack(self, matrices: Array, out: Array, places: Places | None = None) -> None:
        """Lower triangles (n, C (C + 1) / 2) of Hermitian matrices, of all or of those at some places."""
        for some in self._pieces(len(out)):
            flat = matrices[some if places is None else places[some]].reshape(-1, self.shape[2] ** 2)
            np.take(flat.astype(out.dtype, copy=False), self.lower, axis=1, out=out[some], mode="clip")

    def _unpack(self, triangles: Array, out: Array, places: Places | None = None) -> None:
        """The reverse."""
        for some in self._pieces(len(triangles)):
            flat = np.empty((len(triangles[some]), self.shape[2] ** 2), out.dtype)
            flat[:, self.upper] = triangles[some].conj()
            flat[:, self.lower] = triangles[some]
            out[some if places is None else places[some]] = flat.reshape(-1, *self.shape[2:])

    def _pieces(self, n: int) -> Iterator[slice]:
        """Of n matrices, so many at a time as stay in a cache."""
        step = max(1, PIECE // (16 * self.shape[2] ** 2))
        for start in range(0, n, step):
            yield slice(start, start + step)


@contextmanager
def placed(layer: int | None, number: int, frequency: int) -> Iterator[None]:
    """Names layer, class and frequency of all in the error of a factorisation that knows those of a share."""
    try:
        yield
    except np.linalg.LinAlgError as error:
        found = re.match(r"(layer \d+, )?(?:all classes|class (\d+)), frequency (\d+)(.*)", str(error), re.DOTALL)
        if found is None:
            raise
        place, name, there, rest = found.groups(default="")
        of_all = number + (int(name) + 1 if name else 0)
        place = place if place or layer is None else f"layer {layer}, "
        place += f"class {of_all - 1}" if of_all else "all classes"
        raise np.linalg.LinAlgError(f"{place}, frequency {frequency + int(there)}{rest}") from None
