"""``momentum=True``: Nesterov's momentum on the sphere, with restart.

Before layer l the features go on in the direction that they came from, y = normalise(z_l + beta_l (z_l - z_{l-1})); the
layer is built at y and applied to it. beta_l = (t_l - 1) / t_{l+1}, t_1 = 1 and t_{l+1} = (1 + sqrt(1 + 4 t_l^2)) / 2.
Where a layer would end with a lower rate reduction than the one before, it is built from z_l instead, and the sequence
starts again.
New samples take the same path, with the same beta_l.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet._backends.contract import (
    NATURAL_STEP,
    Array,
    Backend,
    BuildRequest,
    BuildResult,
    DeviceBackend,
    Operators,
    Problem,
    RateReduction,
)
from redunet._backends.tasks import interruptible
from redunet.network.line_search import LONGEST, SHORTEST, best_step
from redunet.transforms.norms import unit_sphere

Floats = npt.NDArray[np.float64]


def build_with_momentum(
    V: Array,
    problem: Problem,
    module: Backend,
    request: BuildRequest,
    *,
    search: bool,
    n_threads: int,
) -> tuple[Array, BuildResult, Floats]:
    """Features after the last layer, what `Backend.build` returns, and beta of every layer, (n_layers,).

    With ``search`` and without ``request.etas``, every step is looked for. Rates are those at the points where layers
    are built, and after the last.
    """
    etas, n_layers, on_layer = request.etas, request.n_layers, request.on_layer
    now = before = np.array(V)  # also from a device
    natural = NATURAL_STEP / float(problem.alphas[0])
    last, t, reached, after = natural, 1.0, -np.inf, np.empty(0)
    rows, steps, betas, kept = [], [], [], []

    def layer_at(point: Array, eta: Floats | None) -> tuple[float, Array, BuildResult]:
        moved = point.copy()
        one = replace(request, n_layers=1, etas=eta, on_layer=None)
        result = module.build(moved, problem, one, n_threads=n_threads)
        return RateReduction.of(result.rates[1], problem.gammas).delta, moved, result

    def step(point: Array, index: int) -> tuple[float, Array, BuildResult]:
        nonlocal last
        if etas is not None or not search:
            return layer_at(point, None if etas is None else etas[index : index + 1])

        def trial(eta: float) -> tuple[float, Array, BuildResult]:
            return layer_at(point, np.array([eta]))

        first = trial(last)
        here = RateReduction.of(first[2].rates[0], problem.gammas).delta
        eta, best = best_step(trial, last, first, here, (SHORTEST * natural, LONGEST * natural))
        if not best[0] > here:
            return trial(0.0)
        last = eta
        return best

    for index in range(n_layers):
        following = (1 + math.sqrt(1 + 4 * t * t)) / 2
        beta, t = (t - 1) / following, following
        found = step(extrapolated(now, before, beta, problem.freq_weights), index)
        if beta > 0 and not found[0] >= reached:
            beta, t = 0.0, (1 + math.sqrt(5)) / 2
            found = step(now, index)
        if on_layer is not None and on_layer(index, found[2].rates[0]) and index > 0:
            break
        before, (reached, now, result) = now, found
        rows.append(result.rates[0])
        after = result.rates[1]
        steps.append(float(result.etas[0]))
        betas.append(beta)
        if result.operators is not None:
            kept.append((result.operators.dense, result.operators.factors))
    else:
        if on_layer is not None:
            on_layer(n_layers, after)
    taken = np.array(steps)
    operators = None
    if request.keep:
        dense, factors = (np.concatenate(parts) for parts in zip(*kept, strict=True))
        operators = Operators.of(problem, dense, factors, taken, request.lam)
    return _given_back(now, module), BuildResult(operators, taken, np.array([*rows, after])), np.array(betas)


def apply_with_momentum(
    V: Array, operators: Operators, betas: Floats, module: Backend, *, n_threads: int
) -> tuple[Array, Floats]:
    """Features of new samples, and their assignments by the last layer."""
    now = before = np.array(V)
    pi = np.empty(0)
    for index, beta in enumerate(betas):
        moved = extrapolated(now, before, beta, operators.freq_weights)
        pi = module.apply(moved, operators.layer(index), n_threads=n_threads)
        before, now = now, moved
    return _given_back(now, module), pi


@interruptible
def extrapolated(now: Array, before: Array, beta: float, freq_weights: Floats) -> Array:
    """normalise(now + beta (now - before)), a new array."""
    if beta == 0:
        return now.copy()
    beyond = now + now.real.dtype.type(beta) * (now - before)
    return np.ascontiguousarray(unit_sphere(beyond, freq_weights))


def _given_back(V: Array, module: Backend) -> Any:
    """V where the backend's own transform finds it."""
    return module.Array(V) if isinstance(module, DeviceBackend) else V
