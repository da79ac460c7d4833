"""The contract in NumPy: the readable reference, the oracle of the tests, and what runs where nothing is compiled.

Spectra are held as V[p] of shape (C, m d): per frequency p, the columns of all samples, d of one after the other, so
every formula of the theory is one batched matrix product over p. ``n_threads`` is accepted and left to the BLAS that
NumPy uses.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from redunet._backends.ascent import Ascent, soft_assignment
from redunet._backends.ascent import apply as apply_layers
from redunet._backends.ascent import membership as memberships
from redunet._backends.contract import (
    SMALLEST_NORM,
    Array,
    BuildRequest,
    BuildResult,
    Operators,
    Problem,
    Pullback,
    RatesAndGradient,
    State,
    Taken,
)
from redunet._backends.numpy_local import local_increments as local_increments
from redunet._backends.numpy_merging import merge_path as merge_path
from redunet._backends.numpy_moments import region_moments as region_moments
from redunet._backends.tasks import interruptible

Rates = npt.NDArray[np.float64]

#: Sums of matrices are made in pieces of about this size.
SUMS_BYTES = 1 << 24
#: Rows of a triangular system that LAPACK solves at once; of larger ones all but these are matrix products.
TRIANGLE = 32
#: Below it the eigenvalues of M, and not the pivots of I + M, give log det(I + M): to the last digits.
SMALL_TRACE = 1e-2


class NumpyState:
    """`State` in NumPy: (F, C, m d) columns, which are replaced and never written to."""

    def __init__(self, columns: Array, of: Problem | Operators) -> None:
        self.columns, self.of = columns, of

    @property
    def n_samples(self) -> int:
        return int(self.columns.shape[2]) // self.of.n_columns

    @property
    def size(self) -> int:
        """Numbers in all features, for `interruptible`."""
        return self.columns.size

    @property
    def problem(self) -> Problem:
        if not isinstance(self.of, Problem):
            raise TypeError("this state is one of samples that operators are applied to: it knows no classes")
        return self.of

    def copy(self) -> NumpyState:
        return NumpyState(self.columns, self.of)

    def features(self) -> Array:
        return _from_columns(self.columns, self.of.n_columns)

    def grams(self) -> Array:
        samples = (_weighted_samples(self.columns, self.problem, j) for j in range(len(self.problem.alphas)))
        return np.stack([_hermitian(W @ _adjoint(W)) for W in samples])

    def operators(self, layer: int | None = None) -> tuple[Array, Array, Rates]:
        return _operators(self.columns, self.problem, layer)

    def response_norms(self, operators: Operators) -> Rates:
        responses = (_product(operators, 0, j + 1, self.columns) for j in range(len(operators.gammas)))
        return np.stack([_squared_norms(response, self.of) for response in responses], axis=1).astype(np.float64)

    @interruptible
    def step(self, operators: Operators, pi: Rates, eta: float) -> Rates:
        responses = [_product(operators, 0, j + 1, self.columns) for j in range(len(operators.gammas))]
        self.columns = self.columns + eta * _ascent(operators, self.columns, responses, self._real(pi))
        return _squared_norms(self.columns, self.of).astype(np.float64)

    def scale(self, by: Rates) -> None:
        self.columns = self.columns * _per_column(self._real(by), self.of.n_columns)

    @interruptible
    def advance(self, operators: Operators, eta: float, pi: Rates | None = None) -> Taken:
        responses = [_product(operators, 0, j + 1, self.columns) for j in range(len(operators.gammas))]
        squares = None
        if pi is None:
            squares = np.stack([_squared_norms(response, operators) for response in responses], axis=1)
            pi, squares = soft_assignment(squares, operators.lam), squares.astype(np.float64)
        moved = self.columns + eta * _ascent(operators, self.columns, responses, self._real(pi))
        scale = _reciprocal_norms(moved, operators)
        self.columns = moved * _per_column(scale, operators.n_columns)
        return Taken(pi.astype(np.float64), squares, scale.astype(np.float64))

    @interruptible
    def extrapolate(self, before: State, beta: float) -> None:
        assert isinstance(before, NumpyState)
        beyond = self.columns + beta * (self.columns - before.columns)
        self.columns = beyond * _per_column(_reciprocal_norms(beyond, self.of), self.of.n_columns)

    @interruptible
    def pullback(self, operators: Operators, eta: float, taken: Taken, after: Array, upstream: Array) -> Pullback:
        if operators.ranks.any():
            raise ValueError(f"the operators have ranks {operators.ranks.tolist()}; a pullback is of dense ones")
        d, v, gammas, pi = self.of.n_columns, self.columns, operators.gammas, taken.pi
        w = (operators.freq_weights / d).astype(v.real.dtype)[:, None, None]
        g = self._before_projection(taken, _to_columns(after, d), _to_columns(upstream, d), w)
        responses = [operators.to_dense(0, j + 1) @ v for j in range(len(gammas))]
        scores, to_rho = np.zeros_like(pi), np.zeros_like(pi)
        if taken.squares is not None:
            dots = [_per_sample((g.conj() * response).real.sum((0, 1)), d) for response in responses]
            to_pi = -gammas * np.stack(dots, axis=1)
            scores = pi * (to_pi - (pi * to_pi).sum(axis=1, keepdims=True))
            rho = np.sqrt(np.where(scores != 0, taken.squares, 1.0))
            np.divide(-operators.lam * scores, rho, out=to_rho, where=rho > 0)
            to_lam = -(scores * rho).sum()
        else:
            to_lam = 0.0
        # Everything but g itself is so many times eta.
        E = operators.to_dense(0, 0)
        to_features, to_E, to_Cs = _adjoint(E) @ g, g @ _adjoint(v), []
        along = np.vdot(to_E, E).real
        for j, response in enumerate(responses):
            by_pi, by_rho = (_per_column(self._real(x), d) for x in (-gammas[j] * pi[:, j], to_rho[:, j]))
            to_response = by_pi * g + by_rho * w * response
            C = operators.to_dense(0, j + 1)
            to_features += _adjoint(C) @ to_response
            to_Cs.append(to_response @ _adjoint(v))
            along += np.vdot(to_Cs[-1], C).real
        return Pullback(
            features=_from_columns(g + eta * to_features, d),
            E=eta * to_E,
            Cs=eta * np.stack(to_Cs),
            eta=float(along - operators.lam * to_lam),  # <.., C^j> through the gates is sum_ij (to rho_ij) rho_ij
            lam=eta * float(to_lam),
        )

    def _before_projection(self, taken: Taken, z: Array, g: Array, w: Array) -> Array:
        """The gradient to u from that to z = u / ||u||: (g - z <z, g>) / ||u||; below the floor of norms g / floor."""
        d = self.of.n_columns
        along = _per_sample((z.conj() * g).real.sum((0, 1)), d) * (taken.scale < (1 - 1e-6) / SMALLEST_NORM)
        by, along = (_per_column(self._real(x), d) for x in (taken.scale, along))
        result: Array = by * (g - along * (w * z))
        return result

    def _real(self, numbers: Rates) -> Array:
        """In the precision of the features."""
        return numbers.astype(self.columns.real.dtype)


def state(
    V: Array, of: Problem | Operators, *, nearest: npt.NDArray[np.int64] | None = None, n_threads: int
) -> NumpyState:
    return NumpyState(_to_columns(V, of.n_columns), of)


def operators_of_grams(grams: Array, problem: Problem, *, n_threads: int) -> tuple[Array, Rates]:
    dense, row = [], np.empty(len(problem.alphas))
    for number, alpha in enumerate(problem.alphas.tolist()):
        with np.errstate(over="ignore", invalid="ignore"), _named(None, number):
            operator, logdets = _from_gram(grams[number], alpha, problem.inner)
        dense.append(operator)
        row[number] = problem.freq_weights @ logdets / (2 * problem.n_points)
    return np.stack(dense), row


def build(V: Array, problem: Problem, request: BuildRequest, result: BuildResult, *, n_threads: int) -> None:
    unit = float(np.finfo(V.dtype).eps)
    start = state(V, problem, n_threads=n_threads)
    V[...] = Ascent(start, problem, request, result, unit).run().features()


def apply(V: Array, operators: Operators, *, n_threads: int) -> Rates:
    moved, pi = apply_layers(state(V, operators, n_threads=n_threads), operators)
    V[...] = moved.features()
    return pi


def layer_operators(V: Array, problem: Problem, *, n_threads: int) -> tuple[Array, Array, Rates]:
    return _operators(_to_columns(V, problem.n_columns), problem)


def rates(V: Array, problem: Problem, *, n_threads: int) -> Rates:
    return _operators(_to_columns(V, problem.n_columns), problem)[2]


@interruptible
def rates_and_gradient(V: Array, problem: Problem, *, membership: bool, n_threads: int) -> RatesAndGradient:
    d = problem.n_columns
    columns = _to_columns(V, d)
    dense, factors, row = _operators(columns, problem)
    ops = Operators.single(problem, dense, factors)
    pi = memberships(problem)
    responses = [_product(ops, 0, j + 1, columns) for j in range(problem.n_classes)]
    gradient = _ascent(ops, columns, responses, pi.astype(columns.real.dtype))
    if problem.weights is not None:
        gradient *= _per_column(problem.weights.astype(columns.real.dtype), d)
    gradient *= d * problem.inner / problem.n_points
    to_pi = _membership_gradient(columns, problem, ops, row, responses, pi) if membership else None
    return RatesAndGradient(row, _from_columns(gradient, d), to_pi)


@interruptible
def cholesky(A: Array, *, n_threads: int) -> Array:
    return _cholesky(A)


@interruptible
def inv(A: Array, *, n_threads: int) -> Array:
    return _hermitian(_inverse(_cholesky(A)))


@interruptible
def solve(A: Array, B: Array, *, n_threads: int) -> Array:
    L = _cholesky(A)
    result: Array = np.linalg.solve(_adjoint(L), np.linalg.solve(L, B))
    return result


@interruptible
def logdet(A: Array, *, n_threads: int) -> Array:
    return _logdet(_cholesky(A))


@interruptible
def quadratic_forms(A: Array, X: Array, *, n_threads: int) -> tuple[Array, Array]:
    L = _cholesky(A)
    Y = _forward(np.swapaxes(X, -1, -2), L)
    squares = Y.real**2 + Y.imag**2 if Y.dtype.kind == "c" else Y * Y
    return squares.sum(axis=-2), _logdet(L)


@interruptible
def logdet_of_sums(A: Array, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64], *, n_threads: int) -> Array:
    i, j = first.reshape(-1), second.reshape(-1)
    logdets, wide = np.empty(len(i), A.real.dtype), np.result_type(A, np.float64)
    step = max(1, SUMS_BYTES // max(1, A[:1].nbytes))
    for start in range(0, len(i), step):
        some = slice(start, start + step)
        with _counted(start, len(i)):
            logdets[some] = _logdet(_cholesky(np.add(A[i[some]], A[j[some]], dtype=wide)))
    return logdets.reshape(first.shape)


def _to_columns(V: Array, d: int) -> Array:
    """(m, C, F d) to (F, C, m d)."""
    m, C, _ = V.shape
    return np.ascontiguousarray(V.reshape(m, C, -1, d).transpose(2, 1, 0, 3)).reshape(-1, C, m * d)


def _from_columns(columns: Array, d: int) -> Array:
    """The inverse of `_to_columns`."""
    F, C, n = columns.shape
    return np.ascontiguousarray(columns.reshape(F, C, -1, d).transpose(2, 1, 0, 3)).reshape(n // d, C, -1)


def _per_column(numbers: Array, d: int) -> Array:
    """One number per sample, (m,), as one per column, (m d,)."""
    return numbers if d == 1 else np.repeat(numbers, d)


def _per_sample(numbers: Array, d: int) -> Array:
    """Sums over the columns of every sample: (m d,) to (m,)."""
    result: Array = numbers.reshape(-1, d).sum(axis=1)
    return result


def _adjoint(A: Array) -> Array:
    return A.conj().swapaxes(-1, -2)


def _hermitian(A: Array) -> Array:
    """To the last bit, which a product W* W is not."""
    result: Array = (A + _adjoint(A)) / 2
    return result


def _cholesky(M: Array) -> Array:
    """Lower Cholesky factors of a batch; the error names the first matrix that is not positive definite."""
    L = _cholesky_or_none(M)
    if L is not None:
        return L
    flat = M.reshape(-1, *M.shape[-2:])
    bad = next(index for index, matrix in enumerate(flat) if _cholesky_or_none(matrix) is None)
    raise _not_definite(bad, len(flat))


def _not_definite(index: int, count: int) -> np.linalg.LinAlgError:
    error = np.linalg.LinAlgError(f"matrix {index} of {count} is not positive definite")
    error.index = index  # type: ignore[attr-defined]
    return error


@contextmanager
def _counted(start: int, count: int) -> Iterator[None]:
    """Say in the error of a factorisation which of all matrices it is, where these begin with number ``start``."""
    try:
        yield
    except np.linalg.LinAlgError as error:
        raise _not_definite(start + error.index, count) from None  # type: ignore[attr-defined]


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


def _forward(B: Array, L: Array) -> Array:
    """Y with L Y = B, L (..., n, n) lower triangular and B (..., n, m): by halves, so that most of it is products."""
    n = L.shape[-1]
    if n <= TRIANGLE:
        result: Array = np.linalg.solve(L, B)
        return result
    half = n // 2
    first = _forward(B[..., :half, :], L[..., :half, :half])
    rest = B[..., half:, :] - L[..., half:, :half] @ first
    return np.concatenate([first, _forward(rest, L[..., half:, half:])], axis=-2)


def _inverse(L: Array) -> Array:
    """The inverses L^-* L^-1 of the matrices that L are the Cholesky factors of.

    V solves L* V = I: with the other inverse, L W = I, the error would grow by the root of the condition.
    """
    V = np.linalg.solve(_adjoint(L), np.broadcast_to(np.eye(L.shape[-1], dtype=L.dtype), L.shape))
    inverse: Array = V @ _adjoint(V)
    return inverse


def _weighted_samples(columns: Array, problem: Problem, number: int) -> Array:
    """The columns whose Gram matrix makes operator ``number``, each times the root of its weight: (F, C, count).

    In double precision, whatever the features': rates of low-rank features are small differences of large sums.
    """
    m = columns.shape[2] // problem.n_columns
    weights = np.ones(m) if problem.weights is None else problem.weights
    used: slice | npt.NDArray[np.bool_]
    if number == 0:
        used = slice(None)
    elif problem.labels is not None:
        used = problem.labels == number - 1
    else:
        used = problem.membership[:, number - 1] > 0  # type: ignore[index]
        weights = weights * problem.membership[:, number - 1]  # type: ignore[index]
    if not isinstance(used, slice):
        used = _per_column(used, problem.n_columns)
    result: Array = columns[:, :, used] * np.sqrt(_per_column(weights, problem.n_columns)[used])
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
                operator, logdets = _from_gram(W @ _adjoint(W), alpha, problem.inner)
                dense.append(operator.astype(columns.dtype))
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


def _from_gram(G: Array, alpha: float, inner: float) -> tuple[Array, Array]:
    """alpha (I + a G)^-1 with a = alpha inner, and log det(I + a G)."""
    M = alpha * inner * G
    L = _cholesky(np.eye(G.shape[-1]) + M)
    return alpha * _inverse(L), _logdet_beside_one(M, L)


def _ascent(ops: Operators, columns: Array, responses: list[Array], pi: Array) -> Array:
    """E z - sum_j gamma_j pi_j C^j z, with the responses C^j z."""
    step = _product(ops, 0, 0, columns)
    for j, gamma in enumerate(ops.gammas.tolist()):
        step -= gamma * _per_column(pi[:, j], ops.n_columns) * responses[j]
    return step


def _membership_gradient(
    columns: Array, problem: Problem, ops: Operators, row: Rates, responses: list[Array], pi: Rates
) -> Rates:
    """That of -sum_j gamma_j R_j (`RatesAndGradient`)."""
    omega = np.ones(len(pi)) if problem.weights is None else problem.weights
    sizes, points, w = omega @ pi, 2 * problem.n_points, problem.freq_weights
    gradient = np.empty(pi.shape)
    for j, gamma in enumerate(problem.gammas.tolist()):
        traces = np.trace(ops.to_dense(0, j + 1), axis1=1, axis2=2).real / problem.alphas[j + 1]
        squares = _per_sample(np.einsum("p,pcm->m", w, (columns.conj() * responses[j]).real), problem.n_columns)
        constant = row[j + 1] - w @ (columns.shape[1] - traces) / points
        gradient[:, j] = -omega * gamma * (constant / sizes[j] + problem.inner / points * squares)
    return gradient


def _squared_norms(columns: Array, of: Problem | Operators) -> Array:
    """sum_p w_p / d ||v(p)||^2 of every sample: (m,)."""
    squares = (columns.real**2 + columns.imag**2) if np.iscomplexobj(columns) else columns**2
    weights = (of.freq_weights / of.n_columns).astype(squares.dtype)
    return _per_sample(np.einsum("p,pcm->m", weights, squares), of.n_columns)


def _reciprocal_norms(columns: Array, of: Problem | Operators) -> Array:
    """What makes unit norms of samples; those near zero it leaves near zero."""
    result: Array = 1 / np.maximum(np.sqrt(_squared_norms(columns, of)), SMALLEST_NORM)
    return result
