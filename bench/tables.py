"""Results as text: an aligned table for the terminal, the same as Markdown for the README."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.ceilings import where
from bench.floor import LayerCost
from bench.implementations import AUTHORS, PACKAGE, RIVALS, VARIANTS
from bench.measure import best_of, ratios

# Columns: what they are called, and the implementations of which the faster is shown.
_COLUMNS = (
    (AUTHORS, (AUTHORS,)),
    ("PyTorch expert", ("PyTorch expert", "PyTorch expert, factored")),
    ("NumPy expert", ("NumPy expert", "NumPy expert, factored")),
    *((name, (name,)) for name in (*RIVALS, *PACKAGE, *VARIANTS)),
)
NOTES = (
    "Milliseconds of a further layer: a build of many layers less one of one layer, whole, medians of interleaved",
    "rounds; single precision, operators kept. Rivals compile before the clock starts. One thread: processor time.",
    "CUDA: by the wall, longer builds less shorter ones; features: operators not kept; auto: steps are chosen.",
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
    """The table with its head as the first row; columns of what ran nowhere are left out."""
    columns = [(title, names) for title, names in _COLUMNS if any(best_of(result, names) for result in results)]
    head = ["workload", "m", "C", "F", "k", *(title for title, _ in columns)]
    table = [[*head, "vs authors", "strongest rival", "vs rival", "floor", "share"]]
    for result in results:
        ratio = ratios(result)
        floor = result["floor_dense"]
        table.append(
            [
                result["workload"],
                *(str(result[key]) for key in ("n_samples", "n_channels", "n_freqs", "n_classes")),
                *(_cell(result, names, rounds) for _, names in columns),
                _times(ratio.get("over_authors")),
                ratio.get("rival") or "-",
                _times(ratio.get("over_rival")),
                _number(floor["ms"]) + ("m" if floor["bound"] == "memory" else ""),
                _number(ratio.get("floor_share")),
            ]
        )
    return table


def efficiency(results: Sequence[dict[str, Any]], ceilings: dict[str, Any]) -> list[list[str]]:
    """The package's layers beside what the machine can do: arithmetic, traffic, and what a thread more brings.

    `ceilings` are those of the threads in use (`bench.ceilings`).
    """
    fma, n_threads = ceilings["fma_gflop_s"], ceilings["n_threads"]
    head = ["workload", "ms", "dense GF/s", "of SGEMM", "of multiply-adds", "MB", "in", "GB/s", "of reading there"]
    threaded = n_threads > 1
    table = [[*head, *([f"{n_threads} threads, multiply-adds"] if threaded else [])]]
    for result in results:
        ratio = ratios(result)
        if not ratio:
            continue
        nbytes = LayerCost(**result["cost"]["dense"]).bytes
        level = where(nbytes, n_threads)
        reading = ceilings["read_gb_s"].get(level)
        flops = ratio["dense_gflop_s"]
        table.append(
            [
                result["workload"],
                _number(best_of(result, PACKAGE)[1]),  # type: ignore[index]
                _number(flops),
                _share(flops, ceilings["sgemm_gflop_s"]),
                _share(flops, fma),
                _number(nbytes / 1e6),
                level,
                _number(ratio["gb_s"]),
                _share(ratio["gb_s"], reading),
                *([_times(result["scaling"])] if threaded else []),
            ]
        )
    return table


def _share(x: float, whole: float | None) -> str:
    return "-" if whole is None else f"{100 * x / whole:.0f} %"


def builds(results: Sequence[dict[str, Any]]) -> list[list[str]]:
    """End to end: milliseconds of a whole build, of the shorter one, and what a build takes beside its layers."""
    head = ["workload", "implementation", "layers", "build, ms", "of layers", "shorter, ms", "a further layer, ms"]
    table = [[*head, "fixed, ms"]]
    for result in results:
        for name, entry in result["implementations"].items():
            if "skipped" in entry:
                continue
            many, few = (
                (str(entry[n]), _number(entry[s] * 1e3)) for n, s in (("n_layers", "total_s"), ("n_first", "first_s"))
            )
            rest = _number(entry["ms_per_layer"]), _number(entry["fixed_ms"])
            table.append([result["workload"], name, *many, *few, *rest])
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
