"""Unit norm of samples (m, ...) in any unit of measurement: x / ||x||, after division by the largest magnitude.

Squares then neither overflow nor vanish, wherever in the exponent range a sample lies. Only an exact zero stays zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# Double-precision samples with a largest magnitude in 2^-400 to 2^400 can be squared as they are: what vanishes is
# below rounding.
SAFE_EXPONENT = 400


def real_rows(Z: Array) -> Array:
    """The numbers of every sample as reals, (m, n), complex ones as pairs: a view of Z if Z is C-contiguous."""
    rows = np.ascontiguousarray(Z.reshape(len(Z), -1))
    return rows.view(rows.real.dtype) if rows.dtype.kind == "c" else rows


def peaks(Z: Array) -> Array:
    """The largest real or imaginary part of every sample in magnitude, (m, 1): not finite where a number is not."""
    result: Array = np.abs(real_rows(Z)).max(axis=1, keepdims=True)
    return result


def unit(Z: Array) -> Array:
    """A copy of finite samples of floating dtype, scaled to unit norm."""
    return scaled_to_unit(np.array(Z, order="C"), peaks(Z), Z.dtype)


def scaled_to_unit(Z: Array, largest: Array, dtype: np.dtype[Any]) -> Array:
    """The same from C-contiguous samples, which are lost, and their `peaks`; in another dtype if asked.

    A narrower dtype is taken after the division by the peaks, when its exponent range holds every sample.
    """
    rows = real_rows(Z)
    rows /= _divisors(largest)
    Z = Z.astype(dtype, copy=False)
    rows = real_rows(Z)
    rows /= _divisors(np.linalg.norm(rows, axis=1, keepdims=True))
    return Z


def squarable(array: Array) -> tuple[Array, npt.NDArray[np.int32]]:
    """Samples over powers of two, 2^e, so that no square in double precision overflows or vanishes, and e, (m,)."""
    if array.real.dtype == np.float32:
        return array, np.zeros(len(array), np.int32)
    exponents = np.frexp(peaks(array)[:, 0])[1]
    exponents[np.abs(exponents) < SAFE_EXPONENT] = 0
    if exponents.any():
        rows = np.ldexp(real_rows(array), -exponents[:, None])
        array = rows.view(array.dtype).reshape(array.shape)
    return array, exponents


def scaled_back(scores: Array, exponents: npt.NDArray[np.int32]) -> Array:
    """Squares of samples, (m, ...), from those of `squarable`."""
    if not exponents.any():
        return scores
    with np.errstate(over="ignore", under="ignore"):
        return np.ldexp(scores, 2 * exponents.reshape(-1, *[1] * (scores.ndim - 1)))


def _divisors(sizes: Array) -> Array:
    """Ones for zeros: a zero sample stays as it is."""
    result: Array = np.where(sizes == 0, sizes.dtype.type(1), sizes)
    return result
