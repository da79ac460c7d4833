"""`TorchExpert` with everything after the factorisations through `torch.compile`: planar operators, one product for all
operators of a frequency, gates, step and projection as one graph.

Grams and Cholesky factors stay eager: the compiler hands complex matrices back to it. Compiled once per shape, in a
minute or so: time a second construction. Needs a C++ compiler when it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from bench.baselines.torch_expert import TorchExpert, _Operators


def _layer(dense: Tensor, P: Tensor, scale: Tensor, eta: float, lam: float) -> Tensor:
    """Planes after a layer; dense (k + 1, F, C, C), or (k + 1, F, C, C, 2) real and imaginary parts."""
    if dense.ndim == 5:
        re, im = dense.unbind(-1)
        dense = torch.cat([torch.cat([re, -im], -1), torch.cat([im, re], -1)], -2)
    k1, F, R, _ = dense.shape
    M = dense.transpose(0, 1).reshape(F, k1 * R, R)
    B = (torch.mm(M[0], P[0])[None] if F == 1 else torch.bmm(M, P)).view(F, k1, R, -1)
    norms = B[:, 1:].square().sum((0, 2)).sqrt()
    pi = torch.softmax(-lam * norms, 0) * scale[:, None]
    out = P + eta * B[:, 0] - (B[:, 1:] * pi[:, None]).sum(1)
    return out / out.square().sum((0, 1)).sqrt().clamp(min=1e-8)


@cache
def _compiled() -> Callable[..., Tensor]:
    return torch.compile(_layer, dynamic=False)


class TorchCompiled(TorchExpert):
    """`TorchExpert` whose update is compiled.

    Parameters
    ----------
    n_threads : int
        Threads of PyTorch and of the factorisations.
    dtype : torch.dtype
        Real precision.
    """

    name = "torch compiled"

    def __init__(self, n_threads: int = 2, *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(n_threads, dtype=dtype)

    def _apply(self, op: _Operators, P: Tensor, key: str) -> Tensor:
        q = self.problem
        dense = torch.view_as_real(op.dense) if op.dense.is_complex() else op.dense
        scale = torch.from_numpy(q.eta * q.gammas).to(self.dtype)
        return _compiled()(dense, P, scale, float(q.eta), float(q.lam))
