"""What a sample adds to a class's coding length: for one distortion by Cholesky, for many by an eigendecomposition.

The n members of a class in D dimensions are seen in one of two ways, both through a Hermitian matrix M (N, N) with the
eigenvalues of their scatter S: M = S itself (N = D), or the dual, their Gram matrix (N = n), which is all that a kernel
has. Samples are taken about the members' mean mu where that is estimated, else mu = 0. With a = D / ((n+1) eps^2), and
o = D for a whole length, 0 for a rate, which leaves out what the basis and the mean take,

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
class Members:
    """n samples that are coded together.

    Attributes
    ----------
    n : int
        Samples.
    matrix : (N, N) float64 array
        Scatter or Gram matrix, about the mean where that is estimated.
    dual : bool
        Whether it is the Gram matrix.
    mean_square : float
        |mu|^2.
    prepared : dict
        By code and distortion, what `increments` has made of the matrix.
    """

    n: int
    matrix: Array
    dual: bool
    mean_square: float = 0.0
    prepared: dict[tuple[Code, float], tuple[Array, Array]] = field(default_factory=dict, repr=False, compare=False)


class Seen(NamedTuple):
    """Samples as members see them: y (m, N), |x - mu|^2 and <mu, x - mu>, (m,)."""

    coordinates: Array
    squares: Array
    along: Any = 0.0


def increments(code: Code, epsilon_sq: float, members: Members, seen: Seen) -> Array:
    """What each sample adds to the length of the members' code, in nats: (m,)."""
    a = _scale(code, epsilon_sq, members)
    if (code, epsilon_sq) not in members.prepared:
        members.prepared[code, epsilon_sq] = _prepare(code, a, members)
    A, constant = members.prepared[code, epsilon_sq]
    forms = linalg.quadratic_forms(A, seen.coordinates).forms
    return _assembled(code, epsilon_sq, members, seen, constant, forms)


def sweep(code: Code, epsilons: Array, members: Members, seen: Seen) -> Iterator[Array]:
    """`increments` for one distortion after the other, from one eigendecomposition."""
    values, vectors = np.linalg.eigh(members.matrix)
    values = np.maximum(values, 0)  # what rounding left of zeros
    squares = (seen.coordinates @ vectors) ** 2
    for epsilon_sq in epsilons.tolist():
        scaled = _scale(code, epsilon_sq, members) * values
        logdet = np.log1p(scaled).sum()
        growth = np.log1p(scaled / (1 + scaled) / members.n).sum()
        forms = squares @ (1 / (1 + scaled))
        yield _assembled(code, epsilon_sq, members, seen, _constant(code, members, logdet, growth), forms)


def _scale(code: Code, epsilon_sq: float, members: Members) -> float:
    """a, for members with one sample more."""
    return code.dim / (members.n + 1) / epsilon_sq


def _prepare(code: Code, a: float, members: Members) -> tuple[Array, Array]:
    """I + a M, and what of the increment does not depend on the sample."""
    identity = np.eye(len(members.matrix))
    with np.errstate(over="ignore", invalid="ignore"):
        A = identity + a * members.matrix
    if not np.isfinite(A).all():
        raise ValueError("epsilon_sq is too small, or samples too large: their ratio exceeds double precision")
    logdet = linalg.logdet(A)
    growth = linalg.logdet(identity + (identity - linalg.inv(A)) / members.n)
    return A, _constant(code, members, logdet, growth)


def _constant(code: Code, members: Members, logdet: Array, growth: Array) -> Array:
    """From log det(I + a M), and by how much that for n samples exceeds it."""
    result: Array = logdet / 2 - (members.n + code.overhead) / 2 * growth
    return result


def _assembled(code: Code, epsilon_sq: float, members: Members, seen: Seen, constant: Array, forms: Array) -> Array:
    a, n = _scale(code, epsilon_sq, members), members.n
    q = np.maximum(seen.squares - a * forms, 0) if members.dual else forms
    b = a * (n / (n + 1)) if code.estimated else a
    lengths: Array = constant + (n + 1 + code.overhead) / 2 * np.log1p(b * q)
    if code.estimated and code.whole:
        before = members.mean_square
        after = np.maximum(before + 2 / (n + 1) * seen.along + seen.squares / (n + 1) ** 2, 0)
        lengths += code.dim / 2 * (np.log(epsilon_sq + after) - np.log(epsilon_sq + before))
    return lengths
