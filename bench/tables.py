"""Results as text: an aligned table for the terminal, the same as Markdown for the README."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.implementations import AUTHORS, PACKAGE
from bench.measure import best_of, ratios

_EXPERTS = (
    ("PyTorch expert", ("PyTorch expert", "PyTorch expert, factored")),
    ("NumPy expert", ("NumPy expert", "NumPy expert, factored")),
)
NOTES = (
    "Milliseconds per layer in the loop, medians of interleaved rounds; single precision, operators kept.",
    "f: factored classes were the faster of the expert's two ways. *: fewer rounds than asked (time limit).",
    "floor: the fewest flops of a dense layer at the measured SGEMM rate, or (m) its least traffic at the",
    "measured copy bandwidth. share: floor / redunet; above 1 where classes are factored or gates are sharp.",
)


def _number(x: float | None) -> str:
    """Three significant digits, without an exponent."""
    if x is None:
        return "-"
    digits = 0 if abs(x) >= 99.95 else 1 if abs(x) >= 9.995 else 2 if abs(x) >= 0.9995 else 3
    return f"{x:.{digits}f}"


def _cell(result: dict[str, Any], names: Sequence[str], rounds: int) -> str:
    best = best_of(result, names)
    if best is None:
        return "-"
    name, ms = best
    entry = result["implementations"][name]
    few = "*" if len(entry["rounds_ms_per_layer"]) < rounds else ""
    return _number(ms) + ("f" if name.endswith("factored") else "") + few


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{_number(ratio)}x"


def rows(results: Sequence[dict[str, Any]], rounds: int) -> list[list[str]]:
    """The table with its head as the first row."""
    head = ["workload", "m", "C", "F", "k", AUTHORS, *(title for title, _ in _EXPERTS), *PACKAGE]
    table = [[*head, "vs authors", "vs expert", "floor", "share"]]
    for result in results:
        ratio = ratios(result)
        floor = result["floor_dense"]
        table.append(
            [
                result["workload"],
                *(str(result[key]) for key in ("n_samples", "n_channels", "n_freqs", "n_classes")),
                _cell(result, [AUTHORS], rounds),
                *(_cell(result, names, rounds) for _, names in _EXPERTS),
                *(_cell(result, [name], rounds) for name in PACKAGE),
                _times(ratio.get("over_authors")),
                _times(ratio.get("over_expert")),
                _number(floor["ms"]) + ("m" if floor["bound"] == "memory" else ""),
                _number(ratio.get("floor_share")),
            ]
        )
    return table


def builds(results: Sequence[dict[str, Any]]) -> list[list[str]]:
    """End to end: milliseconds of a whole build beside what its layers cost in the loop."""
    table = [["workload", "implementation", "layers", "build, ms", "layers in the loop, ms", "rest, ms"]]
    for result in results:
        for name, entry in result["implementations"].items():
            if "skipped" in entry:
                continue
            total, loop = entry["total_s"] * 1e3, entry["ms_per_layer"] * entry["n_layers"]
            table.append(
                [
                    result["workload"],
                    name,
                    str(entry["n_layers"]),
                    *map(_number, (total, loop, max(total - loop, 0.0))),
                ]
            )
    return table


def as_text(table: Sequence[Sequence[str]]) -> str:
    """Aligned columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for first, *others in table:
        cells = [first.ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(others, widths[1:], strict=True))]
        lines.append("  ".join(cells))
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def as_markdown(table: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    rule = ["---", *["---:"] * (len(table[0]) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (table[0], rule, *table[1:]))


def skipped(results: Sequence[dict[str, Any]]) -> list[str]:
    """One line for every implementation that did not run and why."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for result in results:
        for name, entry in result["implementations"].items():
            if "skipped" in entry and not name.endswith("factored"):
                reasons.setdefault((name, entry["skipped"]), []).append(result["workload"])
    return [f"not run: {name} ({', '.join(where)}): {why}" for (name, why), where in reasons.items()]
