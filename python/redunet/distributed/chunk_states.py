"""Features that lie in a file, as a `State` of which a chunk is in memory: what `Ascent` needs of one, and the backend.

A layer is one pass over the chunks: features are read, taken through the layer by the engine's own state, and written
to another file; the Gram matrices of the new ones are added up on the way, in the order of the chunks. No file is
written to twice, so that copies are free, and a build that is killed has the features of its last checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet._backends import ascent
from redunet._backends.ascent import Ascent
from redunet._backends.contract import Array, Backend, BuildRequest, BuildResult, OnLayer, Operators, Problem, State
from redunet.distributed.grams import OperatorsOfAll
from redunet.distributed.scratch import Scratch, Spectra, Table, append

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Chunking:
    """Which samples are in memory together, and what is known of them.

    Attributes
    ----------
    scratch : Scratch
    n : int
        m.
    rows : int
        Samples of a chunk.
    labels, membership, weights : Table, or None
    """

    scratch: Scratch
    n: int
    rows: int
    labels: Table | None
    membership: Table | None
    weights: Table | None

    def chunks(self) -> Iterator[slice]:
        """The samples of one after another."""
        for start in range(0, self.n, self.rows):
            yield slice(start, min(start + self.rows, self.n))

    def problem(self, whole: Problem, rows: slice) -> Problem:
        """The problem of all, of which these samples are looked at."""
        labels, membership, weights = (
            None if table is None else table.read(rows) for table in (self.labels, self.membership, self.weights)
        )
        return replace(whole, labels=labels, membership=membership, weights=weights)


class Chunked:
    """What takes a build's features through a layer."""

    def __init__(
        self, chunking: Chunking, module: Backend, problem: Problem, given: bool, operators: OperatorsOfAll
    ) -> None:
        self.chunking, self.module, self.problem, self.given = chunking, module, problem, given
        self.of_grams = operators

    def state(self, spectra: Spectra, rows: slice, problem: Problem) -> State:
        """Of a chunk."""
        return self.module.state(spectra.table.read(rows), problem, n_threads=self.of_grams.n_threads)

    def grams(self, spectra: Spectra) -> Array:
        """Of all samples, of a pass over them unless they were made on the way."""
        total = spectra.grams
        if total is None:
            for rows in self.chunking.chunks():
                total = _sum(total, self.state(spectra, rows, self.chunking.problem(self.problem, rows)).grams())
        spectra.grams = None  # nobody looks twice
        assert total is not None
        return total

    def moved(self, spectra: Spectra, move: Callable[[State, slice, Problem], object]) -> Spectra:
        """The same in another file, with their Gram matrices."""
        table = replace(spectra.table, path=self.chunking.scratch.work())
        after = Spectra(table)
        with open(table.path, "wb", buffering=0) as file:
            for rows in self.chunking.chunks():
                problem = self.chunking.problem(self.problem, rows)
                state = self.state(spectra, rows, problem)
                move(state, rows, problem)
                after.grams = _sum(after.grams, state.grams())
                append(file, state.features())
        return after


class ChunkState:
    """The features of all samples."""

    def __init__(self, at: Chunked, spectra: Spectra) -> None:
        self.at, self.spectra = at, spectra

    def copy(self) -> ChunkState:
        """The same file."""
        return ChunkState(self.at, self.spectra)

    def operators(self, layer: int | None = None) -> tuple[Array, Array, Floats]:
        """As `State.operators`, of all samples; dense."""
        return self.at.of_grams.of(self.at.grams(self.spectra), layer)

    def advance(self, operators: Operators, eta: float, pi: Floats | None = None) -> None:
        """One layer; the assignment is given by the problem, if at all."""

        def move(state: State, rows: slice, problem: Problem) -> None:
            state.advance(operators, eta, ascent.membership(problem) if self.at.given else None)

        self.spectra = self.at.moved(self.spectra, move)

    def extrapolate(self, before: ChunkState, beta: float) -> None:
        """As `State.extrapolate`."""

        def move(state: State, rows: slice, problem: Problem) -> None:
            state.extrapolate(self.at.state(before.spectra, rows, problem), beta)

        self.spectra = self.at.moved(self.spectra, move)


@dataclass
class Features:
    """What a build from chunks has in place of V.

    Attributes
    ----------
    dtype : numpy dtype
        Of V.
    spectra : list of Spectra
        After the layers that are there, and, with momentum, after one less.
    row : (1 + k,) array, or None
        R and R_j of the samples, if these are not there any more.
    """

    dtype: np.dtype[Any]
    spectra: list[Spectra]
    row: Floats | None = None


class ByChunks:
    """The backend; V is `Features`."""

    def __init__(self, chunking: Chunking, module: Backend, of_all: Callable[[Problem], OperatorsOfAll]) -> None:
        self.chunking, self.module, self.of_all = chunking, module, of_all

    def build(self, V: Any, problem: Problem, request: BuildRequest, result: BuildResult, *, n_threads: int) -> None:
        """As `Backend.build`; features are kept where the result must hold the layers, and at the end."""
        features: Features = V
        chunked = Chunked(self.chunking, self.module, problem, request.given, self.of_all(problem))
        request = replace(request, given=False)  # to the loop: it would make all assignments at once
        if not request.every:
            features.spectra[0].let_go()
        state, before = (ChunkState(chunked, spectra) for spectra in features.spectra)
        climb = Ascent(state, problem, request, result, float(np.finfo(features.dtype).eps), before)
        if request.every:
            climb.request = replace(request, on_layer=self._keeping(climb, request))
        features.spectra.clear()
        del state, before  # files are there as long as somebody has them
        features.spectra.append(climb.run().spectra)
        if request.every:
            self._keep(climb, result.n_done)

    def rates(self, V: Any, problem: Problem, *, n_threads: int) -> Floats:
        """As `Backend.rates`, of the samples."""
        features: Features = V
        assert features.row is not None
        return features.row

    def _keeping(self, climb: Ascent[ChunkState], request: BuildRequest) -> OnLayer:
        """Keeps features before the network of a checkpoint is written, and lets older ones go after it."""
        scratch, watch = self.chunking.scratch, request.on_layer
        assert watch is not None

        def on_layer(index: int, row: Floats) -> bool:
            if not index or index % request.every or index >= request.n_layers:
                return watch(index, row)
            self._keep(climb, index)
            stop = watch(index, row)
            scratch.keep_only(index, index - 1)
            return stop

        return on_layer

    def _keep(self, climb: Ascent[ChunkState], n_layers: int) -> None:
        """What a build goes on from after so many layers."""
        scratch = self.chunking.scratch
        if climb.request.momentum:
            climb.remembered.spectra.keep(scratch.kept(n_layers - 1))
        climb.state.spectra.keep(scratch.kept(n_layers))


def _sum(total: Array | None, part: Array) -> Array:
    if total is None:
        return part
    total += part
    return total
