"""Random lift: more channels, by cyclic correlation with random kernels and a nonlinearity.

out[c, t] = tau(sum_{c', s} K[c, c', s] x[c', (t + s) mod T]), with K[c, c', s] ~ N(0, 1); images likewise over
two axes. x is real, (m, C', T) or (m, C', H, W). Shifting x cyclically shifts the output. With few taps a block of
output positions is one matrix product of the kernels with the windows of x; with many the FFT does it, at a cost
that does not depend on them. Memory is bounded whatever the sizes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet._backends.tasks import interruptible
from redunet._inputs import checks, words
from redunet._inputs.randomness import Seed
from redunet.frontends.kernel_lift import KernelLift, check_finite, gaussian_kernels

Array = npt.NDArray[Any]

ACTIVATIONS = ("relu", "identity", "soft")

# Windows of x are copied in blocks of about this size. CPU seconds for 2000 images of 28 x 28, 9 x 9 kernels and
# 5 channels in float32, one thread of an x86-64 server: 0.22 with 256 KiB, 0.10 with 1 MiB, 0.09 with 4 MiB, 0.08 with
# 16 MiB.
BLOCK_BYTES = 1 << 22

# Taps of a kernel, over all its channels, above which the FFT is used: up to them a window of zeros gives exact zeros,
# above them the FFT is faster. CPU seconds of product and FFT in float32, one thread of the same machine:
# 135 taps, 500 x 15 x 200 to 20 channels: 0.013, 0.017;    243 taps, 500 x 3 x 28 x 28 to 16: 0.093, 0.071;
# 255 taps, 500 x 15 x 200 to 20 channels: 0.028, 0.017;    405 taps, 500 x 5 x 28 x 28 to 16: 0.15, 0.075;
# 400 taps, 50 x 1 x 16000 to 32 channels: 0.49, 0.12;     8100 taps, 50 x 100 x 28 x 28 to 75: 0.73, 0.50.
MOST_TAPS = 256


class RandomLift(KernelLift):
    """Lift signals or images to more channels by random cyclic filters and a nonlinearity.

    The lift is z = tau(K_1 * x, ..., K_C * x): cyclic correlation with C random Gaussian kernels over all
    channels of x, then tau. It commutes with cyclic shifts, up to rounding.

    Parameters
    ----------
    n_channels : int
        C, the number of channels of the output.
    kernel_size : int or tuple of int
        Length of the kernels; for images one number for both axes, or (height, width). A kernel longer than the signal
        wraps around it.
    activation : {"relu", "identity", "soft"}
        tau(u) = max(u - threshold, 0), u, or sign(u) max(abs(u) - threshold, 0).
    threshold : float
        >= 0, in units of the filter output; positive for "soft", 0 for "identity".
    symmetric : bool
        Whether each kernel is the mean of the drawn one and its mirror images: of a signal two, of an image four. The
        lift of a mirror image then is a mirror image of the lift, shifted by at most the size of a kernel, as
        ``build(..., group="dihedral")`` needs it. Means of two or four have a standard deviation of 0.7 or 0.5.
    random_state : int, numpy.random.Generator, numpy.random.RandomState or None
        Where the kernels come from. An integer seeds ``numpy.random.RandomState``, which draws the kernels of the
        ReduNet authors' code.

    Attributes
    ----------
    kernels_ : ndarray of float64, (C, C', kernel_size) or (C, C', kernel_height, kernel_width)
        Drawn when the lift first sees samples, which say the number of channels C'. `fit` draws them anew.

    Raises
    ------
    ValueError, TypeError
        If a parameter is out of range or of another type.

    Notes
    -----
    Chan et al., "ReduNet: A White-box Deep Network from the Principle of Maximizing Rate Reduction", JMLR 23 (2022),
    section 4.3: sparse codes of the signal, which separate what shifts alone do not.

    Examples
    --------
    >>> import numpy as np
    >>> from redunet import RandomLift
    >>> x = np.random.default_rng(0).normal(size=(4, 1, 30))
    >>> lift = RandomLift(7, 3, random_state=0)
    >>> lift(x).shape
    (4, 7, 30)
    >>> np.allclose(lift(np.roll(x, 5, axis=-1)), np.roll(lift(x), 5, axis=-1))
    True
    >>> symmetric = RandomLift(7, 3, symmetric=True, random_state=0)
    >>> mirrored = np.roll(symmetric(x)[..., ::-1], -2, axis=-1)
    >>> np.allclose(symmetric(x[..., ::-1]), mirrored)
    True
    """

    def __init__(
        self,
        n_channels: int,
        kernel_size: int | tuple[int, ...],
        *,
        activation: words.Activation = "relu",
        threshold: float = 0.0,
        symmetric: bool = False,
        random_state: Seed = None,
    ) -> None:
        super().__init__(n_channels, kernel_size, random_state)
        self.activation = checks.choice(activation, "activation", ACTIVATIONS)
        self.threshold = checks.non_negative(threshold, "threshold")
        self.symmetric = checks.flag(symmetric, "symmetric")
        if self.activation == "identity" and self.threshold != 0:
            raise ValueError(f"threshold is {threshold!r}; expected 0 with activation='identity'")
        if self.activation == "soft" and self.threshold == 0:
            raise ValueError(f"threshold is {threshold!r}; expected a number > 0 with activation='soft'")

    def _kernels(self, samples: Array, size: tuple[int, ...], random: Any) -> npt.NDArray[np.float64]:
        kernels = gaussian_kernels(self.n_channels, samples.shape[1], size, random)
        for axis in range(2, kernels.ndim) if self.symmetric else ():
            kernels = (kernels + np.flip(kernels, axis)) / 2
        return kernels

    def _apply(self, samples: Array, out: Array) -> Array:
        kernels = _wrap(self.kernels_, samples.shape[2:]).astype(out.dtype)
        if math.prod(kernels.shape[1:]) > MOST_TAPS:
            _correlate_spectra(samples, kernels, out)
        elif samples.ndim == 3:  # a signal is an image one pixel wide: blocks then may end anywhere along it
            _correlate(samples[..., None], kernels[..., None], out[..., None])
        else:
            _correlate(samples, kernels, out)
        return self._activate(out)

    def _activate(self, out: Array) -> Array:
        """The nonlinearity, in place, in blocks: Ctrl-C is heard, and there is no second array of the output's size."""
        n = max(1, BLOCK_BYTES // out[0].nbytes)
        for i in range(0, len(out), n):
            part = out[i : i + n]
            if self.activation == "soft":
                part -= np.clip(part, -self.threshold, self.threshold)
            elif self.activation == "relu":
                if self.threshold:
                    part -= out.dtype.type(self.threshold)
                np.maximum(part, 0, out=part)
        return out

    def __repr__(self) -> str:
        options = f", threshold={self.threshold}" if self.threshold else ""
        options += ", symmetric=True" if self.symmetric else ""
        return (
            f"RandomLift({self.n_channels}, {self.kernel_size}, activation={self.activation!r}{options}, "
            f"random_state={self.random_state!r})"
        )


def _wrap(kernels: Array, signal_shape: tuple[int, ...]) -> Array:
    """Kernels no longer than the signal: taps that meet the same point of it are summed."""
    for axis, n in enumerate(signal_shape, start=2):
        taps = kernels.shape[axis]
        if taps > n:
            padding = [(0, 0)] * kernels.ndim
            padding[axis] = (0, -taps % n)
            padded = np.pad(kernels, padding)
            kernels = padded.reshape(*kernels.shape[:axis], -1, n, *kernels.shape[axis + 1 :]).sum(axis=axis)
    return kernels


def _correlate(X: Array, kernels: Array, out: Array) -> None:
    """out[i, c, t, u] = sum_{c', s, r} kernels[c, c', s, r] X[i, c', t + s, u + r], indices cyclic; (m, C, H, W)."""
    m, C, H, W = X.shape
    taps = kernels.shape[2:]
    weights = kernels.reshape(len(kernels), -1)
    row_bytes = weights.shape[1] * W * out.dtype.itemsize  # the windows of one row of output
    rows = max(1, min(H, BLOCK_BYTES // row_bytes))
    n = max(1, BLOCK_BYTES // (row_bytes * H))
    windows = np.empty((n, C, *taps, rows, W), out.dtype)
    for i in range(0, m, n):
        block = _padded(X[i : i + n], taps, out.dtype)
        check_finite(block, i)
        for t in range(0, H, rows):
            r = min(rows, H - t)
            part = windows[: len(block), :, :, :, :r]
            for s in range(taps[0]):
                for q in range(taps[1]):
                    part[:, :, s, q] = block[:, :, t + s : t + s + r, q : q + W]
            flat = part.reshape(len(block), weights.shape[1], r * W)
            target = out[i : i + n, :, t : t + r]
            target[...] = np.matmul(weights, flat).reshape(target.shape)


def _padded(X: Array, taps: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """X in the dtype to compute in, with as many of its first rows and columns after the last as the kernels reach."""
    m, C, H, W = X.shape
    block = np.empty((m, C, H + taps[0] - 1, W + taps[1] - 1), dtype)
    block[:, :, :H, :W] = X
    block[:, :, H:, :W] = block[:, :, : taps[0] - 1, :W]
    block[:, :, :, W:] = block[:, :, :, : taps[1] - 1]
    return block


def _correlate_spectra(X: Array, kernels: Array, out: Array) -> None:
    """The same for signals (m, C, T) and images, by the FFT: DFT(out_c) = sum_{c'} conj(DFT(K_cc')) DFT(x_c')."""
    m, C, *signal_shape = X.shape
    matrices = _matrices(kernels, signal_shape)
    n = max(1, BLOCK_BYTES // ((C + len(kernels)) * math.prod(signal_shape) * out.dtype.itemsize))
    for i in range(0, m, n):
        block = X[i : i + n].astype(out.dtype)
        check_finite(block, i)
        out[i : i + n] = _filtered(block, matrices)


@interruptible
def _matrices(kernels: Array, signal_shape: list[int]) -> Array:
    """conj(DFT(K)) by frequency: (F, channels out, channels in)."""
    spectra = np.conj(np.fft.rfftn(kernels, s=signal_shape, axes=tuple(range(2, kernels.ndim))))
    return np.ascontiguousarray(spectra.reshape(*kernels.shape[:2], -1).transpose(2, 0, 1))


@interruptible
def _filtered(block: Array, matrices: Array) -> Array:
    m, C, *signal_shape = block.shape
    axes = tuple(range(2, block.ndim))
    V = np.fft.rfftn(block, axes=axes)
    columns = np.ascontiguousarray(V.reshape(m, C, -1).transpose(2, 1, 0))  # (F, C, samples): contiguous, for BLAS
    product = np.matmul(matrices, columns).transpose(2, 1, 0).reshape(m, -1, *V.shape[2:])
    return np.fft.irfftn(product, s=signal_shape, axes=axes)
