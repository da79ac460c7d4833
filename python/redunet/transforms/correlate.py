"""Inner products with every cyclic shift, without a shifted copy: circular cross-correlations.

<u, roll(z, s)> for all s is IDFT(sum_c DFT(u_c) conj(DFT(z_c)))(s), for z and u of shape (C, *signal_shape). The steps
are functions of their own: the spectrum of samples, products frequency by frequency, and the way back.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def spectrum(Z: Array, dtype: np.dtype[Any]) -> Array:
    """The DFT of samples (n, C, *signal_shape) in this dtype, half of it where that is real: (F, n, C)."""
    forward = np.fft.fftn if dtype.kind == "c" else np.fft.rfftn
    V = forward(Z.astype(dtype, copy=False), axes=tuple(range(2, Z.ndim)))
    return np.ascontiguousarray(V.reshape(*Z.shape[:2], math.prod(V.shape[2:])).transpose(2, 0, 1))


def signals(V: Array, signal_shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """The samples (n, C, *signal_shape) of a `spectrum`, (F, n, C), in the dtype that it is of."""
    real = dtype.kind != "c"
    freqs = (*signal_shape[:-1], signal_shape[-1] // 2 + 1) if real else signal_shape
    columns = V.transpose(1, 2, 0)
    columns = columns.reshape(*columns.shape[:2], *freqs)
    inverse = np.fft.irfftn if real else np.fft.ifftn
    return inverse(columns, s=signal_shape, axes=tuple(range(2, columns.ndim)))


def all_shifts(conjugates: Array, U: Array, signal_shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """<u_r, roll(z_i, s)> of every shift s: (n, r, *signal_shape), at O(n r (C + log N) N) for N points.

    From the conjugate spectra of the z, (F, n, C), and the spectra of the u, (F, r, C).
    """
    return signals(products(conjugates, U.transpose(0, 2, 1)), signal_shape, dtype)


def products(V: Array, U: Array) -> Array:
    """(F, n, C) times (F, C, r), frequency by frequency."""
    # With one row or column these are F small matrix-vector products. OpenBLAS splits each among its
    # threads from a few thousand entries on, which took ten times the CPU time (C = 300, n = 17,
    # OpenBLAS with 2 threads on two busy cores).
    if V.shape[1] == 1 or U.shape[2] == 1:
        product: Array = np.einsum("fnc,fcr->fnr", V, U)
        return product
    return V @ U
