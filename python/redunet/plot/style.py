"""Colours, markers, grids and legends of all pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = npt.NDArray[Any]

#: The colours of Okabe and Ito that show on white: distinct with any colour vision, and in their lightness.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#4D4D4D")
MARKERS = "os^Dv"
#: Of the rates, wherever they are drawn.
RATES = dict(zip(("R", "R_c", "ΔR"), COLORS, strict=False))
#: Scales of colours: of sizes from 0 (white or nearly) to 1, and of numbers with a sign, white at 0.
SIZES, SIGNED = "magma_r", "RdBu_r"
DASHES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
GRID: dict[str, Any] = {"color": "0.9", "linewidth": 0.8}


def axes(ax: Axes | None, *, size: tuple[float, float] = (5.6, 3.8), projection: str | None = None) -> Axes:
    """The axes given, or those of a new figure."""
    if ax is not None:
        if not hasattr(ax, "add_artist"):
            raise TypeError(f"ax is {ax!r} of type {type(ax).__name__}; expected the Axes of a figure")
        return ax
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError("redunet.plot needs matplotlib: pip install 'redunet[plot]'") from error
    figure = pyplot.figure(figsize=size, layout="constrained")
    return figure.add_subplot(projection=projection)


def styles(classes: Sequence[Any] | Array) -> Iterator[tuple[str, str, str, Any]]:
    """Label, colour, marker and dashes of each class: 35 pairs of colour and marker."""
    for j, label in enumerate(classes):
        turn = j // len(COLORS) % len(MARKERS)
        yield str(label), COLORS[j % len(COLORS)], MARKERS[turn], DASHES[turn]


def clean(ax: Any, *, grid: str, integer: bool = False) -> None:
    """Light grid, two spines, whole numbers on the x axis if asked."""
    ax.grid(True, axis=grid, **GRID)
    if integer:
        ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def class_legend(ax: Any, n_classes: int, loc: str = "best") -> None:
    """A legend, where there are colours and markers for all."""
    if n_classes <= len(COLORS) * len(MARKERS):
        ax.legend(title="class", frameon=False, ncols=1 + (n_classes - 1) // 5, loc=loc)
