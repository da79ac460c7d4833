"""`forget_class`: a network without one of its classes, made again of the samples that remain."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from redunet._backends.contract import RateReduction
from redunet._inputs import axes, checks, words
from redunet._inputs.axes import Channels
from redunet.network.build import build
from redunet.network.redunet import ReduNet

Array = npt.NDArray[Any]


def forget_class(
    net: ReduNet,
    X: npt.ArrayLike,
    y: npt.ArrayLike,
    label: Any,
    *,
    eta: float | Sequence[float] | npt.NDArray[Any] | words.StepRule = "auto",
    channels: Channels = "first",
    momentum: bool | None = None,
    sample_weight: npt.ArrayLike | None = None,
    backend: words.Backend = "auto",
    n_threads: int | None = None,
    progress: bool = False,
    on_layer: Callable[[int, RateReduction], bool | None] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    every: int = 100,
) -> tuple[ReduNet, Array]:
    """A network without a class: its layers are made again, one after the other, of the samples that remain.

    Parameters
    ----------
    net : ReduNet
        The network; it stays as it is.
    X : (m, d), (m, C, T) or (m, C, H, W) array
        The samples that it was built from. Those of the class may be among them or not: they are not looked at.
    y : (m,) array
        Their labels.
    label : a label
        The class to forget.
    eta : float, (n_layers,) array, "auto" or "search", default "auto"
        Step sizes, as in `build`: give what the network was built with. Its own, ``net.etas``, need no trials; but
        those that "auto" or "search" chose know of the class, and are longer than natural for fewer samples.
    channels : {"first", "last"}, default "first"
        As in `ReduNet.transform`.
    momentum : bool, optional
        As in `build`. Default: whether the network has any.
    sample_weight, backend, n_threads, progress, on_layer, checkpoint, every
        As in `build`. Weights are those of the samples in X.

    Returns
    -------
    net : ReduNet
        What `build` makes of the other classes with the network's settings and number of layers, bit for bit.
    Z : array
        Features of the samples that remain.

    Raises
    ------
    ValueError, TypeError
        If X is not like the network's samples, it has no such class, or y other classes; and as `build`.

    Notes
    -----
    The first layer without a class is a subtraction (`ClassGrams`). All that comes after it is moved by other
    operators: nothing of the deeper layers, and none of the features in them, belongs to the network that never saw
    the class. So it costs what building costs with the samples that remain: in every layer a forward pass of them,
    their Gram matrices and factorisations, and trials of steps where these are not given.

    Examples
    --------
    >>> import redunet as rn
    >>> X, y = rn.datasets.gaussian_mixture(50, n_features=3, random_state=0)
    >>> net, _ = rn.build(X, y, n_layers=5, eta=0.5)
    >>> rn.forget_class(net, X, y, 1, eta=0.5)[0].classes_.tolist()
    [0, 2]
    """
    checks.instance(net, ReduNet, "net")
    checks.choice(channels, "channels", get_args(Channels))
    array = axes.channels_first(checks.samples(X), channels, "X")
    if array.shape[1:] != (net.n_channels, *net.signal_shape):
        raise ValueError(net._misfit((len(array), *axes.shape_as_given(array.shape[1:], channels)), channels))
    classes, codes = checks.labels(y, len(array))
    known, names = net.classes_.tolist(), classes.tolist()
    forgotten = known[checks.place(label, "label", net.classes_)]
    rest = [name for name in names if name != forgotten]
    expected = [name for name in known if name != forgotten]
    if not expected:
        raise ValueError(f"label is {label!r}, the only class; expected that one is left")
    if rest != expected:
        raise ValueError(f"y holds the classes {names}; expected those of the network, {known}, or all but {label!r}")
    left = codes != names.index(forgotten) if forgotten in names else np.ones(len(codes), bool)
    weights = checks.sample_weights(sample_weight, len(array))
    made, Z = build(
        array[left],
        classes[codes[left]],
        n_layers=net.n_layers,
        group=net.group,
        eta=eta,
        momentum=bool(net.betas.any()) if momentum is None else momentum,
        epsilon_sq=net.epsilon_sq,
        lam=net.lam,
        sample_weight=None if weights is None else weights[left],
        assignment=net.assignment,
        dft_norm=net.dft_norm,
        backend=backend,
        n_threads=n_threads,
        dtype=net.dtype,
        progress=progress,
        on_layer=on_layer,
        checkpoint=checkpoint,
        every=every,
        channels="first",
    )
    return made, axes.as_given(Z, channels)
