"""The rate reduction of every pair of samples, each of several views: how far apart two of them are.

With Z_i (a, d) the views of sample i and R(Z) = 1/2 log det(I + d/(m eps^2) Z* Z) of m vectors,

    Delta R_ij = R(Z_i u Z_j) - (R(Z_i) + R(Z_j)) / 2,

which is log dets of n (n - 1) / 2 small matrices: of size 2 a, from the Gram matrix of all views, or of size d. They
are made, factored and dropped a block of pairs at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from redunet import linalg
from redunet._inputs import checks
from redunet.torch.rates import features

#: Numbers in the matrices of a block of pairs.
_BLOCK = 1 << 22


def pairwise_rate_reduction(Z: Tensor, *, epsilon_sq: float = 0.1) -> Tensor:
    """Rate reduction Delta R_ij of all pairs of samples, in nats; differentiable once.

    Parameters
    ----------
    Z : (n, a, d) tensor, real
        n samples of a views each, taken as they are; float16 and bfloat16 are computed in float32.
    epsilon_sq : float, default 0.1
        Squared distortion eps^2 > 0.

    Returns
    -------
    Tensor (n, n)
        Symmetric, zero on the diagonal, positive elsewhere unless the views of two samples span the same with the same
        energies (Ma, Tsao, Shum, *On the principles of parsimony and self-consistency*, 2022; contrastive learning in
        the lecture).

    Raises
    ------
    torch.linalg.LinAlgError
        Where Z is too large, or epsilon_sq too small, for the precision.

    Examples
    --------
    >>> import torch
    >>> from redunet.torch import pairwise_rate_reduction
    >>> views = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[1.0, 0.0]]])  # one view each: two alike, one across
    >>> pairwise_rate_reduction(views, epsilon_sq=1.0).round(decimals=4)  # log 2 - log 3 / 2
    tensor([[0.0000, 0.1438, 0.0000],
            [0.1438, 0.0000, 0.1438],
            [0.0000, 0.1438, 0.0000]])
    """
    Z = features(Z, "Z", {3: "(n, a, d)"})
    found: Tensor = _Pairs.apply(Z, checks.positive(epsilon_sq, "epsilon_sq"))
    return found


class _Pairs(torch.autograd.Function):
    @staticmethod
    def forward(Z: Tensor, epsilon_sq: float) -> Tensor:
        n, a, d = Z.shape
        values = Z.new_zeros(n, n)
        for rows, columns, matrices in _blocks(Z, d / (2 * a * epsilon_sq)):
            values[rows, columns] = _engine(linalg.logdet, matrices) / 2
        alone = _engine(linalg.logdet, _alone(Z, d / (a * epsilon_sq))) / 2
        values += values.T.clone()
        values -= (alone[:, None] + alone) / 2
        return values.fill_diagonal_(0)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        Z, ctx.epsilon_sq = inputs
        ctx.save_for_backward(Z)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> Any:
        (Z,) = ctx.saved_tensors
        n, a, d = Z.shape
        both = (upstream + upstream.T).fill_diagonal_(0)  # what a pair counts
        dual = 2 * a <= d
        size = n * a if dual else d
        # Gradients to the Gram matrix of all views, or to Z* Z of every sample.
        sums = Z.new_zeros(n, n, a, a) if dual else Z.new_zeros(n, size, size)
        scale = d / (2 * a * ctx.epsilon_sq)
        for rows, columns, matrices in _blocks(Z, scale):
            inverses = _engine(linalg.inv, matrices) * (both[rows, columns] * scale / 2)[:, None, None]
            if dual:
                sums[rows, columns] += inverses[:, :a, a:]
                sums[columns, rows] += inverses[:, a:, :a]
                diagonal = torch.einsum("iiab->iab", sums)
                diagonal.index_add_(0, rows, inverses[:, :a, :a])
                diagonal.index_add_(0, columns, inverses[:, a:, a:])
            else:
                sums.index_add_(0, rows, inverses).index_add_(0, columns, inverses)
        scale *= 2
        alone = _engine(linalg.inv, _alone(Z, scale)) * (both.sum(1) * scale / 4)[:, None, None]
        if not dual:
            return 2 * Z @ (sums - alone), None
        torch.einsum("iiab->iab", sums).sub_(alone)
        flat = sums.transpose(1, 2).reshape(size, size)
        return (2 * flat @ Z.reshape(size, d)).reshape(Z.shape), None


def _alone(Z: Tensor, scale: float) -> Tensor:
    """I + scale Z Z* of every sample, or of Z* Z where that is smaller by what `_blocks` takes."""
    W = Z if 2 * Z.shape[1] <= Z.shape[2] else Z.mT
    return torch.eye(W.shape[1], dtype=Z.dtype, device=Z.device) + scale * W @ W.mT


def _blocks(Z: Tensor, scale: float) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Pairs i < j, and I + scale (their views' Gram matrix) of each."""
    n, a, d = Z.shape
    dual = 2 * a <= d
    size = 2 * a if dual else d
    G = scale * (Z.reshape(n * a, d) @ Z.reshape(n * a, d).T if dual else Z.mT @ Z)
    if dual:
        G = G.reshape(n, a, n, a).transpose(1, 2)
    identity = torch.eye(size, dtype=Z.dtype, device=Z.device)
    rows, columns = torch.triu_indices(n, n, 1, device=Z.device)
    step = max(1, _BLOCK // size**2)
    for begin in range(0, len(rows), step):
        i, j = rows[begin : begin + step], columns[begin : begin + step]
        if dual:
            upper = torch.cat([G[i, i], G[i, j]], dim=2)
            lower = torch.cat([G[j, i], G[j, j]], dim=2)
            yield i, j, identity + torch.cat([upper, lower], dim=1)
        else:
            yield i, j, identity + G[i] + G[j]


def _engine(function: Any, matrices: Tensor) -> Tensor:
    """A function of `redunet.linalg` of a batch of tensors."""
    try:
        found = function(matrices.detach().numpy(), n_threads=torch.get_num_threads())
    except np.linalg.LinAlgError as error:
        why = f"{error}: epsilon_sq is too small, or Z too large, for this precision"
        raise torch.linalg.LinAlgError(why) from None  # type: ignore[attr-defined, unused-ignore]
    return torch.from_numpy(np.asarray(found))
