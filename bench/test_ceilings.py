"""Ceilings of the machine: what must hold of any, and what is said about them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench import ceilings, environment, tables
from bench.ceilings import Ceilings, fma_rate, read_rate, verdict, where

needs_compiler = pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler")


@needs_compiler
def test_rates_are_those_of_a_vector_machine() -> None:
    # Slower than one multiply-add of four floats a nanosecond, or faster than 64 of 16: not what was to be measured.
    fma = fma_rate(1)
    assert fma is not None
    assert 4e9 < fma < 2e12
    near, far = read_rate(1 << 14, 1), read_rate(64 << 20, 1)
    assert near is not None
    assert far is not None
    assert 1e9 < far < near


def test_without_a_compiler_only_products_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "_COMPILERS", ())
    ceilings._library.cache_clear()
    try:
        assert fma_rate(1) is None
        assert ceilings.scaling(2) is None
        monkeypatch.setattr(ceilings, "sgemm_rate", lambda n: 5e9)
        measured = ceilings.measure_ceilings(1)
        assert measured == Ceilings(n_threads=1, fma_gflop_s=None, sgemm_gflop_s=5.0, read_gb_s={})
        assert ceilings.all_ceilings(1)[0]["fma_gflop_s"] is None
    finally:
        ceilings._library.cache_clear()
    assert ceilings.table(ceilings.all_ceilings(1))[0][:2] == ["threads", "multiply-adds, GF/s"]


def test_cache_sizes_are_the_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_caches", lambda: {"L1": "32K", "L2": "1024K", "L3": "32M", "L4": ""})
    assert environment.cache_bytes() == {"L1": 32 << 10, "L2": 1 << 20, "L3": 32 << 20}
    assert where(2 << 20, 2) == "L2"
    assert where(2 << 20, 1) == "L3"
    assert where(33 << 20, 2) == "memory"
    sizes = ceilings.block_sizes(2)
    assert sizes["L2"] <= 1 << 20
    assert sizes["L3"] > 1 << 20
    assert 2 * sizes["L3"] <= 32 << 20 < 2 * sizes["memory"]


def test_unknown_cache_sizes_measure_no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_caches", dict)
    assert ceilings.block_sizes(2) == {}


def test_verdict_on_virtual_cores() -> None:
    assert verdict(1.97, 2) == "2 threads do 1.97x the multiply-adds of one: cores of their own"
    assert "share a core" in verdict(1.02, 2)
    assert "share a core" in verdict(2.1, 4)


def test_row_of_efficiency() -> None:
    result = {
        "workload": "made up",
        "scaling": 1.9,
        "cost": {
            "dense": {"gram": 1e9, "inverse": 0.0, "apply": 3e9, "feature_bytes": 1e6, "operator_bytes": 2e6},
        },
        "floor_dense": {"ms": 20.0},
        "implementations": {"redunet cpu": {"ms_per_layer": 40.0}},
    }
    rates = {
        "n_threads": 2,
        "fma_gflop_s": 200.0,
        "sgemm_gflop_s": 160.0,
        "read_gb_s": {"L2": 1.0, "L3": 0.5, "memory": 0.2},
    }
    head, row = tables.efficiency([result], rates)
    assert len(head) == len(row)
    # 4 GF in 40 ms: 100 GF/s; 4 MB in 40 ms: 0.1 GB/s
    assert row[:6] == ["made up", "40.0", "100", "62 %", "50 %", "4.00"]
    assert row[7] == "0.100"
    assert row[-1] == "1.90x"
    assert [len(line) for line in tables.efficiency([result], {**rates, "n_threads": 1})] == [len(head) - 1] * 2
