"""Options of `pytest bench/`: where MNIST is, and how much to run.

Compare with an earlier run by `pytest bench/ --benchmark-autosave`, later `--benchmark-compare`;
`--benchmark-compare-fail=median:15%` turns a regression into a failure. Statistics of layer benchmarks are
seconds per layer.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from bench.environment import MISLEADING, available_cores
from bench.workloads import Workload, WorkloadUnavailable, load

# Only tests are collected: the other modules hold no doctests and some need PyTorch.
collect_ignore = [
    str(path.relative_to(Path(__file__).parent))
    for path in Path(__file__).parent.rglob("*.py")
    if not path.name.startswith("test_")
]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("redunet benchmarks")
    group.addoption("--data", metavar="DIR", help="folder of the MNIST IDX files")
    group.addoption("--small", action="store_true", help="cut-down workloads: a smoke test")
    group.addoption(
        "--full", action="store_true", help="all sizes and types of the linear algebra (an hour), and of clustering"
    )


def pytest_report_header() -> list[str]:
    bent = [name for name in MISLEADING if name in os.environ]
    return [f"WARNING: unset {', '.join(bent)}: BLAS is not what it would be"] if bent else []


@pytest.fixture(scope="session")
def n_threads() -> int:
    return available_cores()


@pytest.fixture(scope="session")
def workload(request: pytest.FixtureRequest) -> Callable[[str], Workload]:
    """A workload by name; the test is skipped where its data are missing."""

    @cache
    def cached(name: str) -> Workload:
        options = request.config.option
        return load(name, data=options.data, small=options.small or options.benchmark_disable)

    def get(name: str) -> Workload:
        try:
            return cached(name)
        except WorkloadUnavailable as reason:
            pytest.skip(str(reason))

    return get
