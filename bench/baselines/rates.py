"""The rate reduction as a loss of PyTorch, as others write it: all return -(R - R_c) of (m, d) features and labels.

published   the form of the first published code: a dense (k, m, m) membership, an LU log det for each class, and both
            terms twice, since a second pair is computed for the log
masked      the form of later ones: a (k, 1, m) mask, one batched LU log det of k matrices (d, d)
autograd    what a skilled user writes: samples sorted by class, batched Cholesky, the smaller side of small classes,
            one gather for their padding; PyTorch differentiates it
closed      the same with the gradient by its formula, from the same factorisations
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

EPSILON_SQ = 0.5


def published(Z: Tensor, y: Tensor, k: int) -> Tensor:
    m, d = Z.shape
    Pi = torch.zeros(k, m, m)
    Pi[y, torch.arange(m), torch.arange(m)] = 1
    W, identity = Z.T, torch.eye(d)

    def rate() -> Tensor:
        return torch.logdet(identity + d / (m * EPSILON_SQ) * W @ W.T) / 2

    def class_rate() -> Tensor:
        total = torch.zeros(())
        for j in range(k):
            weight = torch.trace(Pi[j]) + 1e-8
            total = total + weight / m * torch.logdet(identity + d / (weight * EPSILON_SQ) * W @ Pi[j] @ W.T)
        return total / 2

    loss = class_rate() - rate()
    rate(), class_rate()
    return loss


def masked(Z: Tensor, y: Tensor, k: int) -> Tensor:
    m, d = Z.shape
    mask = torch.nn.functional.one_hot(y, k).T[:, None].to(Z.dtype)
    weights = mask.sum(dim=(1, 2)) + 1e-8
    W, identity = Z.T, torch.eye(d)
    rate = torch.logdet(identity + d / (m * EPSILON_SQ) * W @ W.T) / 2
    G = (W[None] * mask) @ Z
    class_rates = torch.logdet(identity + (d / (weights * EPSILON_SQ))[:, None, None] * G)
    return (weights * class_rates).sum() / (2 * m) - rate


class _Sorted:
    """Samples in the order of their classes, padded where all classes are small; scales of the classes."""

    def __init__(self, Z: Tensor, y: Tensor, k: int) -> None:
        self.order = torch.argsort(y, stable=True)
        self.counts = torch.bincount(y, minlength=k)
        self.sorted = Z[self.order]
        m, d = Z.shape
        self.small = 2 * int(self.counts.max()) <= d
        self.alpha, self.alphas = d / (m * EPSILON_SQ), d / (self.counts * EPSILON_SQ).to(Z.dtype)
        self.gammas = self.counts / m
        if self.small:
            begin, most = torch.cumsum(self.counts, 0) - self.counts, torch.arange(int(self.counts.max()))
            self.used = most < self.counts[:, None]
            index = torch.where(self.used, begin[:, None] + most, m)
            self.padded = torch.cat([self.sorted, Z.new_zeros(1, d)])[index]
            self.class_grams = self.padded @ self.padded.mT
            self.gram = self.sorted.T @ self.sorted
        else:
            self.parts = self.sorted.split(self.counts.tolist())
            self.class_grams = torch.stack([part.T @ part for part in self.parts])
            self.gram = self.class_grams.sum(0)

    def factors(self) -> tuple[Tensor, Tensor]:
        """Of all samples, and of the classes."""
        whole, small = torch.eye(len(self.gram)), torch.eye(self.class_grams.shape[1])
        return (
            torch.linalg.cholesky_ex(whole + self.alpha * self.gram)[0],
            torch.linalg.cholesky_ex(small + self.alphas[:, None, None] * self.class_grams)[0],
        )

    def loss(self, L: Tensor, Ls: Tensor) -> Tensor:
        def half_logdet(A: Tensor) -> Tensor:
            return A.diagonal(dim1=-2, dim2=-1).log().sum(-1)

        return (self.gammas * half_logdet(Ls)).sum() - half_logdet(L)


def autograd(Z: Tensor, y: Tensor, k: int) -> Tensor:
    problem = _Sorted(Z, y, k)
    return problem.loss(*problem.factors())


class _Closed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, Z: Tensor, y: Tensor, k: int) -> Tensor:  # type: ignore[override]
        problem = _Sorted(Z, y, k)
        L, Ls = problem.factors()
        if problem.small:
            solved = torch.cholesky_solve(problem.padded, Ls)
            own = ((problem.alphas * problem.gammas)[:, None, None] * solved)[problem.used]
        else:
            inverses = torch.cholesky_inverse(Ls) * (problem.alphas * problem.gammas)[:, None, None]
            own = torch.cat([part @ inverse for part, inverse in zip(problem.parts, inverses, strict=True)])
        gradient = torch.empty_like(Z)
        gradient[problem.order] = own - problem.alpha * problem.sorted @ torch.cholesky_inverse(L)
        ctx.save_for_backward(gradient)
        return problem.loss(L, Ls)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:  # type: ignore[override]
        return upstream * ctx.saved_tensors[0], None, None


def closed(Z: Tensor, y: Tensor, k: int) -> Tensor:
    loss: Tensor = _Closed.apply(Z, y, k)
    return loss


FORMS = {form.__name__: form for form in (published, masked, autograd, closed)}
