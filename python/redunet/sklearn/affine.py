"""Vectors as directions that keep offset and scale: columns standardised, and a constant column beside them.

A network sees a sample x in R^d at unit norm, so of c x nothing but the direction. Of ((x - mean) / deviation, sqrt(d))
the direction says what x is: subspaces of R^(d + 1) are affine subspaces of R^d. The constant is as large as the rest
of a usual sample; half or twice as large is no better (bench/defaults.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# A column varies by rounding alone if its deviation is at most so many units of its largest magnitude.
ROUNDING_UNITS = 10


@dataclass(frozen=True)
class AffineLift:
    """Vectors (m, d) to (m, d + 1), by numbers that were found on training samples.

    Attributes
    ----------
    exponents : (d,) integers
        Columns are first divided by these powers of two, so that no square overflows and a unit changes no bit.
    mean, scale : (d,) float64 arrays
        Mean and standard deviation of these columns; 1 in place of a deviation that is rounding.
    dtype : dtype
        The training samples' precision, which the network has.
    """

    exponents: npt.NDArray[np.int64]
    mean: npt.NDArray[np.float64]
    scale: npt.NDArray[np.float64]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, X: Array, weights: Array | None) -> AffineLift:
        """Of training samples (m, d) and their weights > 0, (m,)."""
        exponents = np.frexp(np.abs(X).max(axis=0).astype(np.float64))[1].astype(np.int64)
        columns = np.ldexp(X.astype(np.float64), -exponents)
        shares = np.full(len(X), 1 / len(X)) if weights is None else weights / weights.max()
        shares = shares / shares.sum()
        mean = shares @ columns
        scale = np.sqrt(shares @ (columns - mean) ** 2)
        constant = scale <= ROUNDING_UNITS * np.finfo(X.dtype).eps
        return cls(exponents, mean, np.where(constant, 1.0, scale), X.dtype)

    def __call__(self, X: Array) -> Array:
        """Samples (m, d) as (m, d + 1), in the network's precision; beyond its range they are as large as it goes."""
        most = np.finfo(self.dtype).max / 4
        with np.errstate(over="ignore"):
            columns = (np.ldexp(X.astype(np.float64), -self.exponents) - self.mean) / self.scale
        constant = np.full((len(X), 1), math.sqrt(X.shape[1]))
        result: Array = np.concatenate([np.clip(columns, -most, most), constant], axis=1).astype(self.dtype)
        return result
