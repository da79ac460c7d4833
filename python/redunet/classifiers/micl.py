"""Minimum incremental coding length: a sample belongs to the class whose code it lengthens least.

J. Wright, Y. Tao, Z. Lin, Y. Ma, H.-Y. Shum, *Classification via Minimum Incremental Coding Length*, NIPS 2007.
Features are real vectors (m, D), or signals and images taken as such; everything is computed in double precision, but
for inner products with neighbours. `increments.py` has the formulas, `members.py` what a class sees of a sample.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from redunet import linalg
from redunet._inputs import checks, words
from redunet.classifiers import kernels
from redunet.classifiers.base import Classifier, accuracy, features
from redunet.classifiers.increments import Code
from redunet.classifiers.members import Classes, KernelClasses, NearestOfClasses, WholeClasses
from redunet.classifiers.validation import held_out

Array = npt.NDArray[Any]

MEANS = ("zero", "estimate")
CRITERIA = ("length", "rate")
#: Squared distortions to try unless others are given, in units of the variance in classes, sum |z - mu_j|^2 / m.
CANDIDATES = np.geomspace(1e-4, 10, 11)


class MICL(Classifier):
    """Predicts the class whose coding length grows least by a sample (minimum incremental coding length).

    Parameters
    ----------
    epsilon_sq : float or "cv", default 1.0
        Squared distortion eps^2 > 0 per sample, in the squared unit of the features. "cv": the one of ``candidates``
        with the fewest errors in a cross-validation, of those the one of highest likelihood (see `probabilities`).
    mean : {"estimate", "zero"}, default "estimate"
        Whether a class is coded about its mean, which is coded too.
    criterion : {"length", "rate"}, default "length"
        What grows: the coding length L of a class, or the coding rate R_c of all classes, which has no part for a basis
        and a mean. The paper's is "length".
    kernel : {"linear", "poly", "rbf", "precomputed"}, function or None, default None
        None: the samples as they are. "poly" is (gamma x* z + coef0)^degree, "rbf" exp(-gamma |x - z|^2); a function
        takes (m, D) and (n, D) arrays and gives (m, n). A kernel is positive semidefinite, and so is a matrix (N, N)
        that is given in place of the features.
    gamma : float or "scale", default "scale"
        Of "poly" and "rbf"; "scale" is 1 / (D var Z) of the training features.
    degree, coef0 : int, default 3, and float, default 1.0
        Of "poly".
    kernel_dim : int, optional
        D of a kernel's code: by default that of the samples. It must be given for a matrix, which has none.
    n_neighbors : int, optional
        Local MICL: code a sample with so many of each class (all, of a smaller one), the nearest by Euclidean distance.
    priors : {"empirical", "equal"} or (k,) array, default "empirical"
        p_j of the classes in sorted order, whose -log p_j is added: the shares of the samples, no such term, or
        positive numbers that sum to 1. With neighbours, or of a rate, "empirical" adds nothing: windows are of one
        size, and R_c has the shares in it.
    candidates : array of positive numbers, optional
        For ``epsilon_sq="cv"``. By default 11 from 1e-4 to 10 times the variance within classes.
    cv : int, default 5
        Folds of the cross-validation: the i-th sample of a class is left out in fold i mod cv.

    Attributes
    ----------
    classes_ : (k,) array
        The labels.
    epsilon_sq_ : float
        The distortion in use.
    candidates_, cv_errors_ : (E,) arrays
        What was tried, sorted, and the share of errors; for ``epsilon_sq="cv"``.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range, or there are neighbours and a kernel or a rate.

    Notes
    -----
    With L of `redunet.coding_length`, D dimensions and n_j samples X_j of class j, a sample x goes to

        argmin_j  L(X_j u {x}) - L(X_j) - log p_j,    or  argmin_j  R_c(.. X_j u {x} ..) - R_c.

    Every class has a code, however few samples it has; with many samples the increment tends to minus the logarithm of
    a Gaussian density of covariance Sigma_j + eps^2/D I, but for a constant and terms of the dimension. A class costs
    O(n D^2 + D^3) to fit and O(D^2) a sample, or O(n^2 D + n^3) and O(n D) where n < D; neighbours cost the distances
    to all samples, and O(n^2 (D + n)) a class and sample.

    Examples
    --------
    >>> from redunet.classifiers import MICL
    >>> classifier = MICL(epsilon_sq=0.1).fit([[1.0, 0.0], [2.0, 0.1], [0.0, 1.0], [0.1, 3.0]], ["a", "a", "b", "b"])
    >>> classifier.predict([[3.0, 0.2], [0.1, 2.0]]).tolist()
    ['a', 'b']
    """

    epsilon_sq_: float
    candidates_: Array
    cv_errors_: Array

    def __init__(
        self, epsilon_sq: float | Literal["cv"] = 1.0, *, mean: words.Mean = "estimate",
        criterion: words.Criterion = "length", kernel: Any = None, gamma: float | Literal["scale"] = "scale",
        degree: int = 3, coef0: float = 1.0, kernel_dim: int | None = None, n_neighbors: int | None = None,
        priors: Any = "empirical", candidates: npt.ArrayLike | None = None, cv: int = 5,
    ) -> None:  # fmt: skip
        self.epsilon_sq = _number_or(epsilon_sq, "epsilon_sq", "cv")
        self.mean = checks.choice(mean, "mean", MEANS)
        self.criterion = checks.choice(criterion, "criterion", CRITERIA)
        if not (kernel is None or callable(kernel)):
            checks.choice(kernel, "kernel", (*kernels.NAMES, "precomputed"))
        self.kernel = kernel
        self.gamma = _number_or(gamma, "gamma", "scale")
        self.degree = checks.integer(degree, "degree", 1)
        self.coef0 = checks.non_negative(coef0, "coef0")
        self.kernel_dim = None if kernel_dim is None else checks.integer(kernel_dim, "kernel_dim", 1)
        self.n_neighbors = None if n_neighbors is None else checks.integer(n_neighbors, "n_neighbors", 1)
        named = isinstance(priors, str)
        self.priors = checks.choice(priors, "priors", ("empirical", "equal")) if named else _shares(priors)
        self.candidates = None if candidates is None else np.unique(_positive_numbers(candidates, "candidates"))
        self.cv = checks.integer(cv, "cv", 2)
        if n_neighbors is not None and kernel is not None:
            raise ValueError(f"n_neighbors is {n_neighbors} and kernel {kernel!r}; expected one of the two to be None")
        if n_neighbors is not None and criterion == "rate":
            raise ValueError(f"n_neighbors is {n_neighbors} and criterion 'rate'; expected None, or 'length'")
        if kernel == "precomputed" and kernel_dim is None:
            raise ValueError("kernel_dim is None and kernel 'precomputed'; expected an integer >= 1")

    def fit(self, Z: npt.ArrayLike, y: npt.ArrayLike) -> MICL:
        """Learn the classes' codes.

        Parameters
        ----------
        Z : (m, D) array, or (m, C, T), (m, C, H, W), real
            Features; for ``kernel="precomputed"`` their kernel matrix (m, m).
        y : (m,) array
            Labels of any dtype.

        Returns
        -------
        MICL
            Itself.

        Raises
        ------
        ValueError, TypeError
            If Z holds NaN, infinity or complex numbers, or y is not one label per sample; if priors are not one per
            class; if a kernel matrix is not positive semidefinite.
        """
        array = _real(features(Z))
        self.classes_, labels = checks.labels(y, len(array))
        if not isinstance(self.priors, str) and len(self.priors) != len(self.classes_):
            raise ValueError(f"priors has shape {self.priors.shape}; expected ({len(self.classes_)},): one per class")
        self._sample_shape = array.shape[1:]
        X = array.reshape(len(array), -1)
        dim = X.shape[1] if self.kernel is None or self.kernel_dim is None else self.kernel_dim
        self._code = Code(dim, self.mean == "estimate", self.criterion == "length")
        X, references = self._referred(X)
        self._trained = self._classes(X, references, labels)
        if isinstance(self.epsilon_sq, str):
            self._cross_validate(X, references, labels)
        else:
            self.epsilon_sq_ = self.epsilon_sq
        self._bits = self._prior_lengths(self._trained, np.arange(len(self.classes_)))
        self._rate = self._class_rate() if self.criterion == "rate" else 0.0
        return self

    def scores(self, Z: npt.ArrayLike, *, diagonal: npt.ArrayLike | None = None) -> Array:
        """What every class's code grows by, (m, k) float64, in nats: the smallest wins.

        Parameters
        ----------
        Z : (m, D) array, or (m, C, T), (m, C, H, W), real
            Features like those of `fit`; for ``kernel="precomputed"`` k(x, z) with those of `fit`, (m, N).
        diagonal : (m,) array, optional
            k(x, x) for ``kernel="precomputed"``. It may be left out where it was one number for all features of `fit`.

        Returns
        -------
        (m, k) array
            L(X_j u {x}) - L(X_j) - log p_j; for ``criterion="rate"`` the increase of R_c, plus -log p_j / (N + 1).

        Raises
        ------
        ValueError, TypeError
            If Z is not like the features of `fit`, or diagonal is not (m,) finite numbers, or missing.

        Examples
        --------
        >>> from redunet.classifiers import MICL
        >>> MICL(priors="equal").fit([[1.0], [3.0]], ["a", "b"]).scores([[1.0], [2.0]]).round(3)
        array([[0.   , 0.693],
               [0.577, 0.174]])
        """
        return self._scores(Z, diagonal)

    def predict(self, Z: npt.ArrayLike, *, diagonal: npt.ArrayLike | None = None) -> Array:
        """Labels of samples, (m,); of classes whose codes grow as little, the first. Parameters as in `scores`."""
        return self._decode(self._lengths(Z, diagonal).argmin(axis=1))

    def probabilities(self, Z: npt.ArrayLike, *, diagonal: npt.ArrayLike | None = None) -> Array:
        """Probabilities of the classes, (m, k), of which the code is: softmax_j of minus what code j grows by, in nats.

        A code of l nats is one for a model that gives the sample the density e^-l. In the limit of many samples that
        is a regularised Gaussian for each class, and the probabilities are calibrated as far as that model is true:
        where dimensions are many and not independent they are too sure. Parameters as in `scores`.
        """
        lengths = self._lengths(Z, diagonal)
        likely = np.exp(lengths.min(axis=1, keepdims=True) - lengths)
        result: Array = likely / likely.sum(axis=1, keepdims=True)
        return result

    def score(self, Z: npt.ArrayLike, y: npt.ArrayLike, *, diagonal: npt.ArrayLike | None = None) -> float:
        """Accuracy: the share of samples whose label is predicted as in ``y``, (m,)."""
        return accuracy(self.predict(Z, diagonal=diagonal), y)

    def _scores(self, Z: npt.ArrayLike, diagonal: npt.ArrayLike | None, name: str = "Z") -> Array:
        lengths = self._lengths(Z, diagonal, name)
        if self.criterion == "rate":  # m R_c grows by the length, R_c itself is for one sample
            return (lengths - self._rate) / (int(self._trained.sizes.sum()) + 1)
        return lengths

    def _lengths(self, Z: npt.ArrayLike, diagonal: npt.ArrayLike | None, name: str = "Z") -> Array:
        """What the code of every class grows by, with the prior, (m, k), in nats."""
        array = _real(self._check(Z, name), name)
        X = array.reshape(len(array), -1)
        if self.kernel == "precomputed":
            X = np.column_stack([X, self._checked_diagonal(diagonal, len(X))])
        elif diagonal is not None:
            raise ValueError(f"diagonal is given and kernel is {self.kernel!r}; expected None, or 'precomputed'")
        elif self.kernel is not None:
            X = X.astype(np.float64)
        with self._blamed():
            lengths: Array = self._trained.lengths(self._code, np.array([self.epsilon_sq_]), X)[0]
        return lengths + self._bits

    def _referred(self, X: Array) -> tuple[Array, Array]:
        """The samples as `_classes` takes them, and the kernel's references to them; chooses the kernel."""
        if self.kernel is None:
            return X, X
        X = X.astype(np.float64)
        if self.kernel == "precomputed":
            if X.shape[0] != X.shape[1]:
                raise ValueError(f"Z has shape {X.shape}; expected (m, m): kernel is 'precomputed'")
            itself = X.diagonal()
            self._itself = float(itself[0]) if (itself == itself[0]).all() else None
            self._kernel: kernels.Kernel = kernels.Given()
            return np.column_stack([X, itself]), np.arange(len(X))
        function = self.kernel
        if isinstance(function, str):
            gamma = kernels.scale(X) if isinstance(self.gamma, str) else self.gamma
            function = kernels.Named(function, gamma, self.degree, self.coef0)
        self._kernel = kernels.Computed(function)
        return X, X

    def _classes(self, X: Array, references: Array, labels: Array) -> Classes:
        estimated = self._code.estimated
        if self.kernel is not None:
            return KernelClasses(X, references, labels, self._kernel, estimated=estimated)
        if self.n_neighbors is not None:
            return NearestOfClasses(X, labels, self.n_neighbors)
        return WholeClasses(X, labels, estimated=estimated)

    def _prior_lengths(self, trained: Classes, classes: npt.NDArray[np.intp]) -> Array:
        """-log p_j of these classes, or zeros."""
        if not isinstance(self.priors, str):
            result: Array = -np.log(self.priors[classes])
            return result
        if self.priors == "equal" or self.n_neighbors is not None or self.criterion == "rate":
            return np.zeros(len(classes))
        lengths: Array = np.log(trained.sizes.sum() / trained.sizes)
        return lengths

    def _class_rate(self) -> float:
        """R_c of the samples."""
        total = 0.0
        for members in cast(WholeClasses | KernelClasses, self._trained).members:
            a = self._code.dim / members.n / self.epsilon_sq_
            total += members.n / 2 * float(linalg.logdet(np.eye(len(members.matrix)) + a * members.matrix))
        return total / int(self._trained.sizes.sum())

    def _cross_validate(self, X: Array, references: Array, labels: Array) -> None:
        """Choose epsilon_sq_ by one pass over the folds: fewest errors, then the largest likelihood of the labels."""
        if np.bincount(labels).max() < 2:
            raise ValueError("epsilon_sq is 'cv' and y has one sample of every class; expected two of some class")
        tried = self.candidates if self.candidates is not None else CANDIDATES * self._variance_within(X, labels)
        with self._blamed():
            errors, losses = held_out(
                self._code, tried, X, references, labels, self.cv, self._classes, self._prior_lengths
            )
        self.candidates_, self.cv_errors_ = tried, errors
        self.epsilon_sq_ = float(tried[np.lexsort((losses, errors))[0]])

    def _variance_within(self, X: Array, labels: Array) -> float:
        """sum |z - mu_j|^2 / m over all classes, mu_j = 0 where no mean is estimated; 1 where that is zero."""
        if isinstance(self._trained, KernelClasses):
            total = sum(float(np.trace(members.matrix)) for members in self._trained.members)
        else:
            samples = (X[labels == j].astype(np.float64) for j in range(len(self.classes_)))
            about = (some - some.mean(axis=0) if self._code.estimated else some for some in samples)
            total = sum(float(np.vdot(some, some)) for some in about)
        return total / len(X) if total > 0 else 1.0

    def _checked_diagonal(self, diagonal: npt.ArrayLike | None, m: int) -> Array:
        """k(x, x) for new samples, (m,)."""
        if diagonal is None:
            if self._itself is None:
                raise ValueError(
                    "diagonal is None, and k(z, z) differs among the features of fit; expected k(x, x), (m,)"
                )
            return np.full(m, self._itself)
        given = checks.array(diagonal, "diagonal")
        if given.dtype.kind not in "fiub":
            raise TypeError(f"diagonal has dtype {given.dtype}; expected real numbers")
        if given.shape != (m,) or not np.isfinite(given).all():
            raise ValueError(f"diagonal has shape {given.shape}; expected ({m},) finite numbers")
        return given

    @contextmanager
    def _blamed(self) -> Iterator[None]:
        """A matrix I + a K that is not positive definite is the kernel's fault."""
        try:
            yield
        except np.linalg.LinAlgError as error:
            what = "epsilon_sq is too small for double precision"
            if self.kernel is not None:
                what = f"kernel {self.kernel!r} gives matrices that are not positive semidefinite, or {what}"
            raise ValueError(what) from error

    def __repr__(self) -> str:
        given = {name: getattr(self, name) for name in DEFAULTS if name != "epsilon_sq"}
        others = "".join(f", {name}={value!r}" for name, value in given.items() if value is not DEFAULTS[name])
        return f"MICL({self.epsilon_sq!r}{others})"


def scores(
    Z: npt.ArrayLike, y: npt.ArrayLike, X: npt.ArrayLike, *, epsilon_sq: float, mean: words.Mean = "estimate",
    criterion: words.Criterion = "length", priors: Any = "empirical",
) -> Array:  # fmt: skip
    """`MICL.scores` of samples X (m, D), (m, k), for the classes that labels y make of Z (N, D)."""
    trained = MICL(epsilon_sq, mean=mean, criterion=criterion, priors=priors).fit(Z, y)
    return trained._scores(X, None, "X")


#: The parameters of `MICL` and their defaults, which the estimator shares.
DEFAULTS = {name: parameter.default for name, parameter in inspect.signature(MICL).parameters.items()}


def _real(array: Array, name: str = "Z") -> Array:
    if array.dtype.kind == "c":
        raise TypeError(f"{name} has dtype {array.dtype}; expected real numbers")
    return array


def _number_or(value: Any, name: str, word: str) -> float | str:
    """A positive number, or the word."""
    return checks.choice(value, name, (word,)) if isinstance(value, str) else checks.positive(value, name)


def _positive_numbers(value: Any, name: str) -> Array:
    array = checks.array(value, name)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} has dtype {array.dtype}; expected positive numbers")
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} has shape {array.shape}; expected positive numbers in one axis")
    if not (np.isfinite(array).all() and (array > 0).all()):
        raise ValueError(f"{name} is {value!r}; expected finite numbers > 0")
    return array.astype(np.float64)


def _shares(priors: Any) -> Array:
    shares = _positive_numbers(priors, "priors")
    if abs(shares.sum() - 1) > 1e-6:  # decimals of single precision
        raise ValueError(f"priors sum to {shares.sum():.9g}; expected 1")
    return shares
