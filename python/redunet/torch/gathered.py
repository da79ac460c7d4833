"""The samples of all processes of a group on each of them, for losses that are sums over pairs of samples.

A rate is one number of all samples: every process computes it, and keeps the rows of the gradient that are its own.
What is sent is the features once, m d numbers; sums of Gram matrices would be k d^2.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor

Group: TypeAlias = "dist.ProcessGroup"


class Gathered:
    """``Z``, ``y`` and ``sample_weight`` of all processes, in the order of their ranks; ``first`` is this one's.

    Backward through them the gradients to a process's own samples are multiplied by the number of processes:
    DistributedDataParallel averages the gradients of parameters over the processes, and a loss of all samples wants
    their sum.
    """

    def __init__(self, group: Group, Z: Tensor, y: Tensor | None = None, sample_weight: Tensor | None = None) -> None:
        if not (dist.is_available() and dist.is_initialized()):
            raise RuntimeError("group is given, and torch.distributed is not initialized: call init_process_group")
        mine = torch.tensor([len(Z)], device=Z.device)
        counts = [torch.empty_like(mine) for _ in range(dist.get_world_size(group))]
        dist.all_gather(counts, mine, group=group)
        sizes = [int(count) for count in counts]
        self.Z = _gather(Z, sizes, group)
        self.y = None if y is None else _gather(y, sizes, group)
        self.sample_weight = None if sample_weight is None else _gather(sample_weight, sizes, group)


def _gather(tensor: Tensor, sizes: list[int], group: Group) -> Tensor:
    if not tensor.requires_grad:
        return _Gather.forward(tensor, sizes, group)
    found: Tensor = _Gather.apply(tensor, sizes, group)
    return found


class _Gather(torch.autograd.Function):
    """Rows of all ranks; backward the own ones, times the number of ranks."""

    @staticmethod
    def forward(tensor: Tensor, sizes: list[int], group: Group) -> Tensor:
        padded = tensor.new_zeros(max(sizes), *tensor.shape[1:])  # collectives want equal shapes
        padded[: len(tensor)] = tensor.detach()
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded, group=group)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, ctx.sizes, group = inputs
        ctx.rank = dist.get_rank(group)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        begin = sum(ctx.sizes[: ctx.rank])
        return gradient[begin : begin + ctx.sizes[ctx.rank]] * len(ctx.sizes), None, None
