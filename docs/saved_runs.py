"""Saved runs of `python -m bench.report --json`, as the page on benchmarks shows them: a chart and a table of each.

Every JSON file of the folder `runs` is one run, or a list of runs with different numbers of threads. Charts are SVG
within the page, in the colours of the site's theme, so that they can be read in the dark.
"""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent / "runs"
PAGE, MARK = "benchmarks", "<!-- saved runs -->"
OWN = "redunet "
BUSY = 0.5  # load per core from which bench.report says that the machine was busy
#: Of the chart: where bars begin, their longest, the height of a row and of a bar.
LEFT, LONGEST, ROW, BAR = 100, 380, 30, 18


class Bar(NamedTuple):
    """The engine against the strongest rival on one workload."""

    workload: str
    ratio: float
    rival: str
    own_ms: float
    rival_ms: float
    rounds: int


def saved(folder: Path) -> list[dict[str, Any]]:
    """The runs of all files, the last first; a ValueError names a file that is none, or of cut-down workloads."""
    runs = []
    for file in sorted(folder.glob("*.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        for run in content if isinstance(content, list) else [content]:
            if not isinstance(run, dict) or not {"machine", "results", "quick"} <= set(run):
                raise ValueError(f"{file.name} holds no run; expected what `python -m bench.report --json` saves")
            if run["quick"]:
                raise ValueError(f"{file.name} is a run with --quick, of cut-down workloads; expected a whole one")
            runs.append(run)
    return sorted(runs, key=lambda run: (run["machine"]["date"], run["machine"]["threads"]), reverse=True)


def bars(run: dict[str, Any]) -> list[Bar]:
    """A bar for every workload on which the package and a rival ran."""
    found = []
    for result in run["results"]:
        ratios, entries = result["ratios"], result["implementations"]
        if ratios.get("rival"):
            own, rival = entries[ratios["package"]], entries[ratios["rival"]]
            rounds = min(len(own["rounds_ms_per_layer"]), len(rival["rounds_ms_per_layer"]))
            times = own["ms_per_layer"], rival["ms_per_layer"]
            found.append(Bar(result["workload"], ratios["over_rival"], ratios["rival"], *times, rounds))
    return found


def chart(found: list[Bar]) -> str:
    """Ratios as bars, from 0, with a line where both are as fast: SVG without an empty line, as Markdown takes it."""
    scale = LONGEST / max(1.0, *(bar.ratio for bar in found))
    height, one = ROW * len(found) + 20, LEFT + scale
    lines = [
        f'<svg class="chart" viewBox="0 0 720 {height}" role="img" aria-label="Speed over the strongest rival">',
    ]
    for number, bar in enumerate(found):
        y = ROW * number + (ROW - BAR) / 2
        middle = f'y="{y + BAR / 2:g}" dominant-baseline="central"'
        lines += [
            f'<text x="{LEFT - 8}" {middle} text-anchor="end">{escape(bar.workload)}</text>',
            f'<rect x="{LEFT}" y="{y:g}" width="{bar.ratio * scale:.1f}" height="{BAR}"/>',
            f'<text x="{LEFT + bar.ratio * scale + 8:.1f}" {middle}>{bar.ratio:.1f} × {escape(bar.rival)}</text>',
        ]
    lines += [
        f'<line x1="{one:.1f}" x2="{one:.1f}" y1="0" y2="{ROW * len(found)}"/>',
        f'<text x="{one:.1f}" y="{ROW * len(found) + 14}" text-anchor="middle">1</text>',
        "</svg>",
    ]
    return "\n".join(lines)


def section(run: dict[str, Any]) -> str:
    """Heading, machine, chart and table of a run, as Markdown."""
    machine, found = run["machine"], bars(run)
    threads = machine["threads"]
    title = f"{machine['date'][:10]}: {machine['cpu']}, {threads} thread{'s' * (threads > 1)}"
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    commit = (machine["commit"][:10] or "unknown") + (" with changes" * machine["uncommitted_changes"])
    clock = "processor time" if threads == 1 else "wall time"
    parts = [
        f"## {title}",
        f"Commit {commit}; {machine['cores']} core{'s' * (machine['cores'] > 1)} to be used, SGEMM "
        f"{machine['sgemm_gflop_s']:.0f} GFLOP/s; {versions}. Medians of {run['rounds']} rounds at most, {clock}: "
        f"`{machine['command']}`.",
    ]
    load = (machine["load_average"] or [0])[0]
    if load > BUSY * threads:
        left = "these times are not to be quoted"
        if threads == 1:
            left = "processor times leave them out, but not what they do to caches and memory"
        parts.append(f"**On a shared machine**: other programs were at work (load {load:.1f}); {left}.")
    ran = dict.fromkeys(
        name
        for result in run["results"]
        for name, entry in result["implementations"].items()
        if "ms_per_layer" in entry and not name.startswith(OWN)
    )
    parts.append(f"Rivals in this run: {'; '.join(ran)}.")
    if found:
        parts += [chart(found), table(found)]
    return "\n\n".join(parts) + "\n"


def table(found: list[Bar]) -> str:
    """The numbers behind a chart."""
    head = "| workload | strongest rival | its ms a layer | redunet, ms | ratio | rounds |\n|---|---|" + "---:|" * 4
    rows = (
        f"| {bar.workload} | {bar.rival} | {_ms(bar.rival_ms)} | {_ms(bar.own_ms)} | {bar.ratio:.1f} | {bar.rounds} |"
        for bar in found
    )
    return "\n".join([head, *rows])


def _ms(x: float) -> str:
    """Three digits."""
    return f"{x:#.3g}".rstrip(".")


def fill(app: Any, name: str, source: list[str]) -> None:
    """Put the runs into the page, where its mark is."""
    if name == PAGE:
        source[0] = source[0].replace(MARK, "\n".join(map(section, saved(FOLDER))))


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("source-read", fill)
    app.connect("env-get-outdated", lambda *_: [PAGE])  # files of runs may have come
    return {"parallel_read_safe": True, "parallel_write_safe": True}
