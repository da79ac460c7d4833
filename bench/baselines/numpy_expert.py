"""The best layer that a skilled NumPy user writes.

Half spectrum as real planes P (F, R, m), samples sorted by class; batched real GEMMs into buffers that live
as long as the network; class Grams summed to the total one; batched Cholesky for the log determinants,
batched inverses, both split over threads. Small vector problems run all operators as one product. `low_rank`
as in the PyTorch expert.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from bench.baselines.builder import Builder, Floats
from bench.baselines.problem import Problem

Array = NDArray[Any]

# Matrices of these sizes are factored faster by threads over the batch than by a threaded LAPACK.
_SPLIT_SIZES = range(8, 257)
# Stacked components of at most this many numbers: there the number of NumPy calls is the cost.
_STACK_LIMIT = 1 << 17


@dataclass
class _Operators:
    """One layer: dense (k + 1, F, C, C), or E (1, F, C, C) and the stacked Q_j^* (F, m, C)."""

    dense: Array
    factors: Array | None = None


class NumpyExpert(Builder):
    """Half-spectrum planar layer in NumPy.

    Parameters
    ----------
    n_threads : int
        Threads of the factorisations; BLAS uses its own setting.
    low_rank : bool
        Keep classes in factored form; needs every class smaller than C.
    dtype : dtype
        Real precision.
    """

    name = "numpy"

    def __init__(self, n_threads: int = 2, *, low_rank: bool = False, dtype: DTypeLike = np.float32) -> None:
        self.n_threads, self.low_rank = n_threads, low_rank
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.pool = ThreadPoolExecutor(n_threads) if n_threads > 1 else None
        self.controller = ThreadpoolController()  # looking for BLAS libraries takes as long as a layer

    def start(
        self, X: Floats, y: NDArray[np.int64], *, n_classes: int, eta: float, epsilon_sq: float, lam: float
    ) -> None:
        q = self.problem = Problem(X, y, n_classes=n_classes, eta=eta, epsilon_sq=epsilon_sq, lam=lam)
        if self.low_rank and (int(q.sizes.max()) >= q.C or not q.is_complex):
            raise ValueError("low_rank needs signals with every class smaller than the number of channels")
        self.matrix_dtype: np.dtype[Any] = np.result_type(self.dtype, np.complex64) if q.is_complex else self.dtype
        self.weights = q.weights.astype(self.dtype)
        self.alpha = q.alpha.astype(self.dtype)
        self.scale = (q.eta * q.gammas).astype(self.dtype)[:, None]
        self.eye = np.eye(q.C, dtype=self.matrix_dtype)
        self.stacked = not q.is_complex and (q.n_classes + 1) * q.C * q.m <= _STACK_LIMIT
        self.buffers: dict[str, Array] = {}
        self.operators: list[_Operators] = []
        self.rates = []
        self.P = self._enter(X[q.order])

    def _buffer(self, key: str, shape: tuple[int, ...], dtype: DTypeLike | None = None) -> Array:
        """A block that stays allocated between layers: fresh pages cost more than the arithmetic."""
        held = self.buffers.get(key)
        if held is None or held.shape != shape:
            held = self.buffers[key] = np.empty(shape, self.dtype if dtype is None else dtype)
        return held

    def _enter(self, X: Floats) -> Array:
        """(m, C, *signal_shape) to planes (F, R, m)."""
        q = self.problem
        Z = np.asarray(X, self.dtype)
        norms = np.maximum(np.linalg.norm(Z.reshape(len(Z), -1), axis=1), 1e-8)
        Z = Z / norms.reshape(-1, *[1] * (Z.ndim - 1))
        if not q.is_complex:
            return np.ascontiguousarray(Z.T)[None]
        V = np.fft.rfftn(Z, axes=tuple(range(2, Z.ndim)), norm="ortho").reshape(len(Z), q.C, -1)
        V = (V * np.sqrt(self.weights)).transpose(2, 1, 0)
        return np.ascontiguousarray(np.concatenate([V.real, V.imag], 1), dtype=self.dtype)

    def _leave(self, P: Array) -> Floats:
        q = self.problem
        if not q.is_complex:
            vectors: Floats = P[0].T
            return vectors
        V = P[:, : q.C] + self.matrix_dtype.type(1j) * P[:, q.C :]
        V = V.transpose(2, 1, 0) / np.sqrt(self.weights)
        V = V.reshape(P.shape[2], q.C, *q.signal_shape[:-1], q.signal_shape[-1] // 2 + 1)
        Z: Floats = np.fft.irfftn(V, s=q.signal_shape, axes=tuple(range(2, V.ndim)), norm="ortho")
        return Z

    def build_layer(self) -> None:
        op = self._factored_operators() if self.low_rank else self._dense_operators()
        self.operators.append(op)
        self.P = self._apply(op, self.P, "P")

    def _hermitian(self, G: Array, out: Array) -> Array:
        """Planar Gram (F, R, R) to the class' Gram (F, C, C), the weights divided out."""
        C = self.problem.C
        if not self.problem.is_complex:
            out[...] = G
            return out
        np.add(G[:, :C, :C], G[:, C:, C:], out=out.real)
        np.subtract(G[:, C:, :C], G[:, :C, C:], out=out.imag)
        out /= self.weights[:, None, None]
        return out

    @staticmethod
    def _factorise(A: Array) -> tuple[Array, Array]:
        L = np.linalg.cholesky(A)
        return 2 * np.log(np.diagonal(L, axis1=1, axis2=2).real).sum(1), np.linalg.inv(A)

    def _logdet_and_inverse(self, A: Array) -> tuple[Array, Array]:
        """Of a batch (B, C, C); the batch is split over threads."""
        if self.pool is None or A.shape[-1] not in _SPLIT_SIZES or A.shape[0] < 2 * self.n_threads:
            return self._factorise(A)
        with self.controller.limit(limits=1):
            parts = list(self.pool.map(self._factorise, np.array_split(A, self.n_threads)))
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    def _dense_operators(self) -> _Operators:
        q = self.problem
        S = self._buffer("S", (q.n_classes + 1, q.F, q.C, q.C), self.matrix_dtype)
        if self.stacked and q.equal_classes():
            Pk = self.P.reshape(q.C, q.n_classes, -1).swapaxes(0, 1)
            np.matmul(Pk, Pk.swapaxes(1, 2), out=S[1:, 0])
        else:
            G = self._buffer("gram", (q.F, q.R, q.R))
            for j, columns in enumerate(q.columns):
                Pj = self.P[:, :, columns]
                self._hermitian(np.matmul(Pj, Pj.swapaxes(1, 2), out=G), S[j + 1])
        np.sum(S[1:], 0, out=S[0])
        S *= self.alpha[:, None, None, None]
        S += self.eye
        logdet, inverse = self._logdet_and_inverse(S.reshape(-1, q.C, q.C))
        self.rates.append(q.rates(logdet.reshape(-1, q.F)))
        inverse = inverse.reshape(S.shape)
        inverse *= self.alpha[:, None, None, None]
        return _Operators(inverse)

    def _factored_operators(self) -> _Operators:
        q = self.problem
        G = np.matmul(self.P, self.P.swapaxes(1, 2), out=self._buffer("gram", (q.F, q.R, q.R)))
        S = self._hermitian(G, self._buffer("S", (q.F, q.C, q.C), self.matrix_dtype))
        S *= self.alpha[0]
        S += self.eye
        logdet, inverse = self._logdet_and_inverse(S)
        inverse *= self.alpha[0]
        V = self._buffer("V", (q.F, q.C, q.m), self.matrix_dtype)
        root = np.sqrt(self.weights)[:, None, None]
        np.divide(self.P[:, : q.C], root, out=V.real)
        np.divide(self.P[:, q.C :], root, out=V.imag)
        VH = np.conj(V.swapaxes(1, 2), out=self._buffer("VH", (q.F, q.m, q.C), self.matrix_dtype))
        factors = np.empty_like(VH)
        logdets = [logdet]
        for j, columns in enumerate(q.columns):
            Kj = VH[:, columns] @ V[:, :, columns]
            Kj += np.eye(Kj.shape[1], dtype=self.dtype) / self.alpha[j + 1]
            L = np.linalg.cholesky(Kj)
            np.matmul(np.linalg.inv(L), VH[:, columns], out=factors[:, columns])
            logdets.append(np.log(np.diagonal(L, axis1=1, axis2=2).real ** 2 * self.alpha[j + 1]).sum(1))
        self.rates.append(q.rates(np.stack(logdets)))
        return _Operators(inverse[None], factors)

    def _planar(self, M: Array, key: str) -> Array:
        """Complex (F, r, c) to the real (F, 2r, 2c) that acts on planes."""
        if not self.problem.is_complex:
            return M
        F, r, c = M.shape
        out = self._buffer(key, (F, 2 * r, 2 * c))
        out[:, :r, :c] = M.real
        out[:, r:, c:] = M.real
        out[:, r:, :c] = M.imag
        np.negative(M.imag, out=out[:, :r, c:])
        return out

    def _product(self, M: Array, P: Array, key: str) -> Array:
        return np.matmul(M, P, out=self._buffer(key, (P.shape[0], M.shape[1], P.shape[2])))

    @staticmethod
    def _norms(B: Array) -> Array:
        """Norm of every sample of planes (..., F, R, m)."""
        norms: Array = np.sqrt(np.einsum("...frm,...frm->...m", B, B))
        return norms

    def _membership(self, norms: Array) -> Array:
        """Soft assignment times eta gamma_j, (k, m)."""
        e = np.exp(self.dtype.type(self.problem.lam) * (norms.min(0) - norms))
        membership: Array = e * (self.scale / e.sum(0))
        return membership

    def _apply(self, op: _Operators, P: Array, key: str) -> Array:
        """Planes after the layer; two blocks under `key` take turns."""
        out = self._buffer(f"{key} next", P.shape)
        if op.factors is not None:
            self._factored_update(op, P, out)
        elif self.stacked:
            self._stacked_update(op, P, out)
        else:
            self._dense_update(op, P, out)
        out /= np.maximum(self._norms(out), 1e-8)
        self.buffers[f"{key} next"] = P
        return out

    def _stacked_update(self, op: _Operators, P: Array, out: Array) -> None:
        q = self.problem
        B = (op.dense.reshape(-1, q.C) @ P[0]).reshape(q.n_classes + 1, q.C, -1)
        membership = self._membership(np.sqrt(np.einsum("jrm,jrm->jm", B[1:], B[1:])))
        np.multiply(B[0], self.dtype.type(q.eta), out=out[0])
        out += P
        B[1:] *= membership[:, None]
        out[0] -= B[1:].sum(0)

    def _dense_update(self, op: _Operators, P: Array, out: Array) -> None:
        q = self.problem
        parts = [self._product(self._planar(op.dense[j + 1], "operator"), P, f"part {j}") for j in range(q.n_classes)]
        membership = self._membership(np.stack([self._norms(part) for part in parts]))
        np.matmul(self._planar(op.dense[0], "operator"), P, out=out)
        out *= self.dtype.type(q.eta)
        out += P
        for part, pi in zip(parts, membership, strict=True):
            part *= pi
            out -= part

    def _factored_update(self, op: _Operators, P: Array, out: Array) -> None:
        """z + eta E z - sum_j c_j (z - Q_j u_j), u_j = Q_j^* z, c_j = eta gamma_j alpha_j pi_j.

        gamma_j alpha_j = alpha for every class, so the c_j of a sample sum to eta alpha.
        """
        q = self.problem
        assert op.factors is not None
        back = self._buffer("back", P.shape)
        norms = np.empty((q.n_classes, P.shape[2]), self.dtype)
        factors, coefficients = [], []
        for j, columns in enumerate(q.columns):
            QH = self._planar(op.factors[:, columns], f"factor {j}")
            u = self._product(QH, P, f"coefficients {j}")
            np.subtract(P, np.matmul(QH.swapaxes(1, 2), u, out=back), out=back)
            norms[j] = self._norms(back) * self.alpha[j + 1]
            factors.append(QH)
            coefficients.append(u)
        membership = self._membership(norms) * self.alpha[1:, None]
        np.matmul(self._planar(op.dense[0], "operator"), P, out=out)
        out *= self.dtype.type(q.eta)
        out += np.multiply(P, self.dtype.type(1 - q.eta * q.alpha[0]), out=back)
        for QH, u, c in zip(factors, coefficients, membership, strict=True):
            u *= c
            out += np.matmul(QH.swapaxes(1, 2), u, out=back)

    def features(self) -> Floats:
        inside = self._leave(self.P)
        out = np.empty_like(inside)
        out[self.problem.order] = inside
        return out

    def start_new(self, X: Floats) -> None:
        self.Q = self._enter(X)

    def apply_layer(self, index: int) -> None:
        self.Q = self._apply(self.operators[index], self.Q, "Q")

    def new_features(self) -> Floats:
        return self._leave(self.Q)
