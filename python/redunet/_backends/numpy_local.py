"""Local incremental coding length in NumPy: what samples add to the code of their nearest in each class.

With n neighbours a_i of x in D dimensions, g the Gram matrix of what is coded, scaled by D / (m eps^2) for m samples,
centred where means are estimated, and |mu|^2 of their mean,

    L(a, x) - L(a),    L = (m + D)/2 log det(I + D/(m eps^2) g) + D/2 log(1 + |mu|^2/eps^2),

the last term about an estimated mean only. There inner products are those of a_i - x, and x is zero: what is lost is
relative to distances and not to norms. X (m, D) and Z (N, D), in the precision of which inner products are made.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from redunet._backends.contract import Array
from redunet._backends.host_contract import LocalRequest
from redunet._backends.tasks import interruptible

#: Samples are taken in pieces whose temporary arrays together have about this size.
PIECE_BYTES = 1 << 26


def local_increments(X: Array, Z: Array, request: LocalRequest, *, n_threads: int) -> npt.NDArray[np.float64]:
    classes = np.split(Z, request.offsets[1:-1])
    lengths = np.empty((len(request.epsilons), len(X), len(classes)))
    for j, samples in enumerate(classes):
        n = min(request.n_neighbors, len(samples))
        centred = samples - request.origin
        squares = np.vecdot(centred, centred)
        numbers = 2 * len(samples) + 2 * n * X.shape[1] + 6 * (n + 1) ** 2
        for rows in _pieces(len(X), numbers * np.dtype(np.float64).itemsize):
            lengths[:, rows, j] = _of_class(samples, centred, squares, X[rows], n, request)
    return lengths


@interruptible
def _of_class(
    samples: Array, centred: Array, squares: Array, X: Array, n: int, request: LocalRequest
) -> npt.NDArray[np.float64]:
    """Of samples X (m, D), by the n nearest of one class, (E, m)."""
    distances = (-2 * (X - request.origin)) @ centred.T + squares
    return _increments(X, samples[_nearest(distances, n)], request)


def _pieces(m: int, bytes_per_sample: int) -> Iterator[slice]:
    step = max(1, PIECE_BYTES // bytes_per_sample)
    return (slice(start, min(start + step, m)) for start in range(0, m, step))


def _nearest(distances: Array, n: int) -> npt.NDArray[np.intp]:
    """Columns of the n smallest of each row, (m, n): of equal ones the first."""
    m, N = distances.shape
    if n == N:
        return np.broadcast_to(np.arange(N), (m, N))
    found: npt.NDArray[np.intp] = np.argpartition(distances, n - 1, axis=1)[:, :n]
    largest = np.take_along_axis(distances, found, axis=1).max(axis=1, keepdims=True)
    tied = np.flatnonzero((distances <= largest).sum(axis=1) > n)
    found[tied] = np.argsort(distances[tied], axis=1, kind="stable")[:, :n]
    return np.sort(found, axis=1)


def _increments(X: Array, windows: Array, request: LocalRequest) -> npt.NDArray[np.float64]:
    """Of samples (m, D) with windows (m, n, D), (E, m)."""
    n, D = windows.shape[1:]
    m_after, squares = n + 1, np.vecdot(X.astype(np.float64), X.astype(np.float64))
    if request.centred:
        B = windows - X[:, None]
        g = (B @ B.transpose(0, 2, 1)).astype(np.float64)
        along = (B @ X[:, :, None])[:, :, 0].astype(np.float64).mean(axis=1)  # <mu - x, x>
        offset = g.mean(axis=(1, 2))  # |mu - x|^2
        before = np.maximum(squares + 2 * along + offset, 0)  # |mu|^2, and with x
        share = n / m_after
        after = np.maximum(squares + 2 * share * along + share**2 * offset, 0)
        with_x = np.pad(g, ((0, 0), (0, 1), (0, 1)))
        g, with_x = _centred(g), _centred(with_x)
    else:
        every = np.concatenate([windows, X[:, None]], axis=1)
        with_x = (every @ every.transpose(0, 2, 1)).astype(np.float64)
        with_x[:, n, n] = squares
        g = with_x[:, :n, :n]
    lengths = np.empty((len(request.epsilons), len(X)))
    for e, epsilon_sq in enumerate(request.epsilons.tolist()):
        lengths[e] = (m_after + D) / 2 * _logdet(with_x, D / m_after / epsilon_sq)
        lengths[e] -= (n + D) / 2 * _logdet(g, D / n / epsilon_sq)
        if request.centred:
            lengths[e] += D / 2 * np.log((epsilon_sq + after) / (epsilon_sq + before))
    return lengths


def _centred(g: Array) -> Array:
    """Inner products about the mean, of those about another point."""
    means = g.mean(axis=-1, keepdims=True)
    result: Array = g - means - means.swapaxes(-1, -2) + means.mean(axis=-2, keepdims=True)
    return result


def _logdet(g: Array, scale: float) -> Array:
    """log det(I + scale g) of a batch."""
    with np.errstate(over="ignore", invalid="ignore"):
        A = np.eye(g.shape[-1]) + scale * g
        diagonal = np.diagonal(np.linalg.cholesky(A), axis1=-2, axis2=-1)
    if not np.isfinite(diagonal).all():
        raise np.linalg.LinAlgError("a matrix of neighbours is not positive definite")
    result: Array = 2 * np.log(diagonal).sum(axis=-1)
    return result
