"""Pictures of rates, features and results. Every function takes an ``ax``, draws on it, and returns it.

Without ``ax`` a figure of its own is made. Nothing is shown or saved, and no global setting of matplotlib is changed.
Colours can be told apart with any colour vision; with more than seven classes, markers and dashes help.
Matplotlib is imported when the first picture is drawn.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from redunet import checks, norms
from redunet.layers import Rates
from redunet.network import ReduNet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = npt.NDArray[Any]

__all__ = ["accuracies", "cosine_histogram", "cosines", "operator", "rates", "scatter", "singular_values"]

#: The colours of Okabe and Ito that show on white: distinct with any colour vision, and in their lightness.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#4D4D4D")
MARKERS = "os^Dv"
DASHES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
GRID: dict[str, Any] = {"color": "0.9", "linewidth": 0.8}


def rates(net: ReduNet | Rates, *, ax: Axes | None = None) -> Axes:
    r"""R, R_c and their difference along the layers.

    Parameters
    ----------
    net : ReduNet or Rates
        A network, or its ``rates``.
    ax : matplotlib Axes, optional
        Where to draw; default: a new figure.

    Returns
    -------
    matplotlib Axes
        With three lines over the layers 0 (the input) to n_layers, in nats.

    Examples
    --------
    >>> import redunet as rn
    >>> net, Z = rn.build([[1.0, 0.1], [0.1, 1.0]], [0, 1], n_layers=5)
    >>> ax = rn.plot.rates(net)
    >>> [line.get_label() for line in ax.lines]
    ['$R$', '$R_c$', '$\\Delta R$']
    """
    values = net.rates if isinstance(net, ReduNet) else net
    if not isinstance(values, Rates):
        raise TypeError(f"net is a {type(net).__name__}; expected a ReduNet or its rates")
    ax = _axes(ax)
    layers = np.arange(len(values.rate))
    styles = (
        ("$R$", values.rate, "-", 0),
        ("$R_c$", values.class_rate, "--", 1),
        (r"$\Delta R$", values.delta, "-", 2),
    )
    for label, line, dashes, color in styles:
        ax.plot(layers, line, dashes, color=COLORS[color], linewidth=2.5 if color == 2 else 1.8, label=label)
    ax.set(xlabel="layer", ylabel="coding rate (nats)", title="Coding rates along the layers")
    ax.set_xlim(0, max(1, len(layers) - 1))
    ax.set_ylim(bottom=0)
    _clean(ax, grid="both", integer=True)
    ax.legend(frameon=False, loc="best")
    return ax


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
    ax = _axes(ax, size=(5.2, 4.4))
    m = len(similarity)
    image = ax.imshow(similarity, cmap="magma_r", vmin=0, vmax=1, extent=(0, m, m, 0), interpolation="nearest")
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
    ax = _axes(ax)
    for label, values, color in (
        ("two classes", similarity[pairs][~same], COLORS[0]),
        ("one class", similarity[pairs][same], COLORS[1]),
    ):
        if values.size:
            heights, edges = np.histogram(values, bins=n_bins, range=(0, 1), density=True)
            ax.stairs(heights, edges, label=label, color=color, fill=True, alpha=0.55)
    ax.set(xlabel=_cosine_label(shifts), ylabel="density", title="Cosines of pairs" if title is None else title)
    ax.set_xlim(0, 1)
    ax.set_ylim(bottom=0)
    _clean(ax, grid="both")
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
    ax = _axes(ax)
    for j, (label, color, marker, dashes) in enumerate(_styles(classes)):
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
    _clean(ax, grid="both", integer=True)
    _class_legend(ax, len(classes))
    return ax


def operator(
    net: ReduNet,
    layer: int = 0,
    number: int = 0,
    *,
    complement: bool = False,
    ax: Axes | None = None,
    n_channels: int = 8,
    title: str | None = None,
) -> Axes:
    """One operator as it acts on samples: a matrix, or convolution kernels from every channel to every other.

    Parameters
    ----------
    net : ReduNet
        A network with its operators.
    layer : int, default 0
        Which layer; negative ones count from the last.
    number : int, default 0
        0 for the expansion operator E, j for the compression operator of the j-th class, 1 to k.
    complement : bool, default False
        Show I - E / alpha instead: what the operator takes away from the identity, which is nearly the projection onto
        the directions of the samples that it was made of.
    ax : matplotlib Axes, optional
        Where to draw; default: a new figure.
    n_channels : int, default 8
        The first so many channels are shown of signals and images (vectors: all).
    title : str, optional
        Default: the operator's name and its layer.

    Returns
    -------
    matplotlib Axes
        With one image. For vectors it is the operator. For signals, row c and block c' hold the kernel from channel
        c' to channel c, for images the block (c, c') does; the shift of zero is in the middle of a block.

    Notes
    -----
    The operator at frequency p is the DFT of the kernel: (E z)_c = sum_c' e_cc' * z_c', a circular convolution.

    Examples
    --------
    >>> import redunet as rn
    >>> X, y = rn.datasets.sinusoids(10, length=16, random_state=0)
    >>> net, Z = rn.build(X, y, n_layers=2)
    >>> rn.plot.operator(net, 0, 1).images[0].get_array().shape
    (1, 16)
    """
    if not isinstance(net, ReduNet):
        raise TypeError(f"net is a {type(net).__name__}; expected a ReduNet")
    complement = checks.flag(complement, "complement")
    number = checks.integer(number, "number", 0)
    if number > net.n_classes:
        raise ValueError(f"number is {number}; expected 0 for E, or 1 to {net.n_classes} for a class")
    shown = checks.integer(n_channels, "n_channels", 1)
    chosen = net.layers[layer]
    full = chosen.E if number == 0 else chosen.Cs[number - 1]  # (C, C, *freqs)
    if complement:
        identity = np.eye(net.n_channels).reshape(*full.shape[:2], *[1] * (full.ndim - 2))
        full = identity - full / net.operators.alphas[number]
    shape = net.signal_shape
    ax = _axes(ax, size=(5.2, 4.4))
    blocks = min(shown, net.n_channels)
    if not shape:
        picture = full.real
    else:
        axes = tuple(range(2, full.ndim))
        spectrum = full[:blocks, :blocks]
        real = net.fourier.real
        kernels = np.fft.irfftn(spectrum, s=shape, axes=axes) if real else np.fft.ifftn(spectrum, axes=axes).real
        kernels = np.fft.fftshift(kernels, axes=axes)
        height = shape[0] if len(shape) == 2 else 1
        blocked = kernels.reshape(blocks, blocks, height, shape[-1])
        picture = blocked.transpose(0, 2, 1, 3).reshape(blocks * height, blocks * shape[-1])
    limit = float(np.abs(picture).max()) or 1.0
    image = ax.imshow(picture, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
    if shape:
        rows, columns = picture.shape[0] // blocks, picture.shape[1] // blocks
        for edge in range(1, blocks):
            ax.axhline(edge * rows - 0.5, color="0.3", linewidth=0.5)
            ax.axvline(edge * columns - 0.5, color="0.3", linewidth=0.5)
        ax.set_xticks([(c + 0.5) * columns - 0.5 for c in range(blocks)], [str(c) for c in range(blocks)])
        ax.set_yticks([(c + 0.5) * rows - 0.5 for c in range(blocks)], [str(c) for c in range(blocks)])
        ax.tick_params(length=0)
    else:
        ax.set_xticks(range(net.n_channels) if net.n_channels <= 12 else [])
        ax.set_yticks(range(net.n_channels) if net.n_channels <= 12 else [])
    ax.set(xlabel="from channel" if shape else "from", ylabel="to channel" if shape else "to")
    name = "E" if number == 0 else f"C^{{{net.classes_[number - 1]}}}"
    name = rf"$I - {name}/\alpha$" if complement else f"${name}$"
    ax.set_title(f"{name} of layer {layer % net.n_layers}" if title is None else title)
    bar: Any = ax.figure.colorbar(image, ax=ax, shrink=0.85)
    bar.outline.set_visible(False)
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
    ax = _axes(ax, size=(4.6, 4.6), projection="3d" if d == 3 else None)
    if (ax.name == "3d") != (d == 3):
        raise ValueError(
            f"ax has the projection {ax.name!r}; expected {'3d' if d == 3 else 'rectilinear'!r} for d = {d}"
        )
    (_sphere if d == 3 else _circle)(ax)
    draw: Any = ax.scatter  # of two or three coordinates
    for j, (label, color, marker, _) in enumerate(_styles(classes)):
        draw(*vectors[labels == j].T, s=20, marker=marker, color=color, label=label, linewidths=0, alpha=0.65)
    if title is not None:
        ax.set_title(title)
    _class_legend(ax, len(classes), loc="center" if d == 2 else "upper left")
    return ax


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
    ax = _axes(ax)
    width = 0.8 / len(results)
    for i, (method, values) in enumerate(results.items()):
        x = np.arange(len(tests)) + (i - (len(results) - 1) / 2) * width
        heights = [100 * values[test] for test in tests]
        color = COLORS[(6, 0, 1, 2, 3, 4, 5)[i % len(COLORS)]]  # the first in grey: the one to compare with
        bars = ax.bar(x, heights, 0.94 * width, label=method, color=color)
        ax.bar_label(bars, fmt="%.1f", padding=2, fontsize="small")
    ax.set_xticks(range(len(tests)), tests)
    ax.set_yticks(range(0, 101, 20))
    ax.set(ylim=(0, 108), ylabel="accuracy (%)")  # room for the numbers above the bars
    if title is not None:
        ax.set_title(title)
    _clean(ax, grid="y")
    ax.tick_params(axis="x", length=0)
    ax.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=len(results))
    return ax


def _axes(ax: Axes | None, *, size: tuple[float, float] = (5.6, 3.8), projection: str | None = None) -> Axes:
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
    axes = tuple(range(1, len(shape)))
    spectra = np.fft.fftn(unit.reshape(-1, *shape), axes=[axis + 1 for axis in axes], norm="ortho")
    n_points = spectra[0, 0].size
    result = np.empty((len(unit), len(unit)))
    for i, spectrum in enumerate(spectra):
        products = np.einsum("jc...,c...->j...", spectra.conj(), spectrum)
        correlations = n_points * np.fft.ifftn(products, axes=axes)
        result[i] = np.abs(correlations).reshape(len(unit), -1).max(axis=1)
    return np.minimum(result, 1.0)


def _styles(classes: Sequence[Any] | Array) -> Iterator[tuple[str, str, str, Any]]:
    """Label, colour, marker and dashes of each class: 35 pairs of colour and marker."""
    for j, label in enumerate(classes):
        turn = j // len(COLORS) % len(MARKERS)
        yield str(label), COLORS[j % len(COLORS)], MARKERS[turn], DASHES[turn]


def _clean(ax: Any, *, grid: str, integer: bool = False) -> None:
    """Light grid, two spines, whole numbers on the x axis if asked."""
    ax.grid(True, axis=grid, **GRID)
    if integer:
        ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def _class_legend(ax: Any, n_classes: int, loc: str = "best") -> None:
    if n_classes <= len(COLORS) * len(MARKERS):
        ax.legend(title="class", frameon=False, ncols=1 + (n_classes - 1) // 5, loc=loc)


def _circle(ax: Axes) -> None:
    angle = np.linspace(0, 2 * np.pi, 361)
    ax.plot(np.cos(angle), np.sin(angle), color="0.75", linewidth=1, zorder=0)
    ax.axhline(0, color="0.9", linewidth=0.8, zorder=0)
    ax.axvline(0, color="0.9", linewidth=0.8, zorder=0)
    ax.set_aspect("equal")
    ax.set(xlim=(-1.15, 1.15), ylim=(-1.15, 1.15))
    ax.set(xticks=[-1, 0, 1], yticks=[-1, 0, 1], xlabel="$z_1$", ylabel="$z_2$")
    _clean(ax, grid="both")
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
