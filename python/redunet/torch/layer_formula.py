"""A layer and its adjoint in operations of PyTorch: what runs where the engine of the package does not, on any device.

Features V (m, C, F d, P) and operators (k + 1, F, C, C, P) are real arrays whose last axis holds the real part, or
both parts, of a number. One batched product a class; nothing but V is needed again (equations in `layer.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from redunet._backends.contract import SMALLEST_NORM


def forward(
    V: Tensor, operators: Tensor, gammas: Sequence[float], freq_weights: Tensor, eta: Tensor, lam: Tensor,
    n_columns: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Z, and pi (m, k), rho^2 (m, k) and 1 / ||u|| (m,) in double precision, as the backends' `State.advance`."""
    v, A, w = _columns(V, n_columns), _numbers(operators), _weights(V, freq_weights, n_columns)
    squares = torch.stack([_squares(C @ v, w, n_columns) for C in A[1:]], dim=1)
    pi = torch.softmax(-lam.to(V.dtype) * squares.sqrt(), dim=1)
    step = A[0] @ v
    for j, gamma in enumerate(gammas):
        step = step - gamma * _per_column(pi[:, j], n_columns) * (A[j + 1] @ v)
    u = v + eta.to(V.dtype) * step
    scale = 1 / _squares(u, w, n_columns).sqrt().clamp_min(SMALLEST_NORM)
    Z = _from_columns(u * _per_column(scale, n_columns), n_columns, V)
    return Z, pi.double(), squares.double(), scale.double()


def backward(
    upstream: Tensor, V: Tensor, Z: Tensor, operators: Tensor, gammas: Sequence[float], freq_weights: Tensor,
    eta: Tensor, lam: Tensor, pi: Tensor, squares: Tensor, scale: Tensor, n_columns: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients to V, the operators, eta and lam."""
    v, z, g = (_columns(array, n_columns) for array in (V, Z, upstream))
    A, w = _numbers(operators), _weights(V, freq_weights, n_columns)
    along = torch.where(scale < (1 - 1e-6) / SMALLEST_NORM, _dot(z, g, n_columns), 0)
    scale, along = (_per_column(x.to(V.dtype), n_columns) for x in (scale, along))
    g = scale * (g - along * (w * z))
    pi, rho = pi.to(V.dtype), squares.to(V.dtype).sqrt()
    to_pi = torch.stack([-gamma * _dot(g, A[j + 1] @ v, n_columns) for j, gamma in enumerate(gammas)], dim=1)
    scores = pi * (to_pi - (pi * to_pi).sum(1, keepdim=True))
    to_lam = -torch.where(scores != 0, scores * rho, 0).sum()
    to_rho = torch.where((scores != 0) & (rho > 0), -lam.to(V.dtype) * scores / rho, 0)
    to_V, to_A = A[0].mH @ g, torch.empty_like(A)
    to_A[0] = g @ v.mH
    for j, gamma in enumerate(gammas):
        by_pi, by_rho = (_per_column(x[:, j], n_columns) for x in (-gamma * pi, to_rho))
        to_response = by_pi * g + by_rho * w * (A[j + 1] @ v)
        to_V = to_V + A[j + 1].mH @ to_response
        to_A[j + 1] = to_response @ v.mH
    to_eta = (A.conj() * to_A).real.sum() - lam * to_lam
    eta = eta.to(V.dtype)
    to_V = _from_columns(g + eta * to_V, n_columns, V)
    return to_V, _parts(eta * to_A, operators), to_eta, eta * to_lam


def _numbers(array: Tensor) -> Tensor:
    """Complex where there are two parts."""
    return torch.view_as_complex(array.contiguous()) if array.shape[-1] == 2 else array[..., 0]


def _parts(numbers: Tensor, like: Tensor) -> Tensor:
    """The inverse of `_numbers`, contiguous."""
    parts = torch.view_as_real(numbers) if like.shape[-1] == 2 else numbers[..., None]
    return parts.contiguous()


def _columns(V: Tensor, d: int) -> Tensor:
    """(m, C, F d, P) to (F, C, m d)."""
    m, C = V.shape[:2]
    return _numbers(V).reshape(m, C, -1, d).permute(2, 1, 0, 3).reshape(-1, C, m * d)


def _from_columns(columns: Tensor, d: int, like: Tensor) -> Tensor:
    """The inverse of `_columns`."""
    F, C, n = columns.shape
    V = columns.reshape(F, C, -1, d).permute(2, 1, 0, 3).reshape(n // d, C, F * d)
    return _parts(V, like)


def _weights(V: Tensor, freq_weights: Tensor, d: int) -> Tensor:
    return (freq_weights.to(V.dtype) / d)[:, None, None]


def _per_column(numbers: Tensor, d: int) -> Tensor:
    return numbers.repeat_interleave(d) if d > 1 else numbers


def _squares(columns: Tensor, w: Tensor, d: int) -> Tensor:
    """sum_p w_p / d ||v(p)||^2 of every sample."""
    parts = torch.view_as_real(columns).square().sum(-1) if columns.is_complex() else columns.square()
    return (w * parts).sum((0, 1)).reshape(-1, d).sum(1)


def _dot(a: Tensor, b: Tensor, d: int) -> Tensor:
    """Re <a, b> of every sample."""
    products = (a.conj() * b).real if a.is_complex() else a * b
    return products.sum((0, 1)).reshape(-1, d).sum(1)
