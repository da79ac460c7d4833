"""Scores of minimum incremental coding length by brute force: coding lengths of classes with and without a sample.

Written from the definitions alone, by `numpy.linalg.slogdet`, in double precision and in nats; it shares no code with
the package. Members are known by their inner products, so that vectors and kernels are one case:
L = (m+o)/2 log det(I + D/(m eps^2) K), K centred and o/2 log(1 + |mu|^2/eps^2) added where the mean is estimated;
o = D, or 0 for a rate.
"""

from __future__ import annotations

import numpy as np


def length(K: np.ndarray, dim: int, epsilon_sq: float, *, mean: str = "zero", criterion: str = "length") -> float:
    """The coding length of m samples from their inner products K (m, m)."""
    m, o = len(K), dim if criterion == "length" else 0
    extra = 0.0
    if mean == "estimate":
        extra = o / 2 * np.log1p(max(K.mean(), 0) / epsilon_sq)
        J = np.eye(m) - 1 / m
        K = J @ K @ J
    return (m + o) / 2 * np.linalg.slogdet(np.eye(m) + dim / (m * epsilon_sq) * K)[1] + extra


def scores(
    X, y, T, epsilon_sq, *, mean, criterion="length", kernel=lambda A, B: A @ B.T, dim=None, n_neighbors=None
) -> np.ndarray:
    """(T, classes); with the prior m_j/m, but for neighbours and for the increase of R_c."""
    X, T, y = np.asarray(X, float), np.asarray(T, float), np.asarray(y)
    dim = X.shape[1] if dim is None else dim
    settings = {"mean": mean, "criterion": criterion}
    result = np.empty((len(T), len(np.unique(y))))
    classes = [X[y == label] for label in np.unique(y)]
    total = sum(length(kernel(Z, Z), dim, epsilon_sq, **settings) for Z in classes)
    for t, x in enumerate(T):
        for j, Z in enumerate(classes):
            if n_neighbors is not None:
                Z = Z[np.argsort(((Z - x) ** 2).sum(axis=1))[:n_neighbors]]
            with_x = np.vstack([Z, x])
            before = length(kernel(Z, Z), dim, epsilon_sq, **settings)
            after = length(kernel(with_x, with_x), dim, epsilon_sq, **settings)
            if criterion == "rate":
                result[t, j] = (total - before + after) / (len(X) + 1) - total / len(X)
            else:
                result[t, j] = after - before - (0 if n_neighbors else np.log(len(Z) / len(X)))
    return result


def rounding(X, T, epsilon_sq, *, kernel=lambda A, B: A @ B.T, dim=None, unit=2.0**-52) -> float:
    """A bound of the rounding error of a score, ours and the one above together.

    With N samples, a = D/(m eps^2), trace t >= tr a K of any members: I + a K is off by 4 (N + d) u (1 + t) in norm, d
    terms in an inner product, a log det by N times that, since the inverse is at most 1; a score is made of four, each
    times (N + D)/2 at most.
    """
    X, T = np.asarray(X, float), np.asarray(T, float)
    dim = X.shape[1] if dim is None else dim
    every = np.vstack([X, T])
    N = len(X) + 1
    t = np.diagonal(kernel(every, every)).max() * dim / epsilon_sq
    return float(4 * (N + dim) / 2 * N * 4 * (N + X.shape[1]) * unit * (1 + t))
