"""The most frequent label among the k nearest by cosine. Features: (m, d), (m, C, T) or (m, C, H, W), of any norm."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from redunet._backends.tasks import interruptible
from redunet._inputs import checks
from redunet.classifiers.base import Classifier, chunks, features
from redunet.transforms import norms

Array = npt.NDArray[Any]


class CosineNeighbors(Classifier):
    """Predicts the most frequent label among the nearest neighbours by cosine similarity.

    Parameters
    ----------
    n_neighbors : int, default 5
        Neighbours that vote (all samples, if there are fewer). On a tied vote the smallest label wins. Of
        equally similar samples the earlier are nearer. A zero vector has similarity 0 with everything.

    Attributes
    ----------
    classes_ : (k,) array
        The labels.

    Raises
    ------
    ValueError, TypeError
        If n_neighbors is not an integer >= 1. The methods raise as those of `NearestSubspace` do.

    Notes
    -----
    The similarity is Re <z, z'> / (||z|| ||z'||), for real and complex features.

    Examples
    --------
    >>> import redunet as rn
    >>> classifier = rn.CosineNeighbors(n_neighbors=1).fit([[1.0, 0.0], [0.0, 1.0]], [3, 7])
    >>> classifier.predict([[5.0, 1.0], [1.0, 5.0]]).tolist()
    [3, 7]
    """

    def __init__(self, n_neighbors: int = 5) -> None:
        self.n_neighbors = checks.integer(n_neighbors, "n_neighbors", 1)

    def fit(self, Z: npt.ArrayLike, y: npt.ArrayLike) -> CosineNeighbors:
        """Keep the features; parameters as in `NearestSubspace.fit`."""
        array = features(Z)
        self.classes_, self._codes = checks.labels(y, len(array))
        self._sample_shape = array.shape[1:]
        self._complex = array.dtype.kind == "c"
        self._directions = _directions(array)
        return self

    def predict(self, Z: npt.ArrayLike) -> Array:
        """Labels of samples, (m,)."""
        array = self._check(Z)
        if self._complex and array.dtype.kind != "c":
            array = array + 0j
        directions = _directions(array)
        if not self._complex and array.dtype.kind == "c":
            directions = directions[:, ::2]  # the imaginary parts meet zeros
        N, k = len(self._codes), len(self.classes_)
        n = min(self.n_neighbors, N)
        codes = np.empty(len(directions), np.int64)
        itemsize = np.result_type(directions, self._directions).itemsize
        # Per sample: the similarities and their partition, masks, and the positions of crowded rows.
        for rows in chunks(len(directions), (2 * itemsize + 12) * N):
            similarity = directions[rows] @ self._directions.T
            last = np.partition(similarity, N - n, axis=1)[:, N - n, None]
            nearest = similarity > last
            level = similarity == last
            room = n - nearest.sum(axis=1, keepdims=True)
            crowded = level.sum(axis=1) > room[:, 0]
            level[crowded] &= np.cumsum(level[crowded], axis=1) <= room[crowded]
            voter, voted = np.nonzero(nearest | level)
            votes = np.bincount(voter * k + self._codes[voted], minlength=len(similarity) * k)
            codes[rows] = votes.reshape(-1, k).argmax(axis=1)  # the first, hence smallest, on a tie
        return self._decode(codes)

    def __repr__(self) -> str:
        return f"CosineNeighbors(n_neighbors={self.n_neighbors})"


@interruptible
def _directions(array: Array) -> Array:
    """Rows of unit norm (zero rows stay zero), real."""
    return norms.real_rows(norms.unit(array))
