"""What lifts by cyclic convolutions share: kernels that are drawn for samples, and the way in and out.

Samples x (m, C', T) or (m, C', H, W), real; kernels (K, C', *kernel_size); z (m, K, T) or (m, K, H, W).
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from redunet._inputs import axes, checks
from redunet._inputs.axes import Channels
from redunet._inputs.randomness import Seed, generator

Array = npt.NDArray[Any]
Lift = TypeVar("Lift", bound="KernelLift")


class KernelLift:
    """Signals or images to K channels by kernels, which a subclass draws (`_kernels`) and applies (`_apply`)."""

    kernels_: npt.NDArray[np.float64]

    def __init__(self, n_channels: int, kernel_size: int | tuple[int, ...], random_state: Seed) -> None:
        self.n_channels = checks.integer(n_channels, "n_channels", 1)
        self.kernel_size = kernel_sizes(kernel_size)
        self.random_state = random_state
        generator(random_state)  # an error now rather than at the first samples

    def fit(self: Lift, X: npt.ArrayLike, y: object = None, *, channels: Channels | None = None) -> Lift:
        """Draw the kernels, for the channels of X and where they are made of samples from its own.

        Parameters
        ----------
        X : array_like, (m, C', T) or (m, C', H, W)
            Samples, real.
        y : object
            Ignored.
        channels : {None, "first", "last"}, default None
            Where X has its channels, as in `redunet.build`.

        Returns
        -------
        RandomLift or SparseLift
            This lift.
        """
        self._draw(signals(X, channels))
        return self

    def transform(self, X: npt.ArrayLike, *, channels: Channels | None = None) -> Array:
        """Lift X; the same as calling the lift.

        Parameters
        ----------
        X : array_like, (m, C', T) or (m, C', H, W)
            Samples, real.
        channels : {None, "first", "last"}, default None
            Where X has its channels, and the result then has them too.

        Returns
        -------
        ndarray, (m, n_channels, T) or (m, n_channels, H, W)
            float32 for float32 and float16 samples, else float64.

        Raises
        ------
        ValueError
            If X has other axes or channels than the kernels, or holds a NaN or infinite value; of a `SparseLift`, if it
            is shorter than they are.
        TypeError
            If X is not of real numbers.
        """
        return self(X, channels=channels)

    def fit_transform(self, X: npt.ArrayLike, y: object = None, *, channels: Channels | None = None) -> Array:
        """`fit`, then `transform`, of the same samples."""
        return self.fit(X, channels=channels).transform(X, channels=channels)

    def __call__(self, X: npt.ArrayLike, *, channels: Channels | None = None) -> Array:
        """Lift X, (m, C', T) or (m, C', H, W), to n_channels; draws the kernels if there are none yet."""
        drawn = hasattr(self, "kernels_")  # for channels that were looked at when they were
        samples = signals(X, "first" if drawn and channels is None else channels)
        if not drawn:
            self._draw(samples)
        C, n_axes = self.kernels_.shape[1], self.kernels_.ndim - 2
        if samples.shape[1] != C or samples.ndim - 2 != n_axes:
            wanted = axes.shape_as_given((C, *("T" if n_axes == 1 else "HW")), channels)
            raise ValueError(
                f"X has shape {(len(samples), *axes.shape_as_given(samples.shape[1:], channels))}; "
                f"expected (m, {', '.join(map(str, wanted))}), as the kernels were drawn for"
            )
        dtype = checks.floating(None, samples)
        shape = (len(samples), self.n_channels, *samples.shape[2:])
        checks.memory(math.prod(shape) * dtype.itemsize, "the lifted samples")
        return axes.as_given(self._apply(samples, np.empty(shape, dtype)), channels)

    def _draw(self, samples: Array) -> None:
        size = sizes_along(self.kernel_size, samples)
        random = generator(self.random_state, np.random.RandomState)  # with a seed, the same kernels each time
        self.kernels_ = self._kernels(samples, size, random)

    def _kernels(self, samples: Array, size: tuple[int, ...], random: Any) -> npt.NDArray[np.float64]:
        raise NotImplementedError

    def _apply(self, samples: Array, out: Array) -> Array:
        """``out`` with the lifted samples in it."""
        raise NotImplementedError


def gaussian_kernels(n: int, channels: int, size: tuple[int, ...], random: Any) -> npt.NDArray[np.float64]:
    """Kernels (n, channels, *size) of independent N(0, 1)."""
    kernels = np.empty((n, channels, *size))
    for kernel in kernels:  # one by one, so that Ctrl-C is heard; the numbers are the same
        kernel[...] = random.normal(0.0, 1.0, kernel.shape)
    return kernels


def kernel_sizes(size: Any) -> int | tuple[int, ...]:
    """One number, or one for each axis of the signal."""
    if not isinstance(size, (tuple, list)):
        return checks.integer(size, "kernel_size", 1)
    if len(size) not in (1, 2):
        raise ValueError(f"kernel_size is {size!r}; expected one number, or one for each axis of the signal")
    return tuple(checks.integer(n, "kernel_size", 1) for n in size)


def sizes_along(size: int | tuple[int, ...], samples: Array) -> tuple[int, ...]:
    """A number for each axis of signals or images (m, C, T) or (m, C, H, W)."""
    n_axes = samples.ndim - 2
    sizes = (size,) * n_axes if isinstance(size, int) else size
    if len(sizes) != n_axes:
        raise ValueError(f"kernel_size is {size}; expected {n_axes} numbers for X of shape {samples.shape}")
    return sizes


def signals(X: npt.ArrayLike, channels: Channels | None) -> Array:
    """Real samples (m, C, T) or (m, C, H, W), of X with its channels where it is said."""
    array = checks.samples(X)
    if array.ndim == 2:
        raise ValueError(f"X has shape {array.shape}; expected (m, C, T) or (m, C, H, W)")
    if array.dtype.kind == "c":
        raise TypeError(f"X has dtype {array.dtype}; expected real numbers")
    return axes.channels_first(array, channels, "X")


def check_finite(block: Array, start: int) -> None:
    """An error that says which sample of X, the first of the block being number ``start``, isn't finite."""
    finite = np.isfinite(block).reshape(len(block), -1).all(axis=1)
    if not finite.all():
        bad = start + int(np.argmin(finite))
        raise ValueError(f"X holds a NaN or infinite value in sample {bad}; expected finite values")
