"""`ClassGram`: the Gram matrix of one class as a sum that is added to and taken from, with a bound of its error.

G(p) = sum_i v_i(p) v_i(p)*, (F, C, C), v_i(p) the spectra (C, d) of m samples on the sphere, so that
sum_p w_p / d tr G(p) <= m. Errors are measured alike, sum_p w_p / d ||.||_F: m bounds a matrix, and the sum of the
absolute values of its terms too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet._backends.contract import Problem, ReadOnlyCopies
from redunet._inputs import prepare
from redunet._inputs.problem import problem_of
from redunet.transforms.cyclic import Fourier

Array = npt.NDArray[Any]

#: Samples that are summed at once. Bounds grow with it, and so does the room for spectra; with 256 the bound of a class
#: of 1e8 samples is 2e-11 of its Gram matrix, and 1e-13 of one of 60 000.
PIECE = 256
#: Half of the distance from 1 to the next number in double precision.
UNIT = 2.0**-53
#: A spectrum is that of the sample to so many units for each doubling of the points, with room for lengths that are no
#: power of two (Higham, *Accuracy and Stability of Numerical Algorithms*, 2002, theorem 24.2, has 7), and twice as
#: many in products of two.
SPECTRUM_UNITS = 16


@dataclass(frozen=True, eq=False)
class ClassGram(ReadOnlyCopies):
    """The Gram matrix of one class.

    Attributes
    ----------
    label : (1,) array
        Text in no wider dtype than it needs.
    size : int
        m, samples.
    gram : (F, C, C) float64 or complex128 array
        G, exactly Hermitian.
    error : float
        An upper bound.
    """

    label: Array
    size: int
    gram: Array
    error: float

    def __post_init__(self) -> None:
        self.label.flags.writeable = self.gram.flags.writeable = False

    @property
    def name(self) -> object:
        """The label as an object of Python."""
        name: object = self.label.tolist()[0]
        return name

    @property
    def bound(self) -> float:
        """The error relative to m."""
        return self.error / self.size

    def plus(self, other: ClassGram) -> ClassGram:
        """With other samples."""
        size, error = self.size + other.size, self.error + other.error
        return replace(self, size=size, gram=self.gram + other.gram, error=error + UNIT * size)

    def minus(self, other: ClassGram, fourier: Fourier) -> ClassGram:
        """Without samples that were added before; of size zero without any.

        Raises
        ------
        ValueError
            If there are not so many, or what is left is no Gram matrix of the others, by more than the error.
        """
        size, error = self.size - other.size, self.error + other.error
        if size < 0:
            raise ValueError(
                f"X holds {other.size} samples of class {self.name!r}, which has {self.size}; expected no more"
            )
        rest = replace(self, size=size, gram=self.gram - other.gram, error=error + UNIT * size)
        if (excess := rest._excess(fourier)) > 0:
            raise ValueError(
                f"X holds samples of class {self.name!r} that were not added: what is left is off from a Gram matrix "
                f"of {size} samples by {excess:.3g}"
            )
        return rest

    def _excess(self, fourier: Fourier) -> float:
        """By how much more than the error it can't be a Gram matrix: a negative eigenvalue, or too large a trace."""
        eigenvalues = np.linalg.eigvalsh(self.gram)
        C, d = int(self.gram.shape[-1]), fourier.n_columns
        rounding = 8 * C * UNIT * (float(np.abs(eigenvalues).max()) + self.size)
        trace = float(fourier.freq_weights @ eigenvalues.sum(axis=1)) / d
        below = -float(eigenvalues.min()) - d * self.error
        return max(below, trace - self.size - self.error) - rounding


def class_gram(
    label: Array, X: Array, rows: Array, *, group: str, fourier: Fourier, backend: str, n_threads: int | None
) -> ClassGram:
    """Of these rows of X, all of this class, which are read piece by piece."""
    total: ClassGram | None = None
    for start in range(0, len(rows), PIECE):
        part = X[rows[start : start + PIECE]]
        given = prepare.samples(part, group=group, dtype=np.float64, backend=backend, n_threads=n_threads)
        V = given.spectra(normalize=True)
        state = given.module.state(V, one_class(len(part), part.shape[1], fourier), n_threads=given.n_threads)
        made = ClassGram(label, len(part), state.grams()[1].copy(), sum_error(len(part), fourier))
        total = made if total is None else total.plus(made)
    assert total is not None
    return total


def sum_error(m: int, fourier: Fourier) -> float:
    """Of a sum over m samples in any order: as many units of m as terms, two for each product of complex numbers."""
    spectra = SPECTRUM_UNITS * (1 + math.log2(fourier.n_points))
    return UNIT * (2 * m * fourier.n_columns + 2 + 2 * spectra) * m


def one_class(m: int, n_channels: int, fourier: Fourier) -> Problem:
    """The problem of samples that are added up and nothing else."""
    return problem_of(
        np.zeros(m, np.int64),
        None,
        None,
        sizes=np.array([float(m)]),
        total=float(m),
        counts=np.array([m, m]),
        n_channels=n_channels,
        n_points=fourier.n_points,
        freq_weights=fourier.freq_weights,
        n_columns=fourier.n_columns,
        epsilon_sq=1.0,
        dft_norm="ortho",
        dtype=np.dtype(np.float64),
    )


def narrow(label: Array) -> Array:
    """One label, (1,), in a dtype that tells nothing of the lengths of others."""
    return np.array(label.tolist(), label.dtype.type) if label.dtype.kind in "US" else label.copy()


def check_finite(X: Array) -> None:
    """An error that names the first sample that is not finite: of all samples, not of a class."""
    for start in range(0, len(X), PIECE):
        part = X[start : start + PIECE].astype(np.result_type(X.dtype, np.float32), copy=False)
        bad = np.flatnonzero(~np.isfinite(part).all(axis=tuple(range(1, X.ndim))))
        if len(bad):
            raise ValueError(f"X holds NaN or infinity in sample {start + bad[0]}; expected finite numbers")
