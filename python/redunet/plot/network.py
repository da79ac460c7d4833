"""Pictures of a network: its rates along the layers, its operators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from redunet._inputs import checks
from redunet.network import Rates, ReduNet
from redunet.plot import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
    ax = style.axes(ax)
    layers = np.arange(len(values.rate))
    styles = (
        ("R", "$R$", values.rate, "-", 1.8),
        ("R_c", "$R_c$", values.class_rate, "--", 1.8),
        ("ΔR", r"$\Delta R$", values.delta, "-", 2.5),
    )
    for name, label, line, dashes, width in styles:
        ax.plot(layers, line, dashes, color=style.RATES[name], linewidth=width, label=label)
    ax.set(xlabel="layer", ylabel="coding rate (nats)", title="Coding rates along the layers")
    ax.set_xlim(0, max(1, len(layers) - 1))
    ax.set_ylim(bottom=0)
    style.clean(ax, grid="both", integer=True)
    ax.legend(frameon=False, loc="best")
    return ax


def operator(
    net: ReduNet,
    layer: int = 0,
    number: int = 0,
    *,
    complement: bool = False,
    ax: Axes | None = None,
    n_channels: int = 8,
    shared_scale: bool = False,
    colorbar: bool = True,
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
    shared_scale : bool, default False
        Whether colours reach as far as the largest number of E and of every C^j of this layer, and not of this operator
        alone: pictures of one layer can then be compared.
    colorbar : bool, default True
        Whether to draw the scale beside it.
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
    checks.instance(net, ReduNet, "net")
    complement = checks.flag(complement, "complement")
    shared_scale, colorbar = checks.flag(shared_scale, "shared_scale"), checks.flag(colorbar, "colorbar")
    number = checks.integer(number, "number", 0)
    if number > net.n_classes:
        raise ValueError(f"number is {number}; expected 0 for E, or 1 to {net.n_classes} for a class")
    shown = checks.integer(n_channels, "n_channels", 1)
    chosen = net.layers[layer]
    shape = net.signal_shape
    blocks = min(shown, net.n_channels)

    def drawn(j: int) -> Any:
        """Operator j as one picture, real, or complex as the kernels of complex samples are."""
        full = chosen.E if j == 0 else chosen.Cs[j - 1]  # (C, C, *freqs)
        if complement:
            identity = np.eye(net.n_channels).reshape(*full.shape[:2], *[1] * (full.ndim - 2))
            full = identity - full / net.operators.alphas[j]
        if not shape:
            return full.real
        kernels = net.fourier.kernels(full[:blocks, :blocks])
        kernels = np.fft.fftshift(kernels, axes=tuple(range(2, kernels.ndim)))
        height = shape[0] if len(shape) == 2 else 1
        blocked = kernels.reshape(blocks, blocks, height, shape[-1])
        return blocked.transpose(0, 2, 1, 3).reshape(blocks * height, blocks * shape[-1])

    picture = drawn(number)
    compared = map(drawn, range(net.n_classes + 1)) if shared_scale else (picture,)
    limit = max(float(np.abs(each).max()) for each in compared) or 1.0
    ax = style.axes(ax, size=(5.2, 4.4))
    image = ax.imshow(picture, cmap=style.SIGNED, vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
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
    if colorbar:
        bar: Any = ax.figure.colorbar(image, ax=ax, shrink=0.85)
        bar.outline.set_visible(False)
    return ax
