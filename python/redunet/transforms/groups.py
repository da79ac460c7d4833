"""Groups that samples are moved by: cyclic shifts alone, or with mirror images (dihedral); and the transform of each.

A network of a group is the one of *all* samples that the group makes of those given. Of shifts the DFT takes care; the
mirror images h x of a sample, h in H, become its columns at each frequency: d = |H| of them, 2 for signals (itself, and
index t to -t) and 4 for images (flips of rows, of columns, of both). Gram matrices are sums over the columns, and
operators at frequencies that a mirror exchanges are the same, so that one of each orbit is kept.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet.transforms.cyclic import Fourier

Array = npt.NDArray[Any]
Index = tuple[Any, ...]


@dataclass(frozen=True)
class Dihedral(Fourier):
    """The DFT of one kind of sample and of its mirror images, at one frequency (+-p, +-q) of each orbit.

    Column h of a complex sample at p is the spectrum of its mirror image h x at p, which is the sample's at h p. Those
    of a real sample come as pairs v, conj(v), and the unitary map of a pair to sqrt(2) Re v, sqrt(2) Im v leaves their
    Gram matrix as it is: it is real, and so is everything. An orbit of fewer frequencies than |H| repeats columns.
    """

    @cached_property
    def freq_shape(self) -> tuple[int, ...]:
        """Shape of the frequencies kept."""
        return tuple(n // 2 + 1 for n in self.signal_shape)

    @cached_property
    def freq_weights(self) -> npt.NDArray[np.float64]:
        """How many frequencies are in the orbit of each kept one: (F,)."""
        weights = np.ones(())
        for n in self.signal_shape:
            weights = np.multiply.outer(weights, np.where((2 * np.arange(n // 2 + 1)) % n == 0, 1.0, 2.0))
        return weights.reshape(-1)

    @property
    def n_columns(self) -> int:
        """d, the mirror images of a sample with itself."""
        return n_mirrored(len(self.signal_shape), "dihedral")

    def spectral_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Of spectra and operators, for samples of ``dtype``: real ones of real samples."""
        return dtype

    def kernels(self, operators: Array) -> Array:
        """Of operators (C, C, *freqs), the convolutions that they are: (C, C, *signal_shape), real parts."""
        folded = _grid(np.minimum(np.arange(n), -np.arange(n) % n) for n in self.signal_shape)
        result: Array = np.fft.ifftn(operators[folded], axes=self._axes).real
        return result

    def _spectra(self, Z: Array) -> Array:
        """V of samples (n, C, *signal_shape), with any axes after the first two."""
        spectrum = self._dft(Z)
        columns = np.empty((*Z.shape[:2], *self.freq_shape, len(self.images)), spectrum.dtype)
        for c, image in enumerate(self.images):
            columns[..., c] = spectrum[image]
        return math.sqrt(2) * columns.view(Z.dtype) if self.real else columns

    def _samples(self, V: Array) -> Array:
        """(n, C, *signal_shape) of spectra (n, C, F d)."""
        if self.real:
            V = (math.sqrt(0.5) * V).view(np.result_type(V.dtype, np.complex64))
        columns = V.reshape(*V.shape[:2], *self.freq_shape, -1)
        spectrum = np.empty((*V.shape[:2], *self._dft_shape), V.dtype)
        for c, image in enumerate(self.images):
            spectrum[image] = columns[..., c]
        return self._idft(spectrum)

    @cached_property
    def images(self) -> list[Index]:
        """Where the spectrum of the DFT has the kept frequencies of mirror images; of real samples one of each pair."""
        both = [[np.arange(n // 2 + 1), -np.arange(n // 2 + 1) % n] for n in self.signal_shape]
        if self.real:
            both[-1] = both[-1][:1]  # v(p, -q) is the conjugate of v(-p, q)
        return [_grid(places) for places in itertools.product(*both)]


def _grid(places: Iterable[Array]) -> Index:
    """The index of an array's last axes at these places of each."""
    return (..., *np.ix_(*places))


TRANSFORMS: dict[str, type[Fourier]] = {"cyclic": Fourier, "dihedral": Dihedral}
GROUPS = tuple(TRANSFORMS)


def transform(signal_shape: tuple[int, ...], real: bool, group: str) -> Fourier:
    """The transform of samples, real or complex, for a group."""
    return TRANSFORMS[group](signal_shape, real)


def _flips(n_axes: int, group: str) -> list[tuple[bool, ...]]:
    """Whether each axis is flipped, for every h in H."""
    if group == "cyclic":
        return [(False,) * n_axes]
    return list(itertools.product((False, True), repeat=n_axes))


def n_mirrored(n_axes: int, group: str) -> int:
    """|H|, the samples that `mirrored` gives for one."""
    return len(_flips(n_axes, group))


def mirrored(Z: Array, group: str) -> Iterator[Array]:
    """Samples (m, C, *signal_shape) moved by every h in H, themselves first: index t to -t mod n of axes it flips.

    Of images and "dihedral": as they are, columns flipped, rows flipped, both.
    """
    for flips in _flips(Z.ndim - 2, group):
        along = tuple(itertools.compress(range(2, Z.ndim), flips))
        yield np.roll(np.flip(Z, along), 1, along) if along else Z
