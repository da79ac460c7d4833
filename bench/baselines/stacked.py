"""The best layer that we could write without kernels of our own: BLAS for products, numba for the rest.

On the state of `NumpyExpert`, planes P (F, R, m). Parts of the frequencies on threads of one BLAS thread each: class
Grams, a batch of small Cholesky factorisations in numba (LAPACK above 24 channels), and all k + 1 operators of a
frequency stacked into one product. Norms, step and projection are one pass each in numba. A single frequency is
split by samples instead.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba  # type: ignore[import-untyped, import-not-found, unused-ignore]
import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy.linalg import get_lapack_funcs

from bench.baselines.builder import Floats
from bench.baselines.numpy_expert import NumpyExpert, _Operators

Array = NDArray[Any]

# Matrices up to this size are factored in numba: LAPACK takes one at a time, through Python.
_NUMBA_SIZE = 24
# Parts per thread: their operators and responses shrink towards the caches, and threads that finish early take more.
_PARTS_PER_THREAD = 8
# Numbers in all responses below which threads cost more than they save (gauss2d and gauss3d).
_SERIAL_NUMBERS = 1 << 16

# Rows are cut before they are run through: an index that might be negative would keep a loop from becoming vectors.
_jit: Callable[..., Any] = numba.njit(nogil=True, fastmath=True, cache=True)


@_jit
def _add_squares(B: Array, norms: Array, first: int, last: int, begin: int, end: int) -> None:
    """Squares of the class responses B (F, k + 1, R, m) of some frequencies and samples, into norms (k, m)."""
    for f in range(first, last):
        for j in range(1, B.shape[1]):
            out = norms[j - 1, begin:end]
            for r in range(B.shape[2]):
                row = B[f, j, r, begin:end]
                for i in range(len(row)):
                    out[i] += row[i] * row[i]


@_jit
def _step(
    P: Array, B: Array, pi: Array, eta: float, squares: Array, first: int, last: int, begin: int, end: int
) -> None:
    """P + eta E P - sum_j pi_j C_j P in the place of P, and the squares of its samples."""
    for f in range(first, last):
        for r in range(P.shape[1]):
            row, expand = P[f, r, begin:end], B[f, 0, r, begin:end]
            for i in range(len(row)):
                row[i] += eta * expand[i]
            for j in range(1, B.shape[1]):
                part, weight = B[f, j, r, begin:end], pi[j - 1, begin:end]
                for i in range(len(row)):
                    row[i] -= weight[i] * part[i]
            sums = squares[begin:end]
            for i in range(len(row)):
                sums[i] += row[i] * row[i]


@_jit
def _scale(P: Array, factors: Array, first: int, last: int, begin: int, end: int) -> None:
    for f in range(first, last):
        for r in range(P.shape[1]):
            row, own = P[f, r, begin:end], factors[begin:end]
            for i in range(len(row)):
                row[i] *= own[i]


@_jit
def _invert_small(A: Array, logdets: Array) -> None:
    """Log determinants and inverses, in place, of Hermitian positive definite A (B, C, C), by Cholesky."""
    C = A.shape[1]
    for b in range(A.shape[0]):
        M = A[b]
        logdet = 0.0
        for j in range(C):
            pivot = M[j, j].real
            for q in range(j):
                pivot -= M[j, q].real ** 2 + M[j, q].imag ** 2
            root = np.sqrt(pivot)
            logdet += np.log(root)
            M[j, j] = root
            for i in range(j + 1, C):
                z = M[i, j]
                for q in range(j):
                    z -= M[i, q] * np.conj(M[j, q])
                M[i, j] = z / root
        logdets[b] = 2 * logdet
        for i in range(C):  # L^-1 in the place of L
            root = M[i, i].real
            for j in range(i):
                z = M[i, j] * M[j, j]
                for q in range(j + 1, i):
                    z += M[i, q] * M[q, j]
                M[i, j] = -z / root
            M[i, i] = 1 / root
        for i in range(C):  # L^-* L^-1
            for j in range(i + 1):
                z = np.conj(M[i, i]) * M[i, j]
                for q in range(i + 1, C):
                    z += np.conj(M[q, i]) * M[q, j]
                M[i, j] = z
        for i in range(C):
            for j in range(i):
                M[j, i] = np.conj(M[i, j])


@_jit
def _to_planes(A: Array, op: Array) -> None:
    """Complex operators (k + 1, f, C, C) as real ones that act on planes, op (f, k + 1, 2 C, 2 C)."""
    C = A.shape[2]
    for j in range(A.shape[0]):
        for f in range(A.shape[1]):
            for r in range(C):
                for c in range(C):
                    z = A[j, f, r, c]
                    op[f, j, r, c] = z.real
                    op[f, j, r, C + c] = -z.imag
                    op[f, j, C + r, c] = z.imag
                    op[f, j, C + r, C + c] = z.real


@_jit
def _mirror(A: Array) -> None:
    """The lower triangles of Hermitian A (B, C, C) from the upper ones."""
    for b in range(A.shape[0]):
        for i in range(A.shape[1]):
            for j in range(i):
                A[b, i, j] = np.conj(A[b, j, i])


def _invert_large(A: Array, logdets: Array) -> None:
    """As `_invert_small`, by LAPACK. It takes columns first, so that it sees A^T, whose inverse is the inverse's."""
    potrf, potri = get_lapack_funcs(("potrf", "potri"), (A,))
    for b in range(len(A)):
        L, info = potrf(A[b].T, lower=1, clean=0, overwrite_a=1)
        if info:
            raise np.linalg.LinAlgError("matrix is not positive definite")
        logdets[b] = 2 * np.log(np.diagonal(L).real).sum()
        inverse, _ = potri(L, lower=1, overwrite_c=1)
        A[b].T[...] = inverse
    _mirror(A)


class StackedExpert(NumpyExpert):
    """Stacked operators in BLAS, elementwise passes in numba, parts of the frequencies on threads.

    Parameters
    ----------
    n_threads : int
        Threads.
    dtype : dtype
        Real precision.
    """

    name = "stacked"

    def __init__(self, n_threads: int = 2, *, dtype: DTypeLike = np.float32) -> None:
        super().__init__(n_threads, dtype=dtype)
        self.threads = ThreadPoolExecutor(n_threads)

    def start(
        self, X: Floats, y: NDArray[np.int64], *, n_classes: int, eta: float, epsilon_sq: float, lam: float
    ) -> None:
        super().start(X, y, n_classes=n_classes, eta=eta, epsilon_sq=epsilon_sq, lam=lam)
        q = self.problem
        serial = q.F * (q.n_classes + 1) * q.R * q.m <= _SERIAL_NUMBERS or (self.n_threads == 1 and q.F == 1)
        parts = _PARTS_PER_THREAD * self.n_threads
        self.by_samples = q.F == 1 and not serial
        self.split = 1 if serial else parts if q.F > 1 else self.n_threads

    def build_layer(self) -> None:
        op, B, norms = self._operators_and_responses()
        self.operators.append(op)
        self._finish(self.P, B, norms)

    def apply_layer(self, index: int) -> None:
        dense = self.operators[index].dense
        q = self.problem
        B = self._buffer("new responses", (q.F, q.n_classes + 1, q.R, self.Q.shape[2]))
        squares = self._parts(lambda f: self._respond(self._stack(dense[:, f]), self.Q, B, f))
        self._finish(self.Q, B, np.sqrt(sum(squares)))

    def _parts(self, action: Callable[[slice], Any]) -> list[Any]:
        """The results of an action for every part of the frequencies, each on one BLAS thread."""
        F = self.problem.F
        n = min(self.split, F)
        if n == 1:
            return [action(slice(0, F))]
        bounds = [F * i // n for i in range(n + 1)]
        parts = list(map(slice, bounds[:-1], bounds[1:]))
        if self.n_threads == 1:
            return list(map(action, parts))
        with self.controller.limit(limits=1):
            return list(self.threads.map(action, parts))

    def _ranges(self, action: Callable[[int, int, int, int], Any], m: int) -> list[Any]:
        """The results of a pass over parts of the frequencies, or of the samples where there is one frequency."""
        F = self.problem.F
        n = self.split if self.by_samples else min(self.split, F)
        if n == 1:
            return [action(0, F, 0, m)]
        if self.by_samples:
            pieces = [(0, F, m * i // n, m * (i + 1) // n) for i in range(n)]
        else:
            pieces = [(F * i // n, F * (i + 1) // n, 0, m) for i in range(n)]
        if self.n_threads == 1:
            return [action(*piece) for piece in pieces]
        return list(self.threads.map(lambda piece: action(*piece), pieces))

    def _gram(self, P: Array) -> Array:
        """P P^T, batched over frequencies."""
        gram: Array = np.matmul(P, P.swapaxes(1, 2))
        return gram

    def _product(self, M: Array, P: Array, out: Array) -> None:  # type: ignore[override]
        """Batched M P."""
        np.matmul(M, P, out=out)

    def _operators_and_responses(self) -> tuple[_Operators, Array, Array]:
        """Of one layer: the operators, the responses (F, k + 1, R, m), the norms of classes (k, m)."""
        q = self.problem
        S = np.empty((q.n_classes + 1, q.F, q.C, q.C), self.matrix_dtype)
        B = self._buffer("responses", (q.F, q.n_classes + 1, q.R, q.m))

        def part(f: slice) -> tuple[Array, Array]:
            own, logdets = self._part_operators(f)
            S[:, f] = own
            return logdets, self._respond(self._stack(own), self.P, B, f)

        logdets, squares = zip(*self._parts(part), strict=True)
        self.rates.append(q.rates(np.concatenate(logdets, 1)))
        return _Operators(S), B, np.sqrt(sum(squares))

    def _part_operators(self, f: slice) -> tuple[Array, Array]:
        """Operators (k + 1, f, C, C) and log determinants (k + 1, f) of some frequencies."""
        q = self.problem
        n = f.stop - f.start
        S = np.empty((q.n_classes + 1, n, q.C, q.C), self.matrix_dtype)
        for j, columns in enumerate(q.columns):
            G = self._gram(self.P[f, :, columns])
            if q.is_complex:
                np.add(G[:, : q.C, : q.C], G[:, q.C :, q.C :], out=S[j + 1].real)
                np.subtract(G[:, q.C :, : q.C], G[:, : q.C, q.C :], out=S[j + 1].imag)
                S[j + 1] /= self.weights[f][:, None, None]
            else:
                S[j + 1] = G
        np.sum(S[1:], 0, out=S[0])
        S *= self.alpha[:, None, None, None]
        S += self.eye
        logdets = np.empty((q.n_classes + 1) * n)
        invert = _invert_small if q.C <= _NUMBA_SIZE else _invert_large
        invert(S.reshape(-1, q.C, q.C), logdets)
        S *= self.alpha[:, None, None, None]
        return S, logdets.reshape(-1, n)

    def _stack(self, dense: Array) -> Array:
        """Operators (k + 1, f, C, C) as real matrices one below the other, (f, (k + 1) R, R)."""
        q = self.problem
        k1, n = dense.shape[:2]
        op = np.empty((n, k1, q.R, q.R), self.dtype)
        if q.is_complex:
            _to_planes(dense, op)
        else:
            op[...] = dense.swapaxes(0, 1)
        return op.reshape(n, k1 * q.R, q.R)

    def _respond(self, op: Array, P: Array, B: Array, f: slice) -> Array:
        """Responses of some frequencies into B; squares of the class responses, (k, m), while these are in caches."""
        self._product(op, P[f], B[f].reshape(op.shape[0], -1, P.shape[2]))

        def squares(first: int, last: int, begin: int, end: int) -> Array:
            sums = np.zeros((B.shape[1] - 1, B.shape[3]), self.dtype)
            _add_squares(B, sums, first, last, begin, end)
            return sums

        m = P.shape[2]
        total: Array = sum(self._ranges(squares, m)) if self.by_samples else squares(f.start, f.stop, 0, m)
        return total

    def _finish(self, P: Array, B: Array, norms: Array) -> None:
        """Step and projection, in the place of P."""
        m = P.shape[2]
        pi = np.ascontiguousarray(self._membership(norms))
        eta = self.dtype.type(self.problem.eta)

        def step(*piece: int) -> Array:
            sums = np.zeros(m, self.dtype)
            _step(P, B, pi, eta, sums, *piece)
            return sums

        squares: Array = sum(self._ranges(step, m))
        factors = (1 / np.maximum(np.sqrt(squares), 1e-8)).astype(self.dtype)
        self._ranges(lambda *piece: _scale(P, factors, *piece), m)
