"""New samples through a built network: one sample (latency) and all of them (throughput), FFTs included."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import redunet as rn
from bench.implementations import EXPERTS, PACKAGE, make_builder, start_builder, why_not
from bench.workloads import Workload

# Layers of the networks that are applied; every operator is read once per call.
LAYERS = {"gauss3d": 100, "rot01": 50, "trans10": 5}


@pytest.mark.parametrize("name", [*PACKAGE, *EXPERTS])
@pytest.mark.parametrize("samples", ["one", "all"])
@pytest.mark.parametrize("workload_name", LAYERS)
def test_transform(
    benchmark: BenchmarkFixture,
    workload: Callable[[str], Workload],
    n_threads: int,
    workload_name: str,
    samples: str,
    name: str,
) -> None:
    data = workload(workload_name)
    if reason := why_not(name, data):
        pytest.skip(reason)
    n_layers = 2 if benchmark.disabled else LAYERS[workload_name]
    X = data.X_new[:1] if samples == "one" else data.X_new
    benchmark.group = f"transform {samples}: {workload_name}, {n_layers} layers, {len(X)} samples"
    if name in PACKAGE:
        backend = name.split()[1]
        net, _ = rn.build(data.X, data.y, n_layers=n_layers, eta=data.eta, backend=backend, n_threads=n_threads)
        benchmark(lambda: net.transform(X, backend=backend, n_threads=n_threads))
        return
    builder = make_builder(name, n_threads)
    start_builder(builder, data)
    for _ in range(n_layers):
        builder.build_layer()

    def transform() -> None:
        builder.start_new(X)
        for i in range(n_layers):
            builder.apply_layer(i)
        builder.new_features()

    benchmark(transform)
