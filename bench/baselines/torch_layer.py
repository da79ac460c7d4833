"""A layer of a network as a skilled user of PyTorch writes it for autograd: three ways, all of them batched products.

Features of one sample are columns of (F, .) matrices, weights of frequencies folded into them, so that sums of squares
are norms. Operators are (F, k + 1, ., .). `planar` has real matrices of 2 C rows and all operators in one product;
`planar_by_class` one product a class, which keeps less; `complex_` complex matrices.
"""

from __future__ import annotations

import torch
from torch import Tensor


def planar(V: Tensor, A: Tensor, gammas: Tensor, eta: float, lam: float) -> Tensor:
    """(F, 2 C, m) features and (F, k + 1, 2 C, 2 C) operators; all responses by one product."""
    F, k1, R, _ = A.shape
    P = torch.bmm(A.reshape(F, k1 * R, R), V).view(F, k1, R, -1)
    pi = torch.softmax(-lam * P[:, 1:].square().sum((0, 2)).sqrt(), 0)
    u = V + eta * (P[:, 0] - (P[:, 1:] * (pi * gammas[:, None])[:, None]).sum(1))
    return u / u.square().sum((0, 1)).sqrt()


def planar_by_class(V: Tensor, A: Tensor, gammas: Tensor, eta: float, lam: float) -> Tensor:
    """The same, class by class."""
    responses = [torch.bmm(A[:, j], V) for j in range(1, A.shape[1])]
    pi = torch.softmax(-lam * torch.stack([torch.linalg.vector_norm(P, dim=(0, 1)) for P in responses]), 0)
    u = torch.baddbmm(V, A[:, 0], V, alpha=eta)
    for j, P in enumerate(responses):
        u = u - P * (eta * gammas[j] * pi[j])
    return u / torch.linalg.vector_norm(u, dim=(0, 1))


def complex_(V: Tensor, A: Tensor, gammas: Tensor, eta: float, lam: float) -> Tensor:
    """(F, C, m) complex features and (F, k + 1, C, C) complex operators."""
    F, k1, C, _ = A.shape
    P = torch.bmm(A.reshape(F, k1 * C, C), V).view(F, k1, C, -1)
    pi = torch.softmax(-lam * torch.view_as_real(P[:, 1:]).square().sum((0, 2, 4)).sqrt(), 0)
    u = V + eta * (P[:, 0] - (P[:, 1:] * (pi * gammas[:, None])[:, None]).sum(1))
    return u / torch.view_as_real(u).square().sum((0, 1, 3)).sqrt()


def features(V: Tensor, weights: Tensor, *, is_planar: bool) -> Tensor:
    """Of V (m, C, F, 2), as these formulas take them."""
    V = V * weights.to(V.dtype).sqrt()[:, None]
    if is_planar:
        return V.permute(2, 3, 1, 0).flatten(1, 2).contiguous()
    return torch.view_as_complex(V.contiguous()).permute(2, 1, 0).contiguous()


def operators(A: Tensor, *, is_planar: bool) -> Tensor:
    """Of operators (k + 1, F, C, C, 2)."""
    if not is_planar:
        return torch.view_as_complex(A.contiguous()).transpose(0, 1).contiguous()
    re, im = A[..., 0], A[..., 1]
    rows = torch.cat([re, -im], -1), torch.cat([im, re], -1)
    return torch.cat(rows, -2).transpose(0, 1).contiguous()
