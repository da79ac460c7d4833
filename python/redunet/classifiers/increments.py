"""What a sample adds to a group's coding length: for one distortion by Cholesky, for many by one eigendecomposition.

A group of n samples in D dimensions is seen in one of two ways, both through a Hermitian matrix M (N, N) with the
eigenvalues of its scatter S: M = S itself (N = D), or the dual, the Gram matrix of the samples (N = n), which is all
that a kernel has. Samples are taken about the group's mean mu where that is estimated, else mu = 0. With
a = D / ((n+1) eps^2) and o = D for a whole length, 0 for a rate, which leaves out what the basis and the mean take,

    q = (x - mu)* (I + a S)^-1 (x - mu)  =  y* (I + a M)^-1 y,                     y = x - mu,
                                         =  |x - mu|^2 - a y* (I + a M)^-1 y,      y = inner products with the samples,

    L(X u x) - L(X) = (n+1+o)/2 (log det(I + a S) + log(1 + b q)) - (n+o)/2 log det(I + a S (n+1)/n)
                      + o/2 (log(eps^2 + |mu'|^2) - log(eps^2 + |mu|^2));

b = a, and the last line is zero, without a mean; about an estimated one b = a n/(n+1), and mu' is the mean with x. The
two log dets are nearly the same and n may be large, so their difference is made as one:
I + a S (n+1)/n = (I + a S) (I + (I - (I + a S)^-1)/n).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from redunet import linalg

Array = npt.NDArray[Any]


class Code(NamedTuple):
    """How samples are coded: D, whether the mean is estimated, and whether basis and mean count."""

    dim: int
    estimated: bool
    whole: bool

    @property
    def overhead(self) -> int:
        """What stands beside the number of samples in a coding length."""
        return self.dim if self.whole else 0


@dataclass(frozen=True)
class Group:
    """n samples, or a batch of such groups.

    Attributes
    ----------
    n : int
        Samples.
    matrix : (..., N, N) float64 array
        Scatter or Gram matrix, about the mean where that is estimated.
    dual : bool
        Whether it is the Gram matrix.
    mean_square : (...) array or float
        |mu|^2.
    prepared : dict
        By code and distortion, what `increments` has made of the matrix.
    """

    n: int
    matrix: Array
    dual: bool
    mean_square: Any = 0.0
    prepared: dict[tuple[Code, float], tuple[Array, Array]] = field(default_factory=dict, repr=False, compare=False)


class Seen(NamedTuple):
    """Samples as a group sees them: y (..., m, N), |x - mu|^2 and <mu, x - mu>, (..., m)."""

    coordinates: Array
    squares: Array
    along: Any = 0.0


def increments(code: Code, epsilon_sq: float, group: Group, seen: Seen) -> Array:
    """What each sample adds to the length of the group's code, in nats: (..., m)."""
    a = _scale(code, epsilon_sq, group)
    if (code, epsilon_sq) not in group.prepared:
        group.prepared[code, epsilon_sq] = _prepare(code, a, group)
    A, constant = group.prepared[code, epsilon_sq]
    forms = linalg.quadratic_forms(A, seen.coordinates).forms
    return _assembled(code, epsilon_sq, group, seen, constant, forms)


def sweep(code: Code, epsilons: Array, group: Group, seen: Seen) -> Iterator[Array]:
    """`increments` for one distortion after the other, from one eigendecomposition."""
    values, vectors = np.linalg.eigh(group.matrix)
    values = np.maximum(values, 0)  # what rounding left of zeros
    squares = (seen.coordinates @ vectors) ** 2
    for epsilon_sq in epsilons.tolist():
        scaled = _scale(code, epsilon_sq, group) * values
        logdet = np.log1p(scaled).sum(axis=-1)
        growth = np.log1p(scaled / (1 + scaled) / group.n).sum(axis=-1)
        forms = (squares @ (1 / (1 + scaled))[..., None])[..., 0]
        yield _assembled(code, epsilon_sq, group, seen, _constant(code, group, logdet, growth), forms)


def _scale(code: Code, epsilon_sq: float, group: Group) -> float:
    """a, for a group that has one sample more."""
    return code.dim / (group.n + 1) / epsilon_sq


def _prepare(code: Code, a: float, group: Group) -> tuple[Array, Array]:
    """I + a M, and what of the increment does not depend on the sample."""
    identity = np.eye(group.matrix.shape[-1])
    with np.errstate(over="ignore", invalid="ignore"):
        A = identity + a * group.matrix
    if not np.isfinite(A).all():
        raise ValueError("epsilon_sq is too small, or samples too large: their ratio exceeds double precision")
    logdet = linalg.logdet(A)
    growth = linalg.logdet(identity + (identity - linalg.inv(A)) / group.n)
    return A, _constant(code, group, logdet, growth)


def _constant(code: Code, group: Group, logdet: Array, growth: Array) -> Array:
    """From log det(I + a M), and by how much that for n samples exceeds it."""
    result: Array = logdet / 2 - (group.n + code.overhead) / 2 * growth
    return result


def _assembled(code: Code, epsilon_sq: float, group: Group, seen: Seen, constant: Array, forms: Array) -> Array:
    a, n = _scale(code, epsilon_sq, group), group.n
    q = np.maximum(seen.squares - a * forms, 0) if group.dual else forms
    b = a * (n / (n + 1)) if code.estimated else a
    lengths: Array = np.asarray(constant)[..., None] + (n + 1 + code.overhead) / 2 * np.log1p(b * q)
    if code.estimated and code.whole:
        before = np.asarray(group.mean_square)[..., None]
        after = np.maximum(before + 2 / (n + 1) * seen.along + seen.squares / (n + 1) ** 2, 0)
        lengths += code.dim / 2 * (np.log(epsilon_sq + after) - np.log(epsilon_sq + before))
    return lengths
