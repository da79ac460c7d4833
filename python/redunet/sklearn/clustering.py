"""Clusters by coding length and by coding rate, as scikit-learn clusterers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import ClusterMixin
from sklearn.utils.validation import check_is_fitted

from redunet._inputs import checks, randomness, words
from redunet.classifiers import MICL
from redunet.clustering import effective_dimensions, merge_path, vertex_steps
from redunet.clustering.codes import Coding, magnitude
from redunet.clustering.path import STOPS
from redunet.clustering.vertex import VertexCriterion, descend
from redunet.sklearn.signals import SignalEstimator

Array = npt.NDArray[Any]
Integers = npt.NDArray[np.int64]


class VectorClusterer(ClusterMixin, SignalEstimator):  # type: ignore[misc]
    """What the clusterers share: X is a table of vectors."""

    def _samples(self, X: Any, *, reset: bool) -> Array:
        return np.asarray(self._validated(X, reset=reset, allow_nd=False))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = False
        return tags


class CodingLengthClustering(VectorClusterer):
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
    refine : bool, default False
        Whether samples then move between clusters by `redunet.clustering.vertex_steps`, without `connectivity`; noise
        stays noise. The steps make the code of ``length="rate"`` shorter, and need not that of "full".

    Attributes
    ----------
    labels_ : (N,) int64 array
        The cluster of every sample, 0, 1, ... in the order of their first samples; -1 for noise.
    n_clusters_ : int
        Clusters, noise apart; fewer than `n_clusters` where `refine` empties one.
    sizes_ : (k,) int64 array
        Samples of each.
    dims_ : (k,) float64 array
        Effective dimension of each, `redunet.clustering.effective_dimensions`.
    path_ : MergePath
        The whole path of merges: other partitions, and the tree for SciPy.
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
        mean: words.Mean = "estimate",
        length: words.Length = "full",
        stop: words.Stop = "best",
        min_cluster_size: int = 1,
        refine: bool = False,
        connectivity: Any = None,
        backend: words.Backend = "auto",
        n_threads: int | None = None,
        progress: bool = False,
    ) -> None:
        self.epsilon_sq = epsilon_sq
        self.n_clusters = n_clusters
        self.mean = mean
        self.length = length
        self.stop = stop
        self.min_cluster_size = min_cluster_size
        self.refine = refine
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
        if checks.flag(self.refine, "refine") and self.connectivity is not None:
            raise ValueError("connectivity is given and refine True; expected None: vertex steps know no neighbours")
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
        if self.refine and len(members):
            steps = vertex_steps(members, labels, epsilon_sq=self.epsilon_sq, mean=self.mean)
            labels = _by_first_samples(steps.labels)
            self.labels_[kept] = labels
        self.sizes_ = np.bincount(labels)
        self.n_clusters_ = len(self.sizes_)
        self.dims_, self._classifier = np.empty(0), None
        if self.n_clusters_:
            self.dims_ = effective_dimensions(members, labels, epsilon_sq=self.epsilon_sq, mean=self.mean)
            criterion: words.Criterion = "length" if self.length == "full" else "rate"
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


class CodingRateKSubspaces(VectorClusterer):
    """k subspaces of least coding rate and entropy: `redunet.clustering.vertex_steps` from random starts.

    As k-means is for centres: alternating steps from several starts, of which the best is kept. Dimensions of clusters
    are found, their number is given.

    Parameters
    ----------
    n_clusters : int, default 8
        Clusters at the start. It is no way to find their number: of too many, few are dropped or none.
    epsilon_sq : float, default 0.1
        Squared distortion eps^2 > 0 per sample, in the unit of X squared: about D times the variance of the noise.
    mean : {"estimate", "zero"}, default "estimate"
        Whether clusters are coded about their means (Gaussians, affine subspaces), or about zero (linear subspaces).
    n_init : int, default 10
        Random starts.
    max_iter : int, default 100
        Most steps from each.
    random_state : int, numpy.random.RandomState, numpy.random.Generator or None
        Where the starts come from.

    Attributes
    ----------
    labels_ : (N,) int64 array
        The cluster of every sample, 0, 1, ... in the order of their first samples.
    objective_ : float
        R_c + H of the best start in nats per sample. It plays the part of the inertia, but is a code's length and no
        sum of squares, and may be compared between numbers of clusters.
    n_iter_ : int
        Steps of the best start.
    n_clusters_ : int
        Clusters that are left: fewer than `n_clusters` where some lost their last sample.
    sizes_ : (k,) int64 array
        Samples of each.
    dims_ : (k,) float64 array
        Effective dimension of each, `redunet.clustering.effective_dimensions`.
    n_features_in_ : int
        D.

    Notes
    -----
    `predict` gives a sample to the cluster to which a vertex step would take it. A sample of `fit` goes to the cluster
    that it is in, but for ties, unless `max_iter` ended the steps.

    Examples
    --------
    >>> import numpy as np
    >>> from redunet.sklearn import CodingRateKSubspaces
    >>> X = np.repeat(np.eye(3)[[0, 1]], 20, axis=0) * np.linspace(-1, 1, 40)[:, None]  # two lines
    >>> model = CodingRateKSubspaces(2, epsilon_sq=0.001, mean="zero", random_state=0).fit(X)
    >>> model.sizes_.tolist(), model.dims_.round().tolist(), model.predict([[0.0, 5.0, 0.1]]).tolist()
    ([20, 20], [1.0, 1.0], [1])
    """

    labels_: Integers

    def __init__(
        self,
        n_clusters: int = 8,
        epsilon_sq: float = 0.1,
        *,
        mean: words.Mean = "estimate",
        n_init: int = 10,
        max_iter: int = 100,
        random_state: randomness.Seed = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.epsilon_sq = epsilon_sq
        self.mean = mean
        self.n_init = n_init
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> CodingRateKSubspaces:
        """Find the clusters.

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
        X = self._samples(X, reset=True).astype(np.float64)
        k, starts = checks.integer(self.n_clusters, "n_clusters", 1), checks.integer(self.n_init, "n_init", 1)
        if k > len(X):
            raise ValueError(f"n_clusters is {k}; expected at most {len(X)}, as many as samples")
        most = checks.integer(self.max_iter, "max_iter", 1)
        coding = Coding(self.epsilon_sq, self.mean, "rate")
        random = randomness.generator(self.random_state)
        scaled, unitless = coding.scaled(X)
        runs = (descend(scaled, random.permutation(len(X)) % k, unitless, most) for _ in range(starts))
        codes, objectives = min(runs, key=lambda run: run[1][-1])
        self.labels_ = _by_first_samples(codes)
        self.objective_, self.n_iter_ = objectives[-1], len(objectives) - 1
        self.sizes_ = np.bincount(self.labels_)
        self.n_clusters_ = len(self.sizes_)
        self.dims_ = effective_dimensions(X, self.labels_, epsilon_sq=coding.epsilon_sq, mean=coding.mean)
        self._exponent = magnitude(X)
        self._criterion = VertexCriterion.of(scaled, self.labels_, unitless)
        return self

    def predict(self, X: Any) -> Integers:
        """The cluster of least derivative for each sample, (M,).

        Parameters
        ----------
        X : (M, D) array, real
            Samples.
        """
        check_is_fitted(self)
        X = self._samples(X, reset=False).astype(np.float64)
        exponents = np.maximum(np.frexp(np.abs(X).max(axis=1, keepdims=True))[1], self._exponent)
        with np.errstate(under="ignore"):
            return self._criterion.nearest(np.ldexp(X, -exponents), np.ldexp(1.0, self._exponent - exponents))


def _by_first_samples(codes: Integers) -> Integers:
    """Clusters of any numbers, numbered 0, 1, ... in the order of their first samples."""
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    result: Integers = first.argsort().argsort()[inverse]
    return result
