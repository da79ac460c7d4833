"""What the estimators that build a network share: its parameters, how samples enter it, `fit` and `partial_fit`."""

from __future__ import annotations

import inspect
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import check_is_fitted

from redunet._inputs import checks
from redunet._inputs.axes import Channels
from redunet.network import ReduNet, build
from redunet.sklearn.affine import AffineLift
from redunet.sklearn.signals import SignalEstimator
from redunet.sklearn.weights import ClassWeight, with_class_weight

Array = npt.NDArray[Any]
Estimator = TypeVar("Estimator", bound="NetworkEstimator")

#: What of `build` is no parameter of the estimators. The first five are what `fit` is given, or what `transform` needs.
#: The others belong to one construction: the file or network of one fold of a search is not another's.
NO_PARAMETERS = ("X", "y", "sample_weight", "dtype", "keep", "on_layer", "resume", "checkpoint", "every")
#: Options of `build` that the estimators have as parameters, under the same names and with the same defaults, but for
#: the number of layers, and epsilon_sq, which is "auto". `class_weight`, which `build` doesn't have, is "balanced".
BUILD_OPTIONS = tuple(name for name in inspect.signature(build).parameters if name not in NO_PARAMETERS)

#: What "auto" stands for: of vectors with the affine lift, where these are best on 22 small tables (bench/defaults.py),
#: and of others, where eps^2 is `build`'s and the components are those of the lecture.
EPSILON_SQ = {True: 1.0, False: 0.1}
N_COMPONENTS = {True: 1, False: 10}

Auto = Literal["auto"]


class Kept(NamedTuple):
    """The samples that `partial_fit` was given so far, and the labels that may come."""

    X: Array
    y: Array
    weights: Array | None
    classes: Array | None

    def joined(self, X: Array, y: Array, weights: Array | None, classes: Array | None) -> Kept:
        """With those of another call."""
        if X.shape[1:] != self.X.shape[1:]:
            raise ValueError(f"X has shape {X.shape}; expected (m, {', '.join(map(str, self.X.shape[1:]))}), as before")
        if classes is not None and not (self.classes is not None and np.array_equal(classes, self.classes)):
            before = "None" if self.classes is None else self.classes.tolist()
            raise ValueError(f"classes are {classes.tolist()}; expected {before}, as in the first call, or None")
        checks.one_kind((self.y, y), "y")
        both = None
        if not (self.weights is None and weights is None):
            parts = ((self.y, self.weights), (y, weights))
            both = np.concatenate([np.ones(len(labels)) if some is None else some for labels, some in parts])
        return Kept(np.concatenate([self.X, X]), np.concatenate([self.y, y]), both, self.classes)


def is_auto(value: Any, name: str, otherwise: str) -> bool:
    """Whether a parameter is "auto"; another word is an error, and what is no word is looked at by who takes it."""
    if isinstance(value, str) and value != "auto":
        raise ValueError(f"{name} is {value!r}; expected {otherwise} or 'auto'")
    return isinstance(value, str)


def _classes(given: Any) -> Array:
    """The labels that may come, sorted."""
    values = checks.array(given, "classes")
    return checks.labels(values, values.size, "classes")[0]


class NetworkEstimator(SignalEstimator):
    """The fitted network. Estimators name their parameters, those of `BUILD_OPTIONS` among them, for scikit-learn."""

    net_: ReduNet
    classes_: Array
    affine_: AffineLift | None
    affine: bool | Auto
    epsilon_sq: float | Auto
    class_weight: ClassWeight
    _kept: Kept | None = None

    def _set(self, parameters: dict[str, Any]) -> None:
        """Keep the parameters as they are given, as scikit-learn wants it: ``locals()`` of an ``__init__``."""
        for name, value in parameters.items():
            if name not in ("self", "__class__"):
                setattr(self, name, value)

    def _options(self, X: Array) -> dict[str, Any]:
        """Those of `build`, for samples X; ``affine_`` tells how they enter."""
        options = {name: getattr(self, name) for name in BUILD_OPTIONS}
        if is_auto(self.epsilon_sq, "epsilon_sq", "a number > 0"):
            options["epsilon_sq"] = EPSILON_SQ[self.affine_ is not None]
        return options

    def _learn_affine(self, X: Array, weights: Array | None) -> None:
        """Set ``affine_``, of the samples that a network will be built of."""
        vectors = X.ndim == 2 and self.signal_shape is None
        wanted = vectors if is_auto(self.affine, "affine", "True, False") else checks.flag(self.affine, "affine")
        if wanted and not vectors:
            raise ValueError(
                f"affine is True and X has shape {X.shape}, of signals or images; expected vectors (m, d): a mean for "
                "each point would stand still while signals move"
            )
        self.affine_ = AffineLift.of(X, weights) if wanted else None

    def _entering(self, X: Array) -> Array:
        """X as the network takes it."""
        return self._signals(X) if self.affine_ is None else self.affine_(X)

    def _build(self, X: Array, y: Array, weights: Array | None) -> Array:
        """Construct the network; returns the features of X, a table if X is one."""
        self._learn_affine(X, weights)
        weighted = with_class_weight(self.class_weight, y, weights)
        self.net_, Z = build(self._entering(X), y, sample_weight=weighted, **self._options(X))
        self.classes_ = self.net_.classes_
        return Z.reshape(len(X), -1) if X.ndim == 2 else Z

    def _fit(self, X: Array, y: Array, weights: Array | None) -> None:
        """`fit` of what has been checked."""
        self._build(X, y, weights)

    def fit(self: Estimator, X: Any, y: Any, sample_weight: Any = None) -> Estimator:
        """Construct the network.

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
        self._fit(*self._labelled(X, y, sample_weight))
        self._kept = None
        return self

    def partial_fit(self: Estimator, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Estimator:
        """Construct the network of these samples and those of the calls before: what `fit` makes of all of them.

        Every layer but the first is made of features, which new samples move for all: so the samples are kept, copied,
        in the estimator and in its pickle, and every call takes as long as `fit` with all that have come. Where samples
        can't be kept, one layer can be made of `redunet.ClassGrams`, and without a class, `redunet.forget_class`.

        Parameters
        ----------
        X : (m, d), (m, C, T) or (m, C, H, W) array, real
            More samples, like those before. The first call after `fit`, which keeps none, begins anew.
        y : (m,) array
            Labels; of new classes too.
        classes : (k,) array, optional
            In the first call: the labels that may come; others are refused then. ``classes_`` are those that have come.
        sample_weight : (m,) array, optional
            As in `fit`.

        Returns
        -------
        self
        """
        before = self._kept
        X, y, weights = self._labelled(X, y, sample_weight, reset=before is None)
        known = None if classes is None else _classes(classes)
        kept = Kept(X.copy(), y.copy(), weights, known) if before is None else before.joined(X, y, weights, known)
        if kept.classes is not None:
            expected = kept.classes.tolist()
            for one in checks.labels(y, len(y))[0].tolist():
                if one not in expected:
                    raise ValueError(f"y holds the label {one!r}; expected classes {expected}")
        self._fit(kept.X, kept.y, kept.weights)
        self._kept = kept
        return self

    def _features(self, X: Any) -> Array:
        check_is_fitted(self)
        return self._transformed(self._samples(X, reset=False))

    def _transformed(self, X: Array) -> Array:
        """Features of samples that have been checked; a table of a table."""
        where: Channels = "last" if self._last else "first"
        Z = self.net_.transform(self._entering(X), channels=where, backend=self.backend, n_threads=self.n_threads)
        return Z.reshape(len(X), -1) if X.ndim == 2 else Z
