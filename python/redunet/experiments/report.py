"""What an experiment hands over: settings, tables, figures and remarks; saved as results.json, report.md and PNG."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from redunet.network import ReduNet

Row = dict[str, Any]
#: Decimals of a table; numbers that would need more are written with an exponent, and all of their column.
MOST_DECIMALS = 6


@dataclass
class Report:
    """The results of one experiment, in the order in which they are to be read.

    Attributes
    ----------
    name, title : str
        The experiment's name, and what it is in a line.
    settings : dict
        Every number that was chosen.
    tables : dict of str to list of dict
        Rows under a heading; all rows of a table have the same keys.
    figures : dict of str to matplotlib Figure
        Under the names of their files.
    captions : dict of str to str
        A sentence for each figure.
    series : dict
        Numbers along the layers, for results.json.
    remarks : list of str
        What the numbers say, and where they differ from the published ones, why.
    seconds : float
        From the beginning to `save`.
    """

    name: str
    title: str
    settings: dict[str, Any]
    tables: dict[str, list[Row]] = field(default_factory=dict)
    figures: dict[str, Figure] = field(default_factory=dict)
    captions: dict[str, str] = field(default_factory=dict)
    series: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    seconds: float = 0.0
    _start: float = field(default_factory=time.perf_counter)

    def add(self, table: str, **row: Any) -> None:
        """Append a row to a table; a number that is missing is None."""
        self.tables.setdefault(table, []).append(row)

    def remark(self, text: str) -> None:
        """Append a paragraph."""
        self.remarks.append(text)

    def axes(
        self, name: str, caption: str, *, columns: int = 1, rows: int = 1, size: tuple[float, float] = (5.2, 3.9),
        projection: str | None = None, of: ReduNet | None = None,
    ) -> list[Axes]:  # fmt: skip
        """New axes, row by row, of a figure of this name; ``size`` is that of one of them, in inches.

        Above them stand the experiment, and the steps and layers of the network that they are ``of``.

        Where matplotlib is not installed, what is drawn on them is nowhere.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError:
            return [cast("Axes", Nowhere(projection or "rectilinear"))] * (columns * rows)
        figure = Figure(figsize=(columns * size[0], rows * size[1]), layout="constrained")
        self.figures[name] = figure
        self.captions[name] = caption
        if of is not None:
            figure.suptitle(f"{self.name}: {_steps(of)}, {of.n_layers} layers", fontsize="large")
        found = figure.subplots(rows, columns, squeeze=False, subplot_kw={"projection": projection})
        return list(found.reshape(-1))

    def markdown(self) -> str:
        """The report as Markdown; figures are links to their files."""
        parts = [f"# {self.name}: {self.title}"]
        parts.append(", ".join(f"{key} = {_text(value)}" for key, value in self.settings.items()) + ".")
        for title, rows in self.tables.items():
            parts.append(f"## {title}\n\n{_table(rows)}")
        if self.remarks:
            parts.append("## What it says\n\n" + "\n\n".join(self.remarks))
        parts += [f"![{self.captions[name]}]({name}.png)\n\n{self.captions[name]}" for name in self.figures]
        parts.append(f"{self.seconds:.1f} s in all, with data, evaluation and figures.")
        return "\n\n".join(parts) + "\n"

    def save(self, folder: str | Path) -> Path:
        """Write results.json, report.md and the figures; returns the folder, which is made if missing."""
        from redunet.config import configuration

        self.seconds = time.perf_counter() - self._start
        where = Path(folder)
        where.mkdir(parents=True, exist_ok=True)
        for name, figure in self.figures.items():
            figure.savefig(where / f"{name}.png", dpi=130)
        content = {
            "experiment": self.name,
            "settings": self.settings,
            "tables": self.tables,
            "series": self.series,
            "remarks": self.remarks,
            "seconds": self.seconds,
            "machine": configuration(),
        }
        (where / "results.json").write_text(json.dumps(content, indent=1, default=_plain) + "\n", encoding="utf-8")
        (where / "report.md").write_text(self.markdown(), encoding="utf-8")
        return where


class Nowhere:
    """Stands for axes, and for whatever they give, where nothing can be drawn: the numbers are wanted all the same.

    Attributes
    ----------
    name : str
        The projection, as axes call it.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, name: str) -> Nowhere:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *_: Any, **__: Any) -> Nowhere:
        """Itself, as all that it is asked for."""
        return self

    def __getitem__(self, _: Any) -> Nowhere:
        return self

    def __iter__(self) -> Iterator[Nowhere]:
        return iter((self,))


def spread(values: Any, digits: int = 4) -> str | None:
    """Mean and standard deviation of several seeds as text; of one, the number; None where one is missing."""
    numbers = np.asarray(values, dtype=float)
    if np.isnan(numbers).any():
        return None
    if numbers.size == 1:
        return f"{numbers[0]:.{digits}f}"
    return f"{numbers.mean():.{digits}f} ± {numbers.std(ddof=1):.{digits}f}"


def _steps(net: ReduNet) -> str:
    """The steps of a network's layers, to three digits."""
    least, most = (f"{eta:.3g}" for eta in (net.etas.min(), net.etas.max()))
    return f"η = {least}" if least == most else f"η = {least} to {most}"


def _plain(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return str(value)


def _text(value: Any, digits: str = "") -> str:
    """A number in this format, or a float alone in four digits; nothing for one that is missing."""
    if value is None or (isinstance(value, (float, np.floating)) and np.isnan(value)):
        return ""
    if isinstance(value, (float, np.floating)):
        return f"{float(value):{digits or '.4g'}}"
    return str(value)


def _format(values: list[Any]) -> str:
    """One format for all floats of a column: decimals for four digits of the largest and two of the smallest."""
    sizes = np.abs([float(value) for value in values if isinstance(value, (float, np.floating))])
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    if not sizes.size:
        return ".4f"
    largest, smallest = min(4, 4 - np.ceil(np.log10(sizes.max()))), 1 - np.floor(np.log10(sizes.min()))
    return f".{int(max(largest, smallest, 0))}f" if smallest <= MOST_DECIMALS else ".2e"


def _table(rows: list[Row]) -> str:
    columns = {column: _format([row.get(column) for row in rows]) for column in rows[0]}
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in rows:
        lines.append("| " + " | ".join(_text(row.get(column), digits) for column, digits in columns.items()) + " |")
    return "\n".join(lines)
