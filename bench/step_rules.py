"""What a layer costs under each step rule, against one of a given step: momentum, search, and both.

    python -m bench.step_rules [--rounds 9] [--workloads NAME ...] [--json out.json]

Whole builds, in turns; a layer is the difference of a build of many layers and one of a quarter of them. A searched
layer is also divided by its evaluations: the operators at one set of features, most of the cost of a layer.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

import redunet as rn
from bench.environment import hold_fresh_memory, restart_clean
from bench.workloads import Workload, load
from redunet import _backends
from redunet._backends.ascent import Ascent
from redunet._backends.contract import BuildRequest, BuildResult
from redunet._inputs import prepare

LAYERS = {"gauss2d": 4000, "gauss3d": 4000, "rot01": 120, "trans01": 80, "bp2d": 16, "rot10": 40}
DEFAULT = ("gauss2d", "rot01", "bp2d")
RULES: dict[str, dict[str, Any]] = {
    "given": {"eta": 0.5},
    "natural": {"eta": "auto"},
    "search": {"eta": "search"},
    "momentum": {"eta": 0.5, "momentum": True},
    "momentum, natural": {"eta": "auto", "momentum": True},
    "momentum, search": {"eta": "search", "momentum": True},
}


def evaluations(workload: Workload, n_layers: int, *, eta: Any, momentum: bool = False) -> float:
    """Per layer: how often the loop that is made from the verbs, with the same rule, looks at features."""
    given = prepare.samples(workload.X, dtype=np.float32, backend="auto", n_threads=None)
    problem, _ = prepare.problem(
        given, workload.y, sample_weight=None, epsilon_sq=workload.epsilon_sq, dft_norm="ortho"
    )
    V = given.spectra(normalize=True)
    request = BuildRequest(
        n_layers=n_layers,
        etas=None if isinstance(eta, str) else np.full(n_layers, eta),
        lam=workload.lam,
        search=eta == "search",
        momentum=momentum,
    )
    result = BuildResult.room(problem, n_layers, V.shape[1], V.dtype, lam=workload.lam, keep=False)
    module = _backends.select()[1]
    loop = Ascent(
        module.state(V, problem, n_threads=given.n_threads), problem, request, result, float(np.finfo(V.dtype).eps)
    )
    looks = 0
    look = loop._look

    def counted(*args: Any) -> Any:
        nonlocal looks
        looks += 1
        return look(*args)

    loop._look = counted  # type: ignore[method-assign]
    loop.run()
    return (looks - 1) / n_layers


def seconds(workload: Workload, n_layers: int, **rule: Any) -> float:
    """Of one build that keeps its operators."""
    hold_fresh_memory()
    begin = time.perf_counter()
    rn.build(
        workload.X, workload.y, n_layers=n_layers, lam=workload.lam, epsilon_sq=workload.epsilon_sq,
        dtype="float32", **rule,
    )  # fmt: skip
    return time.perf_counter() - begin


def measure(name: str, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of a layer, from the medians of rounds; how many times a given step that is; and evaluations."""
    workload, n = load(name), LAYERS[name]
    lengths = (n, n // 4)
    times: dict[tuple[str, int], list[float]] = {(rule, length): [] for rule in RULES for length in lengths}
    for turn in range(rounds + 1):  # the first of which finds everything cold
        for (rule, length), taken in times.items():
            spent = seconds(workload, length, **RULES[rule])
            if turn:
                taken.append(spent)
    layer = {
        rule: (statistics.median(times[rule, n]) - statistics.median(times[rule, n // 4])) / (n - n // 4)
        for rule in RULES
    }
    found = {}
    for rule, options in RULES.items():
        ratio, count = layer[rule] / layer["given"], evaluations(workload, n, **options)
        found[rule] = {"ms": layer[rule] * 1e3, "ratio": ratio, "evaluations": count, "per evaluation": ratio / count}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="+", default=DEFAULT, choices=[*LAYERS], metavar="NAME")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    restart_clean()
    results = {}
    for name in options.workloads:
        results[name] = measure(name, options.rounds)
        print(f"{name:9} {'rule':18} {'ms a layer':>10} {'x given':>8} {'evaluations':>12} {'x, each':>8}")
        for rule, row in results[name].items():
            print(
                f"{'':9} {rule:18} {row['ms']:10.4f} {row['ratio']:8.2f} {row['evaluations']:12.2f} "
                f"{row['per evaluation']:8.2f}",
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
