"""``eta="search"``: the step of every layer by a line search on the rate reduction.

A trial is one layer of the backend's own `build`, from a copy of the features. The steps that are found are then built
with like any others, so that the network, what is saved of it and `transform` know nothing of the search.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from redunet._backends.contract import NATURAL_STEP, Array, Backend, BuildRequest, Problem, RateReduction
from redunet.network.progress import RateProgress

#: The rate reduction that a step reaches, and whatever belongs to it.
Trial = TypeVar("Trial", bound=tuple[Any, ...])
#: Neighbouring steps differ by this factor.
FACTOR = 1.5
#: Of the natural step: shorter and longer ones are not tried.
SHORTEST, LONGEST = 1e-4, 1e4


def search_steps(
    V: Array,
    problem: Problem,
    module: Backend,
    *,
    n_layers: int,
    lam: float,
    given: bool,
    n_threads: int,
    progress: bool,
    stop: Callable[[int, RateReduction], bool] | None,
) -> npt.NDArray[np.float64]:
    """Steps eta of the layers, (n_layers,), or fewer where ``stop`` ends the network.

    From the step of the layer before (the natural one at first) longer ones are tried while the rate reduction rises;
    where none is better, shorter ones, until the rate reduction is above that of the layer's input and no longer rises.
    Where none is, the step is zero, here and for all later layers.
    """
    features = np.array(V)  # also from a device
    natural = NATURAL_STEP / float(problem.alphas[0])
    etas: list[float] = []
    last = natural

    def trial(eta: float) -> tuple[float, Array, npt.NDArray[np.float64]]:
        moved = features.copy()
        request = BuildRequest(n_layers=1, etas=np.array([eta]), lam=lam, given=given, keep=False)
        result = module.build(moved, problem, request, n_threads=n_threads)
        return RateReduction.of(result.rates[1], problem.gammas).delta, moved, result.rates

    with RateProgress(n_layers, progress) as bar:
        for layer in range(n_layers):
            first = trial(last)
            here = RateReduction.of(first[2][0], problem.gammas)
            bar.update(layer, here)
            if stop is not None and stop(layer, here) and layer > 0:
                break
            eta, best = best_step(trial, last, first, here.delta, (SHORTEST * natural, LONGEST * natural))
            if not best[0] > here.delta:
                etas += [0.0] * (n_layers - layer)
                break
            etas.append(eta)
            features, last = best[1], eta
    return np.array(etas)


def best_step(
    trial: Callable[[float], Trial], last: float, first: Trial, here: float, limits: tuple[float, float]
) -> tuple[float, Trial]:
    """The step whose trial reaches most among the neighbours of ``last``, and that trial.

    ``trial(step)[0]`` is the rate reduction that a step reaches, ``first`` the trial of ``last``, and ``here`` what the
    rate reduction is before: steps within the limits are shortened until it is exceeded.
    """
    step, best = last, first
    for factor in (FACTOR, 1 / FACTOR):
        other = last * factor
        while limits[0] < other < limits[1]:
            found = trial(other)
            if found[0] > best[0]:
                step, best = other, found
            elif factor > 1 or best[0] > here:
                break
            other *= factor
        if step != last:
            break
    return step, best
