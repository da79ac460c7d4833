"""From Gram matrices of every rank's samples to the operators of all.

Gram matrices are sums over samples. Each rank makes those of its own; the sum at a frequency is made, and inverted, by
one rank, and the operators go to all: to the same bits, whatever processors the ranks have. Lower triangles travel, of
Gram matrices in double precision, of operators in that of the features. All operators are dense.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet._backends.contract import Array, Backend, Problem
from redunet.distributed.communicator import Communicator, in_order, slices

Floats = npt.NDArray[np.float64]


class OperatorsOfAll:
    """Of problems with F frequencies and k classes.

    The work is shared by frequencies or, where these are fewer than the ranks, by the operators' numbers.
    """

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
        n_freqs, n_numbers = len(problem.freq_weights), len(problem.alphas)
        self.by_freqs = n_freqs >= comm.size
        every = slice(None)
        if self.by_freqs:
            self.shares = [(every, some) for some in slices(n_freqs, comm.size)]
        else:
            self.shares = [(some, every) for some in slices(n_numbers, comm.size)]
        self.shape = n_numbers, n_freqs, n_channels, n_channels
        rows, columns = np.tril_indices(n_channels)
        self.lower, self.upper = rows * n_channels + columns, columns * n_channels + rows

    def of(self, grams: Array, layer: int | None) -> tuple[Array, Array, Floats]:
        """As `State.operators` of all samples, of the Gram matrices of this rank's."""
        numbers, freqs = self.shares[self.comm.rank]
        mine = self._summed(grams)
        row, operators = np.empty(0), np.empty(0, self.dtype)
        if mine.size:
            problem = replace(
                self.problem,
                freq_weights=self.problem.freq_weights[freqs],
                alphas=self.problem.alphas[numbers].copy(),
                gammas=np.ones(len(mine) - 1),
                counts=self.problem.counts[numbers].copy(),
                ranks=np.zeros(len(mine), np.int64),
            )
            with placed(layer, numbers.start or 0, freqs.start or 0):
                dense, row = self.module.operators_of_grams(mine, problem, n_threads=self.n_threads)
            operators = self._packed(dense.astype(self.dtype))
        return self._collected(row, operators)

    def _summed(self, grams: Array) -> Array:
        """The share of this rank, of the Gram matrices of all samples."""
        sent = grams[1:] if self.by_freqs else grams  # those of all classes add up to that of all samples
        parts = [self._packed(sent[share]) for share in self.shares]
        total = in_order(self.comm.all_to_all(parts))
        shape = sent[self.shares[self.comm.rank]].shape
        mine = self._unpacked(total.view(grams.dtype), shape)
        if not self.by_freqs:
            return mine
        return np.concatenate([in_order(list(mine))[None], mine])

    def _collected(self, row: Floats, operators: Array) -> tuple[Array, Array, Floats]:
        """The operators and rates that all ranks made."""
        message = np.concatenate([row.view(np.uint8), operators.reshape(-1).view(np.uint8)])
        dense, rates = np.empty(self.shape, self.dtype), np.zeros(self.shape[0])
        for share, part in zip(self.shares, self.comm.share(message), strict=True):
            place = dense[share]
            if place.size:
                n = 8 * len(place)
                rates[share[0]] += part[:n].view(np.float64)
                dense[share] = self._unpacked(part[n:].view(self.dtype), place.shape)
        return dense, np.empty((*self.shape[1:3], 0), self.dtype), rates

    def _packed(self, matrices: Array) -> Array:
        """Lower triangles of Hermitian matrices (..., C, C), flat."""
        flat = np.ascontiguousarray(matrices).reshape(-1, self.shape[2] ** 2)
        return np.take(flat, self.lower, axis=1).reshape(-1)

    def _unpacked(self, triangles: Array, shape: tuple[int, ...]) -> Array:
        triangles = triangles.reshape(-1, len(self.lower))
        flat = np.empty((len(triangles), self.shape[2] ** 2), triangles.dtype)
        flat[:, self.upper] = triangles.conj()
        flat[:, self.lower] = triangles
        return flat.reshape(shape)


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
