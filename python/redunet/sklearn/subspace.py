"""The class whose subspace is nearest: to the samples themselves, or to the features of a network."""

from __future__ import annotations

from typing import Any, Literal

import numpy.typing as npt
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from redunet._inputs import checks, words
from redunet.classifiers import NearestSubspace
from redunet.sklearn.signals import SignalEstimator
from redunet.transforms import norms

Array = npt.NDArray[Any]


class SubspaceMixin(ClassifierMixin):  # type: ignore[misc]
    """Predictions from a fitted `NearestSubspace`, ``subspaces_``, on the features of X."""

    shifts: Literal["best"] | None = None
    subspaces_: NearestSubspace
    classes_: Array

    def _features(self, X: Any) -> Array:
        raise NotImplementedError

    def decision_function(self, X: Any) -> Array:
        """How much nearer a sample is to a class: squared distances to the subspaces, negated.

        Parameters
        ----------
        X : (m, d), (m, C, T) or (m, C, H, W) array, real
            Samples.

        Returns
        -------
        (m, k) array, or (m,) for two classes
            Minus the squared distance to each class's subspace; for two classes the squared distance to the first minus
            that to the second, positive for the second.
        """
        Z, exponents = norms.squarable(self._features(X))
        scores = self.subspaces_._distances(Z, self.shifts)
        result: Array = scores[:, 0] - scores[:, 1] if len(self.classes_) == 2 else -scores
        return norms.scaled_back(result, exponents)

    def predict(self, X: Any) -> Array:
        """The class whose subspace is nearest, (m,).

        Parameters
        ----------
        X : (m, d), (m, C, T) or (m, C, H, W) array, real
            Samples.
        """
        Z = self._features(X)
        return self.subspaces_.predict(Z, shifts=self.shifts)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy on samples X with the labels y, (m,), and optional weights, (m,)."""
        checks.complete(y)
        checks.readable(sample_weight, "sample_weight")
        return float(super().score(X, y, sample_weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # Subspaces contain the origin: classes on one ray through it, at different lengths, are the same to them.
        tags.classifier_tags.poor_score = True
        return tags


def fit_subspaces(
    n_components: int, Z: Array, y: Array, weights: Array | None, group: words.Group = "cyclic"
) -> NearestSubspace:
    """The subspaces of features whose weights are all positive."""
    return NearestSubspace(n_components=n_components, group=group)._fit(Z, y, weights)


class NearestSubspaceClassifier(SubspaceMixin, SignalEstimator):
    """The class whose subspace is nearest: `NearestSubspace` for scikit-learn.

    Parameters
    ----------
    n_components : int, default 10
        Dimensions of each class's subspace (at most).

    Attributes
    ----------
    subspaces_ : NearestSubspace
        The fitted subspaces.
    classes_ : (k,) array
        The labels.
    n_features_in_ : int
        Columns of a table, or channels of signals and images.

    Notes
    -----
    Distances to subspaces are no probabilities, so there is no ``predict_proba``: wrap the classifier in
    ``sklearn.calibration.CalibratedClassifierCV`` where you need one.

    Examples
    --------
    >>> from redunet.sklearn import NearestSubspaceClassifier
    >>> X, y = [[1.0, 0.1], [2.0, -0.1], [0.1, 1.0], [0.1, 3.0]], ["x", "x", "y", "y"]
    >>> NearestSubspaceClassifier(n_components=1).fit(X, y).predict([[5.0, 1.0]]).tolist()
    ['x']
    """

    def __init__(self, n_components: int = 10) -> None:
        self.n_components = n_components

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> NearestSubspaceClassifier:
        """Find the subspace of each class: the top singular vectors of its samples, which are not centred.

        Parameters
        ----------
        X : (m, d), (m, C, T) or (m, C, H, W) array, real
            Samples.
        y : (m,) array
            Labels.
        sample_weight : (m,) array, optional
            Weights >= 0; an integer weight w is the sample repeated w times.

        Returns
        -------
        self
        """
        X, y, weights = self._labelled(X, y, sample_weight)
        self.subspaces_ = fit_subspaces(self.n_components, X, y, weights)
        self.classes_ = self.subspaces_.classes_
        return self

    def _features(self, X: Any) -> Array:
        check_is_fitted(self)
        return self._samples(X, reset=False)
