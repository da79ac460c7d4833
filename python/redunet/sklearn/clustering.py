"""Clusters by coding length, as a scikit-learn clusterer."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import ClusterMixin
from sklearn.utils.validation import check_is_fitted

from redunet._inputs import checks
from redunet.classifiers import MICL
from redunet.clustering import effective_dimensions, merge_path
from redunet.clustering.path import STOPS
from redunet.sklearn.signals import SignalEstimator

Array = npt.NDArray[Any]


class CodingLengthClustering(ClusterMixin, SignalEstimator):  # type: ignore[misc]
    """Clusters of the shortest code: `redunet.clustering.merge_path` for scikit-learn. Their number is found.

    Parameters
    ----------
    epsilon_sq : float, default 0.1
        Squared distortion eps^2 > 0 per sample, in the unit of X squared: about D times the variance of the noise.
    n_clusters : int, optional
        So many clusters, in place of `stop`.
    mean, length, connectivity, backend, n_threads, progress
        As in `redunet.clustering.merge_path`.
    stop : {"best", "first"}, default "best"
        Where the merging ends: at the shortest code, or before the first merge that makes it longer.
    min_cluster_size : int, default 1
        Samples of smaller clusters are noise: their label is -1.

    Attributes
    ----------
    labels_ : (N,) int64 array
        The cluster of every sample, 0, 1, ... in the order of their first samples; -1 for noise.
    n_clusters_ : int
        Clusters, noise apart.
    sizes_ : (k,) int64 array
        Samples of each.
    dims_ : (k,) float64 array
        Effective dimension of each, `redunet.clustering.effective_dimensions`.
    path_ : MergePath
        The whole path: other partitions, and the tree for SciPy.
    children_, gains_, code_lengths_
        Those of `path_`.
    n_features_in_ : int
        D.

    Notes
    -----
    `predict` gives a sample to the cluster whose code it makes longer by the fewest nats, log(n_j/N) included; a sample
    of `fit` need not go to the cluster that it is in.

    Examples
    --------
    >>> import redunet as rn
    >>> from redunet.sklearn import CodingLengthClustering
    >>> X, y = rn.datasets.lines_and_plane(200, noise=0.01, random_state=0)
    >>> model = CodingLengthClustering(epsilon_sq=0.001, mean="zero").fit(X)
    >>> model.n_clusters_, model.dims_.round().tolist()
    (3, [1.0, 1.0, 2.0])
    """

    labels_: npt.NDArray[np.int64]

    def __init__(
        self,
        epsilon_sq: float = 0.1,
        *,
        n_clusters: int | None = None,
        mean: str = "estimate",
        length: str = "full",
        stop: str = "best",
        min_cluster_size: int = 1,
        connectivity: Any = None,
        backend: str = "auto",
        n_threads: int | None = None,
        progress: bool = False,
    ) -> None:
        self.epsilon_sq = epsilon_sq
        self.n_clusters = n_clusters
        self.mean = mean
        self.length = length
        self.stop = stop
        self.min_cluster_size = min_cluster_size
        self.connectivity = connectivity
        self.backend = backend
        self.n_threads = n_threads
        self.progress = progress

    def fit(self, X: Any, y: Any = None) -> CodingLengthClustering:
        """Merge the samples.

        Parameters
        ----------
        X : (N, D) array, real
            Samples.
        y : object
            Ignored.

        Returns
        -------
        self
        """
        X = self._samples(X, reset=True)
        checks.choice(self.stop, "stop", STOPS)
        least = checks.integer(self.min_cluster_size, "min_cluster_size", 1)
        if self.n_clusters is not None and checks.integer(self.n_clusters, "n_clusters", 1) > len(X):
            raise ValueError(f"n_clusters is {self.n_clusters}; expected at most {len(X)}, as many as samples")
        self.path_ = merge_path(
            X,
            epsilon_sq=self.epsilon_sq,
            mean=self.mean,
            length=self.length,
            connectivity=self.connectivity,
            backend=self.backend,
            n_threads=self.n_threads,
            progress=self.progress,
        )
        stop = self.stop if self.n_clusters is None else self.n_clusters
        apart = len(X) - len(self.path_.children)
        if self.n_clusters is not None and self.n_clusters < apart:
            raise ValueError(
                f"n_clusters is {self.n_clusters}; expected at least {apart}: connectivity keeps so many apart"
            )
        self.children_, self.gains_, self.code_lengths_ = (
            self.path_.children,
            self.path_.gains,
            self.path_.code_lengths,
        )
        self.labels_ = self.path_.labels(stop, min_cluster_size=least)
        kept = self.labels_ >= 0
        members, labels = X[kept], self.labels_[kept]
        self.sizes_ = np.bincount(labels)
        self.n_clusters_ = len(self.sizes_)
        self.dims_, self._classifier = np.empty(0), None
        if self.n_clusters_:
            self.dims_ = effective_dimensions(members, labels, epsilon_sq=self.epsilon_sq, mean=self.mean)
            criterion = "length" if self.length == "full" else "rate"
            shares = self.sizes_ / len(members)
            self._classifier = MICL(self.epsilon_sq, mean=self.mean, criterion=criterion, priors=shares)
            self._classifier.fit(members, labels)
        return self

    def predict(self, X: Any) -> npt.NDArray[np.int64]:
        """The cluster that each sample fits best, (M,): -1 where all that was fitted is noise.

        Parameters
        ----------
        X : (M, D) array, real
            Samples.
        """
        check_is_fitted(self)
        X = self._samples(X, reset=False)
        if self._classifier is None:
            return np.full(len(X), -1)
        nearest: npt.NDArray[np.int64] = self._classifier.predict(X)
        return nearest

    def _samples(self, X: Any, *, reset: bool) -> Array:
        return np.asarray(self._validated(X, reset=reset, allow_nd=False))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = False
        return tags
