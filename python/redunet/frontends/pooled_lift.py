"""Pooled lift: vectors that no shift changes, from random filters of several scales.

z[f] = the share of positions t at which sum_{c, s} K_f[c, s] x[c, t + (s - r) d_f] > theta_f, r = floor(size / 2);
images likewise over two axes. x is real, (m, C, T) or (m, C, H, W), each channel standardised, or its differences; z is
(m, n). Kernels have no mean, d_f is a power of two, and theta_f a quantile of the filter's output for one sample.
Memory is bounded whatever the sizes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from redunet._inputs import axes, checks, words
from redunet._inputs.axes import Channels
from redunet._inputs.randomness import Seed, generator
from redunet.frontends.kernel_lift import check_finite, gaussian_kernels, kernel_sizes, signals, sizes_along
from redunet.frontends.lift import BLOCK_BYTES

Array = npt.NDArray[Any]

BOUNDARIES = {"cyclic": "wrap", "zero": "constant"}


class Filters(NamedTuple):
    """Kernels that see the same.

    ``axis`` is along which there are differences, or None; ``dilation`` the step between taps; ``kernels`` (n, C, size)
    or (n, C, height, width); ``thresholds`` (n,).
    """

    axis: int | None
    dilation: int
    kernels: Array
    thresholds: Array


class PooledLift:
    """Vectors that no cyclic shift of a signal or image changes: how often random filters answer, at several scales.

    A feature is the share of positions at which the output of a random filter is above a threshold. Filters are spread
    evenly over the samples and their differences, and over dilations 1, 2, 4, ... as long as a kernel is no longer than
    the signal. Each sees some of the channels: few more often than many.

    Parameters
    ----------
    n_features : int, default 1000
        Length of the vectors.
    kernel_size : int or tuple of int, default 9
        Taps of a kernel; for images one number for both axes, or (height, width).
    differences : bool, default True
        Whether half of the filters see differences of neighbouring points; of images a third those along each axis.
    boundary : {"cyclic", "zero"}, default "cyclic"
        What filters see beyond the ends. With ``"cyclic"`` the vectors are invariant to cyclic shifts; with ``"zero"``
        it is the mean of the samples of `fit`, for series that begin and end: the level of a series then is seen at its
        ends.
    random_state : int, numpy.random.Generator, numpy.random.RandomState or None
        Where kernels, and the samples and quantiles of thresholds, come from.

    Attributes
    ----------
    filters_ : list of Filters
        Kernels and thresholds, as `fit` has drawn them.
    mean_, scale_ : (C,) float64 arrays
        Mean and deviation of each channel over the samples of `fit` and their points; 1 where it is constant.

    Raises
    ------
    ValueError, TypeError
        If a parameter is out of range or of another type.

    Notes
    -----
    Shares of positive outputs, dilations, subsets of channels, and thresholds that are quantiles are those of ROCKET
    and MiniRocket, whose kernels are others. A threshold is above its quantile by more than rounding, so that of a
    plateau of equal outputs all or none are above.

    References
    ----------
    Dempster, Schmidt, Webb, *MiniRocket: a very fast (almost) deterministic transform for time series classification*,
    KDD 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from redunet import PooledLift
    >>> x = np.random.default_rng(0).normal(size=(4, 1, 30))
    >>> lift = PooledLift(50, random_state=0).fit(x)
    >>> lift.transform(x).shape
    (4, 50)
    >>> np.allclose(lift.transform(np.roll(x, 5, axis=-1)), lift.transform(x))
    True
    """

    def __init__(
        self,
        n_features: int = 1000,
        kernel_size: int | tuple[int, ...] = 9,
        *,
        differences: bool = True,
        boundary: words.Boundary = "cyclic",
        random_state: Seed = None,
    ) -> None:
        self.n_features = checks.integer(n_features, "n_features", 1)
        self.kernel_size = kernel_sizes(kernel_size)
        self.differences = checks.flag(differences, "differences")
        self.boundary = checks.choice(boundary, "boundary", tuple(BOUNDARIES))
        self.random_state = random_state
        generator(random_state)  # an error now rather than at the first samples

    def fit(self, X: npt.ArrayLike, y: object = None, *, channels: Channels | None = None) -> PooledLift:
        """Draw kernels for the channels and lengths of X, and thresholds from its values.

        Parameters
        ----------
        X : array_like, (m, C, T) or (m, C, H, W)
            Samples, real.
        y : object
            Ignored.
        channels : {None, "first", "last"}, default None
            Where X has its channels, as in `redunet.build`.

        Returns
        -------
        PooledLift
            This lift.

        Raises
        ------
        ValueError, TypeError
            If X has other axes, no real numbers, or holds a NaN or infinite value.
        """
        samples = signals(X, channels)
        check_finite(samples, 0)
        points = samples.shape[2:]
        size = sizes_along(self.kernel_size, samples)
        if max(size) == 1:
            raise ValueError(f"kernel_size is {self.kernel_size}; expected 2 taps or more, since kernels have no mean")
        over = (0, *range(2, samples.ndim))
        self.mean_ = samples.mean(axis=over, dtype=np.float64)
        deviations = samples.std(axis=over, dtype=np.float64)
        self.scale_ = np.where(deviations > 0, deviations, 1.0)
        self._points = points
        random = generator(self.random_state, np.random.RandomState)
        kinds: list[int | None] = [None, *(range(2, samples.ndim) if self.differences else ())]
        groups = [(kind, dilation) for kind in kinds for dilation in _dilations(size, points)]
        self.filters_ = []
        for i, (kind, dilation) in enumerate(groups):
            n = len(range(i, self.n_features, len(groups)))
            kernels = gaussian_kernels(n, samples.shape[1], size, random)
            kernels -= kernels.mean(axis=over[1:], keepdims=True)
            for kernel in kernels:
                kernel[_unseen(samples.shape[1], random)] = 0
            chosen = random.choice(len(samples), n)
            quantiles = random.uniform(size=n)
            thresholds = np.empty(n)
            for f, (sample, quantile) in enumerate(zip(chosen, quantiles, strict=True)):
                seen = self._seen(samples[sample : sample + 1], kind)
                output = self._filtered(seen, dilation, kernels[f : f + 1])
                thresholds[f] = np.quantile(output, quantile) + _rounding(seen[0], kernels[f])
            self.filters_.append(Filters(kind, dilation, kernels, thresholds))
        return self

    def transform(self, X: npt.ArrayLike, *, channels: Channels | None = None) -> Array:
        """The vectors of X.

        Parameters
        ----------
        X : array_like, (m, C, T) or (m, C, H, W)
            Samples, real, of the shape of those of `fit`.
        channels : {None, "first", "last"}, default None
            Where X has its channels. None: first.

        Returns
        -------
        (m, n_features) array
            In [0, 1]; float32 for float32 and float16 samples, else float64.

        Raises
        ------
        ValueError, TypeError
            Before `fit`; if X has another shape, no real numbers, or holds a NaN or infinite value.
        """
        if not hasattr(self, "filters_"):
            raise ValueError("the lift has no filters yet; call fit first")
        samples = signals(X, "first" if channels is None else channels)
        wanted = (len(self.mean_), *self._points)
        if samples.shape[1:] != wanted:
            shape = (len(samples), *axes.shape_as_given(samples.shape[1:], channels))
            expected = ", ".join(map(str, axes.shape_as_given(wanted, channels)))
            raise ValueError(f"X has shape {shape}; expected (m, {expected}), as in fit")
        out = np.empty((len(samples), self.n_features), checks.floating(None, samples))
        taps = max(max(filters.kernels[:1].size, len(filters.kernels)) for filters in self.filters_)
        n = max(1, BLOCK_BYTES // (taps * math.prod(self._points) * out.dtype.itemsize))
        for start in range(0, len(samples), n):
            block = samples[start : start + n]
            check_finite(block, start)
            shares = list(self._shares(block))
            out[start : start + n] = np.concatenate(shares, axis=1)
        return out

    def fit_transform(self, X: npt.ArrayLike, y: object = None, *, channels: Channels | None = None) -> Array:
        """`fit`, then `transform`, of the same samples."""
        return self.fit(X, channels=channels).transform(X, channels=channels)

    def _shares(self, block: Array) -> Iterator[Array]:
        for kind, dilation, kernels, thresholds in self.filters_:
            output = self._filtered(self._seen(block, kind), dilation, kernels)
            yield (output > thresholds[:, None].astype(output.dtype)).mean(axis=-1)

    def _seen(self, block: Array, axis: int | None) -> Array:
        """Standardised samples, or their differences along an axis: the last is to the first point, or zero."""
        shape = (-1, *(1,) * len(self._points))
        dtype = checks.floating(None, block)
        seen: Array = ((block - self.mean_.reshape(shape)) / self.scale_.reshape(shape)).astype(dtype)
        if axis is None:
            return seen
        seen = np.roll(seen, -1, axis) - seen
        if self.boundary == "zero":
            np.moveaxis(seen, axis, 0)[-1] = 0
        return seen

    def _filtered(self, seen: Array, dilation: int, kernels: Array) -> Array:
        """Outputs of the filters at all positions, (m, n, positions)."""
        size, points = kernels.shape[2:], seen.shape[2:]
        around = [((n // 2) * dilation, (n - 1 - n // 2) * dilation) for n in size]
        padded = np.pad(seen, [(0, 0), (0, 0), *around], mode=BOUNDARIES[self.boundary])  # type: ignore[call-overload]
        windows = np.empty((*seen.shape[:2], *size, *points), seen.dtype)
        for taps in np.ndindex(*size):
            where = tuple(slice(s * dilation, s * dilation + n) for s, n in zip(taps, points, strict=True))
            windows[(slice(None), slice(None), *taps)] = padded[(..., *where)]
        weights = kernels.reshape(len(kernels), -1).astype(seen.dtype)
        result: Array = np.matmul(weights, windows.reshape(len(seen), weights.shape[1], -1))
        return result

    def __repr__(self) -> str:
        return (
            f"PooledLift({self.n_features}, {self.kernel_size}, differences={self.differences}, "
            f"boundary={self.boundary!r}, random_state={self.random_state!r})"
        )


def _unseen(channels: int, random: Any) -> Array:
    """All channels but some, the logarithm of whose number is uniform."""
    seen = int(2 ** random.uniform(0, math.log2(channels + 1)))
    result: Array = random.permutation(channels)[seen:]
    return result


def _rounding(seen: Array, kernel: Array) -> float:
    """More than two outputs of one filter differ by that would be equal: each is a sum of as many products as taps."""
    channels = len(kernel)
    largest = np.abs(seen.reshape(channels, -1)).max(axis=1) @ np.abs(kernel.reshape(channels, -1)).sum(axis=1)
    return float(4 * kernel.size * np.finfo(seen.dtype).eps * largest)


def _dilations(size: tuple[int, ...], points: tuple[int, ...]) -> list[int]:
    """1, 2, 4, ..., as long as kernels are no longer than samples along any axis; 1 in any case."""
    dilations = [1]
    while all((taps - 1) * 2 * dilations[-1] < n for taps, n in zip(size, points, strict=True)):
        dilations.append(2 * dilations[-1])
    return dilations
