"""Seconds per layer of every implementation on every workload.

The clock that pytest-benchmark reads advances by the cost of one layer per construction, so that its
statistics, and `--benchmark-compare`, speak of layers; whole builds are in `extra_info`. Ratios to quote come
from `python -m bench.report`, which interleaves the implementations.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.implementations import AUTHORS, COMPILED, NAMES, runner, why_not
from bench.measure import timed_layers
from bench.workloads import NAMES as WORKLOADS
from bench.workloads import Workload

LIMIT_S = 20.0
ROUNDS = 3


class LayerClock:
    """A clock that only the measured cost of layers moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


clock = LayerClock()


@pytest.mark.benchmark(timer=clock, warmup=False)
@pytest.mark.parametrize("name", [name for name in NAMES if name != COMPILED])  # a minute of compiling each
@pytest.mark.parametrize("workload_name", WORKLOADS)
def test_layer(
    benchmark: BenchmarkFixture,
    workload: Callable[[str], Workload],
    n_threads: int,
    workload_name: str,
    name: str,
) -> None:
    data = workload(workload_name)
    if reason := why_not(name, data):
        pytest.skip(reason)
    benchmark.group = f"time per layer: {workload_name}"
    n_layers = 2 if benchmark.disabled else timed_layers(name, data, None)
    build = runner(name, data, n_layers, n_threads=n_threads, limit_s=LIMIT_S)

    def advance() -> None:
        run = build()
        clock.now += run.layer_s
        benchmark.extra_info.update(total_s=run.total_s, n_layers=run.n_layers)
        assert run.total_s > 0

    benchmark.pedantic(advance, rounds=1 if name == AUTHORS else ROUNDS)  # type: ignore[no-untyped-call]
