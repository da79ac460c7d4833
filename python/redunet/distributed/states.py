"""States over ranks: the verbs of an engine's own `State`, of which some meet those of the other ranks.

`SampleState` has a rank's samples at all frequencies: Gram matrices are sums over samples, all else is its own.
`FrequencyState` has all samples at a rank's frequencies: rho_j^2 of every sample and class, ||v||^2 after the step, and
rates are sums over frequencies; operators are its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from redunet._backends import ascent
from redunet._backends.contract import SMALLEST_NORM, Array, Backend, Operators, Problem, Pullback, State, Taken
from redunet.distributed.communicator import Communicator
from redunet.distributed.grams import OperatorsOfAll, placed

if TYPE_CHECKING:
    from typing_extensions import Self

Floats = npt.NDArray[np.float64]


class RankState:
    """`State` of what a rank has; as it is, one that needs nobody else."""

    def __init__(self, own: State, at: Any) -> None:
        self.own, self.at = own, at

    @property
    def n_samples(self) -> int:
        """Of this rank."""
        return self.own.n_samples

    def copy(self) -> Self:
        """The same features once more."""
        return type(self)(self.own.copy(), self.at)

    def features(self) -> Array:
        """Of this rank."""
        return self.own.features()

    def grams(self) -> Array:
        """Of this rank."""
        return self.own.grams()

    def operators(self, layer: int | None = None) -> tuple[Array, Array, Floats]:
        """Those of a layer, and the rates of all ranks."""
        return self.own.operators(layer)

    def response_norms(self, operators: Operators) -> Floats:
        """Of all frequencies."""
        return self.own.response_norms(operators)

    def step(self, operators: Operators, pi: Floats, eta: float) -> Floats:
        """Squares are of all frequencies."""
        return self.own.step(operators, pi, eta)

    def scale(self, by: Floats) -> None:
        """As `State.scale`."""
        self.own.scale(by)

    def advance(self, operators: Operators, eta: float, pi: Floats | None = None) -> Taken:
        """One layer."""
        return self.own.advance(operators, eta, pi)

    def extrapolate(self, before: State, beta: float) -> None:
        """As `State.extrapolate`."""
        assert isinstance(before, RankState)
        self.own.extrapolate(before.own, beta)

    def pullback(self, operators: Operators, eta: float, taken: Taken, after: Array, upstream: Array) -> Pullback:
        """No layer of several ranks is taken back."""
        raise NotImplementedError("the adjoint of a layer of several ranks")


class SampleState(RankState):
    """Of a rank's own samples."""

    at: OperatorsOfAll

    def operators(self, layer: int | None = None) -> tuple[Array, Array, Floats]:
        """Of the samples of all ranks."""
        return self.at.of(self.own.grams(), layer)


@dataclass(frozen=True)
class Frequencies:
    """A rank's frequencies: their problem, the number of the first, and the backend that works on them."""

    comm: Communicator
    module: Backend
    problem: Problem
    first: int
    n_threads: int

    def state(self, V: Array) -> FrequencyState:
        """Of features (m, C, F d) at these frequencies."""
        return FrequencyState(self.module.state(V, self.problem, n_threads=self.n_threads), self)

    def summed(self, numbers: Floats) -> Floats:
        """Over all ranks; in place."""
        self.comm.all_sum(numbers)
        return numbers


class FrequencyState(RankState):
    """Of all samples, at a rank's frequencies."""

    at: Frequencies

    def operators(self, layer: int | None = None) -> tuple[Array, Array, Floats]:
        """At these frequencies; rates are of all."""
        with placed(layer, 0, self.at.first):
            dense, factors, row = self.own.operators(layer)
        return dense, factors, self.at.summed(row)

    def response_norms(self, operators: Operators) -> Floats:
        """Of all frequencies."""
        return self.at.summed(self.own.response_norms(operators))

    def step(self, operators: Operators, pi: Floats, eta: float) -> Floats:
        """Squares are of all frequencies."""
        return self.at.summed(self.own.step(operators, pi, eta))

    def advance(self, operators: Operators, eta: float, pi: Floats | None = None) -> Taken:
        """One layer, by its verbs."""
        return ascent.advance(self, operators, eta, pi)

    def extrapolate(self, before: State, beta: float) -> None:
        """Through features: the engine's own verb would divide by the norm of some frequencies."""
        V, problem = self.own.features(), self.at.problem
        V += V.real.dtype.type(beta) * (V - before.features())
        squares = self.at.summed(_squares(V, problem))
        V *= (1 / np.maximum(np.sqrt(squares), SMALLEST_NORM)).astype(V.real.dtype)[:, None, None]
        self.own = self.at.state(V).own


def _squares(V: Array, problem: Problem) -> Floats:
    """sum_p w_p / d ||v(p)||^2 of every sample: (m,)."""
    weights = np.repeat(problem.freq_weights / problem.n_columns, problem.n_columns)
    squares: Floats = np.square(np.abs(V)).sum(axis=1, dtype=np.float64) @ weights
    return squares
