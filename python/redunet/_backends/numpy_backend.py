"""The contract in NumPy: the readable reference, the oracle of the tests, and what runs where nothing is compiled.

Spectra are held as V[p] of shape (C, m): per frequency p, one column per sample, so every formula of the theory is
one batched matrix product over p. ``n_threads`` is accepted and left to the BLAS that NumPy uses.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet._backends.contract import (
    FALL_ROUNDING_UNITS,
    MAX_HALVINGS,
    NATURAL_STEP,
    SMALLEST_NORM,
    Array,
    BuildRequest,
    BuildResult,
    Operators,
    Problem,
    RateReduction,
)
from redunet._backends.tasks import interruptible

Rates = npt.NDArray[np.float64]

#: Below it the eigenvalues of M, and not the pivots of I + M, give log det(I + M): to the last digits.
SMALL_TRACE = 1e-2


def build(V: Array, problem: Problem, request: BuildRequest, *, n_threads: int) -> BuildResult:
    columns = _to_columns(V)
    etas, on_layer = request.etas, request.on_layer
    membership = _membership(problem) if request.given else None
    steps, rows, kept = [], [], []
    settled = False  # no step raised the rate reduction: every later layer is the same
    layer = _operators(columns, problem, 0)
    for index in range(request.n_layers):
        dense, factors, rates = layer
        rows.append(rates)
        if on_layer is not None and on_layer(index, rates) and index > 0:
            break
        ops = Operators.single(problem, dense, factors, lam=request.lam)
        first = NATURAL_STEP / float(problem.alphas[0]) if etas is None else float(etas[index])
        for halvings in range(MAX_HALVINGS if settled else 0, MAX_HALVINGS + 1):
            eta = first / 2**halvings if etas is not None or halvings < MAX_HALVINGS else 0.0
            moved, _ = _apply_layer(columns, ops, 0, eta, membership)
            layer = _operators(moved, problem, index + 1)
            if etas is not None or not _falls(rates, layer[2], problem, V.dtype):
                break
        settled = etas is None and eta == 0.0
        columns = moved
        steps.append(eta)
        if request.keep:
            kept.append((dense, factors))
    else:
        rows.append(layer[2])
        if on_layer is not None:
            on_layer(request.n_layers, layer[2])
    V[...] = columns.transpose(2, 1, 0)
    taken = np.array(steps)
    operators = None
    if request.keep:
        dense, factors = (np.stack(parts) for parts in zip(*kept, strict=True))
        operators = Operators.of(problem, dense, factors, taken, request.lam)
    return BuildResult(operators, taken, np.array(rows))


def apply(V: Array, operators: Operators, *, n_threads: int) -> Rates:
    columns = _to_columns(V)
    pi = np.zeros((len(V), len(operators.gammas)))
    for layer in range(operators.n_layers):
        columns, pi = _apply_layer(columns, operators, layer, float(operators.etas[layer]), None)
    V[...] = columns.transpose(2, 1, 0)
    return pi.astype(np.float64)


def layer_operators(V: Array, problem: Problem, *, n_threads: int) -> tuple[Array, Array, Rates]:
    return _operators(_to_columns(V), problem)


def rates(V: Array, problem: Problem, *, n_threads: int) -> Rates:
    return _operators(_to_columns(V), problem)[2]


@interruptible
def rate_gradient(V: Array, problem: Problem, *, n_threads: int) -> Array:
    columns = _to_columns(V)
    dense, factors, _ = _operators(columns, problem)
    ops = Operators.single(problem, dense, factors)
    pi = _membership(problem).astype(columns.real.dtype)
    gradient = _product(ops, 0, 0, columns)
    for j, gamma in enumerate(problem.gammas.tolist()):
        gradient -= gamma * pi[:, j] * _product(ops, 0, j + 1, columns)
    if problem.weights is not None:
        gradient *= problem.weights.astype(pi.dtype)
    gradient *= problem.inner / problem.n_points
    return np.ascontiguousarray(gradient.transpose(2, 1, 0))


@interruptible
def cholesky(A: Array, *, n_threads: int) -> Array:
    return _cholesky(A)


@interruptible
def inv(A: Array, *, n_threads: int) -> Array:
    inverse = _inverse(_cholesky(A))
    result: Array = (inverse + _adjoint(inverse)) / 2  # Hermitian to the last bit, which a product W* W is not
    return result


@interruptible
def solve(A: Array, B: Array, *, n_threads: int) -> Array:
    L = _cholesky(A)
    result: Array = np.linalg.solve(_adjoint(L), np.linalg.solve(L, B))
    return result


@interruptible
def logdet(A: Array, *, n_threads: int) -> Array:
    return _logdet(_cholesky(A))


def _to_columns(V: Array) -> Array:
    """(m, C, F) to (F, C, m)."""
    return np.ascontiguousarray(V.transpose(2, 1, 0))


def _adjoint(A: Array) -> Array:
    return A.conj().swapaxes(-1, -2)


def _cholesky(M: Array) -> Array:
    """Lower Cholesky factors of a batch; the error names the first matrix that is not positive definite."""
    L = _cholesky_or_none(M)
    if L is not None:
        return L
    flat = M.reshape(-1, *M.shape[-2:])
    bad = next(index for index, matrix in enumerate(flat) if _cholesky_or_none(matrix) is None)
    error = np.linalg.LinAlgError(f"matrix {bad} of {len(flat)} is not positive definite")
    error.index = bad  # type: ignore[attr-defined]
    raise error


@contextmanager
def _named(layer: int | None, number: int) -> Iterator[None]:
    """Say in the error of a factorisation which layer, class and frequency it belongs to."""
    try:
        yield
    except np.linalg.LinAlgError as error:
        place = "" if layer is None else f"layer {layer}, "
        place += f"class {number - 1}" if number else "all classes"
        frequency: int = error.index  # type: ignore[attr-defined]  # set by `_cholesky`
        raise np.linalg.LinAlgError(
            f"{place}, frequency {frequency}: I + alpha G is not positive definite; "
            "epsilon_sq is too small, or features too large, for this precision"
        ) from None


def _cholesky_or_none(M: Array) -> Array | None:
    """None if a pivot is not a positive finite number; `numpy.linalg.cholesky` lets NaN and infinity through."""
    try:
        L = np.linalg.cholesky(M)
    except np.linalg.LinAlgError:
        return None
    return L if np.isfinite(np.diagonal(L, axis1=-2, axis2=-1)).all() else None


def _logdet(L: Array) -> Array:
    """log det(L L*) of the Cholesky factors of a batch."""
    diagonal = np.diagonal(L, axis1=-2, axis2=-1).real
    result: Array = 2 * np.log(diagonal).sum(-1)
    return result


def _logdet_beside_one(M: Array, L: Array) -> Array:
    """log det(I + M) of a batch, L the Cholesky factors of I + M; from eigenvalues where M would be lost beside I."""
    logdets = _logdet(L)
    small = np.trace(M, axis1=-2, axis2=-1).real < SMALL_TRACE
    if small.any():
        logdets[small] = np.log1p(np.linalg.eigvalsh(M[small])).sum(-1)
    return logdets


def _inverse(L: Array) -> Array:
    """The inverses L^-* L^-1 of the matrices that L are the Cholesky factors of.

    V solves L* V = I: with the other inverse, L W = I, the error would grow by the root of the condition.
    """
    V = np.linalg.solve(_adjoint(L), np.broadcast_to(np.eye(L.shape[-1], dtype=L.dtype), L.shape))
    inverse: Array = V @ _adjoint(V)
    return inverse


def _membership(problem: Problem) -> Rates:
    """Pi as an (m, k) array, one-hot for hard labels."""
    if problem.membership is not None:
        return problem.membership
    assert problem.labels is not None
    return np.eye(problem.n_classes)[problem.labels]


def _weighted_samples(columns: Array, problem: Problem, number: int) -> Array:
    """The columns whose Gram matrix makes operator ``number``, each times the root of its weight: (F, C, count).

    In double precision, whatever the features': rates of low-rank features are small differences of large sums.
    """
    m = columns.shape[2]
    weights = np.ones(m) if problem.weights is None else problem.weights
    used: slice | npt.NDArray[np.bool_]
    if number == 0:
        used = slice(None)
    elif problem.labels is not None:
        used = problem.labels == number - 1
    else:
        used = problem.membership[:, number - 1] > 0  # type: ignore[index]
        weights = weights * problem.membership[:, number - 1]  # type: ignore[index]
    result: Array = columns[:, :, used] * np.sqrt(weights[used])
    return result


@interruptible
def _operators(columns: Array, problem: Problem, layer: int | None = None) -> tuple[Array, Array, Rates]:
    """E and every C^j from the Gram matrices of the samples, and the row of rates at these features.

    ``layer`` is the layer of which these features are the input, for the error message.
    """
    F, C, _ = columns.shape
    dense, factors = [], [np.empty((F, C, 0), columns.dtype)]
    row = np.empty(len(problem.alphas))
    for number, alpha in enumerate(problem.alphas.tolist()):
        a = alpha * problem.inner
        with np.errstate(over="ignore", invalid="ignore"), _named(layer, number):  # what overflows is no pivot
            W = _weighted_samples(columns, problem, number)
            if W.shape[2] < C:  # det(I + a W W*) = det(I + a W* W), the smaller side
                K = a * (_adjoint(W) @ W)
                L = _cholesky(np.eye(W.shape[2]) + K)
                Q = _adjoint(np.linalg.solve(L, a**0.5 * _adjoint(W)))
                logdets = _logdet_beside_one(K, L)
                if problem.ranks[number]:
                    factors.append(Q.astype(columns.dtype))
                else:
                    dense.append((alpha * (np.eye(C) - Q @ _adjoint(Q))).astype(columns.dtype))
            else:
                G = a * (W @ _adjoint(W))
                L = _cholesky(np.eye(C) + G)
                logdets = _logdet_beside_one(G, L)
                dense.append((alpha * _inverse(L)).astype(columns.dtype))
        row[number] = problem.freq_weights @ logdets / (2 * problem.n_points)
    stacked = np.stack(dense) if dense else np.empty((0, F, C, C), columns.dtype)
    return stacked, np.concatenate(factors, axis=2), row


def _product(ops: Operators, layer: int, number: int, columns: Array) -> Array:
    """Operator ``number`` of a layer times every sample."""
    if ops.ranks[number] == 0:
        return ops.to_dense(layer, number) @ columns
    Q = ops.factors[layer, :, :, ops.columns(number)]
    product: Array = float(ops.alphas[number]) * (columns - Q @ (_adjoint(Q) @ columns))
    return product


def _norms(columns: Array, freq_weights: Rates) -> Array:
    """sqrt(sum_p w_p ||v(p)||^2) of every sample: (m,)."""
    squares = (columns.real**2 + columns.imag**2) if np.iscomplexobj(columns) else columns**2
    result: Array = np.sqrt(np.einsum("p,pcm->m", freq_weights.astype(squares.dtype), squares))
    return result


@interruptible
def _apply_layer(
    columns: Array, ops: Operators, layer: int, eta: float, membership: Rates | None
) -> tuple[Array, Array]:
    """z <- normalise(z + eta (E z - sum_j gamma_j pi_j C^j z)); also returns pi, (m, k)."""
    responses = [_product(ops, layer, j + 1, columns) for j in range(len(ops.gammas))]
    norms = np.stack([_norms(response, ops.freq_weights) for response in responses], axis=1)
    pi = _softmax(-ops.lam * norms)
    if membership is not None:
        pi = membership.astype(pi.dtype)
    step = _product(ops, layer, 0, columns)
    for j, gamma in enumerate(ops.gammas.tolist()):
        step -= gamma * pi[:, j] * responses[j]
    moved = columns + eta * step
    moved /= np.maximum(_norms(moved, ops.freq_weights), SMALLEST_NORM)
    return moved, pi


def _softmax(scores: Array) -> Array:
    """Row by row, shifted by the maximum so that nothing overflows."""
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    result: Array = e / e.sum(axis=1, keepdims=True)
    return result


def _falls(before: Rates, after: Rates, problem: Problem, dtype: np.dtype[Any]) -> bool:
    """Whether the rate reduction fell by more than rounding."""
    allowed = FALL_ROUNDING_UNITS * float(np.finfo(dtype).eps) * float(before[0])
    return RateReduction.of(before, problem.gammas).delta - RateReduction.of(after, problem.gammas).delta > allowed
