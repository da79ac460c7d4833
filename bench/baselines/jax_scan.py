"""The layer that a skilled JAX user writes: planes as in `NumpyExpert`, batched real products, and one jitted scan over
the layers, so that Python is entered once a construction.

Compiled once per shape and number of layers: time a second construction. JAX takes as many threads as the process has
cores when it starts.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import DTypeLike

from bench.baselines.numpy_expert import NumpyExpert, _Operators


def _operators(P: Any, weights: Any, alpha: Any, columns: tuple[tuple[int, int], ...], C: int) -> tuple[Any, Any]:
    """Operators (k + 1, F, C, C) and log determinants (k + 1, F)."""
    grams = []
    for begin, end in columns:
        Pj = P[:, :, begin:end]
        G = jnp.einsum("frm,fsm->frs", Pj, Pj)
        if P.shape[1] > C:
            G = (G[:, :C, :C] + G[:, C:, C:]) + 1j * (G[:, C:, :C] - G[:, :C, C:])
            G = G / weights[:, None, None]
        grams.append(G)
    S = jnp.stack(grams)
    S = jnp.concatenate([S.sum(0)[None], S])
    eye = jnp.eye(C, dtype=S.dtype)
    L = jnp.linalg.cholesky(eye + alpha[:, None, None, None] * S, symmetrize_input=False)
    logdets = 2 * jnp.log(jnp.diagonal(L, axis1=-2, axis2=-1).real).sum(-1)
    inverse_L = jax.scipy.linalg.solve_triangular(L, jnp.broadcast_to(eye, L.shape), lower=True)
    inverse = jnp.einsum("kfab,kfac->kfbc", inverse_L.conj(), inverse_L)
    return inverse * alpha[:, None, None, None], logdets


def _layer(P: Any, dense: Any, scale: Any, eta: float, lam: float) -> Any:
    """Planes after a layer."""
    M = dense
    if P.shape[1] > dense.shape[-1]:
        rows = [jnp.concatenate([M.real, -M.imag], -1), jnp.concatenate([M.imag, M.real], -1)]
        M = jnp.concatenate(rows, -2)
    B = jnp.einsum("kfrs,fsm->kfrm", M, P)
    norms = jnp.sqrt((B[1:] ** 2).sum((1, 2)))
    pi = jax.nn.softmax(-lam * norms, 0) * scale[:, None]
    out = P + eta * B[0] - jnp.einsum("kfrm,km->frm", B[1:], pi)
    return out / jnp.maximum(jnp.sqrt((out**2).sum((0, 1))), 1e-8)


@partial(jax.jit, static_argnames=("n_layers", "columns", "C", "eta", "lam"))
def _scan(
    P: Any,
    weights: Any,
    alpha: Any,
    scale: Any,
    *,
    n_layers: int,
    columns: tuple[tuple[int, int], ...],
    C: int,
    eta: float,
    lam: float,
) -> Any:
    def step(P: Any, _: None) -> tuple[Any, tuple[Any, Any]]:
        dense, logdets = _operators(P, weights, alpha, columns, C)
        return _layer(P, dense, scale, eta, lam), (dense, logdets)

    return jax.lax.scan(step, P, None, length=n_layers)


class JaxScan(NumpyExpert):
    """All layers in one compiled scan; operators are kept as what it stacks.

    Parameters
    ----------
    n_threads : int
        For transforms into and out of the spectrum only; JAX has its own, see above.
    dtype : dtype
        Real precision.
    """

    name = "jax"

    def __init__(self, n_threads: int = 2, *, dtype: DTypeLike = np.float32) -> None:
        super().__init__(n_threads, dtype=dtype)
        if self.dtype == np.float64:
            jax.config.update("jax_enable_x64", True)  # type: ignore[no-untyped-call, unused-ignore]

    def build_layers(self, n_layers: int, limit_s: float = float("inf")) -> int:
        q = self.problem
        P, (dense, logdets) = _scan(
            self.P,
            self.weights,
            self.alpha,
            self.scale[:, 0],
            n_layers=n_layers,
            columns=tuple((columns.start, columns.stop) for columns in q.columns),
            C=q.C,
            eta=float(q.eta),
            lam=float(q.lam),
        )
        self.P = np.asarray(P)
        self.rates += [q.rates(layer) for layer in np.asarray(logdets)]
        self.operators += [_Operators(layer) for layer in np.asarray(dense)]
        return n_layers

    def build_layer(self) -> None:
        self.build_layers(1)
