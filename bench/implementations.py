"""Everything that is timed, behind one call: build n layers of a workload and say what one layer cost.

The cost of a layer is the mean over the layers after the first, in the loop; the total is what a caller waits
for, transforms into and out of the spectrum and the first layer's fresh memory included. Operators are kept
by all.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import redunet as rn
from bench.baselines.builder import Builder
from bench.baselines.numpy_expert import NumpyExpert
from bench.environment import available_bytes
from bench.workloads import Workload
from redunet._backends import status

AUTHORS = "authors"
EXPERTS = ("PyTorch expert", "PyTorch expert, factored", "NumPy expert", "NumPy expert, factored")
PACKAGE = ("redunet numpy", "redunet cpu", "redunet cuda")
NAMES = (*PACKAGE, AUTHORS, *EXPERTS)


#: From so many layers on they are short, and the package is timed without a callback.
MANY_LAYERS = 500


@dataclass(frozen=True)
class Run:
    """Seconds of one construction.

    Attributes
    ----------
    layer_s : float
        Per layer, in the loop.
    total_s : float
        All of it.
    n_layers : int
        Layers built: fewer than asked for when the time was up.
    """

    layer_s: float
    total_s: float
    n_layers: int


def _run(start: float, stamps: list[float]) -> Run:
    """From the start and the times at which layers began; the last stamp is the end of the last layer."""
    n = len(stamps) - 1
    layer_s = (stamps[-1] - stamps[1]) / (n - 1) if n > 1 else stamps[-1] - stamps[0]
    return Run(layer_s, time.perf_counter() - start, n)


def run_package(workload: Workload, n_layers: int, *, backend: str, n_threads: int) -> Run:
    """`rn.build` through the public API; `on_layer` gives the time stamps.

    Layers of a few microseconds take less than a callback: many of them are timed as the difference between a
    deep build and one of two layers, as users run them.
    """

    def build(n: int, on_layer: Callable[[int, object], None] | None) -> float:
        start = time.perf_counter()
        rn.build(
            workload.X,
            workload.y,
            n_layers=n,
            eta=workload.eta,
            epsilon_sq=workload.epsilon_sq,
            lam=workload.lam,
            backend=backend,
            n_threads=n_threads,
            on_layer=on_layer,
        )
        return time.perf_counter() - start

    if n_layers >= MANY_LAYERS:
        few, many = build(2, None), build(n_layers, None)
        return Run((many - few) / (n_layers - 2), many, n_layers)
    stamps: list[float] = []
    start = time.perf_counter()
    build(n_layers, lambda index, rates: stamps.append(time.perf_counter()))
    return _run(start, stamps)


def run_builder(builder: Builder, workload: Workload, n_layers: int, *, limit_s: float = float("inf")) -> Run:
    """A baseline, layer by layer; no new layer is begun after `limit_s` seconds."""
    start = time.perf_counter()
    start_builder(builder, workload)
    stamps = [time.perf_counter()]
    while len(stamps) <= n_layers and (len(stamps) == 1 or stamps[-1] - start < limit_s):
        builder.build_layer()
        stamps.append(time.perf_counter())
    builder.features()
    return _run(start, stamps)


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
    from bench.baselines.torch_expert import TorchExpert

    return TorchExpert(n_threads, low_rank=factored)


def why_not(name: str, workload: Workload) -> str | None:
    """Why an implementation cannot run a workload here, or None if it can."""
    if name in PACKAGE:
        state = str(status()[name.split()[1]])
        return None if state == "available" else state
    if name.startswith(("PyTorch", AUTHORS)) and not find_spec("torch"):
        return "PyTorch is not installed"
    small = workload.signal_shape and int(workload.class_sizes.max()) < workload.n_channels
    if name.endswith("factored") and not small:
        return "no classes smaller than C"
    if name == AUTHORS:
        # the full spectrum in complex64; all class components at once, and two temporaries of their size
        spectrum = workload.X.nbytes * 2 if workload.signal_shape else workload.X.nbytes
        needed = 3 * workload.n_classes * spectrum
        if needed > available_bytes():
            return f"needs {needed / 2**30:.0f} GiB"
    return None


def runner(name: str, workload: Workload, n_layers: int, *, n_threads: int, limit_s: float) -> Callable[[], Run]:
    """A function that builds the workload once with this implementation."""
    if name in PACKAGE:
        backend = name.split()[1]
        return lambda: run_package(workload, n_layers, backend=backend, n_threads=n_threads)
    return lambda: run_builder(make_builder(name, n_threads), workload, n_layers, limit_s=limit_s)
