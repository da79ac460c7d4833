"""Runs of the benchmarks that the site shows: what is drawn was measured, and saved files say nothing private."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]
if not (ROOT / "docs" / "saved_runs.py").is_file():  # pragma: no cover
    pytest.skip("the sources are not here", allow_module_level=True)
spec = importlib.util.spec_from_file_location("saved_runs", ROOT / "docs" / "saved_runs.py")
saved_runs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(saved_runs)


def run(date="2026-01-02T03:04:05+00:00", threads=1, load=0.1, **ratios):
    """A run in which the rival & co. took so many times redunet's 2 ms."""
    return {
        "machine": {
            "cpu": "a processor", "cores": 2, "threads": threads, "sgemm_gflop_s": 99.6, "commit": "0123456789abcdef",
            "uncommitted_changes": False, "date": date, "load_average": [load, 0, 0], "versions": {"numpy": "2.0"},
            "command": "python -m bench.report",
        },
        "rounds": 3,
        "quick": False,
        "results": [
            {
                "workload": name,
                "ratios": {"package": "redunet cpu", "rival": "R & co.", "over_rival": ratio},
                "implementations": {
                    "redunet cpu": {"ms_per_layer": 2.0, "rounds_ms_per_layer": [2.0] * 3},
                    "R & co.": {"ms_per_layer": 2 * ratio, "rounds_ms_per_layer": [2 * ratio] * 2},
                },
            }
            for name, ratio in ratios.items()
        ],
    }  # fmt: skip


def test_bars_are_as_long_as_ratios():
    found = saved_runs.bars(run(fast=4.0, slow=0.5))
    picture = ElementTree.fromstring(saved_runs.chart(found))
    widths = [float(bar.get("width")) for bar in picture.iter("rect")]
    assert widths == [saved_runs.LONGEST, saved_runs.LONGEST / 8]
    line = next(picture.iter("line"))
    assert float(line.get("x1")) == saved_runs.LEFT + saved_runs.LONGEST / 4
    assert [text.text for text in picture.iter("text")] == ["fast", "4.0 × R & co.", "slow", "0.5 × R & co.", "1"]


def test_a_chart_is_one_block_of_markdown():
    assert "\n\n" not in saved_runs.chart(saved_runs.bars(run(a=1.0, b=2.0)))


def test_a_section_says_where_and_when():
    text = saved_runs.section(run(rot01=4.5))
    assert text.startswith("## 2026-01-02: a processor, 1 thread\n")
    assert "Commit 0123456789; 2 cores" in text
    assert "Rivals in this run: R & co.." in text
    assert "| rot01 | R & co. | 9.00 | 2.00 | 4.5 | 2 |" in text
    assert "shared machine" not in text
    assert "processor times leave them out" in saved_runs.section(run(load=0.6, rot01=4.5))
    assert "not to be quoted" in saved_runs.section(run(threads=2, load=1.2, rot01=4.5))
    assert "shared machine" not in saved_runs.section(run(threads=2, load=0.9, rot01=4.5))


def test_a_workload_without_a_rival_has_no_bar():
    alone = run(rot01=2.0)
    alone["results"][0]["ratios"] = {"package": "redunet cpu", "rival": None, "over_rival": None}
    assert saved_runs.bars(alone) == []
    assert "<svg" not in saved_runs.section(alone)


def test_files_come_last_first_and_may_hold_several_threads(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([run("2026-01-01", 1, a=1.0), run("2026-01-01", 2, a=1.0)]))
    (tmp_path / "b.json").write_text(json.dumps(run("2026-02-01", 1, a=1.0)))
    order = [(found["machine"]["date"], found["machine"]["threads"]) for found in saved_runs.saved(tmp_path)]
    assert order == [("2026-02-01", 1), ("2026-01-01", 2), ("2026-01-01", 1)]


def test_what_is_no_run_is_named(tmp_path):
    file = tmp_path / "a.json"
    file.write_text("[3]")
    with pytest.raises(ValueError, match=r"a\.json holds no run; expected what `python -m bench\.report --json` saves"):
        saved_runs.saved(tmp_path)
    file.write_text(json.dumps({**run(a=1.0), "quick": True}))
    with pytest.raises(ValueError, match=r"a\.json is a run with --quick, of cut-down workloads; expected a whole one"):
        saved_runs.saved(tmp_path)


def test_runs_of_the_repository_can_be_shown():
    runs = saved_runs.saved(saved_runs.FOLDER)
    assert runs
    for found in runs:
        assert len(saved_runs.bars(found)) > 1
        assert not found["machine"]["uncommitted_changes"]
        # Neither folders nor names of the machine that it was made on.
        assert re.findall(r"(?<![\w.])/\w+/", json.dumps(found)) == []
    page = (ROOT / "docs" / f"{saved_runs.PAGE}.md").read_text(encoding="utf-8")
    assert page.count(saved_runs.MARK) == 1
