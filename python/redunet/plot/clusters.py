"""Pictures of merging by coding length: the merge tree, the code along the path, clusters as the distortion grows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from redunet._inputs import checks
from redunet.clustering import MergePath, PhaseTransition
from redunet.plot import style
from redunet.rates import UNITS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = npt.NDArray[np.float64]

ABOVE = "0.5"


def merge_tree(
    path: MergePath, *, n_merges: int = 30, ax: Axes | None = None, title: str | None = "Merge tree"
) -> Axes:
    """The last merges of a path as a tree: what joins, and how dear each merge was.

    Parameters
    ----------
    path : MergePath
        From `redunet.clustering.merge_path`.
    n_merges : int, default 30
        Merges to show, at most.
    ax : matplotlib Axes, optional
        Where to draw; default: a new figure.
    title : str, optional
        None for no title.

    Returns
    -------
    matplotlib Axes
        With one line per merge, at the height of `MergePath.linkage`: the highest gain so far above the lowest of all.
        Colours are the clusters of the shortest code, grey is above them; below each leaf are its samples.

    Examples
    --------
    >>> import redunet as rn
    >>> X, y = rn.datasets.lines_and_plane(60, noise=0.02, random_state=0)
    >>> path = rn.clustering.merge_path(X, epsilon_sq=0.001, mean="zero")
    >>> len(rn.plot.merge_tree(path, n_merges=12).lines)
    12
    """
    checks.instance(path, MergePath, "path")
    shown = min(checks.integer(n_merges, "n_merges", 1), len(path.children))
    ax = style.axes(ax)
    n, hidden = path.n_start, len(path.children) - shown
    heights = np.maximum.accumulate(path.gains - path.gains.min()) if shown else np.empty(0)
    best = n - path.n_best  # merges below the cut
    colours: dict[int, Any] = {}
    xs: dict[int, float] = {}
    ys: dict[int, float] = {}
    leaves = _leaves(path, n + hidden)
    for x, leaf in enumerate(leaves):
        xs[leaf], ys[leaf] = float(x), float(heights[leaf - n]) if leaf >= n else 0.0
    roots = _roots(path, n + best)
    for t in range(len(path.children) - 1, hidden - 1, -1):  # colours come from above
        node = n + t
        if node in roots:
            colours[node] = style.COLORS[roots.index(node) % len(style.COLORS)]
        for child in path.children[t].tolist():
            if t < best and node in colours:
                colours[child] = colours[node]
    for t in range(hidden, hidden + shown):
        (i, j), height = path.children[t].tolist(), float(heights[t])
        ax.plot([xs[i], xs[i], xs[j], xs[j]], [ys[i], height, height, ys[j]], color=colours.get(n + t, ABOVE), lw=1.2)
        xs[n + t], ys[n + t] = (xs[i] + xs[j]) / 2, height
    sizes = np.concatenate([np.bincount(path.start), path.sizes])
    ax.set_xticks(range(len(leaves)), [str(size) for size in sizes[leaves]], rotation=90, fontsize="small")
    ax.set(xlabel="samples in each branch", ylabel="gain above the lowest (nats)", ylim=(0, None))
    if title is not None:
        ax.set_title(title)
    style.clean(ax, grid="y")
    return ax


def code_lengths(path: MergePath, *, ax: Axes | None = None, title: str | None = "Code length") -> Axes:
    """The length of the code against the number of clusters, with both stops.

    Parameters
    ----------
    path : MergePath
        From `redunet.clustering.merge_path`.
    ax : matplotlib Axes, optional
        Where to draw; default: a new figure.
    title : str, optional
        None for no title.

    Returns
    -------
    matplotlib Axes
        With the line of the path in bits a sample, and a mark at "best" and "first".

    Examples
    --------
    >>> import redunet as rn
    >>> X, y = rn.datasets.lines_and_plane(60, noise=0.02, random_state=0)
    >>> path = rn.clustering.merge_path(X, epsilon_sq=0.001, mean="zero")
    >>> [int(x) for x in rn.plot.code_lengths(path).lines[1].get_xdata()] == [path.n_best]
    True
    """
    checks.instance(path, MergePath, "path")
    ax = style.axes(ax)
    bits = UNITS["bits"] * path.code_lengths / path.n_samples
    ax.plot(path.n_start - np.arange(len(bits)), bits, color=style.COLORS[0])
    for k, name, marker, colour in ((path.n_best, "best", "o", 1), (path.n_first, "first", "D", 2)):
        options: dict[str, Any] = {"marker": marker, "color": style.COLORS[colour], "linestyle": ""}
        if name == "first":
            options |= {"markerfacecolor": "none", "markersize": 9}  # both may be at one place
        ax.plot([k], [bits[path.n_start - k]], label=f"{name}: {k}", **options)
    ax.set(xscale="log", xlabel="clusters", ylabel="code (bits per sample)")
    if title is not None:
        ax.set_title(title)
    style.clean(ax, grid="both")
    ax.legend(title="stop", frameon=False)
    return ax


def phase_transition(
    transition: PhaseTransition, *, ax: Axes | None = None, title: str | None = "Phase transition"
) -> Axes:
    """How many clusters are found against the distortion.

    Parameters
    ----------
    transition : PhaseTransition
        From `redunet.clustering.phase_transition`.
    ax : matplotlib Axes, optional
        Where to draw; default: a new figure.
    title : str, optional
        None for no title.

    Returns
    -------
    matplotlib Axes
        With the clusters at both stops, on logarithmic axes.

    Examples
    --------
    >>> import redunet as rn
    >>> X, y = rn.datasets.lines_and_plane(60, noise=0.02, random_state=0)
    >>> ax = rn.plot.phase_transition(rn.clustering.phase_transition(X, [0.01, 0.1, 1.0], mean="zero"))
    >>> len(ax.lines)
    2
    """
    checks.instance(transition, PhaseTransition, "transition")
    ax = style.axes(ax)
    order = np.argsort(transition.epsilons)
    x = transition.epsilons[order]
    ax.plot(x, transition.n_first[order], "D--", color=style.COLORS[2], label="first", markerfacecolor="none")
    ax.plot(x, transition.n_best[order], "o-", color=style.COLORS[1], label="best", markersize=4)
    ax.set(xscale="log", yscale="log", xlabel=r"distortion $\varepsilon$", ylabel="clusters")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(
        lambda count, _: f"{count:g}" if transition.n_first.max() < 10 and count % 1 == 0 else ""
    )
    if title is not None:
        ax.set_title(title)
    style.clean(ax, grid="both")
    ax.legend(title="stop", frameon=False)
    return ax


def _roots(path: MergePath, below: int) -> list[int]:
    """Clusters that are left by those numbered under ``below``, in their order."""
    used = set(path.children[: below - path.n_start].ravel().tolist())
    return [cluster for cluster in range(below) if cluster not in used]


def _leaves(path: MergePath, below: int) -> list[int]:
    """Those clusters from left to right, so that no lines of the merges from there on cross."""
    last = path.n_start + len(path.children)
    stack, leaves = _roots(path, last)[::-1], []
    while stack:
        cluster = stack.pop()
        if cluster < below:
            leaves.append(cluster)
        else:
            stack.extend(path.children[cluster - path.n_start, ::-1].tolist())
    return leaves
