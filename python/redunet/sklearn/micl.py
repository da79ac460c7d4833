"""Minimum incremental coding length as an estimator: `MICL` for scikit-learn."""

from __future__ import annotations

from typing import Any, Literal

import numpy.typing as npt
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from redunet._inputs import checks, words
from redunet.classifiers.micl import DEFAULTS, MICL
from redunet.sklearn.signals import SignalEstimator

Array = npt.NDArray[Any]


class MICLClassifier(ClassifierMixin, SignalEstimator):  # type: ignore[misc]
    """The class whose coding length grows least by a sample: minimum incremental coding length.

    It is defined however few samples a class has, also where quadratic discriminant analysis refuses.

    Parameters
    ----------
    epsilon_sq : float or "cv", default 1.0
        Squared distortion per sample, in the squared unit of X. "cv" chooses it by cross-validation, in one pass:
        fewest errors, then the highest likelihood.
    mean : {"estimate", "zero"}, default "estimate"
        Whether a class is coded about its mean.
    criterion : {"length", "rate"}, default "length"
        The coding length of a class, or the coding rate of all classes.
    kernel : {"linear", "poly", "rbf", "precomputed"}, function or None, default None
        Positive semidefinite. For "precomputed" X is the kernel matrix (N, N), in `predict` and others (m, N).
    gamma : float or "scale", default "scale"
        Of "poly" and "rbf"; "scale" is 1 / (D var X).
    degree, coef0 : int, default 3, and float, default 1.0
        Of "poly", (gamma x* z + coef0)^degree.
    kernel_dim : int, optional
        D of a kernel's code; default: that of the samples. It must be given for a matrix.
    n_neighbors : int, optional
        Code with so many nearest samples of each class only.
    priors : {"empirical", "equal"} or (k,) array, default "empirical"
        Of the classes, sorted.
    candidates : array of positive numbers, optional
        For "cv"; default: 11 from 1e-4 to 10 times the variance within classes.
    cv : int, default 5
        Folds: the i-th sample of a class is left out in fold i mod cv.

    Attributes
    ----------
    micl_ : MICL
        What was fitted.
    classes_ : (k,) array
        The labels.
    epsilon_sq_ : float
        The distortion in use.
    n_features_in_ : int
        Columns of a table, or channels of signals and images.

    See Also
    --------
    redunet.classifiers.MICL : What is computed, in formulas.

    Examples
    --------
    >>> from redunet.sklearn import MICLClassifier
    >>> X, y = [[1.0, 0.1], [2.0, -0.1], [0.1, 1.0], [0.1, 3.0]], ["x", "x", "y", "y"]
    >>> classifier = MICLClassifier(epsilon_sq=0.1).fit(X, y)
    >>> classifier.predict([[5.0, 1.0]]).tolist(), classifier.predict_proba([[1.0, 1.0]]).round(3).tolist()
    (['x'], [[0.582, 0.418]])
    """

    def __init__(
        self, epsilon_sq: float | Literal["cv"] = 1.0, *, mean: words.Mean = "estimate",
        criterion: words.Criterion = "length", kernel: Any = None, gamma: float | Literal["scale"] = "scale",
        degree: int = 3, coef0: float = 1.0, kernel_dim: int | None = None, n_neighbors: int | None = None,
        priors: Any = "empirical", candidates: Any = None, cv: int = 5,
    ) -> None:  # fmt: skip
        self.epsilon_sq = epsilon_sq
        self.mean = mean
        self.criterion = criterion
        self.kernel = kernel
        self.gamma = gamma
        self.degree = degree
        self.coef0 = coef0
        self.kernel_dim = kernel_dim
        self.n_neighbors = n_neighbors
        self.priors = priors
        self.candidates = candidates
        self.cv = cv

    def fit(self, X: Any, y: Any) -> MICLClassifier:
        """Learn the classes' codes.

        Parameters
        ----------
        X : (m, d), (m, C, T) or (m, C, H, W) array, real
            Samples; for ``kernel="precomputed"`` their kernel matrix (m, m).
        y : (m,) array
            Labels.

        Returns
        -------
        self
        """
        micl = MICL(**{name: getattr(self, name) for name in DEFAULTS})
        X, y, _ = self._labelled(X, y, None)
        if self.kernel == "precomputed" and X.shape[1:] != X.shape[:1]:
            raise ValueError(f"X has shape {X.shape}; expected (m, m): kernel is 'precomputed'")
        self.micl_ = micl.fit(X, y)
        self.classes_, self.epsilon_sq_ = micl.classes_, micl.epsilon_sq_
        return self

    def decision_function(self, X: Any, diagonal: Any = None) -> Array:
        """Minus what the code of each class grows by, `MICL.scores`.

        Parameters
        ----------
        X : (m, d), (m, C, T) or (m, C, H, W) array, real
            Samples; for ``kernel="precomputed"`` k(x, z) with those of `fit`, (m, N).
        diagonal : (m,) array, optional
            k(x, x) for ``kernel="precomputed"``; it may be left out where that was one number for all samples of `fit`.

        Returns
        -------
        (m, k) array, or (m,) for two classes
            -delta_j; for two classes delta_0 - delta_1, positive for the second.
        """
        scores = self._fitted().scores(self._samples(X, reset=False), diagonal=diagonal)
        result: Array = scores[:, 0] - scores[:, 1] if len(self.classes_) == 2 else -scores
        return result

    def predict(self, X: Any, diagonal: Any = None) -> Array:
        """The class whose code grows least, (m,); parameters as in `decision_function`."""
        return self._fitted().predict(self._samples(X, reset=False), diagonal=diagonal)

    def predict_proba(self, X: Any, diagonal: Any = None) -> Array:
        """Probabilities of the classes, (m, k); parameters as in `decision_function`.

        They are the softmax of minus the increments in nats, `MICL.probabilities`: calibrated as far as classes are
        Gaussian. Wrap the classifier in ``sklearn.calibration.CalibratedClassifierCV`` where more is needed.
        """
        return self._fitted().probabilities(self._samples(X, reset=False), diagonal=diagonal)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy on samples X with the labels y, (m,), and optional weights, (m,)."""
        checks.complete(y)
        checks.readable(sample_weight, "sample_weight")
        return float(super().score(X, y, sample_weight))

    def _fitted(self) -> MICL:
        check_is_fitted(self)
        return self.micl_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = self.kernel == "precomputed"
        return tags
