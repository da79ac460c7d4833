"""The scan of sizes: its arithmetic, what it flags, and that it runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import scan
from bench.scan import Line, Point, Size, cliffs, cost, least_work, lines, measure_size, quick, ratios, rows


def made_up(costs: list[float], **line: object) -> tuple[Line, list[Point]]:
    """Points whose seconds per unit of work are given."""
    sizes = tuple(Size(10 * (i + 1), 2, 4, 2) for i in range(len(costs)))
    points = [Point(size, c * least_work(size), 1e-3, least_work(size)) for size, c in zip(sizes, costs, strict=True)]
    return Line("made up", sizes, **line), points  # type: ignore[arg-type]


def test_neighbours_that_differ_are_flagged_either_way() -> None:
    line, points = made_up([1.0, 1.9, 4.0, 4.0, 1.5])
    assert ratios(line, points) == pytest.approx([1, 1.9, 4 / 1.9, 1, 0.375])
    assert [row[-1].endswith("<--") for row in rows(line, points)[1:]] == [False, False, True, False, True]
    assert cliffs(line, points) == [
        "made up: m=30 C=2 T=4 k=2 costs 2.11 x m=20 C=2 T=4 k=2",
        "made up: m=50 C=2 T=4 k=2 costs 0.38 x m=40 C=2 T=4 k=2",
    ]


def test_kinds_are_held_against_the_first() -> None:
    line, points = made_up([1.0, 1.9, 3.0], to_first=True)
    assert ratios(line, points) == pytest.approx([1, 1.9, 3])
    assert cliffs(line, points) == ["made up: m=30 C=2 T=4 k=2 costs 3.00 x m=10 C=2 T=4 k=2"]


def test_units_of_work() -> None:
    size = Size(60, 4, 6, 3)
    F, gram = 4, 4 * 4 * 60 * 16
    dense = gram + 4 * F * 4**3 * 4 + 2 * 4 * F * 16 * 60 * 4
    assert least_work(size) == dense
    assert least_work(Size(60, 4, 6, 3, "double")) == 2 * dense
    assert least_work(Size(60, 4, 6, 3, "soft")) == dense + 2 * gram
    assert least_work(Size(60, 4, 6, 3, "weighted")) == dense
    point = Point(size, layer_s=6e-6, fixed_s=1.44e-3, work=6e3)
    assert cost(point, "samples") == pytest.approx(100)
    assert cost(point, "fixed") == pytest.approx(1000)
    assert cost(point, "work") == pytest.approx(1e-9)
    assert point.gflop_s == pytest.approx(1)


@pytest.mark.parametrize("kind", scan.KINDS)
def test_every_kind_is_measured(kind: str) -> None:
    point = measure_size(Size(30, 3, 5, 2, kind), n_threads=1, backend="numpy")
    assert point.layer_s > 1e-6
    assert point.fixed_s > 1e-6


def test_all_sizes_can_be_built() -> None:
    for line in lines():
        assert len(line.sizes) > 2
        assert len(set(line.sizes)) == len(line.sizes)
        assert all(size.m >= size.k for size in line.sizes)
        assert line.by in ("work", "samples", "fixed")


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "SECONDS", 0.0)
    target = tmp_path / "scan.json"
    arguments = ["--quick", "--lines", "samples", "C = 4", "--backend", "numpy", "--json", str(target)]
    assert scan.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "m=100 C=5 T=16 k=2" in printed
    assert "kinds, C = 4" in printed
    assert "length" not in printed
    saved = json.loads(target.read_text())
    assert len(saved["points"]) == sum(
        len(line.sizes) for line in quick(lines()) if line.name in ("samples", "kinds, C = 4")
    )
    assert all(point["layer_s"] > 0 for point in saved["points"])
