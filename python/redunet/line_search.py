"""``eta="search"``: the step of every layer by a line search on the rate reduction.

A trial is one layer of the backend's own `build`, from a copy of the features. The steps that are found are then built
with like any others, so that the network, what is saved of it and `transform` know nothing of the search.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet._backends.contract import NATURAL_STEP, Array, Backend, Problem
from redunet.progress import RateProgress
from redunet.rates import RateReduction

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

    def trial(eta: float) -> tuple[float, Any, npt.NDArray[np.float64]]:
        moved = features.copy()
        result = module.build(
            moved, problem, etas=np.array([eta]), n_layers=1, lam=lam, given=given, keep=False, on_layer=None,
            n_threads=n_threads,
        )  # fmt: skip
        return _delta(result.rates[1], problem).delta, moved, result.rates

    with RateProgress(n_layers, progress) as bar:
        for layer in range(n_layers):
            eta = last
            best, moved, rates = trial(eta)
            here = _delta(rates[0], problem)
            bar.update(layer, here)
            if stop is not None and stop(layer, here) and layer > 0:
                break
            for factor in (FACTOR, 1 / FACTOR):
                longer = last * factor
                while SHORTEST < longer / natural < LONGEST:
                    reached, features_there, _ = trial(longer)
                    if reached <= best and (best > here.delta or factor > 1):
                        break
                    if reached > best:
                        best, moved, eta = reached, features_there, longer
                    longer *= factor
                if eta != last:
                    break
            if not best > here.delta:
                etas += [0.0] * (n_layers - layer)
                break
            etas.append(eta)
            features, last = moved, eta
    return np.array(etas)


def _delta(row: npt.NDArray[np.float64], problem: Problem) -> RateReduction:
    class_rate = float(row[1:] @ problem.gammas)
    return RateReduction(float(row[0]) - class_rate, float(row[0]), class_rate)
