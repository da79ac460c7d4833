"""A merge tree: which clusters merged, what that gained, and the partitions along it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from redunet._backends.contract import ReadOnlyCopies
from redunet._inputs import checks, words

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

STOPS = ("best", "first")
HEIGHTS = ("gain", "order")


def first_places(codes: Integers, n: int) -> Integers:
    """Where each of the codes 0..n-1 comes first among codes (N,); N for one that does not."""
    first = np.full(n, len(codes), np.int64)
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)  # of equal indices the last value stays
    return first


@dataclass(frozen=True, eq=False)
class MergePath(ReadOnlyCopies):
    """The merges of `merge_path`, from the clusters of the start to one, or to as many as cannot merge. Immutable.

    Clusters have SciPy's numbers: 0..n-1 are those of the start, the samples where no others were given, and merge t
    makes number n + t.

    Attributes
    ----------
    children : (n_merges, 2) int64 array, read-only
        The clusters that merged, smaller number first.
    gains : (n_merges,) float64 array, read-only
        What a merge changed the length of the code by, in nats: negative where it became shorter.
    sizes : (n_merges,) int64 array, read-only
        Samples of each union.
    code_lengths : (n_merges + 1,) float64 array, read-only
        Length of the code in nats before the first merge and after each.
    start : (N,) int64 array, read-only
        The cluster of every sample at the start.
    epsilon_sq, mean, length
        As given to `merge_path`.
    """

    children: Integers = field(repr=False)
    gains: Floats = field(repr=False)
    sizes: Integers = field(repr=False)
    code_lengths: Floats = field(repr=False)
    start: Integers = field(repr=False)
    epsilon_sq: float
    mean: str
    length: str

    @classmethod
    def of(cls, children: Integers, gains: Floats, start: Integers, first_length: float, **settings: Any) -> MergePath:
        """From merges, and the length of the code before the first."""
        sizes = np.concatenate([np.bincount(start), np.empty(len(children), np.int64)])
        n = len(sizes) - len(children)
        for t, pair in enumerate(children.tolist()):
            sizes[n + t] = sizes[pair[0]] + sizes[pair[1]]
        lengths = first_length + np.concatenate([[0.0], gains.cumsum()])
        arrays = (children, gains, sizes[n:].copy(), lengths, start)
        for array in arrays:
            array.flags.writeable = False
        return cls(*arrays, **settings)

    @property
    def n_samples(self) -> int:
        """N."""
        return len(self.start)

    @property
    def n_start(self) -> int:
        """Clusters at the start."""
        return int(self.start.max()) + 1

    @property
    def n_first(self) -> int:
        """Clusters where no merge makes the code shorter for the first time: where the paper stops."""
        longer = self.gains >= 0
        return self.n_start - int(longer.argmax() if longer.any() else len(longer))

    @property
    def n_best(self) -> int:
        """Clusters of the shortest code on the whole path."""
        return self.n_start - int(self.code_lengths.argmin())

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, np.ndarray))

    def labels(self, stop: words.Stop | int = "best", *, min_cluster_size: int = 1) -> Integers:
        """The partition at a place of the path.

        Parameters
        ----------
        stop : {"best", "first"} or int, default "best"
            "best": the shortest code on the path, which is never longer than that of "first": before the first merge
            that makes it longer, as in the paper. A number: so many clusters.
        min_cluster_size : int, default 1
            Samples of smaller clusters are left out: their label is -1.

        Returns
        -------
        (N,) int64 array
            Clusters 0, 1, ... in the order of their first samples.

        Raises
        ------
        ValueError, TypeError
            If the path has no place with so many clusters, or an argument is out of range.

        Examples
        --------
        >>> import redunet as rn
        >>> X, y = rn.datasets.lines_and_plane(60, noise=0.01, random_state=0)
        >>> path = rn.clustering.merge_path(X, epsilon_sq=0.001)
        >>> path.labels(2).max() + 1
        np.int64(2)
        """
        least = checks.integer(min_cluster_size, "min_cluster_size", 1)
        n, n_merges = self.n_start, self._n_merges(stop)
        root = np.arange(n + n_merges)
        for t in range(n_merges - 1, -1, -1):
            root[self.children[t]] = root[n + t]
        roots = root[self.start]
        kept = np.flatnonzero(np.bincount(roots) >= least)
        kept = kept[first_places(roots, len(root))[kept].argsort()]
        number = np.full(len(root), -1, np.int64)
        number[kept] = np.arange(len(kept))
        return number[roots]

    def _n_merges(self, stop: words.Stop | int) -> int:
        """Merges until a stop."""
        if isinstance(stop, str):
            k = self.n_best if checks.choice(stop, "stop", STOPS) == "best" else self.n_first
        else:
            k = checks.integer(stop, "stop", 1)
        least = self.n_start - len(self.children)
        if not least <= k <= self.n_start:
            raise ValueError(f"stop is {k}; expected a number of clusters on this path: {least} to {self.n_start}")
        return self.n_start - k

    def linkage(self, height: Literal["gain", "order"] = "gain") -> Floats:
        """The tree as SciPy's linkage matrix, for `scipy.cluster.hierarchy`: its dendrograms, its cuts.

        Parameters
        ----------
        height : {"gain", "order"}, default "gain"
            SciPy wants heights that are not negative and never fall. "gain": the highest gain so far above the lowest
            of all; "order": 1, 2, ...

        Returns
        -------
        (n - 1, 4) float64 array
            Two clusters, the height of their union, and how many clusters of the start are in it.

        Raises
        ------
        ValueError
            If the path does not end with one cluster, or the height is unknown.
        """
        checks.choice(height, "height", HEIGHTS)
        n, left = self.n_start, self.n_start - len(self.children)
        if left > 1:
            raise ValueError(f"the path ends with {left} clusters that connectivity keeps apart; expected one")
        heights = np.arange(1.0, n)
        if height == "gain" and n > 1:
            heights = np.maximum.accumulate(self.gains - self.gains.min())
        counts = np.ones(2 * n - 1)
        for t, pair in enumerate(self.children.tolist()):
            counts[n + t] = counts[pair[0]] + counts[pair[1]]
        return np.column_stack([self.children.astype(np.float64), heights, counts[n:]])
