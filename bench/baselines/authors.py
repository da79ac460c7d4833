"""The authors' algorithm, as their PyTorch code runs it, one layer at a time.

Full complex spectrum; total and class Grams both formed; one explicit inverse at a time in a Python loop over
the frequencies; every operator applied with einsum; all class components stacked; the loss of the layer's
output with the predicted labels. Their PyTorch code runs in single precision (complex64), their NumPy code in
complex128: `dtype` chooses, single is the default. V is (m, C, *signal_shape), E (C, C, *signal_shape), Cs
(k, C, C, *signal_shape).
"""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.baselines.builder import Builder, Floats


def _unit(X: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.norm(X.flatten(1), dim=1).clip(min=1e-8)
    return X / norm.reshape(-1, *[1] * (X.ndim - 1))


def _gram(V: Tensor) -> Tensor:
    """Sum over samples of v v^*, per frequency: (C, C, *signal_shape)."""
    return torch.einsum("bi...,bk...->ik...", V, V.conj())


class AuthorsTorch(Builder):
    """The authors' layer.

    Parameters
    ----------
    n_threads : int
        Threads of PyTorch.
    dtype : torch.dtype
        Real precision: float32 (their PyTorch code) or float64 (as their NumPy code).
    """

    name = "authors"

    def __init__(self, n_threads: int = 2, dtype: torch.dtype = torch.float32) -> None:
        torch.set_num_threads(n_threads)
        self.dtype = dtype

    def start(
        self, X: Floats, y: NDArray[np.int64], *, n_classes: int, eta: float, epsilon_sq: float, lam: float
    ) -> None:
        self.n_classes, self.eta, self.epsilon_sq, self.lam = n_classes, eta, epsilon_sq, lam
        self.y = torch.from_numpy(np.asarray(y))
        self.V = self._enter(X)
        self.gammas = torch.bincount(self.y, minlength=n_classes).to(self.dtype) / len(self.y)
        self.operators: list[tuple[Tensor, Tensor]] = []
        self.rates = []

    def _enter(self, X: Floats) -> Tensor:
        Z = _unit(torch.from_numpy(np.ascontiguousarray(X)).to(self.dtype))
        return torch.fft.fftn(Z, dim=tuple(range(2, Z.ndim)), norm="ortho") if Z.ndim > 2 else Z

    def _leave(self, V: Tensor) -> Floats:
        Z = torch.fft.ifftn(V, dim=tuple(range(2, V.ndim)), norm="ortho").real if V.ndim > 2 else V
        features: Floats = _unit(Z).numpy()
        return features

    @torch.no_grad()
    def build_layer(self) -> None:
        E = self._operator(self.V)
        Cs = torch.stack([self._operator(self.V[self.y == j]) for j in range(self.n_classes)])
        self.operators.append((E, Cs))
        self.V, predicted = self._apply(self.V, E, Cs)
        self.rates.append(self._loss(self.V, predicted))

    def _shifted_gram(self, V: Tensor) -> tuple[Tensor, float]:
        """I + alpha G and alpha."""
        m, C = V.shape[:2]
        alpha = C / (m * self.epsilon_sq)
        eye = torch.eye(C, dtype=self.dtype).reshape(C, C, *[1] * (V.ndim - 2))
        gram = _gram(V) if V.ndim > 2 else V.T @ V
        return eye + alpha * gram, alpha

    def _operator(self, V: Tensor) -> Tensor:
        """alpha (I + alpha G)^-1, one frequency after the other."""
        A, alpha = self._shifted_gram(V)
        if V.ndim == 2:
            return alpha * torch.inverse(A)
        out = torch.empty_like(A)
        for p in product(*(range(n) for n in A.shape[2:])):
            at: tuple[slice | int, ...] = (slice(None), slice(None), *p)
            out[at] = alpha * torch.inverse(A[at])
        return out

    def _apply(self, V: Tensor, E: Tensor, Cs: Tensor) -> tuple[Tensor, Tensor]:
        """Features after the layer and the predicted labels."""
        if V.ndim == 2:
            expand = V @ E.T
            compress = torch.stack([V @ C.T for C in Cs])
        else:
            expand = torch.einsum("bi...,ih...->bh...", V, E.conj())
            compress = torch.stack([torch.einsum("bi...,ih...->bh...", V, C.conj()) for C in Cs])
        norms = torch.linalg.norm(compress.flatten(2), dim=2).clamp(min=1e-8)
        membership = torch.softmax(-self.lam * norms, dim=0)
        trailing = [1] * (V.ndim - 1)
        gammas = self.gammas.reshape(-1, 1, *trailing)
        cluster = torch.sum(gammas * compress * membership.reshape(*membership.shape, *trailing), dim=0)
        return _unit(V + self.eta * (expand - cluster)), torch.argmax(membership, dim=0)

    def _loss(self, V: Tensor, predicted: Tensor) -> tuple[float, float, float]:
        """Rates of the layer's output with the predicted labels, as the authors log them."""
        n = int(np.prod(V.shape[2:], dtype=np.int64))

        def rate(W: Tensor) -> float:
            A = self._shifted_gram(W)[0]
            sign, logdet = torch.linalg.slogdet(A.movedim((0, 1), (-2, -1)))
            return float((sign * logdet).real.sum()) / (2 * n)

        total = rate(V)
        compressed = 0.0
        for j in torch.unique(predicted):
            members = V[predicted == j]
            compressed += len(members) / len(V) * rate(members)
        return total - compressed, total, compressed

    def start_new(self, X: Floats) -> None:
        self.W = self._enter(X)

    @torch.no_grad()
    def apply_layer(self, index: int) -> None:
        self.W = self._apply(self.W, *self.operators[index])[0]

    def features(self) -> Floats:
        return self._leave(self.V)

    def new_features(self) -> Floats:
        return self._leave(self.W)
