"""The rule of `torch.vmap` for functions that the engine computes: problems of a batch one after the other."""

from __future__ import annotations

from typing import Any

import torch


def one_by_one(function: Any, info: Any, in_dims: tuple[Any, ...], inputs: tuple[Any, ...]) -> tuple[Any, Any]:
    """``function.apply`` of each, stacked; inputs without a batched axis are the same for all."""
    made = [
        function.apply(*(x.select(d, i) if isinstance(d, int) else x for x, d in zip(inputs, in_dims, strict=True)))
        for i in range(info.batch_size)
    ]
    stacked = tuple(map(torch.stack, zip(*made, strict=True)))
    return stacked, (0,) * len(stacked)
