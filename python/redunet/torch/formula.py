"""The rate reduction in plain PyTorch, differentiable any number of times: for Hessians, and to read."""

from __future__ import annotations

import torch
from torch import Tensor


def rate_reduction(
    Z: Tensor,
    y: Tensor | None,
    sample_weight: Tensor | None,
    epsilon_sq: float,
    gamma1: float,
    gamma2: float,
    dft_norm: str,
) -> Tensor:
    """gamma2 R' - R_c of Z (m, C, *signal_shape); y (m,) labels, (m, k) membership, or None, without R_c.

    All k Gram matrices are there at once: k F C^2 numbers.
    """
    V, w = spectra(Z)
    m, C, _ = V.shape
    n_points = Z[0, 0].numel()
    omega = torch.ones(m, dtype=Z.dtype, device=Z.device) if sample_weight is None else sample_weight.to(Z.dtype)
    total = omega.sum()
    a = C / epsilon_sq * (n_points if dft_norm == "backward" else 1)

    def rate(share: Tensor, size: Tensor, factor: float = 1.0) -> Tensor:
        """R of samples with shares (k, m) that weigh sizes (k,): (k,)."""
        scaled = V[None] * (factor * a * share / size[:, None]).sqrt().to(V.dtype)[:, :, None, None]
        G = torch.einsum("kmcp,kmdp->kpcd", scaled, scaled.conj())
        L = torch.linalg.cholesky(torch.eye(C, dtype=V.dtype, device=Z.device) + G)
        logdets: Tensor = 2 * L.diagonal(dim1=-2, dim2=-1).real.log().sum(-1)
        return logdets @ w / (2 * n_points)

    R = rate(omega[None], total[None], gamma1)[0]
    if y is None:
        return gamma2 * R
    pi = torch.nn.functional.one_hot(y).to(Z.dtype) if y.ndim == 1 else y
    share = (omega[:, None] * pi).T
    sizes = share.sum(1)
    kept = sizes > 0
    R_c = sizes[kept] / total @ rate(share[kept], sizes[kept])
    return gamma2 * R - R_c


def spectra(Z: Tensor) -> tuple[Tensor, Tensor]:
    """V (m, C, F), and what the frequencies weigh (F,), as `redunet.transforms.cyclic.Fourier` has them."""
    if Z.ndim == 2:
        return Z[:, :, None], torch.ones(1, dtype=Z.dtype, device=Z.device)
    axes = tuple(range(2, Z.ndim))
    V = torch.fft.rfftn(Z, dim=axes, norm="ortho")
    n = Z.shape[-1]
    w = torch.ones(V.shape[2:], dtype=Z.dtype, device=Z.device)
    w[..., 1 : (n + 1) // 2] = 2
    return V.flatten(2), w.flatten()
