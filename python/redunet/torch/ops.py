"""The rates as operators of PyTorch, which `torch.compile` and `torch.export` keep whole.

    redunet::rates               -> (3,) Delta R, R', R_c
    redunet::rates_and_gradient  -> those, the gradient of Delta R to Z, and to the membership, or (m, 0) unless asked

Z (m, C, *signal_shape) is float32 or float64 and may lie in any order; y is (m,) int64 labels, (m, k) membership, or
None: then R_c is zero. Tensors of the CPU: they are read where they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from redunet.torch import engine

_ARGUMENTS = "Tensor Z, Tensor? y, Tensor? sample_weight, float epsilon_sq, float gamma1, float gamma2, str dft_norm"


def _run(
    Z: Tensor,
    y: Tensor | None,
    sample_weight: Tensor | None,
    epsilon_sq: float,
    gamma1: float,
    gamma2: float,
    dft_norm: str,
    *,
    gradient: bool,
    membership_gradient: bool = False,
) -> engine.Result:
    setting = engine.Setting(epsilon_sq, gamma1, gamma2, dft_norm, torch.get_num_threads())
    labels = membership = weights = None
    if y is not None and y.ndim == 1:
        labels = y.detach().contiguous().numpy()
        bad = int(labels.argmin())
        if labels[bad] < 0:
            raise ValueError(f"y is {labels[bad]} for sample {bad}; expected labels >= 0")
    elif y is not None:
        membership = _nonnegative(y, "y is a membership with")
    if sample_weight is not None:
        weights = _nonnegative(sample_weight, "sample_weight has")
    try:
        return engine.compute(
            Z.detach().contiguous().numpy(),
            labels,
            membership,
            weights,
            setting,
            gradient=gradient,
            membership_gradient=membership_gradient,
        )
    except np.linalg.LinAlgError as error:
        raise torch.linalg.LinAlgError(str(error)) from None  # type: ignore[attr-defined, unused-ignore]


def _nonnegative(tensor: Tensor, what: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    numbers = tensor.detach().to(torch.float64).contiguous().numpy()
    if not (np.isfinite(numbers).all() and (numbers >= 0).all()):
        raise ValueError(f"{what} negative or non-finite entries; expected finite numbers >= 0")
    return numbers


def compute_rates(Z: Tensor, y: Tensor | None, sample_weight: Tensor | None, *setting: Any) -> Tensor:
    """What the operator `rates` does."""
    return torch.from_numpy(_run(Z, y, sample_weight, *setting, gradient=False).values).to(Z.dtype)


def compute_rates_and_gradient(
    Z: Tensor, y: Tensor | None, sample_weight: Tensor | None, *setting: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """What the operator `rates_and_gradient` does."""
    *constants, membership_gradient = setting
    result = _run(Z, y, sample_weight, *constants, gradient=True, membership_gradient=membership_gradient)
    values = torch.from_numpy(result.values).to(Z.dtype)
    gradient = torch.from_numpy(result.features)
    if result.membership is None or y is None:
        return values, gradient, Z.new_empty(len(Z), 0)
    return values, gradient, torch.from_numpy(result.membership).to(y.dtype)


def is_plain(*tensors: Tensor | None) -> bool:
    """Whether tensors hold numbers, here and now, so that what an operator costs beside its work can be saved."""
    if torch.compiler.is_compiling() or _in_transform():
        return False
    return all(
        tensor is None or (type(tensor) in (Tensor, torch.nn.Parameter) and tensor.device.type == "cpu")
        for tensor in tensors
    )


#: Whether `torch.func` is at work, as PyTorch's own functions ask; where that cannot be asked, it may be.
_in_transform = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)


rates = torch.library.custom_op(
    "redunet::rates", compute_rates, mutates_args=(), device_types="cpu", schema=f"({_ARGUMENTS}) -> Tensor"
)
rates_and_gradient = torch.library.custom_op(
    "redunet::rates_and_gradient",
    compute_rates_and_gradient,
    mutates_args=(),
    device_types="cpu",
    schema=f"({_ARGUMENTS}, bool membership_gradient) -> (Tensor, Tensor, Tensor)",
)


@rates.register_fake
def _(Z: Tensor, *_: Any) -> Tensor:
    return Z.new_empty(3)


@rates_and_gradient.register_fake
def _(Z: Tensor, y: Tensor | None, *setting: Any) -> tuple[Tensor, Tensor, Tensor]:
    if y is None or not setting[-1]:
        return Z.new_empty(3), Z.new_empty(Z.shape), Z.new_empty(Z.shape[0], 0)
    return Z.new_empty(3), Z.new_empty(Z.shape), y.new_empty(y.shape)
