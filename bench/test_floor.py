"""The floor's arithmetic by hand, the choice of the best implementation, and the table made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench import tables
from bench.environment import describe
from bench.floor import layer_floor, min_cost
from bench.measure import add_floors, measure, ratios
from bench.workloads import Workload, load


def sizes_only(n_channels: int, class_size: int) -> Workload:
    """Three classes of signals of length 8; the values do not matter."""
    y = np.repeat(np.arange(3), class_size)
    X = np.ones((len(y), n_channels, 8), np.float32)
    return Workload("sizes", X, y, X, 3, 1)


def test_floor_counts_a_vector_layer() -> None:
    data = load("gauss2d")
    cost = min_cost(data)
    m, d, k = 1000, 2, 2
    assert cost.gram == m * d * d
    assert cost.inverse == (k + 1) * d**3
    assert cost.apply == 2 * (k + 1) * m * d * d
    assert cost.bytes == 4 * (2 * m * d + (k + 1) * d * d)
    floor = layer_floor(cost, rate=1e9, bandwidth=1e9)
    assert floor.seconds == max(cost.flops, cost.bytes) / 1e9


def test_factored_floor_is_lower_only_with_small_classes() -> None:
    large, small = sizes_only(3, 10), sizes_only(60, 10)
    assert min_cost(large, factored=True) == min_cost(large)
    assert min_cost(small, factored=True).flops < min_cost(small).flops
    assert min_cost(small, factored=True).bytes < min_cost(small).bytes


def test_unknown_workload() -> None:
    with pytest.raises(ValueError, match="name must be one of gauss2d"):
        load("mnist")


def test_measured_workload_becomes_a_row() -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 3), dtype=np.float32)
    data = Workload("gauss3d", X, np.repeat(np.arange(2), 20), X, 2, 4)
    names = ["redunet numpy", "NumPy expert", "NumPy expert, factored"]
    result: dict[str, Any] = measure(data, names, n_threads=1, rounds=2, n_layers=3)
    add_floors(result, sgemm=1e9)
    assert result["implementations"]["redunet numpy"]["n_layers"] == 3
    assert len(result["implementations"]["NumPy expert"]["rounds_ms_per_layer"]) == 2
    assert result["implementations"]["NumPy expert, factored"] == {"skipped": "no classes smaller than C"}
    own = result["implementations"]["redunet numpy"]["ms_per_layer"]
    expert = result["implementations"]["NumPy expert"]["ms_per_layer"]
    assert ratios(result)["over_rival"] == expert / own
    assert ratios(result)["over_authors"] is None
    head, row = tables.rows([result], rounds=2)
    assert len(head) == len(row)
    assert row[:5] == ["gauss3d", "40", "3", "1", "2"]
    assert tables.as_markdown([head, row]).count("\n") == 2
    assert len({len(line) for line in tables.as_text([head, row]).splitlines()}) == 1
    assert len(tables.builds([result])) == 3


def test_description_of_the_machine() -> None:
    machine = describe()
    assert machine["cores"] >= 1
    assert machine["versions"]["numpy"] == np.__version__
