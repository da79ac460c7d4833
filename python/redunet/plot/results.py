"""Pictures of results: accuracies."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from redunet.plot import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def accuracies(
    results: Mapping[str, Mapping[str, float]], *, ax: Axes | None = None, title: str | None = "Accuracy"
) -> Axes:
    """Bars of accuracies: one colour per method, one group of bars per test.

    Parameters
    ----------
    results : mapping of str to mapping of str to float
        ``results[method][test]`` in [0, 1]; the same tests for every method.
    ax : matplotlib Axes, optional
        Where to draw; default: a new figure.
    title : str, optional
        None for no title.

    Returns
    -------
    matplotlib Axes
        With one bar per number, and the number above it in per cent.

    Examples
    --------
    >>> import redunet as rn
    >>> plain, equivariant = {"test": 0.98, "shifts": 0.17}, {"test": 0.97, "shifts": 0.96}
    >>> ax = rn.plot.accuracies({"plain": plain, "equivariant": equivariant})
    >>> [text.get_text() for text in ax.texts]
    ['98.0', '17.0', '97.0', '96.0']
    """
    entries: Any = results
    if (
        not isinstance(entries, Mapping)
        or not entries
        or not all(isinstance(v, Mapping) and v for v in entries.values())
    ):
        raise ValueError(f"results is {results!r}; expected {{method: {{test: accuracy}}}}")
    tests = list(next(iter(results.values())))
    for method, values in entries.items():
        if set(values) != set(tests):
            raise ValueError(f"results[{method!r}] has the tests {list(values)}; expected {tests}")
        for test, value in values.items():
            if not isinstance(value, numbers.Real) or not 0 <= float(value) <= 1:
                where = f"results[{method!r}][{test!r}]"
                raise ValueError(f"{where} is {value!r}; expected an accuracy in [0, 1]")
    ax = style.axes(ax)
    width = 0.8 / len(results)
    for i, (method, values) in enumerate(results.items()):
        x = np.arange(len(tests)) + (i - (len(results) - 1) / 2) * width
        heights = [100 * values[test] for test in tests]
        color = style.COLORS[(6, 0, 1, 2, 3, 4, 5)[i % len(style.COLORS)]]  # the first in grey: the one to compare with
        bars = ax.bar(x, heights, 0.94 * width, label=method, color=color)
        ax.bar_label(bars, fmt="%.1f", padding=2, fontsize="small")
    ax.set_xticks(range(len(tests)), tests)
    ax.set_yticks(range(0, 101, 20))
    ax.set(ylim=(0, 108), ylabel="accuracy (%)")  # room for the numbers above the bars
    if title is not None:
        ax.set_title(title)
    style.clean(ax, grid="y")
    ax.tick_params(axis="x", length=0)
    ax.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=len(results))
    return ax
