"""The best layer that a skilled PyTorch user writes.

Half spectrum as real planes P (F, R, m), samples sorted by class; batched real GEMMs into buffers that live
as long as the network; class Grams summed to the total one; one batched Cholesky for inverses and log
determinants, split over threads because LAPACK takes one matrix at a time. With `low_rank`, classes smaller
than C are kept as C_j = alpha_j (I - Q_j Q_j^*), Q_j^* = L_j^-1 V_j^*, L_j L_j^* = I/alpha_j + V_j^* V_j.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.baselines.builder import Builder, Floats
from bench.baselines.problem import Problem

# Below this size the thread pool costs more than the factorisations it splits.
_MIN_SIZE_TO_SPLIT = 8


@dataclass
class _Operators:
    """One layer: dense (k + 1, F, C, C), or E (1, F, C, C) and the stacked Q_j^* (F, m, C)."""

    dense: Tensor
    factors: Tensor | None = None


class TorchExpert(Builder):
    """Half-spectrum planar layer in PyTorch.

    Parameters
    ----------
    n_threads : int
        Threads of PyTorch and of the factorisations.
    low_rank : bool
        Keep classes in factored form; needs every class smaller than C.
    dtype : torch.dtype
        Real precision.
    """

    name = "torch"

    def __init__(self, n_threads: int = 2, *, low_rank: bool = False, dtype: torch.dtype = torch.float32) -> None:
        torch.set_num_threads(n_threads)
        self.n_threads, self.low_rank, self.dtype = n_threads, low_rank, dtype
        self.pool = ThreadPoolExecutor(n_threads) if n_threads > 1 else None

    @torch.no_grad()
    def start(
        self, X: Floats, y: NDArray[np.int64], *, n_classes: int, eta: float, epsilon_sq: float, lam: float
    ) -> None:
        q = self.problem = Problem(X, y, n_classes=n_classes, eta=eta, epsilon_sq=epsilon_sq, lam=lam)
        if self.low_rank and (int(q.sizes.max()) >= q.C or not q.is_complex):
            raise ValueError("low_rank needs signals with every class smaller than the number of channels")
        self.matrix_dtype = self.dtype.to_complex() if q.is_complex else self.dtype
        self.weights = torch.from_numpy(q.weights).to(self.dtype)
        self.alpha = torch.from_numpy(q.alpha).to(self.dtype)
        self.eye = torch.eye(q.C, dtype=self.matrix_dtype)
        self.buffers: dict[str, Tensor] = {}
        self.operators: list[_Operators] = []
        self.rates = []
        self.P = self._enter(X[q.order])

    def _buffer(self, key: str, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> Tensor:
        """A block that stays allocated between layers: fresh pages cost more than the arithmetic."""
        held = self.buffers.get(key)
        if held is None or held.shape != shape:
            held = self.buffers[key] = torch.empty(shape, dtype=dtype or self.dtype)
        return held

    def _enter(self, X: Floats) -> Tensor:
        """(m, C, *signal_shape) to planes (F, R, m)."""
        q = self.problem
        Z: Tensor = torch.from_numpy(np.ascontiguousarray(X)).to(self.dtype)
        norms = torch.linalg.vector_norm(Z.flatten(1), dim=1).clamp(min=1e-8)
        Z = Z / norms.reshape(-1, *[1] * (Z.ndim - 1))
        if not q.is_complex:
            return Z.T.contiguous()[None]
        V = torch.fft.rfftn(Z, dim=tuple(range(2, Z.ndim)), norm="ortho").flatten(2)
        V = (V * self.weights.sqrt()).permute(2, 1, 0)
        return torch.cat([V.real, V.imag], 1).contiguous()

    def _leave(self, P: Tensor) -> Floats:
        q = self.problem
        out: Floats
        if not q.is_complex:
            out = P[0].T.numpy()
            return out
        V = torch.complex(P[:, : q.C], P[:, q.C :]).permute(2, 1, 0) / self.weights.sqrt()
        V = V.reshape(P.shape[2], q.C, *q.signal_shape[:-1], -1)
        out = torch.fft.irfftn(V, s=q.signal_shape, dim=tuple(range(2, V.ndim)), norm="ortho").numpy()
        return out

    @torch.no_grad()
    def build_layer(self) -> None:
        op = self._factored_operators() if self.low_rank else self._dense_operators()
        self.operators.append(op)
        self.P = self._apply(op, self.P, "P")

    def _hermitian(self, G: Tensor, out: Tensor | None = None) -> Tensor:
        """Planar Gram (F, R, R) to the class' Gram (F, C, C), the weights divided out."""
        C = self.problem.C
        if not self.problem.is_complex:
            return G if out is None else out.copy_(G)
        real = G[:, :C, :C].add_(G[:, C:, C:])
        imag = G[:, C:, :C].sub_(G[:, :C, C:])
        return torch.div(torch.complex(real, imag), self.weights[:, None, None], out=out)

    def _cholesky(self, A: Tensor) -> tuple[Tensor, Tensor]:
        L = torch.linalg.cholesky(A)
        return 2 * L.diagonal(dim1=1, dim2=2).real.log().sum(1), torch.cholesky_inverse(L)

    def _logdet_and_inverse(self, A: Tensor) -> tuple[Tensor, Tensor]:
        """Of a batch (B, C, C); the batch is split over threads."""
        if self.pool is None or A.shape[-1] < _MIN_SIZE_TO_SPLIT or A.shape[0] < 2 * self.n_threads:
            return self._cholesky(A)
        parts = list(self.pool.map(self._cholesky, A.chunk(self.n_threads)))
        return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])

    def _dense_operators(self) -> _Operators:
        q = self.problem
        G = self._buffer("gram", (q.F, q.R, q.R))
        S = self._buffer("S", (q.n_classes + 1, q.F, q.C, q.C), self.matrix_dtype)
        for j, columns in enumerate(q.columns):
            Pj = self.P[:, :, columns]
            self._hermitian(torch.bmm(Pj, Pj.mT, out=G), S[j + 1])
        torch.sum(S[1:], 0, out=S[0])
        S.mul_(self.alpha[:, None, None, None]).add_(self.eye)
        logdet, inverse = self._logdet_and_inverse(S.view(-1, q.C, q.C))
        self.rates.append(q.rates(logdet.view(-1, q.F).numpy()))
        return _Operators(inverse.view(S.shape).mul_(self.alpha[:, None, None, None]))

    def _factored_operators(self) -> _Operators:
        q = self.problem
        G = self._buffer("gram", (q.F, q.R, q.R))
        S = self._hermitian(torch.bmm(self.P, self.P.mT, out=G)).mul_(self.alpha[0]).add_(self.eye)
        logdet, inverse = self._logdet_and_inverse(S)
        V = torch.complex(self.P[:, : q.C], self.P[:, q.C :]) / self.weights.sqrt()[:, None, None]
        VH = V.mH.resolve_conj()
        factors = torch.empty_like(VH)
        logdets = [logdet]
        for j, columns in enumerate(q.columns):
            Kj = torch.bmm(VH[:, columns], V[:, :, columns])
            Kj.diagonal(dim1=1, dim2=2).add_(1 / self.alpha[j + 1])
            L = torch.linalg.cholesky(Kj)
            # the inverse of a small factor, then a GEMM: the batched triangular solve runs on one thread
            factors[:, columns] = torch.bmm(torch.linalg.inv(L), VH[:, columns])
            logdets.append((L.diagonal(dim1=1, dim2=2).real.square() * self.alpha[j + 1]).log().sum(1))
        self.rates.append(q.rates(torch.stack(logdets).numpy()))
        return _Operators(inverse.mul_(self.alpha[0])[None], factors)

    def _planar(self, M: Tensor, key: str) -> Tensor:
        """Complex (F, r, c) to the real (F, 2r, 2c) that acts on planes."""
        if not self.problem.is_complex:
            return M
        F, r, c = M.shape
        out = self._buffer(key, (F, 2 * r, 2 * c))
        out[:, :r, :c] = M.real
        out[:, r:, c:] = M.real
        out[:, r:, :c] = M.imag
        torch.neg(M.imag, out=out[:, :r, c:])
        return out

    def _norms(self, B: Tensor) -> Tensor:
        """Norm of every sample of planes (F, R, m)."""
        squares = torch.mul(B, B, out=self._buffer("squares", tuple(B.shape)))
        return squares.view(-1, B.shape[2]).sum(0).sqrt_()

    def _product(self, M: Tensor, P: Tensor, key: str) -> Tensor:
        out = self._buffer(key, (P.shape[0], M.shape[1], P.shape[2]))
        if P.shape[0] == 1:  # a batch of one runs as one threaded GEMM only through mm
            torch.mm(M[0], P[0], out=out[0])
            return out
        return torch.bmm(M, P, out=out)

    def _membership(self, norms: Tensor) -> Tensor:
        """Soft assignment times eta gamma_j, (k, m)."""
        q = self.problem
        scale = torch.from_numpy(q.eta * q.gammas).to(self.dtype)
        return torch.softmax(-q.lam * norms, 0).mul_(scale[:, None])

    def _apply(self, op: _Operators, P: Tensor, key: str) -> Tensor:
        """Planes after the layer; two blocks under `key` take turns."""
        out = self._buffer(f"{key} next", tuple(P.shape))
        if op.factors is None:
            self._dense_update(op, P, out)
        else:
            self._factored_update(op, P, out)
        out.div_(self._norms(out).clamp_(min=1e-8))
        self.buffers[f"{key} next"] = P
        return out

    def _dense_update(self, op: _Operators, P: Tensor, out: Tensor) -> None:
        q = self.problem
        norms = torch.empty((q.n_classes, P.shape[2]), dtype=self.dtype)
        parts = []
        for j in range(q.n_classes):
            parts.append(self._product(self._planar(op.dense[j + 1], "operator"), P, f"part {j}"))
            norms[j] = self._norms(parts[j])
        membership = self._membership(norms)
        torch.baddbmm(P, self._planar(op.dense[0], "operator"), P, alpha=q.eta, out=out)
        for part, pi in zip(parts, membership, strict=True):
            out.addcmul_(part, pi, value=-1)

    def _factored_update(self, op: _Operators, P: Tensor, out: Tensor) -> None:
        """z + eta E z - sum_j c_j (z - Q_j u_j), u_j = Q_j^* z, c_j = eta gamma_j alpha_j pi_j.

        gamma_j alpha_j = alpha for every class, so the c_j of a sample sum to eta alpha.
        """
        q = self.problem
        assert op.factors is not None
        norms = torch.empty((q.n_classes, P.shape[2]), dtype=self.dtype)
        residual = self._buffer("residual", tuple(P.shape))
        factors, coefficients = [], []
        for j, columns in enumerate(q.columns):
            QH = self._planar(op.factors[:, columns], f"factor {j}")
            u = self._product(QH, P, f"coefficients {j}")
            torch.baddbmm(P, QH.mT, u, alpha=-1, out=residual)
            norms[j] = self._norms(residual).mul_(self.alpha[j + 1])
            factors.append(QH)
            coefficients.append(u)
        membership = self._membership(norms).mul_(self.alpha[1:, None])
        torch.baddbmm(P, self._planar(op.dense[0], "operator"), P, beta=1 - q.eta * q.alpha[0], alpha=q.eta, out=out)
        for QH, u, c in zip(factors, coefficients, membership, strict=True):
            out.baddbmm_(QH.mT, u.mul_(c))

    def features(self) -> Floats:
        q = self.problem
        inside = self._leave(self.P)
        out = np.empty_like(inside)
        out[q.order] = inside
        return out

    @torch.no_grad()
    def start_new(self, X: Floats) -> None:
        self.Q = self._enter(X)

    @torch.no_grad()
    def apply_layer(self, index: int) -> None:
        self.Q = self._apply(self.operators[index], self.Q, "Q")

    def new_features(self) -> Floats:
        return self._leave(self.Q)
