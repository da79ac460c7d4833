"""Interleaved measurement of one workload: round after round every implementation once, then medians.

A machine's speed drifts, so implementations take turns (A, B, C, A, B, C, ...) and their ratios come from the
same minutes. An implementation that has used up its seconds sits out the later rounds; one that must stop
within a build reports the layers it did. The result is plain data, ready for JSON.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from threadpoolctl import threadpool_limits

from bench.ceilings import scaling
from bench.floor import LayerCost, copy_bandwidth, layer_floor, min_cost
from bench.implementations import AUTHORS, EXPERTS, PACKAGE, RIVALS, Run, on_gpu, per_layer, runner, why_not
from bench.workloads import DEVICE_LAYERS, Workload

# Layers per build: enough that a round takes a few seconds with the experts. A layer of the package costs less from
# layer to layer while gates sharpen, so the short networks are timed over a good part of their depth.
TIMED_LAYERS = {
    "gauss2d": 2000, "gauss3d": 2000, "mnist_vec": 10, "rot01": 100, "rot10": 40,
    "trans01": 60, "trans10": 8, "bp2d": 8, "wide1d": 6,
}  # fmt: skip
# The authors' loops are measured over few layers: their time does not depend on the layer.
AUTHORS_LAYERS = {"gauss2d": 100, "gauss3d": 100}
AUTHORS_DEFAULT = 2


def timed_layers(name: str, workload: Workload, asked: int | None) -> int:
    """Layers per build of an implementation."""
    n = asked or (DEVICE_LAYERS[workload.name][1] if on_gpu(name) else TIMED_LAYERS[workload.name])
    return min(n, AUTHORS_LAYERS.get(workload.name, AUTHORS_DEFAULT)) if name == AUTHORS else n


def measure(
    workload: Workload,
    names: Sequence[str],
    *,
    n_threads: int,
    rounds: int,
    n_layers: int | None = None,
    limit_s: float = 60.0,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Measure one workload.

    Parameters
    ----------
    workload : Workload
        What to build.
    names : sequence of str
        Implementations, by the names in `bench.implementations`.
    n_threads : int
        Threads of everything, BLAS included.
    rounds : int
        Turns of each implementation.
    n_layers : int, optional
        Layers per build (authors: at most a few).
    limit_s : float
        Seconds that one implementation may take on this workload; the first round is always begun.

    Returns
    -------
    dict
        Sizes, least cost, and for each implementation its median milliseconds per layer with all rounds,
        or why it was skipped.
    """
    skipped = {name: reason for name in names if (reason := why_not(name, workload))}
    runs: dict[str, list[Run]] = {name: [] for name in names if name not in skipped}
    with threadpool_limits(n_threads, "blas"):
        builds = {}
        for name in runs:
            say(f"{workload.name}: {name}")
            layers = timed_layers(name, workload, n_layers)
            builds[name] = runner(name, workload, layers, n_threads=n_threads, limit_s=limit_s)
        for turn in range(rounds):
            for name, done in runs.items():
                if done and limit_s - sum(run.spent_s for run in done) < done[-1].spent_s:
                    continue
                say(f"{workload.name}: round {turn + 1}/{rounds}, {name}")
                done.append(builds[name]())
    return {
        **_sizes(workload),
        **_costs(workload, n_threads),
        "scaling": scaling(n_threads) if n_threads > 1 else None,
        "implementations": {
            name: _summary(runs[name]) if name in runs else {"skipped": skipped[name]} for name in names
        },
    }


def _sizes(workload: Workload) -> dict[str, Any]:
    return {
        "workload": workload.name,
        "n_samples": workload.n_samples,
        "n_channels": workload.n_channels,
        "n_freqs": workload.n_freqs,
        "n_classes": workload.n_classes,
    }


def _costs(workload: Workload, n_threads: int) -> dict[str, Any]:
    """Least arithmetic and traffic, and the bandwidth of copying a block of the features' size."""
    dense, factored = min_cost(workload), min_cost(workload, factored=True)
    return {
        "copy_gb_s": copy_bandwidth(dense.feature_bytes, n_threads) / 1e9,
        "cost": {"dense": asdict(dense), "factored": asdict(factored)},
    }


def add_floors(result: dict[str, Any], sgemm: float) -> None:
    """Put the floors, in milliseconds, into a result: dense, and with small classes factored."""
    for kind, numbers in result["cost"].items():
        floor = layer_floor(LayerCost(**numbers), sgemm, result["copy_gb_s"] * 1e9)
        result[f"floor_{kind}"] = {
            "ms": floor.seconds * 1e3,
            "bound": floor.bound,
            "compute_ms": floor.compute_s * 1e3,
            "memory_ms": floor.memory_s * 1e3,
        }


def _summary(runs: Sequence[Run]) -> dict[str, Any]:
    """Medians; `best` is the difference of the fastest builds. `fixed` is what a build takes beside its layers.

    A build that its limit stopped has fewer layers: the fastest is one of those that have most.
    """
    layer_ms = [run.layer_s * 1e3 for run in runs]
    first, total = (statistics.median(seconds) for seconds in zip(*((r.first_s, r.total_s) for r in runs), strict=True))
    n = max(run.n_layers for run in runs)
    fastest = min(run.total_s for run in runs if run.n_layers == n)
    n_first = runs[0].n_first
    return {
        "ms_per_layer": statistics.median(layer_ms),
        "best_ms_per_layer": per_layer(min(run.first_s for run in runs), fastest, n, n_first) * 1e3,
        "rounds_ms_per_layer": layer_ms,
        "fixed_ms": statistics.median(run.fixed_s * 1e3 for run in runs),
        "first_s": first,
        "total_s": total,
        "n_layers": n,
        "n_first": n_first,
    }


def best_of(result: dict[str, Any], names: Sequence[str]) -> tuple[str, float] | None:
    """The fastest of some implementations: name and ms per layer; None if none ran."""
    done = {
        name: float(entry["ms_per_layer"])
        for name in names
        if "ms_per_layer" in (entry := result["implementations"].get(name, {}))
    }
    if not done:
        return None
    name = min(done, key=lambda n: done[n])
    return name, done[name]


def behind_numpy(results: Sequence[dict[str, Any]]) -> list[str]:
    """Workloads on which the engine was slower than the NumPy backend, in its best round against its best."""
    found = []
    for result in results:
        numpy, cpu = (result["implementations"].get(f"redunet {name}", {}) for name in ("numpy", "cpu"))
        if cpu.get("best_ms_per_layer", 0) > numpy.get("best_ms_per_layer", float("inf")):
            found.append(str(result["workload"]))
    return found


def ratios(result: dict[str, Any]) -> dict[str, Any]:
    """The package's best backend against the authors and the strongest rival, and its share of the floor."""
    own, rival, authors = (best_of(result, names) for names in (PACKAGE, (*EXPERTS, *RIVALS), (AUTHORS,)))
    if own is None:
        return {}
    ms = own[1]
    return {
        "package": own[0],
        "rival": rival[0] if rival else None,
        "over_rival": rival[1] / ms if rival else None,
        "over_authors": authors[1] / ms if authors else None,
        "floor_share": result["floor_dense"]["ms"] / ms,
        "dense_gflop_s": LayerCost(**result["cost"]["dense"]).flops / ms / 1e6,
        "gb_s": LayerCost(**result["cost"]["dense"]).bytes / ms / 1e6,
    }
