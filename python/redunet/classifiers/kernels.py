"""Kernels of vectors: of samples (m, D) with others (n, D), as (m, n), and of each with itself, in double precision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from redunet._inputs import checks

Array = npt.NDArray[Any]

#: By name; a function of two sets of samples, and "precomputed", may stand in their place.
NAMES = ("linear", "poly", "rbf")
#: Samples whose kernel matrix is made to take its diagonal.
DIAGONAL = 64


class Kernel(Protocol):
    """k(x, z) with references, what is kept of training samples, and k(x, x)."""

    def between(self, X: Array, references: Array) -> Array:
        """(m, n)."""
        ...

    def itself(self, X: Array) -> Array:
        """(m,)."""
        ...


@dataclass(frozen=True)
class Named:
    """x* z, (gamma x* z + coef0)^degree, or exp(-gamma |x - z|^2)."""

    name: str
    gamma: float
    degree: int
    coef0: float

    def __call__(self, X: Array, Z: Array) -> Array:
        """The kernel matrix."""
        if self.name != "rbf":
            products: Array = X @ Z.T
            return products if self.name == "linear" else (self.gamma * products + self.coef0) ** self.degree
        origin = Z.mean(axis=0)  # so that distances are not differences of large numbers
        X, Z = X - origin, Z - origin
        squares = np.vecdot(X, X)[:, None] - 2 * (X @ Z.T) + np.vecdot(Z, Z)
        result: Array = np.exp(-self.gamma * np.maximum(squares, 0))
        return result


@dataclass(frozen=True)
class Computed:
    """A function of two sets of samples, whose matrices must be finite real numbers of the right shape."""

    function: Callable[[Array, Array], Any]

    def between(self, X: Array, references: Array) -> Array:
        """The function's matrix, checked."""
        K = checks.array(self.function(X, references), "kernel")
        expected = (len(X), len(references))
        if K.shape != expected or K.dtype.kind not in "fiub":
            came = f"a matrix of shape {K.shape} and dtype {K.dtype}"
            raise ValueError(f"kernel gives {came}; expected real numbers of shape {expected}")
        K = K.astype(np.float64, copy=False)
        if not np.isfinite(K).all():
            raise ValueError("kernel gives NaN or infinity; expected finite numbers")
        return K

    def itself(self, X: Array) -> Array:
        """The diagonals of small matrices."""
        parts = [X[start : start + DIAGONAL] for start in range(0, len(X), DIAGONAL)]
        return np.concatenate([np.diagonal(self.between(part, part)) for part in parts])


class Given:
    """A matrix: samples are its rows, with k(x, x) after them, (m, N + 1), and references are columns."""

    def between(self, X: Array, references: Array) -> Array:
        """Some columns."""
        return X[:, references]

    def itself(self, X: Array) -> Array:
        """The last one."""
        result: Array = X[:, -1]
        return result


def scale(Z: Array) -> float:
    """1 / (D var Z), over all entries: gamma of kernels that do not depend on the unit of Z; 1 if that is infinite."""
    variance = float(Z.var(dtype=np.float64))
    return 1 / (Z.shape[1] * variance) if variance > 0 else 1.0
