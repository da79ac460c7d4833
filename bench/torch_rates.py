"""The rate reduction as a loss, forward and backward in single precision, against other formulations in PyTorch.

    python -m bench.torch_rates [--rounds 30] [--json out.json]

All take turns in one process, in an order that is drawn anew each round. Whoever's turn it is runs CALLS times: the
first finds the caches full of what others left there, and the rest do not; both are given. The process keeps its heap
(MALLOC_* of glibc are set, and the process started again): with the default settings PyTorch's temporaries are fresh
pages each time, and its formulations two to three times slower. A formulation that takes more than --limit seconds, or
would need more than a quarter of the memory, sits out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.baselines.rates import EPSILON_SQ, FORMS
from bench.environment import available_cores
from redunet.torch import MCR2Loss

#: Samples, dimensions, classes.
SIZES = ((256, 64, 10), (1000, 128, 10), (1000, 128, 100), (4096, 512, 1000))
CALLS = 5
HEAP = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000", "MALLOC_TOP_PAD_": "268435456"}


def samples(m: int, d: int, k: int) -> tuple[Tensor, Tensor]:
    """Unit vectors near k subspaces of a few dimensions."""
    rng = np.random.default_rng(0)
    y = rng.permutation(np.arange(m) % k)
    rank = max(2, min(d // k, 8))
    bases = rng.standard_normal((k, d, rank))
    X = np.einsum("mdr,mr->md", bases[y], rng.standard_normal((m, rank))) + 0.1 * rng.standard_normal((m, d))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return torch.from_numpy(X.astype(np.float32)).requires_grad_(), torch.from_numpy(y)


def redunet(Z: Tensor, y: Tensor, k: int) -> Tensor:
    loss: Tensor = MCR2Loss(EPSILON_SQ, normalize=False)(Z, y)
    return loss


def fits(name: str, m: int, d: int, k: int, room: float) -> bool:
    """Whether the formulation's largest temporaries do."""
    return 4.0 * {"published": 3 * k * m * m, "masked": 3 * k * d * max(d, m)}.get(name, 0) < room


Times = dict[str, list[float]]


def measure(size: tuple[int, int, int], rounds: int, limit: float) -> tuple[Times, Times]:
    """Seconds of every formulation: of the first calls, after others, and of those that follow on themselves."""
    Z, y = samples(*size)
    room = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 4
    forms: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
        name: form for name, form in FORMS.items() if fits(name, *size, room)
    } | {"redunet": redunet}
    first: Times = {name: [] for name in forms}
    following: Times = {name: [] for name in forms}
    order = random.Random(0)
    for turn in range(rounds + 1):
        for name in order.sample(list(forms), len(forms)):
            try:
                seconds = [seconds_of(forms[name], Z, y, size[2]) for _ in range(CALLS if turn > 0 else 1)]
            except RuntimeError as error:  # LU of some batches fails in PyTorch 2.13 and its MKL
                print(f"{name} at {size}: {str(error).splitlines()[0]}")
                del forms[name]
                continue
            if turn > 0 or seconds[0] > limit:
                first[name].append(seconds[0])
                following[name].extend(seconds[1:] or seconds)
            if seconds[0] > limit:
                del forms[name]
    return first, following


def seconds_of(form: Callable[[Tensor, Tensor, int], Tensor], Z: Tensor, y: Tensor, k: int) -> float:
    """Of one evaluation and its gradient."""
    Z.grad = None
    begin = time.perf_counter()
    form(Z, y, k).backward()  # type: ignore[no-untyped-call, unused-ignore]
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--limit", type=float, default=2.0, help="seconds a formulation may take (default 2)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in HEAP.items()):
        os.execve(sys.executable, [sys.executable, "-m", "bench.torch_rates", *sys.argv[1:]], {**os.environ, **HEAP})
    torch.set_num_threads(available_cores())
    found = {}
    print(
        f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, {platform.processor() or platform.machine()}"
    )
    print(f"{'m, d, k':>24} " + "".join(f"{name:>12}" for name in [*FORMS, "redunet"]) + "   best other / redunet")
    for size in SIZES:
        both = measure(size, options.rounds, options.limit)
        for when, times in zip(("", "after others"), reversed(both), strict=True):
            found[" ".join(filter(None, ["x".join(map(str, size)), when]))] = times
            medians = {name: 1e3 * statistics.median(values) for name, values in times.items() if values}
            row = "".join(f"{medians[name]:12.2f}" if name in medians else f"{'-':>12}" for name in [*FORMS, "redunet"])
            best = min(value for name, value in medians.items() if name != "redunet")
            print(f"{when or ', '.join(map(str, size)):>24} {row}   {best / medians['redunet']:.2f}", flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
