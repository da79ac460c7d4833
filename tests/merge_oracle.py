"""An independent account of merging by coding length: every length by slogdet from its definition, all pairs, float64.

Slow and plain on purpose; it shares no code with the package. With W (m, D) the samples of a cluster::

    L(W) = (m + D)/2 log det(I + D/(m eps^2) W* W),    F = L - m log m,    g(i, j) = F_ij - F_i - F_j,

with an estimated mean mu of W - mu, and D/2 log(1 + |mu|^2/eps^2) more; "rate" has m for m + D and nothing of the mean.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass
class Oracle:
    """Samples, and how they are coded; clusters are sets of samples."""

    X: np.ndarray
    epsilon_sq: float
    mean: str = "estimate"
    length: str = "full"
    init: np.ndarray | None = None
    adjacency: np.ndarray | None = None

    def __post_init__(self):
        self.X = np.asarray(self.X, np.float64)

    @cached_property
    def start(self) -> list[tuple[int, ...]]:
        if self.init is None:
            return [(i,) for i in range(len(self.X))]
        return [tuple(np.flatnonzero(self.init == label).tolist()) for label in np.unique(self.init)]

    def L(self, W) -> float:
        W = np.asarray(W, np.float64)
        m, D = W.shape
        of_mean, basis = 0.0, D if self.length == "full" else 0
        if self.mean == "estimate":
            mu = W.mean(axis=0)
            W = W - mu
            of_mean = D / 2 * np.log(1 + mu @ mu / self.epsilon_sq) if basis else 0.0
        return (m + basis) / 2 * np.linalg.slogdet(np.eye(D) + D / (m * self.epsilon_sq) * W.T @ W)[1] + of_mean

    def F(self, cluster: tuple[int, ...]) -> float:
        cache = self.__dict__.setdefault("_lengths", {})
        if cluster not in cache:
            cache[cluster] = self.L(self.X[list(cluster)]) - len(cluster) * np.log(len(cluster))
        return cache[cluster]

    def total(self, clusters) -> float:
        """Length of the code of a partition."""
        return sum(map(self.F, clusters)) + len(self.X) * np.log(len(self.X))

    def of_labels(self, labels) -> float:
        return self.total([tuple(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)])

    def may_merge(self, a: tuple[int, ...], b: tuple[int, ...]) -> bool:
        if self.adjacency is None:
            return True
        block = self.adjacency[np.ix_(a, b)]
        other = self.adjacency[np.ix_(b, a)]
        return bool((block != 0).any() or (other != 0).any())

    def gains(self, clusters: dict[int, tuple[int, ...]]) -> dict[tuple[int, int], float]:
        """Of all pairs that may merge."""
        return {
            (i, j): self.F(tuple(sorted(clusters[i] + clusters[j]))) - self.F(clusters[i]) - self.F(clusters[j])
            for i, j in itertools.combinations(sorted(clusters), 2)
            if self.may_merge(clusters[i], clusters[j])
        }

    def path(self) -> dict[str, np.ndarray]:
        """Steepest descent: children, gains, sizes, code lengths, and the least gap between best and second-best."""
        clusters = dict(enumerate(self.start))
        children, gains, sizes, lengths, gap = [], [], [], [self.total(clusters.values())], np.inf
        while candidates := self.gains(clusters):
            (i, j), gain = min(candidates.items(), key=lambda item: item[1])
            others = [value for pair, value in candidates.items() if pair != (i, j)]
            gap = min(gap, min(others, default=np.inf) - gain)
            number = len(self.start) + len(children)
            clusters[number] = tuple(sorted(clusters.pop(i) + clusters.pop(j)))
            children.append((i, j))
            gains.append(gain)
            sizes.append(len(clusters[number]))
            lengths.append(self.total(clusters.values()))
        return {
            "children": np.array(children, np.int64).reshape(-1, 2),
            "gains": np.array(gains),
            "sizes": np.array(sizes, np.int64),
            "code_lengths": np.array(lengths),
            "min_gap": np.array(gap),
        }

    @property
    def tolerance(self) -> float:
        """How far two computations of a gain in double precision may be apart.

        Entries of I + a S carry rounding of a few units of 1 + a |S|, which a pivot of at least 1 turns into as much of
        its logarithm, D pivots; (N + D)/2 times that, for the three lengths of a gain.
        """
        N, D = self.X.shape
        largest = 1 + D / self.epsilon_sq * np.square(self.X).sum(axis=1).max()
        return 4 * (N + D) * D * np.finfo(np.float64).eps * largest


def check_greedy(path, oracle: Oracle) -> None:
    """Every merge of a path is one of the lowest gains of all pairs, up to rounding, whatever ties there are."""
    clusters = dict(enumerate(oracle.start))
    tolerance = oracle.tolerance
    assert abs(path.code_lengths[0] - oracle.total(clusters.values())) <= len(oracle.X) * tolerance
    for t, (i, j) in enumerate(path.children.tolist()):
        gains = oracle.gains(clusters)
        assert i < j
        assert abs(path.gains[t] - gains[i, j]) <= tolerance, t
        assert gains[i, j] <= min(gains.values()) + 2 * tolerance, t
        clusters[path.n_start + t] = tuple(sorted(clusters.pop(i) + clusters.pop(j)))
        assert path.sizes[t] == len(clusters[path.n_start + t])
        assert abs(path.code_lengths[t + 1] - oracle.total(clusters.values())) <= len(oracle.X) * tolerance
    assert not oracle.gains(clusters)  # no pair is left that may merge
