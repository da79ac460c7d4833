"""Samples to spectra and back: unit norm, unitary DFT along the signal axes, half of it when the samples are real.

X of shape (m, d), (m, C, T) or (m, C, H, W) becomes V of shape (m, C, F): F = 1 for vectors (V is X itself),
T//2+1 for real signals, H(W//2+1) for real images, T or HW for complex ones. A kept frequency p stands for w_p
frequencies of the full spectrum; sums over the full spectrum are sums over p with weights w_p.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from redunet._backends import arrays, tasks
from redunet._backends.contract import Backend, DeviceBackend
from redunet.transforms import norms

Array = npt.NDArray[Any]

# Samples are transformed in pieces of this size: small beside the spectrum, large beside the cost of a call.
CHUNK_BYTES = 1 << 22


@dataclass(frozen=True)
class Fourier:
    """The DFT of one kind of sample.

    Parameters
    ----------
    signal_shape : tuple of int
        () for vectors, (T,) for signals, (H, W) for images.
    real : bool
        Whether the samples are real, so that half of the spectrum is enough.
    """

    signal_shape: tuple[int, ...]
    real: bool

    @cached_property
    def freq_shape(self) -> tuple[int, ...]:
        """Shape of the frequencies kept."""
        return self._dft_shape

    @property
    def n_columns(self) -> int:
        """d, the columns of a sample at each frequency: V has the shape (m, C, F d)."""
        return 1

    @property
    def on_device(self) -> bool:
        """Whether it is done on the device of a backend that has one; else on the host, for samples that lie there.

        Devices know the DFT alone, and none of its subclasses.
        """
        return type(self) is Fourier

    def spectral_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Of spectra and operators, for samples of ``dtype``."""
        return np.result_type(dtype, np.complex64) if self.signal_shape else dtype

    @property
    def n_freqs(self) -> int:
        """F, the number of frequencies kept."""
        return math.prod(self.freq_shape)

    @property
    def n_points(self) -> int:
        """N, the number of signal points."""
        return math.prod(self.signal_shape)

    @cached_property
    def freq_weights(self) -> npt.NDArray[np.float64]:
        """How many frequencies each kept one stands for: (F,)."""
        weights = np.ones(self.freq_shape)
        if self.real and self.signal_shape:
            n = self.signal_shape[-1]
            weights[..., 1 : (n + 1) // 2] = 2.0  # all but 0 and, when n is even, n/2
        return weights.reshape(-1)

    def forward(
        self, X: Array, dtype: np.dtype[Any], module: Backend, *, name: str, normalize: bool, n_threads: int
    ) -> Array:
        """V, (m, C, F d), of samples that are first scaled to unit norm if asked; where `on_device` says.

        Raises
        ------
        ValueError
            If a sample holds NaN or infinity.
        TypeError
            If samples on a device would have to be converted.
        """
        if self.on_device and isinstance(module, DeviceBackend):
            return _forward_on_device(X, dtype, module, name, normalize)
        m, C = X.shape[:2]
        V = np.empty((m, C, self.n_freqs * self.n_columns), self.spectral_dtype(dtype))
        precise = _to_scale_in(X.dtype, dtype) if normalize else dtype

        def transform(rows: slice) -> None:
            Z = np.array(X[rows], dtype=precise, order="C")  # a copy: scaled in place below
            peaks = norms.peaks(Z)
            if not np.isfinite(peaks).all():
                bad = rows.start + int(np.flatnonzero(~np.isfinite(peaks))[0])
                raise ValueError(_not_finite(name, bad, dtype))
            if normalize:
                Z = norms.scaled_to_unit(Z, peaks, dtype)
            V[rows] = self._spectra(Z).reshape(len(Z), C, -1)

        _in_chunks(transform, m, X[0].size * dtype.itemsize, n_threads)
        return V

    def inverse(self, V: Array, dtype: np.dtype[Any], module: Backend, *, like: npt.ArrayLike, n_threads: int) -> Array:
        """The samples, (m, C, *signal_shape), of a spectrum, which is lost; on a device if ``like`` is there."""
        m, C, _ = V.shape
        if self.on_device and isinstance(module, DeviceBackend):
            Z = module.inverse(V, dtype, (m, C, *self.signal_shape))
            return cast(Array, arrays.give_back(Z, like) if arrays.holds(like) else np.asarray(Z))
        X = np.empty((m, C, *self.signal_shape), dtype)

        def transform(rows: slice) -> None:
            X[rows] = self._samples(V[rows])

        _in_chunks(transform, m, X[0].nbytes, n_threads)
        return X

    def kernels(self, operators: Array) -> Array:
        """Of operators (C, C, *freqs), the convolutions that they are: (C, C, *signal_shape), real parts."""
        axes = self._axes
        if self.real:
            return np.fft.irfftn(operators, s=self.signal_shape, axes=axes)
        return np.fft.ifftn(operators, axes=axes).real

    def _spectra(self, Z: Array) -> Array:
        """V of samples (n, C, *signal_shape), with any axes after the first two."""
        return self._dft(Z)

    def _samples(self, V: Array) -> Array:
        """(n, C, *signal_shape) of spectra (n, C, F d)."""
        return self._idft(V)

    def _dft(self, Z: Array) -> Array:
        """(n, C, *_dft_shape) of (n, C, *signal_shape)."""
        if not self.signal_shape:
            return Z
        dft = np.fft.rfftn if self.real else np.fft.fftn
        return dft(Z, axes=self._axes, norm="ortho")

    def _idft(self, spectrum: Array) -> Array:
        """The inverse of `_dft`."""
        spectrum = spectrum.reshape(*spectrum.shape[:2], *self._dft_shape)
        if not self.signal_shape:
            return spectrum
        if self.real:
            return np.fft.irfftn(spectrum, s=self.signal_shape, axes=self._axes, norm="ortho")
        return np.fft.ifftn(spectrum, axes=self._axes, norm="ortho")

    @property
    def _dft_shape(self) -> tuple[int, ...]:
        """Of the DFT's result, half of it for real samples."""
        if self.real and self.signal_shape:
            return (*self.signal_shape[:-1], self.signal_shape[-1] // 2 + 1)
        return self.signal_shape

    @property
    def _axes(self) -> tuple[int, ...]:
        """The signal's axes in samples."""
        return tuple(range(2, 2 + len(self.signal_shape)))


def _not_finite(name: str, sample: int, dtype: np.dtype[Any]) -> str:
    return f"{name} holds NaN or infinity in sample {sample}; expected finite {dtype} numbers"


def _to_scale_in(given: np.dtype[Any], dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which samples are scaled to unit norm: the wider of theirs and the one to compute in.

    The exponent range of single precision holds samples of double precision only once they are scaled.
    """
    return np.result_type(given, dtype)


def _forward_on_device(X: Any, dtype: np.dtype[Any], module: DeviceBackend, name: str, normalize: bool) -> Array:
    if isinstance(X, np.ndarray):
        if normalize and _to_scale_in(X.dtype, dtype) != dtype:
            X = _narrowed(X, dtype)
        X = arrays.plain(X, dtype)
    elif X.dtype != dtype:
        raise TypeError(f"{name} has dtype {X.dtype} on a CUDA device; expected {dtype}, which is computed in")
    V, bad = module.forward(X, normalize=normalize)
    if bad >= 0:
        raise ValueError(_not_finite(name, bad, dtype))
    return cast(Array, V)


def _narrowed(X: Array, dtype: np.dtype[Any]) -> Array:
    """Samples scaled to unit norm in their own precision, then in a narrower one; NaN where one is not finite."""
    narrow = np.empty(X.shape, dtype)
    step = max(1, CHUNK_BYTES // X[0].nbytes)
    for start in range(0, len(X), step):
        Z = np.array(X[start : start + step], dtype=_to_scale_in(X.dtype, dtype), order="C")
        peaks = norms.peaks(Z)
        peaks[~np.isfinite(peaks)] = np.nan
        narrow[start : start + step] = norms.scaled_to_unit(Z, peaks, dtype)
    return narrow


def _in_chunks(work: Callable[[slice], None], m: int, bytes_per_sample: int, n_threads: int) -> None:
    """Run ``work`` on pieces of the samples, on several threads when there are several pieces."""
    step = max(1, CHUNK_BYTES // bytes_per_sample)
    if m * bytes_per_sample <= CHUNK_BYTES:
        work(slice(0, m))
    else:
        tasks.run([partial(work, slice(start, min(start + step, m))) for start in range(0, m, step)], n_threads)
