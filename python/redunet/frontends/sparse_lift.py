"""Sparse lift: more channels, by codes of signals in a dictionary of cyclic convolutions.

The code of y minimises 1/2 ||y - sum_k K_k * z_k||^2 + lam ||z||_1 and has a channel for each kernel, of real x
(m, C', T) or (m, C', H, W); kernels are random, or pieces of the samples. `RandomLift` with "soft" is the first
step to it. Shifting x cyclically shifts the code.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from redunet._inputs import checks, words
from redunet._inputs.randomness import Seed
from redunet.frontends.kernel_lift import KernelLift, check_finite, gaussian_kernels
from redunet.sparse import ConvolutionalDictionary, fista

Array = npt.NDArray[Any]

SOURCES = ("random", "patches")
#: Codes are made in blocks of about this size, of a dozen arrays as large: memory stays small, and Ctrl-C is heard.
BLOCK_BYTES = 1 << 24
#: Pieces of samples are drawn again where they vary by less than this part of the largest magnitude in the samples.
FLAT = 1e-3


class SparseLift(KernelLift):
    """Lift signals or images to more channels: their sparse codes in a convolutional dictionary.

    The price of a magnitude is a part of the smallest price at which the code is zero, sample by sample, so that
    the lift is homogeneous: a unit of measurement only scales it.

    Parameters
    ----------
    n_channels : int
        K, the number of kernels and of channels of the output.
    kernel_size : int or tuple of int
        Length of the kernels; for images one number for both axes, or (height, width). No longer than the signal.
    lam : float
        In [0, 1): the price of a magnitude in units of max |A* y|, from which on a code is zero.
    n_iter : int
        Steps of FISTA. One step is the soft threshold of the correlations with the kernels.
    source : {"random", "patches"}
        Kernels are Gaussian, as those of `RandomLift` with the same seed; or pieces of the samples that `fit` sees,
        less their mean. Both are scaled to unit norm.
    random_state : int, numpy.random.Generator, numpy.random.RandomState or None
        Where kernels come from. An integer seeds ``numpy.random.RandomState``.

    Attributes
    ----------
    kernels_ : ndarray of float64, (K, C', kernel_size) or (K, C', kernel_height, kernel_width)
        Drawn when the lift first sees samples. `fit` draws them anew.

    Raises
    ------
    ValueError, TypeError
        If a parameter is out of range or of another type.

    Notes
    -----
    Coates, Ng, "The Importance of Encoding Versus Training with Sparse Coding and Vector Quantization", ICML 2011:
    codes in dictionaries that nobody trained are nearly as good as in trained ones.

    Examples
    --------
    >>> import numpy as np
    >>> from redunet import SparseLift
    >>> x = np.random.default_rng(0).normal(size=(4, 1, 30))
    >>> lift = SparseLift(7, 3, lam=0.2, random_state=0)
    >>> lift(x).shape, bool((lift(x) == 0).mean() > 0.5)
    ((4, 7, 30), True)
    >>> np.allclose(lift(3 * np.roll(x, 5, axis=-1)), 3 * np.roll(lift(x), 5, axis=-1))
    True
    """

    def __init__(
        self,
        n_channels: int,
        kernel_size: int | tuple[int, ...],
        *,
        lam: float = 0.1,
        n_iter: int = 20,
        source: words.Source = "random",
        random_state: Seed = None,
    ) -> None:
        super().__init__(n_channels, kernel_size, random_state)
        self.lam = checks.non_negative(lam, "lam")
        if self.lam >= 1:
            raise ValueError(f"lam is {lam!r}; expected a number in [0, 1)")
        self.n_iter = checks.integer(n_iter, "n_iter", 1)
        self.source = checks.choice(source, "source", SOURCES)

    def _kernels(self, samples: Array, size: tuple[int, ...], random: Any) -> npt.NDArray[np.float64]:
        _check_taps(size, samples.shape)
        if self.source == "random":
            kernels = gaussian_kernels(self.n_channels, samples.shape[1], size, random)
        else:
            kernels = _patches(samples, self.n_channels, size, random)
        kernels /= np.sqrt((kernels**2).sum(axis=tuple(range(1, kernels.ndim)), keepdims=True))
        return kernels

    def _apply(self, samples: Array, out: Array) -> Array:
        _check_taps(self.kernels_.shape[2:], samples.shape)
        dictionary = ConvolutionalDictionary(self.kernels_.astype(out.dtype), samples.shape[2:])
        L = dictionary.largest_eigenvalue()
        n = max(1, BLOCK_BYTES // out[0].nbytes)
        for i in range(0, len(samples), n):
            block = samples[i : i + n].astype(out.dtype)
            check_finite(block, i)
            scales = _peaks(dictionary.adjoint(block))
            codes = fista(dictionary, block / scales, self.lam, n_iter=self.n_iter, L=L)
            np.multiply(codes, scales, out=out[i : i + n])
        return out

    def __repr__(self) -> str:
        return (
            f"SparseLift({self.n_channels}, {self.kernel_size}, lam={self.lam}, n_iter={self.n_iter}, "
            f"source={self.source!r}, random_state={self.random_state!r})"
        )


def _check_taps(taps: tuple[int, ...], shape: tuple[int, ...]) -> None:
    if any(t > n for t, n in zip(taps, shape[2:], strict=True)):
        raise ValueError(f"X has shape {shape}; expected points for kernels of {' x '.join(map(str, taps))}")


def _peaks(codes: Array) -> Array:
    """The largest magnitude of every sample, with the axes of the codes; 1 of a zero sample."""
    peaks = np.abs(codes).max(axis=tuple(range(1, codes.ndim)), keepdims=True)
    found: Array = np.where(peaks == 0, peaks.dtype.type(1), peaks)
    return found


def _patches(samples: Array, n: int, size: tuple[int, ...], random: Any) -> npt.NDArray[np.float64]:
    """Pieces (n, C, *size) of samples at random places, less the mean of each channel; flat ones are drawn again."""
    draw = random.integers if isinstance(random, np.random.Generator) else random.randint
    floor = FLAT * np.abs(samples).max()
    kernels = np.empty((n, samples.shape[1], *size))
    for kernel in kernels:
        for _ in range(1000):
            sample = samples[draw(len(samples))].astype(np.float64)
            starts = [draw(points - taps + 1) for points, taps in zip(sample.shape[1:], size, strict=True)]
            piece = sample[(slice(None), *(slice(s, s + t) for s, t in zip(starts, size, strict=True)))]
            kernel[...] = piece - piece.mean(axis=tuple(range(1, piece.ndim)), keepdims=True)
            if np.isfinite(kernel).all() and np.abs(kernel).max() > floor:
                break
        else:
            raise ValueError(f"X has no pieces of {' x '.join(map(str, size))} that vary; expected samples that do")
    return kernels
