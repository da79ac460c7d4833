"""The floor of a layer: the least time that its arithmetic, or its traffic, takes on this machine.

Arithmetic: half spectrum, Hermitian class Grams with the total as their sum, one Cholesky and inverse for
each of the k + 1 matrices of a frequency, E and every C_j applied once to every sample, at the measured SGEMM
rate. Traffic: the features read once and written once, the operators written once, at the measured copy
bandwidth. One complex multiply-add counts 8 flops. Identities that skip products (sharp gates) can go below
this floor.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from bench.environment import clock
from bench.workloads import Workload

_GEMM_SIZE = 2048
_REPEATS = 7
_MIN_COPY_BYTES = 1 << 22  # below this the calls cost as much as the copying
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class LayerCost:
    """Real flops and bytes of building one layer in single precision."""

    gram: float
    inverse: float
    apply: float
    feature_bytes: float
    operator_bytes: float

    @property
    def flops(self) -> float:
        return self.gram + self.inverse + self.apply

    @property
    def bytes(self) -> float:
        return 2 * self.feature_bytes + self.operator_bytes


def min_cost(workload: Workload, *, factored: bool = False) -> LayerCost:
    """Fewest flops and bytes of one layer.

    Parameters
    ----------
    workload : Workload
        Only its sizes matter.
    factored : bool
        Take a class with m_j < C on its m_j x m_j side and, when 2 m_j < C, apply it in factored form.
    """
    m, C, F, k = workload.n_samples, workload.n_channels, workload.n_freqs, workload.n_classes
    c = 4 if workload.signal_shape else 1  # multiply-adds of a complex product
    entry = _FLOAT_BYTES * (2 if workload.signal_shape else 1)
    dense_apply = 2 * c * F * C * C * m
    gram = c * F * m * C * C
    inverse = c * F * C**3 * (k + 1)  # C^3/3 for the factor, 2 C^3/3 for the inverse
    apply = dense_apply * (k + 1)
    operators = entry * F * C * C * (k + 1)
    if factored:
        inverse, apply, operators = c * F * C**3, dense_apply, entry * F * C * C
        for size in workload.class_sizes.tolist():
            if size >= C:
                inverse, apply, operators = (
                    inverse + c * F * C**3,
                    apply + dense_apply,
                    operators + entry * F * C * C,
                )
                continue
            gram += c * F * size * size * C  # beside its share of the total Gram
            inverse += c * F * (size**3 / 3 + size * size * C)
            if 2 * size < C:
                apply += 4 * c * F * C * size * m
                operators += entry * F * C * size
            else:
                inverse += c * F * size * C * C
                apply += dense_apply
                operators += entry * F * C * C
    return LayerCost(gram, inverse, apply, entry * F * C * m, operators)


def _best(action: Callable[[], object], now: Callable[[], float]) -> float:
    action()
    seconds = []
    for _ in range(_REPEATS):
        start = now()
        action()
        seconds.append(now() - start)
    return min(seconds)


def sgemm_rate(n_threads: int) -> float:
    """Single-precision flop/s of a square product: the better of NumPy's BLAS and PyTorch's."""
    n = _GEMM_SIZE
    rng = np.random.default_rng(0)
    A, B = (rng.standard_normal((n, n), dtype=np.float32) for _ in range(2))
    out = np.empty_like(A)
    now = clock(n_threads)
    seconds = _best(lambda: np.matmul(A, B, out=out), now)
    if find_spec("torch"):
        import torch

        torch.set_num_threads(n_threads)
        tA, tB, t_out = (torch.from_numpy(a) for a in (A, B, out))
        seconds = min(seconds, _best(lambda: torch.mm(tA, tB, out=t_out), now))
    return 2.0 * n**3 / seconds


def copy_bandwidth(nbytes: float, n_threads: int) -> float:
    """Bytes per second, read plus written, of copying a block of this size between touched buffers."""
    n = max(int(nbytes), _MIN_COPY_BYTES) // 8
    source, target = np.ones(n), np.zeros(n)
    parts = list(zip(np.array_split(source, n_threads), np.array_split(target, n_threads), strict=True))
    with ThreadPoolExecutor(n_threads) as pool:
        seconds = _best(lambda: list(pool.map(lambda part: np.copyto(part[1], part[0]), parts)), clock(n_threads))
    return 2.0 * source.nbytes / seconds


@dataclass(frozen=True)
class Floor:
    """Least seconds of a layer, by arithmetic and by traffic."""

    compute_s: float
    memory_s: float

    @property
    def seconds(self) -> float:
        return max(self.compute_s, self.memory_s)

    @property
    def bound(self) -> str:
        return "compute" if self.compute_s >= self.memory_s else "memory"


def layer_floor(cost: LayerCost, rate: float, bandwidth: float) -> Floor:
    """Floor at a SGEMM rate (flop/s) and a copy bandwidth (bytes/s)."""
    return Floor(cost.flops / rate, cost.bytes / bandwidth)
