"""Everything that is timed, behind one call: build one layer of a workload, and n, and say what a layer cost.

A layer is the difference of the two builds, divided by the layers between; what is left of the first is the fixed cost:
transforms into and out of the spectrum, packing, the first layer's fresh memory. Operators are kept by all but where a
name says otherwise. One thread is timed in processor seconds, several by the wall; a GPU always by the wall, and the
shorter of its builds is of several layers too (`workloads.DEVICE_LAYERS`).
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import redunet as rn
from bench.baselines.builder import Builder
from bench.baselines.numpy_expert import NumpyExpert
from bench.environment import available_bytes, clock, hold_fresh_memory
from bench.floor import min_cost
from bench.workloads import DEVICE_LAYERS, Workload
from redunet._backends import status

AUTHORS = "authors"
EXPERTS = ("PyTorch expert", "PyTorch expert, factored", "NumPy expert", "NumPy expert, factored")
STACKED, STACKED_MKL, JAX, COMPILED = "BLAS and numba", "MKL and numba", "JAX", "PyTorch, compiled"
RIVALS = (STACKED, STACKED_MKL, JAX, COMPILED)
CUDA = "redunet cuda"
PACKAGE = ("redunet numpy", "redunet cpu", CUDA)
# What else a GPU's user has: features alone, and steps that are chosen.
VARIANTS: dict[str, dict[str, str]] = {f"{CUDA}, features": {"keep": "features"}, f"{CUDA}, auto": {"eta": "auto"}}
NAMES = (*PACKAGE, *VARIANTS, AUTHORS, *EXPERTS, *RIVALS)

# What each needs beside NumPy: modules, and what to call them.
_NEEDS: dict[str, tuple[tuple[str, str], ...]] = {
    AUTHORS: (("torch", "PyTorch"),),
    "PyTorch expert": (("torch", "PyTorch"),),
    "PyTorch expert, factored": (("torch", "PyTorch"),),
    STACKED: (("numba", "numba"), ("scipy", "SciPy")),
    STACKED_MKL: (("numba", "numba"), ("scipy", "SciPy")),
    JAX: (("jax", "JAX"),),
    COMPILED: (("torch", "PyTorch"),),
}
# These compile when they are first used, for a shape or a number of layers: a build before the clock starts.
_COMPILING = frozenset(RIVALS)


# Memory touched before a build at most: half a second.
_MOST_FRESH_BYTES = 2 << 30


@dataclass(frozen=True)
class Run:
    """Seconds of two constructions, of few layers and of many.

    Attributes
    ----------
    first_s, total_s : float
        Whole builds of `n_first` and of `n_layers`.
    n_layers : int
        Layers built: fewer than asked for when the time was up.
    n_first : int
        Layers of the shorter build.
    """

    first_s: float
    total_s: float
    n_layers: int
    n_first: int = 1

    @property
    def layer_s(self) -> float:
        """Of a further layer."""
        return per_layer(self.first_s, self.total_s, self.n_layers, self.n_first)

    @property
    def fixed_s(self) -> float:
        """Beside the layers."""
        return self.first_s - self.n_first * self.layer_s

    @property
    def spent_s(self) -> float:
        return self.first_s + self.total_s


def per_layer(first_s: float, total_s: float, n_layers: int, n_first: int = 1) -> float:
    """Seconds of a further layer, from builds of few layers and of n."""
    return (total_s - first_s) / (n_layers - n_first) if n_layers > n_first else total_s / n_layers


def on_gpu(name: str) -> bool:
    """Whether this is the CUDA engine."""
    return name == CUDA or name in VARIANTS


def backend_of(name: str) -> str:
    """The package's, whatever else the name says."""
    return name.split()[1].rstrip(",")


def first_layers(name: str, workload: Workload, n_layers: int) -> int:
    """Layers of the shorter build beside one of `n_layers`."""
    return max(1, min(DEVICE_LAYERS[workload.name][0], n_layers // 2)) if on_gpu(name) else 1


def build_package(name: str, workload: Workload, n_layers: int, *, n_threads: int) -> tuple[float, int]:
    """`rn.build` through the public API: seconds, and layers."""
    now = time.perf_counter if on_gpu(name) else clock(n_threads)
    backend: Any = backend_of(name)
    settings: dict[str, Any] = {"eta": workload.eta, "epsilon_sq": workload.epsilon_sq, "lam": workload.lam}
    settings |= VARIANTS.get(name, {})
    start = now()
    rn.build(workload.X, workload.y, n_layers=n_layers, backend=backend, n_threads=n_threads, **settings)
    return now() - start, n_layers


def build_baseline(
    builder: Builder, workload: Workload, n_layers: int, *, n_threads: int, limit_s: float
) -> tuple[float, int]:
    """A baseline's build: seconds, and how many layers there was time for."""
    now = clock(n_threads)
    start = now()
    start_builder(builder, workload)
    built = builder.build_layers(n_layers, limit_s)
    builder.features()
    return now() - start, built


def start_builder(builder: Builder, workload: Workload) -> None:
    """Give a baseline the workload's data and hyperparameters."""
    builder.start(
        workload.X,
        workload.y,
        n_classes=workload.n_classes,
        eta=workload.eta,
        epsilon_sq=workload.epsilon_sq,
        lam=workload.lam,
    )


def make_builder(name: str, n_threads: int) -> Builder:
    """A baseline by the name it has in the tables."""
    factored = name.endswith("factored")
    if name.startswith("NumPy"):
        return NumpyExpert(n_threads, low_rank=factored)
    if name == AUTHORS:
        from bench.baselines.authors import AuthorsTorch

        return AuthorsTorch(n_threads)
    if name == STACKED:
        from bench.baselines.stacked import StackedExpert

        return StackedExpert(n_threads)
    if name == STACKED_MKL:
        from bench.baselines.stacked_mkl import StackedMkl

        return StackedMkl(n_threads)
    if name == JAX:
        from bench.baselines.jax_scan import JaxScan

        return JaxScan(n_threads)
    if name == COMPILED:
        from bench.baselines.torch_compiled import TorchCompiled

        return TorchCompiled(n_threads)
    from bench.baselines.torch_expert import TorchExpert

    return TorchExpert(n_threads, low_rank=factored)


def why_not(name: str, workload: Workload) -> str | None:
    """Why an implementation cannot run a workload here, or None if it can."""
    if name in PACKAGE or name in VARIANTS:
        state = str(status()[backend_of(name)])
        return None if state == "available" else state
    for module, title in _NEEDS.get(name, ()):
        if not find_spec(module):
            return f"{title} is not installed"
    if name == STACKED_MKL:
        from bench.baselines.mkl import library

        if library() is None:
            return "MKL is not installed"
    small = workload.signal_shape and int(workload.class_sizes.max()) < workload.n_channels
    if name.endswith("factored") and not small:
        return "no classes smaller than C"
    needed = _bytes_needed(name, workload)
    if needed > available_bytes():
        return f"needs {needed / 2**30:.0f} GiB"
    return None


def _bytes_needed(name: str, workload: Workload) -> float:
    """Of the responses of all operators, which some keep at once."""
    spectrum = workload.n_samples * workload.n_channels * workload.n_freqs * (8.0 if workload.signal_shape else 4.0)
    if (
        name == AUTHORS
    ):  # the full spectrum in complex64; all class components at once, and two temporaries of their size
        return 3 * workload.n_classes * workload.X.nbytes * (2 if workload.signal_shape else 1)
    if name in RIVALS:  # twice where an elementwise pass is not fused
        return 2 * (workload.n_classes + 1) * spectrum
    return 0.0


def runner(name: str, workload: Workload, n_layers: int, *, n_threads: int, limit_s: float) -> Callable[[], Run]:
    """A function that builds the workload with this implementation, few layers and all.

    As much memory as a build may take is touched and freed before either. What compiles has compiled when this returns.
    """
    cost = min_cost(workload)
    fresh = 2 * (workload.n_classes + 1) * cost.feature_bytes + (n_layers + 1) * cost.operator_bytes

    def build(n: int) -> tuple[float, int]:
        hold_fresh_memory(min(int(fresh), _MOST_FRESH_BYTES))
        try:
            if name in PACKAGE or name in VARIANTS:
                return build_package(name, workload, n, n_threads=n_threads)
            builder = make_builder(name, n_threads)
            return build_baseline(builder, workload, n, n_threads=n_threads, limit_s=limit_s)
        finally:
            gc.collect()

    n_first = first_layers(name, workload, n_layers)

    def run() -> Run:
        first_s, _ = build(n_first)
        total_s, built = build(n_layers)
        return Run(first_s, total_s, built, n_first)

    if name in _COMPILING or on_gpu(name):  # whose first call opens libraries and plans transforms
        build(n_first)
    if name == JAX:  # one scan per number of layers, which nothing stops: as many as there is time for
        n_layers = max(2, min(n_layers, int(limit_s / (2 * build(1)[0]))))
        build(n_layers)
    return run
