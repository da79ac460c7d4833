"""Codes of the clusters of a partition, from the singular values of each: their length and dimension.

Samples X (N, D) in double precision. Clusters of one size are factored in one call: of N samples most clusters are
small, or there are few.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet._backends.tasks import interruptible
from redunet._inputs import checks, words
from redunet.rates import UNITS

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

MEANS = ("estimate", "zero")
LENGTHS = ("full", "rate")

#: Long ones, beside the main thread.
_svd: Callable[..., Any] = interruptible(np.linalg.svd)


@dataclass(frozen=True)
class Coding:
    """How clusters are coded: the squared distortion eps^2, about which mean, and whether bases and means are too."""

    epsilon_sq: float
    mean: words.Mean
    length: words.Length

    def __post_init__(self) -> None:
        object.__setattr__(self, "epsilon_sq", checks.positive(self.epsilon_sq, "epsilon_sq"))
        checks.choice(self.mean, "mean", MEANS)
        checks.choice(self.length, "length", LENGTHS)

    @property
    def centred(self) -> bool:
        """Whether about the means of clusters."""
        return self.mean == "estimate"

    @property
    def full(self) -> bool:
        """Whether bases and means are coded too."""
        return self.length == "full"

    def lengths(self, n: Any, logdet: Any, square: Any, D: int) -> Floats:
        """L of clusters of n samples with these log dets and squared norms of their means."""
        lengths: Floats = (n + (D if self.full else 0)) / 2 * logdet
        return lengths + D / 2 * np.log1p(square / self.epsilon_sq) if self.full and self.centred else lengths

    def scaled(self, X: Array) -> tuple[Array, Coding]:
        """X of entries at most 1, by a power of two, and the same for eps: so that no square overflows or vanishes.

        Clusters and lengths are those of X: they are the same for (c X, c eps).
        """
        exponent = magnitude(X)
        return np.ldexp(X, -exponent), self.in_units(exponent, X.shape[1])

    def in_units(self, exponent: int, D: int, name: str = "X") -> Coding:
        """The same for samples of D dimensions over 2^exponent, which has them at most 1; ``name`` is theirs."""
        with np.errstate(over="ignore", under="ignore"):
            epsilon_sq = float(np.ldexp(self.epsilon_sq, -2 * exponent))
            overflows = epsilon_sq == 0 or not np.isfinite(4 * np.square(float(D)) / epsilon_sq)
        if overflows:
            raise ValueError(
                f"epsilon_sq is {self.epsilon_sq!r}: the squares of {name} beside it overflow; expected a larger number"
            )
        return Coding(min(epsilon_sq, float(np.finfo(np.float64).max)), self.mean, self.length)


def magnitude(X: Array) -> int:
    """The power of two above the largest entry."""
    return int(np.frexp(np.abs(X).max())[1])


def vectors(X: npt.ArrayLike, name: str = "X") -> Array:
    """Samples (N, D) of float32 or float64, finite, C-contiguous."""
    array = checks.samples(X, name)
    if array.ndim != 2 or array.dtype.kind == "c":
        raise ValueError(f"{name} has shape {array.shape} and dtype {array.dtype}; expected real vectors (m, d)")
    array = np.ascontiguousarray(array, dtype=checks.floating(None, array))
    finite = np.isfinite(array).all(axis=1)
    if not finite.all():
        bad = int(np.argmin(finite))
        raise ValueError(f"{name} holds NaN or infinity in sample {bad}; expected finite {array.dtype} numbers")
    return array


@dataclass(frozen=True)
class _Batch:
    """Clusters of n samples each: which, their means (b, D), and squared singular values (b, r) of their samples."""

    which: npt.NDArray[np.intp]
    n: int
    means: Floats
    squares: Floats


def _batches(X: Array, codes: npt.NDArray[np.int64], centred: bool) -> Iterator[_Batch]:
    """All clusters, those of a size together."""
    sizes = np.bincount(codes)
    order, starts = np.argsort(codes, kind="stable"), sizes.cumsum() - sizes
    for n in np.unique(sizes).tolist():
        which = np.flatnonzero(sizes == n)
        W = X[order[starts[which][:, None] + np.arange(n)]].astype(np.float64)
        means = W.mean(axis=1) if centred else np.zeros((len(which), X.shape[1]))
        yield _Batch(which, n, means, _svd(W - means[:, None], compute_uv=False) ** 2)


def length_of_partition(X: Array, codes: npt.NDArray[np.int64], coding: Coding) -> float:
    """Of samples and a coding that are `Coding.scaled`, in nats."""
    N, D = X.shape
    total = 0.0
    for batch in _batches(X, codes, coding.centred):
        logdet = np.log1p(D / (batch.n * coding.epsilon_sq) * batch.squares).sum(axis=1)
        lengths = coding.lengths(batch.n, logdet, np.square(batch.means).sum(axis=1), D)
        total += float(lengths.sum()) - len(batch.which) * batch.n * float(np.log(batch.n / N))
    return total


def code_length(
    X: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    epsilon_sq: float,
    mean: words.Mean = "estimate",
    length: words.Length = "full",
    unit: words.Unit = "nats",
) -> float:
    """Length of the code of samples in given clusters, up to the squared distortion eps^2.

    Parameters
    ----------
    X : (N, D) array, real
        Samples, taken as they are.
    labels : (N,) array
        The cluster of every sample: labels of any dtype.
    epsilon_sq : float
        Squared distortion eps^2 > 0 per sample, in the unit of X squared.
    mean : {"estimate", "zero"}, default "estimate"
        Whether clusters are coded about their means, or about zero.
    length : {"full", "rate"}, default "full"
        "rate" leaves out what bases and means take: m in place of m + D, and no term of the mean.
    unit : {"nats", "bits"}, default "nats"
        Unit of the result.

    Returns
    -------
    float
        sum_j L(W_j) - n_j log(n_j/N).

    Raises
    ------
    ValueError, TypeError
        If X holds NaN, infinity or no real vectors, labels are missing, or an argument is out of range.

    Notes
    -----
    L(W) = (m + D)/2 log det(I + D/(m eps^2) (W - mu)* (W - mu)) + D/2 log(1 + |mu|^2/eps^2) (Ma, Derksen, Hong, Wright,
    TPAMI 2007), with mu = 0 for ``mean="zero"``.

    Examples
    --------
    >>> import numpy as np, redunet as rn
    >>> X = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    >>> apart = rn.clustering.code_length(X, [0, 0, 1, 1], epsilon_sq=0.01, mean="zero")
    >>> together = rn.clustering.code_length(X, [0, 0, 0, 0], epsilon_sq=0.01, mean="zero")
    >>> round(apart, 3), round(together, 3)
    (29.023, 35.226)
    """
    samples = vectors(X)
    coding = Coding(epsilon_sq, mean, length)
    scale = UNITS[checks.choice(unit, "unit", tuple(UNITS))]
    _, codes = checks.labels(labels, len(samples), "labels")
    samples, coding = coding.scaled(samples)
    return scale * length_of_partition(samples, codes, coding)


def effective_dimensions(
    X: npt.ArrayLike, labels: npt.ArrayLike, *, epsilon_sq: float, mean: words.Mean = "estimate"
) -> Floats:
    """How many dimensions of every cluster rise above the distortion.

    Parameters
    ----------
    X, labels, epsilon_sq, mean
        As in `code_length`.

    Returns
    -------
    (k,) float64 array
        tr S (S + eps^2/D I)^-1 of each label in sorted order, with S the covariance of its samples, or their second
        moment for ``mean="zero"``: between 0 and min(n_j, D).

    Raises
    ------
    ValueError, TypeError
        As of `code_length`.

    Examples
    --------
    >>> import numpy as np, redunet as rn
    >>> line, point = [[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]], [[5.0, 5.0], [5.0, 5.0]]
    >>> rn.clustering.effective_dimensions(np.array(line + point), [0, 0, 0, 1, 1], epsilon_sq=1e-4).round(2)
    array([1., 0.])
    """
    samples = vectors(X)
    coding = Coding(epsilon_sq, mean, "full")
    classes, codes = checks.labels(labels, len(samples), "labels")
    samples, coding = coding.scaled(samples)
    result = np.empty(len(classes))
    for batch in _batches(samples, codes, coding.centred):
        ratios = samples.shape[1] / (batch.n * coding.epsilon_sq) * batch.squares
        result[batch.which] = (ratios / (ratios + 1)).sum(axis=1)
    return result
