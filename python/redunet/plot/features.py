"""Pictures of features: cosines of pairs, singular values, points on the circle or the sphere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from redunet._inputs import checks
from redunet.plot import style
from redunet.transforms import correlate, norms

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = npt.NDArray[Any]


def cosines(
    Z: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    ax: Axes | None = None,
    shifts: bool = False,
    colorbar: bool = True,
    title: str | None = None,
) -> Axes:
    """Absolute cosines between all pairs of samples, sorted by class.

    Classes in orthogonal subspaces give a block-diagonal picture.

    Parameters
    ----------
    Z : (m, d), (m, C, T) or (m, C, H, W) array, real or complex
        Features; a signal or image counts as one vector of all its numbers.
    y : (m,) array
        Labels; each class becomes one block, in sorted order.
    ax : matplotlib Axes, optional
        Where to draw; default: a new figure.
    shifts : bool, default False
        For signals and images: the largest absolute cosine of one sample with any cyclic shift of the other.
        Blocks then mean that whole orbits are orthogonal to each other.
    colorbar : bool, default True
        Whether to draw the scale beside it.
    title : str, optional
        Default: "Cosine similarity".

    Returns
    -------
    matplotlib Axes
        With one (m, m) image of |cos(z_i, z_j)| in [0, 1] and lines between the classes.

    Notes
    -----
    Inner products with all shifts are a cross-correlation: one product of DFTs for each pair.

    Examples
    --------
    >>> import redunet as rn
    >>> ax = rn.plot.cosines([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]], ["a", "b", "a"])
    >>> ax.images[0].get_array().tolist()
    [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    vectors, labels, classes = _features(Z, y)
    colorbar = checks.flag(colorbar, "colorbar")
    order = np.argsort(labels, kind="stable")
    similarity = _cosines(vectors[order], _shape_of_shifts(Z, shifts))
    ax = style.axes(ax, size=(5.2, 4.4))
    m = len(similarity)
    image = ax.imshow(similarity, cmap=style.SIZES, vmin=0, vmax=1, extent=(0, m, m, 0), interpolation="nearest")
    ends = np.cumsum(np.bincount(labels, minlength=len(classes)))
    for end in ends[:-1]:
        ax.axhline(end, color="0.6", linewidth=0.5)
        ax.axvline(end, color="0.6", linewidth=0.5)
    centres = ends - np.diff(ends, prepend=0) / 2
    names = [str(label) for label in classes]
    ax.set_xticks(centres, names, rotation=90 if max(map(len, names)) > 2 else 0)
    ax.set_yticks(centres, names)
    ax.tick_params(length=0)
    ax.set(xlabel="class", ylabel="class", title="Cosine similarity" if title is None else title)
    for spine in ax.spines.values():
        spine.set(color="0.6", linewidth=0.5)
    if colorbar:
        bar: Any = ax.figure.colorbar(image, ax=ax, shrink=0.85, label=_cosine_label(shifts), ticks=[0, 0.5, 1])
        bar.outline.set_visible(False)
    return ax


def cosine_histogram(
    Z: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    ax: Axes | None = None,
    shifts: bool = False,
    n_bins: int = 40,
    title: str | None = None,
) -> Axes:
    """How often pairs of samples have which absolute cosine: pairs of two classes, and of one.

    Parameters
    ----------
    Z : (m, d), (m, C, T) or (m, C, H, W) array, real or complex
        Features; a signal or image counts as one vector of all its numbers.
    y : (m,) array
        Labels.
    ax : matplotlib Axes, optional
        Where to draw; default: a new figure.
    shifts : bool, default False
        The largest absolute cosine of one sample with any cyclic shift of the other, as in `cosines`.
    n_bins : int, default 40
        Bins of [0, 1].
    title : str, optional
        Default: "Cosines of pairs".

    Returns
    -------
    matplotlib Axes
        With two histograms, each of area 1; pairs of a sample with itself are left out.

    Examples
    --------
    >>> import redunet as rn
    >>> ax = rn.plot.cosine_histogram([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]], ["a", "b", "a"], n_bins=2)
    >>> [patch.get_label() for patch in ax.patches]
    ['two classes', 'one class']
    """
    vectors, labels, _ = _features(Z, y)
    n_bins = checks.integer(n_bins, "n_bins", 1)
    similarity = _cosines(vectors, _shape_of_shifts(Z, shifts))
    pairs = np.triu_indices(len(labels), 1)
    same = labels[pairs[0]] == labels[pairs[1]]
    ax = style.axes(ax)
    for label, values, color in (
        ("two classes", similarity[pairs][~same], style.COLORS[0]),
        ("one class", similarity[pairs][same], style.COLORS[1]),
    ):
        if values.size:
            heights, edges = np.histogram(values, bins=n_bins, range=(0, 1), density=True)
            ax.stairs(heights, edges, label=label, color=color, fill=True, alpha=0.55)
    ax.set(xlabel=_cosine_label(shifts), ylabel="density", title="Cosines of pairs" if title is None else title)
    ax.set_xlim(0, 1)
    ax.set_ylim(bottom=0)
    style.clean(ax, grid="both")
    ax.legend(frameon=False, loc="best")
    return ax


def singular_values(Z: npt.ArrayLike, y: npt.ArrayLike, *, ax: Axes | None = None, n_values: int | None = None) -> Axes:
    """Singular values of the features of each class: how many dimensions its subspace has.

    Parameters
    ----------
    Z : (m, d), (m, C, T) or (m, C, H, W) array, real or complex
        Features; a signal or image counts as one vector of all its numbers.
    y : (m,) array
        Labels.
    ax : matplotlib Axes, optional
        Where to draw; default: a new figure.
    n_values : int, optional
        How many of the largest to show; default: all.

    Returns
    -------
    matplotlib Axes
        With one line per class: its singular values, largest first, not scaled.

    Examples
    --------
    >>> import redunet as rn
    >>> ax = rn.plot.singular_values([[3.0, 0.0], [0.0, 1.0], [0.0, 2.0]], ["a", "a", "b"])
    >>> [line.get_ydata().tolist() for line in ax.lines]
    [[3.0, 1.0], [2.0]]
    """
    vectors, labels, classes = _features(Z, y)
    if n_values is not None:
        n_values = checks.integer(n_values, "n_values", 1)
    ax = style.axes(ax)
    for j, (label, color, marker, dashes) in enumerate(style.styles(classes)):
        values = np.linalg.svd(vectors[labels == j], compute_uv=False)[:n_values]
        ranks = np.arange(1, len(values) + 1)
        ax.plot(
            ranks,
            values,
            linestyle=dashes,
            marker=marker,
            color=color,
            label=label,
            markersize=3.5,
            linewidth=1.4,
        )
    ax.set(xlabel="component", ylabel="singular value", title="Singular values of each class")
    ax.set_ylim(bottom=0)
    style.clean(ax, grid="both", integer=True)
    style.class_legend(ax, len(classes))
    return ax


def scatter(Z: npt.ArrayLike, y: npt.ArrayLike, *, ax: Axes | None = None, title: str | None = None) -> Axes:
    """Features on the unit circle (d = 2) or on the unit sphere (d = 3), one colour per class.

    Parameters
    ----------
    Z : (m, 2) or (m, 3) array, real
        Features, drawn where they are: nothing is normalised.
    y : (m,) array
        Labels.
    ax : matplotlib Axes, optional
        Where to draw; default: a new figure. For d = 3 it needs ``projection="3d"``.
    title : str, optional
        Default: none.

    Returns
    -------
    matplotlib Axes
        With the circle or sphere and one collection of points per class, labelled.

    Examples
    --------
    >>> import redunet as rn
    >>> X, y = rn.datasets.gaussian_mixture(20, n_features=2, random_state=0)
    >>> rn.plot.scatter(X, y).get_aspect()
    1.0
    """
    vectors, labels, classes = _features(Z, y)
    d = vectors.shape[1]
    if np.ndim(Z) != 2 or d not in (2, 3) or vectors.dtype.kind == "c":
        kind = "complex" if vectors.dtype.kind == "c" else "real"
        raise ValueError(f"Z has shape {np.shape(Z)} and is {kind}; expected real vectors, (m, 2) or (m, 3)")
    ax = style.axes(ax, size=(4.6, 4.6), projection="3d" if d == 3 else None)
    if (ax.name == "3d") != (d == 3):
        raise ValueError(
            f"ax has the projection {ax.name!r}; expected {'3d' if d == 3 else 'rectilinear'!r} for d = {d}"
        )
    (_sphere if d == 3 else _circle)(ax)
    draw: Any = ax.scatter  # of two or three coordinates
    for j, (label, color, marker, _) in enumerate(style.styles(classes)):
        draw(*vectors[labels == j].T, s=20, marker=marker, color=color, label=label, linewidths=0, alpha=0.65)
    if title is not None:
        ax.set_title(title)
    style.class_legend(ax, len(classes), loc="center" if d == 2 else "upper left")
    return ax


def _features(Z: npt.ArrayLike, y: npt.ArrayLike) -> tuple[Array, npt.NDArray[np.int64], Array]:
    """Z as vectors in double precision, labels 0..k-1, and the classes."""
    array = checks.samples(Z, "Z")
    classes, labels = checks.labels(y, len(array))
    vectors = array.reshape(len(array), -1).astype(np.complex128 if array.dtype.kind == "c" else np.float64)
    if not np.isfinite(vectors).all():
        raise ValueError("Z holds NaN or infinity; expected finite numbers")
    return vectors, labels, classes


def _shape_of_shifts(Z: npt.ArrayLike, shifts: bool) -> tuple[int, ...]:
    """(C, *signal_shape), or () where shifts are not asked for."""
    shape = np.shape(Z)[1:]
    if not checks.flag(shifts, "shifts"):
        return ()
    if len(shape) < 2:
        raise ValueError(
            f"Z has shape {np.shape(Z)}; expected signals (m, C, T) or images (m, C, H, W) for their shifts"
        )
    return shape


def _cosine_label(shifts: bool) -> str:
    return r"$\max_s\,|\cos(z_i,\,\mathrm{shift}_s\, z_j)|$" if shifts else r"$|\cos(z_i,\,z_j)|$"


def _cosines(vectors: Array, shape: tuple[int, ...]) -> Array:
    """|cos| of all pairs, (m, m); with a shape (C, *signal_shape) the largest over the cyclic shifts."""
    unit = norms.unit(vectors)
    if not shape:
        similarity: Array = np.minimum(np.abs(unit @ unit.conj().T), 1.0)
        return similarity
    spectra = correlate.spectrum(unit.reshape(-1, *shape), unit.dtype)
    conjugates = spectra.conj()
    result = np.empty((len(unit), len(unit)))
    for i in range(len(unit)):
        correlations = correlate.all_shifts(conjugates, spectra[:, i : i + 1], shape[1:], unit.dtype)
        result[i] = np.abs(correlations).reshape(len(unit), -1).max(axis=1)
    return np.minimum(result, 1.0)


def _circle(ax: Axes) -> None:
    angle = np.linspace(0, 2 * np.pi, 361)
    ax.plot(np.cos(angle), np.sin(angle), color="0.75", linewidth=1, zorder=0)
    ax.axhline(0, color="0.9", linewidth=0.8, zorder=0)
    ax.axvline(0, color="0.9", linewidth=0.8, zorder=0)
    ax.set_aspect("equal")
    ax.set(xlim=(-1.15, 1.15), ylim=(-1.15, 1.15))
    ax.set(xticks=[-1, 0, 1], yticks=[-1, 0, 1], xlabel="$z_1$", ylabel="$z_2$")
    style.clean(ax, grid="both")
    ax.grid(False)


def _sphere(ax: Axes) -> None:
    space: Any = ax  # the stubs of matplotlib have no 3-D axes
    u, v = np.meshgrid(np.linspace(0, 2 * np.pi, 25), np.linspace(0, np.pi, 13))
    x, y, z = np.cos(u) * np.sin(v), np.sin(u) * np.sin(v), np.cos(v)
    space.plot_wireframe(x, y, z, color="0.8", linewidth=0.4)
    space.set_box_aspect((1, 1, 1), zoom=0.88)
    space.set(xticks=[-1, 0, 1], yticks=[-1, 0, 1], zticks=[-1, 0, 1])
    space.set(xlabel="$z_1$", ylabel="$z_2$", zlabel="$z_3$")
    space.view_init(elev=25, azim=35)
    for axis in (space.xaxis, space.yaxis, space.zaxis):
        axis.pane.set_visible(False)
