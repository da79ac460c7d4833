"""Projected gradient ascent from the verbs of a `State`: the loops of a backend that has none of its own.

The rules say which step is tried, whether it is taken, and where the next layer is built. They see rates, never
features; ``cpp/shared/step_rule.hpp`` says the same for the loops of the compiled engines.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from enum import Enum, auto
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from redunet._backends.contract import (
    FALL_ROUNDING_UNITS,
    LONGEST_STEP,
    MAX_HALVINGS,
    NATURAL_STEP,
    SEARCH_FACTOR,
    SHORTEST_STEP,
    SMALLEST_NORM,
    Array,
    BuildRequest,
    BuildResult,
    Operators,
    Problem,
    RateReduction,
    State,
    Taken,
)

if TYPE_CHECKING:
    from typing_extensions import Self

Floats = npt.NDArray[np.float64]


class Climbing(Protocol):
    """What `Ascent` needs of a `State`: verbs that hold for any number of samples, as none returns one for each."""

    def copy(self) -> Self:
        """The same features once more."""

    def operators(self, layer: int | None = None) -> tuple[Array, Array, Floats]:
        """As `State.operators`."""

    def advance(self, operators: Operators, eta: float, pi: Floats | None = None) -> object:
        """One layer; as `State.advance`."""

    def extrapolate(self, before: Self, beta: float) -> None:
        """As `State.extrapolate`."""


S = TypeVar("S", bound=Climbing)


class Verdict(Enum):
    """On a trial."""

    TAKE = auto()
    TRY_AGAIN = auto()
    TAKE_KEPT = auto()


class StepRule:
    """The step of each layer: one that is given, the natural one, or one that is searched for.

    After `begin`, ``eta`` is tried, and `judge` is told the rate reduction that it reaches, until it says ``TAKE``, or
    ``TAKE_KEPT``: the trial that was kept when ``keep`` was true.

    Parameters
    ----------
    etas : (n_layers,) float64 array, or None
        Steps that are given.
    search : bool
        Whether they are searched for, if none are given.
    alpha : float
        The natural step is 2 / alpha.
    unit : float
        Rounding unit of the features.
    """

    def __init__(self, etas: Floats | None, search: bool, alpha: float, unit: float) -> None:
        self.etas, self.search, self.unit = etas, search, unit
        self.natural = NATURAL_STEP / alpha
        self.last = self.natural
        self.settled = False
        self.eta = self.step = self.best = 0.0
        self.keep = False

    def resume(self, etas: Floats, betas: Floats) -> None:
        """After layers that are there already."""
        for eta in etas[etas > 0]:
            self.last = float(eta)
        self.settled = self.etas is None and len(etas) > 0 and etas[-1] == 0 and betas[-1] == 0

    def begin(self, layer: int, here: float, rate: float, ahead: bool) -> None:
        """A layer that is built where the rate reduction is ``here``, at the features themselves or ahead of them."""
        self.here, self.allowed, self.ahead = here, FALL_ROUNDING_UNITS * self.unit * rate, ahead
        self.trials, self.shorter, self.keep = 0, False, False
        if self.etas is not None:
            self.eta = float(self.etas[layer])
        else:
            self.eta = 0.0 if self.settled else self.last if self.search else self.natural

    def judge(self, reached: float) -> Verdict:
        """On the trial of ``eta``."""
        self.keep = False
        if self.etas is not None or self.eta == 0:
            return Verdict.TAKE
        return self._judge_search(reached) if self.search else self._judge_natural(reached)

    def _try(self, eta: float) -> Verdict:
        self.eta = eta
        return Verdict.TRY_AGAIN

    def _settle(self) -> Verdict:
        """No step raises the rate reduction: this layer leaves the features, and so do all later ones built there."""
        self.settled = self.settled or not self.ahead
        return self._try(0.0)

    def _judge_natural(self, reached: float) -> Verdict:
        if not self.here - reached > self.allowed:
            return Verdict.TAKE
        self.trials += 1
        return self._settle() if self.trials == MAX_HALVINGS else self._try(self.eta / 2)

    def _judge_search(self, reached: float) -> Verdict:
        """From the last layer's step longer ones while they reach more; if none does, shorter ones.

        Those go on until one reaches more than the layer begins with and the next one less.
        """
        better = self.trials == 0 or reached > self.best
        self.trials += 1
        if better:
            self.best, self.step = reached, self.eta
        following = 0.0
        if better or (self.shorter and not self.best > self.here):
            following = self.eta * (1 / SEARCH_FACTOR if self.shorter else SEARCH_FACTOR)
        if not self._within(following) and not self.shorter and self.step == self.last:
            self.shorter = True
            following = self.last * (1 / SEARCH_FACTOR)
        if self._within(following):
            self.keep = better
            return self._try(following)
        if not self.best > self.here:
            return self._settle()
        kept = self.step != self.eta
        self.eta = self.last = self.step
        return Verdict.TAKE_KEPT if kept else Verdict.TAKE

    def _within(self, eta: float) -> bool:
        return SHORTEST_STEP * self.natural < eta < LONGEST_STEP * self.natural


class Momentum:
    """Nesterov's momentum: beta_l = (t_l - 1) / t_{l+1}, t_1 = 1, t_{l+1} = (1 + sqrt(1 + 4 t_l^2)) / 2.

    Before layer l the features go on to normalise(z_l + beta_l (z_l - z_{l-1})).
    """

    def __init__(self) -> None:
        self.t = 1.0

    def next(self) -> float:
        """Of the next layer."""
        following = (1 + math.sqrt(1 + 4 * self.t * self.t)) / 2
        beta, self.t = (self.t - 1) / following, following
        return beta

    def restart(self) -> None:
        """The sequence starts again, with the layer whose beta was given last."""
        self.t = (1 + math.sqrt(5)) / 2

    def resume(self, betas: Floats) -> None:
        """After layers that are there already."""
        for beta in betas:
            self.next()
            if beta == 0:
                self.restart()


class Ascent(Generic[S]):
    """One construction: operators and rates at the features, a step that the rule likes, layer after layer.

    With ``before``, the features of a layer before (of the first: the same), ``state`` is behind the layers that are
    there; without, they are taken through these.
    """

    def __init__(
        self,
        state: S,
        problem: Problem,
        request: BuildRequest,
        result: BuildResult,
        unit: float,
        before: S | None = None,
    ) -> None:
        self.state, self.problem, self.request, self.result = state, problem, request, result
        self.before = before
        self.rule = StepRule(request.etas, request.search, float(problem.alphas[0]), unit)
        self.momentum = Momentum()
        self.given = membership(problem) if request.given else None
        # Steps that are given are taken, and nobody asks again for the features before them.
        self.in_place = request.etas is not None and not request.momentum

    def run(self) -> S:
        """The features after the last layer."""
        request, result = self.request, self.result
        done = result.n_done
        self._resume(done)
        self.layer = self._look(done, self.state, result.rates[done])
        for layer in range(done, request.n_layers):
            taken = self._take_layer_ahead(layer) if request.momentum else self._take_layer(layer)
            if not taken:
                return self.state
            result.etas[layer] = self.rule.eta
            result.done[0] = layer + 1
        if request.on_layer is not None:
            request.on_layer(request.n_layers, result.rates[request.n_layers].copy())
        return self.state

    def _delta(self, row: Floats) -> float:
        return RateReduction.of(row, self.problem.gammas).delta

    def _look(self, layer: int, state: S, row: Floats) -> Operators:
        """Operators and rates at the features, which are the input of a layer."""
        dense, factors, row[:] = state.operators(layer)
        return Operators.single(self.problem, dense, factors, lam=self.request.lam)

    def _keep(self, layer: int, built: Operators) -> None:
        if self.result.operators is not None:
            self.result.operators.dense[layer] = built.dense[0]
            self.result.operators.factors[layer] = built.factors[0]

    def _resume(self, n_layers: int) -> None:
        """The samples through the layers that are there."""
        etas, betas = self.result.etas[:n_layers], self.result.betas[:n_layers]
        self.rule.resume(etas, betas)
        self.momentum.resume(betas)
        there = self.before is not None
        self.remembered, self.before = self.before or self.state, None
        for layer in range(0 if there else n_layers):
            assert self.result.operators is not None
            ops = self.result.operators.layers(layer, layer + 1)
            point = _ahead(self.state, self.remembered, float(betas[layer]))
            self.remembered = self.state
            self.state = _moved(point if self.in_place else point.copy(), ops, float(etas[layer]), self.given)

    def _take_step(self, layer: int, point: S, here: Floats, ahead: bool) -> tuple[S, float]:
        """Where the step that the rule takes leads from a point, and the rate reduction there."""
        row = self.result.rates[layer + 1]
        self.rule.begin(layer, self._delta(here), float(here[0]), ahead)
        built = self.layer
        kept = None
        while True:
            moved = _moved(point if self.in_place else point.copy(), built, self.rule.eta, self.given)
            self.layer = self._look(layer + 1, moved, row)
            trial = moved, self.layer, row.copy()
            verdict = self.rule.judge(self._delta(row))
            if verdict is not Verdict.TRY_AGAIN:
                break
            if self.rule.keep:
                kept = trial
            del moved, trial  # their room, before the next one takes its own
        if verdict is Verdict.TAKE_KEPT:
            assert kept is not None
            moved, self.layer, row[:] = kept
        self._keep(layer, built)
        return moved, self._delta(row)

    def _take_layer(self, layer: int) -> bool:
        """Whether there is such a layer."""
        row = self.result.rates[layer]
        if self.request.on_layer is not None and self.request.on_layer(layer, row.copy()) and layer > 0:
            return False
        self.result.betas[layer] = 0
        self.state, _ = self._take_step(layer, self.state, row, False)
        self.remembered = self.state  # nobody asks for features of a layer before
        return True

    def _take_layer_ahead(self, layer: int) -> bool:
        """The same with momentum: from beyond the features or, where that ends lower, from where they are."""
        row, here = self.result.rates[layer], self.layer
        point_row = row.copy()
        reached = self._delta(row)
        beta = self.momentum.next()
        point = _ahead(self.state, self.remembered, beta)
        if beta > 0:
            self.layer = self._look(layer, point, point_row)
        moved, after = self._take_step(layer, point, point_row, beta > 0)
        del point
        if beta > 0 and not after >= reached:
            del moved
            self.momentum.restart()
            beta, self.layer, point_row = 0.0, here, row.copy()
            moved, _ = self._take_step(layer, self.state, point_row, False)
        if self.request.on_layer is not None and self.request.on_layer(layer, point_row.copy()) and layer > 0:
            return False
        row[:] = point_row
        self.remembered, self.state = self.state, moved
        self.result.betas[layer] = beta
        return True


def apply(state: State, operators: Operators) -> tuple[State, Floats]:
    """New samples through all layers, and their assignments by the last one."""
    pi = np.zeros((state.n_samples, len(operators.gammas)))
    for stage, assigned in stages(state, operators):
        state, pi = stage, assigned
    return state, pi


def stages(state: State, operators: Operators) -> Iterator[tuple[State, Floats]]:
    """New samples after every layer, and their assignments by it; a state is good until the next is asked for."""
    remembered = state
    remember = bool(operators.betas.any())
    for layer in range(operators.n_layers):
        point = _ahead(state, remembered, float(operators.betas[layer]))
        remembered, state = state, point.copy() if remember else point
        yield state, state.advance(operators.layers(layer, layer + 1), float(operators.etas[layer])).pi


def advance(state: State, operators: Operators, eta: float, pi: Floats | None = None) -> Taken:
    """`State.advance` from the other verbs: z <- normalise(z + eta (E z - sum_j gamma_j pi_j C^j z))."""
    squares = None
    if pi is None:
        squares = state.response_norms(operators)
        pi = soft_assignment(squares, operators.lam)
    scale = 1 / np.maximum(np.sqrt(state.step(operators, pi, eta)), SMALLEST_NORM)
    state.scale(scale)
    return Taken(pi, squares, scale)


def soft_assignment(squares: Floats, lam: float) -> Floats:
    """pi_j = softmax_j(-lambda rho_j) of the squares rho_j^2, (m, k); shifted so that nothing overflows."""
    scores = -lam * np.sqrt(squares)
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    result: Floats = e / e.sum(axis=1, keepdims=True)
    return result


def membership(problem: Problem) -> Floats:
    """Pi as an (m, k) array, one-hot for hard labels."""
    if problem.membership is not None:
        return problem.membership
    assert problem.labels is not None
    return np.eye(problem.n_classes)[problem.labels]


def _ahead(state: S, before: S, beta: float) -> S:
    """Where a layer with this momentum is built."""
    if beta == 0:
        return state
    point = state.copy()
    point.extrapolate(before, beta)
    return point


def _moved(state: S, operators: Operators, eta: float, pi: Floats | None) -> S:
    """The same, a layer further."""
    state.advance(operators, eta, pi)
    return state
