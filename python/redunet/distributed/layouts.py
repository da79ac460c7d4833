"""Backends over ranks: what `redunet.network.build.construct` asks of a backend, done by all ranks together.

`redunet._backends.ascent.Ascent` is the loop, on every rank, over a `State` whose verbs meet the other ranks'. It sees
the same rates everywhere, so that all take the same steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet._backends.ascent import Ascent
from redunet._backends.contract import Array, Backend, BuildRequest, BuildResult, Problem
from redunet.distributed.communicator import Communicator, parts_of, slices
from redunet.distributed.grams import OperatorsOfAll
from redunet.distributed.states import Frequencies, FrequencyState, SampleState

Floats = npt.NDArray[np.float64]


class BySamples:
    """V is a rank's own samples, and so are labels, membership and weights of the problem; all else is of all."""

    def __init__(self, comm: Communicator, module: Backend) -> None:
        self.comm, self.module = comm, module

    def build(self, V: Array, problem: Problem, request: BuildRequest, result: BuildResult, *, n_threads: int) -> None:
        """As `Backend.build`."""
        request = _agreed(self.comm, request)
        state = self._state(V, problem, n_threads)
        V[...] = Ascent(state, problem, request, result, _unit(V)).run().features()

    def rates(self, V: Array, problem: Problem, *, n_threads: int) -> Floats:
        """As `Backend.rates`."""
        return self._state(V, problem, n_threads).operators()[2]

    def _state(self, V: Array, problem: Problem, n_threads: int) -> SampleState:
        shared = OperatorsOfAll(self.comm, self.module, problem, V.shape[1], V.dtype, n_threads)
        return SampleState(self.module.state(V, problem, n_threads=n_threads), shared)


class ByFrequencies:
    """V is a rank's own samples, ``n_own`` of them, the problem that of all samples in the order of the ranks."""

    def __init__(self, comm: Communicator, module: Backend, n_own: int) -> None:
        self.comm, self.module, self.n_own = comm, module, n_own

    def build(self, V: Array, problem: Problem, request: BuildRequest, result: BuildResult, *, n_threads: int) -> None:
        """As `Backend.build`."""
        mine = self._freqs(problem)[self.comm.rank]
        own = self._own(problem, n_threads)
        room = _room(result, mine, own.problem)

        def collect(n_layers: int) -> None:
            """The first layers, of all frequencies, in the result of all."""
            if room.operators is not None and result.operators is not None:
                for layer in range(result.n_done, n_layers):
                    self._gather(room.operators.dense[layer], result.operators.dense[layer], 1, problem)
                    self._gather(room.operators.factors[layer], result.operators.factors[layer], 0, problem)
            result.done[0] = n_layers

        request = _agreed(self.comm, request, collect)
        state = own.state(self._to_frequencies(V, problem))
        moved = Ascent(state, own.problem, request, room, _unit(V)).run()
        collect(room.n_done)
        self._from_frequencies(moved.features(), V, problem)

    def rates(self, V: Array, problem: Problem, *, n_threads: int) -> Floats:
        """As `Backend.rates`."""
        return self._state(V, problem, n_threads).operators()[2]

    def _state(self, V: Array, problem: Problem, n_threads: int) -> FrequencyState:
        return self._own(problem, n_threads).state(self._to_frequencies(V, problem))

    def _freqs(self, problem: Problem) -> list[slice]:
        """The frequencies of every rank."""
        return slices(len(problem.freq_weights), self.comm.size)

    def _own(self, problem: Problem, n_threads: int) -> Frequencies:
        mine = self._freqs(problem)[self.comm.rank]
        own = replace(problem, freq_weights=problem.freq_weights[mine].copy())
        return Frequencies(self.comm, self.module, own, mine.start, n_threads)

    def _columns(self, problem: Problem) -> list[slice]:
        """Where V (m, C, F d) has the frequencies of every rank."""
        d = problem.n_columns
        return [slice(d * some.start, d * some.stop) for some in self._freqs(problem)]

    def _to_frequencies(self, V: Array, problem: Problem) -> Array:
        """All samples at this rank's frequencies, of own samples at all frequencies."""
        columns = self._columns(problem)
        mine = columns[self.comm.rank]
        parts = self.comm.all_to_all([V[: self.n_own, :, some] for some in columns])
        return np.concatenate(parts).reshape(-1, V.shape[1], mine.stop - mine.start)

    def _from_frequencies(self, W: Array, V: Array, problem: Problem) -> None:
        """The way back, into V."""
        rows = parts_of(self.comm.gather(self.n_own))
        parts = self.comm.all_to_all([W[some] for some in rows])
        for some, part in zip(self._columns(problem), parts, strict=True):
            V[: self.n_own, :, some] = part.reshape(self.n_own, V.shape[1], some.stop - some.start)

    def _gather(self, own: Array, out: Array, axis: int, problem: Problem) -> None:
        """Operators of a layer at all frequencies, which lie along an axis, of those of every rank."""
        along = np.moveaxis(out, axis, 0)
        for some, part in zip(self._freqs(problem), self.comm.share(np.moveaxis(own, axis, 0)), strict=True):
            along[some] = part.reshape(along[some].shape)


def _room(result: BuildResult, mine: slice, problem: Problem) -> BuildResult:
    """Room for some frequencies of the operators, which has those of layers that are there; all else is shared."""
    operators, n = result.operators, result.n_done
    if operators is not None:
        dense, factors = operators.dense[:, :, mine], operators.factors[:, mine]
        own = replace(
            operators,
            dense=np.empty(dense.shape, dense.dtype),
            factors=np.empty(factors.shape, factors.dtype),
            freq_weights=problem.freq_weights,
        )
        own.dense[:n], own.factors[:n] = dense[:n], factors[:n]
        operators = own
    return replace(result, operators=operators, done=result.done.copy())


def _agreed(comm: Communicator, request: BuildRequest, collect: Callable[[int], None] | None = None) -> BuildRequest:
    """The same, with an ``on_layer`` that ends the network on all ranks where one wants it.

    ``collect`` is called where the result must hold the layers before.
    """
    wishes = comm.gather((request.on_layer is not None, request.every))
    if not any(watched for watched, _ in wishes):
        return request
    every = max(every for _, every in wishes)

    def on_layer(index: int, row: Floats) -> bool:
        if collect is not None and every and index and index % every == 0:
            collect(index)
        stop = request.on_layer is not None and bool(request.on_layer(index, row))
        return any(comm.gather(stop))

    return replace(request, on_layer=on_layer)


def _unit(V: Array) -> float:
    return float(np.finfo(V.dtype).eps)


def backend_over(comm: Communicator, module: Backend, layout: str, n_own: int) -> Any:
    """The backend of a layout."""
    return BySamples(comm, module) if layout == "samples" else ByFrequencies(comm, module, n_own)
