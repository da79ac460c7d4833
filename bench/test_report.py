"""What the report makes of its measurements: layers from two builds, columns, several numbers of threads."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import implementations, report, tables
from bench.implementations import JAX, RIVALS, STACKED, STACKED_MKL, Run, build_baseline, why_not
from bench.measure import _summary, best_of, ratios
from bench.workloads import Workload, load


def test_a_layer_is_the_difference_of_two_builds() -> None:
    run = Run(first_s=0.5, total_s=1.4, n_layers=10)
    assert run.layer_s == pytest.approx(0.1)
    assert run.spent_s == pytest.approx(1.9)
    assert Run(first_s=0.5, total_s=0.6, n_layers=1).layer_s == 0.6
    longer = Run(first_s=0.5, total_s=1.4, n_layers=14, n_first=5)
    assert (longer.layer_s, longer.fixed_s) == pytest.approx((0.1, 0.0))
    runs = [run, Run(0.7, 1.6, 10), Run(0.4, 1.75, 10)]
    entry = _summary(runs)
    assert entry["ms_per_layer"] == pytest.approx(100)
    assert entry["best_ms_per_layer"] == pytest.approx(1e3 / 9)  # the fastest builds: 0.4 and 1.4 s
    assert entry["fixed_ms"] == pytest.approx(400)  # of 400, 600 and 250
    assert (entry["first_s"], entry["total_s"], entry["n_layers"]) == (0.5, 1.6, 10)
    stopped = _summary([*runs, Run(first_s=0.6, total_s=0.9, n_layers=3)])
    assert (stopped["best_ms_per_layer"], stopped["n_layers"]) == (entry["best_ms_per_layer"], 10)


def result(**ms: float) -> dict[str, Any]:
    whole = {"first_s": 1.0, "total_s": 2.0, "n_layers": 2, "n_first": 1}
    cost = {"gram": 1e6, "inverse": 1e6, "apply": 8e6, "feature_bytes": 1e6, "operator_bytes": 1e6}
    return {
        "workload": "made up",
        **dict.fromkeys(("n_samples", "n_channels", "n_freqs", "n_classes"), 3),
        "cost": {"dense": cost},
        "floor_dense": {"ms": 0.5, "bound": "compute"},
        "implementations": {
            name: {"ms_per_layer": x, "rounds_ms_per_layer": [x], "fixed_ms": x, **whole} for name, x in ms.items()
        },
    }


def test_the_strongest_rival_is_named() -> None:
    made = result(**{"redunet cpu": 2.0, "NumPy expert": 9.0, STACKED: 5.0, JAX: 7.0, "authors": 40.0})
    assert best_of(made, RIVALS) == (STACKED, 5.0)
    found = ratios(made)
    assert (found["rival"], found["over_rival"], found["over_authors"]) == (STACKED, 2.5, 20.0)
    assert found["dense_gflop_s"] == pytest.approx(5)  # 10 MF in 2 ms
    assert found["gb_s"] == pytest.approx(1.5)  # 3 MB in 2 ms
    head, row = tables.rows([made], rounds=2)
    assert "PyTorch expert" not in head  # it ran nowhere
    assert row[head.index(STACKED)] == "5.00*"  # one round of two
    assert row[head.index("strongest rival")] == STACKED
    assert row[head.index("vs rival")] == "2.50x"
    assert [line[-1] for line in tables.builds([made])[1:]] == ["2.00", "9.00", "5.00", "7.00", "40.0"]


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(implementations, "find_spec", lambda name: None)
    data = load("gauss2d")
    assert why_not(JAX, data) == "JAX is not installed"
    assert why_not(STACKED, data) == why_not(STACKED_MKL, data) == "numba is not installed"
    assert why_not("NumPy expert", data) is None


def test_what_does_not_fit_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    data = load("gauss2d")
    monkeypatch.setattr(implementations, "find_spec", lambda name: True)
    monkeypatch.setattr(implementations, "available_bytes", lambda: 2 * 3 * 1000 * 2 * 4 - 1)  # two copies of responses
    assert why_not(STACKED, data) == "needs 0 GiB"
    monkeypatch.setattr(implementations, "available_bytes", lambda: 2 * 3 * 1000 * 2 * 4)
    assert why_not(STACKED, data) is None


def test_a_baseline_stops_when_its_time_is_up() -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 3), dtype=np.float32)
    data = Workload("made up", X, np.repeat(np.arange(2), 20), X, 2, 4)
    builder = implementations.make_builder("NumPy expert", 1)
    seconds, built = build_baseline(builder, data, 5, n_threads=1, limit_s=0.0)
    assert built == 1
    assert seconds > 0
    assert build_baseline(builder, data, 5, n_threads=1, limit_s=60.0)[1] == 5
    assert len(builder.rates) == 5


def test_a_busy_machine_is_said() -> None:
    assert report._busy(3.0, 2) == "WARNING: the machine was busy (load 3.0): not a result to quote."
    assert "processor times leave that out" in report._busy(3.0, 1)


def test_each_number_of_threads_has_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], *, check: bool) -> subprocess.CompletedProcess[str]:
        options = report._parser().parse_args(command[3:])
        asked.append(options.workloads)
        options.json.write_text(json.dumps({"threads": options.threads}))
        return subprocess.CompletedProcess(command, returncode=len(asked) - 1)

    monkeypatch.setattr(subprocess, "run", run)
    target = tmp_path / "all.json"
    status = report.main(["--threads", "1", "2", "--workloads", "gauss2d", "gauss3d", "--json", str(target)])
    assert status == 1
    assert asked == [["gauss2d", "gauss3d"]] * 2
    assert json.loads(target.read_text()) == [{"threads": [1]}, {"threads": [2]}]
