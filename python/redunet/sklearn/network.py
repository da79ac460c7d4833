"""A ReduNet as a transformer, and as a classifier with the nearest subspace on its features."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from redunet._inputs import axes, checks, words
from redunet._inputs.axes import Channels
from redunet.classifiers import SHIFTS
from redunet.network import ReduNet, build
from redunet.sklearn.signals import SignalEstimator
from redunet.sklearn.stopping import Patience, check_options, hold_out
from redunet.sklearn.subspace import SubspaceMixin, fit_subspaces

Array = npt.NDArray[Any]
Estimator = TypeVar("Estimator", bound="NetworkEstimator")

#: What of `build` is no parameter of the estimators. The first five are what `fit` is given, or what `transform` needs.
#: The others belong to one construction: the file or network of one fold of a search is not another's.
NO_PARAMETERS = ("X", "y", "sample_weight", "dtype", "keep", "on_layer", "resume", "checkpoint", "every")
#: Options of `build` that the estimators have as parameters, under the same names and with the same defaults.
BUILD_OPTIONS = tuple(name for name in inspect.signature(build).parameters if name not in NO_PARAMETERS)


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


def _classes(given: Any) -> Array:
    """The labels that may come, sorted."""
    values = checks.array(given, "classes")
    return checks.labels(values, values.size, "classes")[0]


class NetworkEstimator(SignalEstimator):
    """The fitted network. Estimators name their parameters, those of `BUILD_OPTIONS` among them, for scikit-learn."""

    net_: ReduNet
    classes_: Array
    _kept: Kept | None = None

    def _set(self, parameters: dict[str, Any]) -> None:
        """Keep the parameters as they are given, as scikit-learn wants it: ``locals()`` of an ``__init__``."""
        for name, value in parameters.items():
            if name not in ("self", "__class__"):
                setattr(self, name, value)

    def _build(self, X: Array, y: Array, sample_weight: Array | None) -> Array:
        """Construct the network; returns the features of X, with X's axes."""
        options = {name: getattr(self, name) for name in BUILD_OPTIONS}
        self.net_, Z = build(self._signals(X), y, sample_weight=sample_weight, **options)
        self.classes_ = self.net_.classes_
        return Z.reshape(X.shape)

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
        X = self._samples(X, reset=False)
        where: Channels = "last" if self._last else "first"
        Z = self.net_.transform(self._signals(X), channels=where, backend=self.backend, n_threads=self.n_threads)
        return Z.reshape(X.shape)


class ReduNetTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, NetworkEstimator):  # type: ignore[misc]
    """Features of a ReduNet.

    Parameters
    ----------
    n_layers : int, default 20
        Number of layers (at most, with `tol`).
    channels, group, eta, momentum, epsilon_sq, lam, assignment, dft_norm, tol, patience, backend, n_threads, progress
        As in `redunet.build`.
    signal_shape : int T, (T,) or (H, W), optional
        Shape of the signals or images in a table X of C * T or C * H * W columns. Default: the rows of a table
        are vectors. Arrays of 3 or 4 axes need no `signal_shape`.

    Attributes
    ----------
    net_ : ReduNet
        The network; its ``rates`` hold R, R_c and their difference along the layers.
    classes_ : (k,) array
        The labels.
    n_features_in_ : int
        Columns of a table, or channels of signals and images (the first of their axes, with the channels last).

    Examples
    --------
    >>> from redunet.sklearn import ReduNetTransformer
    >>> import redunet as rn
    >>> X, y = rn.datasets.gaussian_mixture(50, n_features=3, random_state=0)
    >>> transformer = ReduNetTransformer(n_layers=10).fit(X, y)
    >>> transformer.transform(X).shape
    (150, 3)
    >>> transformer.get_feature_names_out()
    array(['redunettransformer0', 'redunettransformer1', 'redunettransformer2'],
          dtype=object)
    """

    def __init__(
        self,
        n_layers: int = 20,
        *,
        channels: Channels | None = None,
        group: words.Group = "cyclic",
        eta: Any = "auto",
        momentum: bool = False,
        epsilon_sq: float = 0.1,
        lam: float = 500.0,
        assignment: words.Assignment = "estimated",
        dft_norm: words.DftNorm = "ortho",
        tol: float | None = None,
        patience: int = 10,
        signal_shape: int | Sequence[int] | None = None,
        backend: words.Backend = "auto",
        n_threads: int | None = None,
        progress: bool = False,
    ) -> None:
        self._set(locals())

    def fit_transform(self, X: Any, y: Any, sample_weight: Any = None) -> Array:
        """`fit`, then `transform` of the same samples, at the cost of `fit`: the construction gives their features.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.

        Returns
        -------
        array, X's shape
            Unit-norm features; those of `transform` up to rounding.
        """
        used, labels, weights = self._labelled(X, y, sample_weight)
        self._check_container(used)
        Z = self._build(used, labels, weights)
        self._kept = None
        # Samples that were left out have no features yet; with given assignments new samples move otherwise.
        return Z if len(Z) == len(np.asarray(y)) and self.assignment == "estimated" else self.transform(X)

    def transform(self, X: Any) -> Array:
        """Unit-norm features, with X's shape.

        Parameters
        ----------
        X : (m, d), (m, C, T) or (m, C, H, W) array, real
            Samples like those of `fit`.
        """
        Z = self._features(X)
        self._check_container(Z)
        return Z

    @property
    def _n_features_out(self) -> int:
        return self.net_.n_channels * self.net_.fourier.n_points

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class ReduNetClassifier(SubspaceMixin, NetworkEstimator):
    """Nearest subspace on the features of a ReduNet, whose number of layers may be chosen by accuracy.

    Parameters
    ----------
    n_layers : int, default 20
        Number of layers (at most, with `tol`).
    n_components : int, default 10
        Dimensions of each class's subspace (at most).
    channels, group, eta, momentum, epsilon_sq, lam, assignment, dft_norm, tol, patience, backend, n_threads, progress
        As in `redunet.build`.
    signal_shape : int T, (T,) or (H, W), optional
        Shape of the signals or images in a table X of C * T or C * H * W columns. Default: the rows of a table
        are vectors. Arrays of 3 or 4 axes need no `signal_shape`.
    shifts : {None, "best"}, default None
        ``"best"``, for signals and images: a class is as near as the nearest of all that `group` makes of a sample, so
        that every shift has the same prediction. With None it is the sample as it stands: the features are
        shift-equivariant, and what is said of a shifted sample may differ.
    early_stopping : bool, default False
        Whether to hold out some samples of `fit`, in the proportions of the classes, and to keep as many layers as give
        the highest accuracy on them, the fewest of several. The network and the subspaces are of the other samples, at
        the features that `transform` gives them; each class needs two samples at least.
    validation_fraction : float, default 0.1
        Share of the samples that `early_stopping` holds out, between 0 and 1.
    n_iter_no_change : int, default 10
        With `early_stopping`: layers to wait for a higher accuracy than the best before, up to `n_layers`.
    random_state : int, numpy.random.RandomState, numpy.random.Generator or None
        Which samples are held out.

    Attributes
    ----------
    net_ : ReduNet
        The network; its ``rates`` hold R, R_c and their difference along the layers.
    subspaces_ : NearestSubspace
        The classifier on its features, with the axes of signals and images.
    classes_ : (k,) array
        The labels.
    validation_scores_ : (n,) float64 array
        Accuracy on the samples held out after every layer that was looked at; only with `early_stopping`.
    n_features_in_ : int
        Columns of a table, or channels of signals and images (the first of their axes, with the channels last).

    Notes
    -----
    `early_stopping` builds `n_iter_no_change` + 1 layers, and goes on from them to twice as many as often as it has to.
    After each layer it finds the subspaces of all classes, which may take longer than the layer.

    Distances to subspaces are no probabilities, so there is no ``predict_proba``: wrap the classifier in
    ``sklearn.calibration.CalibratedClassifierCV`` where you need one.

    Examples
    --------
    >>> from redunet.sklearn import ReduNetClassifier
    >>> import redunet as rn
    >>> X, y = rn.datasets.gaussian_mixture(50, n_features=3, random_state=0)
    >>> ReduNetClassifier(n_layers=10, n_components=1).fit(X, y).score(X, y)
    1.0
    """

    def __init__(
        self,
        n_layers: int = 20,
        *,
        n_components: int = 10,
        channels: Channels | None = None,
        group: words.Group = "cyclic",
        eta: Any = "auto",
        momentum: bool = False,
        epsilon_sq: float = 0.1,
        lam: float = 500.0,
        assignment: words.Assignment = "estimated",
        dft_norm: words.DftNorm = "ortho",
        tol: float | None = None,
        patience: int = 10,
        signal_shape: int | Sequence[int] | None = None,
        shifts: Literal["best"] | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        random_state: Any = None,
        backend: words.Backend = "auto",
        n_threads: int | None = None,
        progress: bool = False,
    ) -> None:
        self._set(locals())

    def _fit(self, X: Array, y: Array, weights: Array | None) -> None:
        """The network, and the subspaces of its features."""
        self.__dict__.pop("validation_scores_", None)
        if self.shifts is not None:
            checks.choice(self.shifts, "shifts", SHIFTS)
            if self._signals(X).ndim == 2:
                raise ValueError(
                    f"shifts is {self.shifts!r} and X has shape {X.shape}; expected signals (m, C, T) or images "
                    "(m, C, H, W), or a table with signal_shape"
                )
        check_options(self.validation_fraction, self.n_iter_no_change, self.random_state)
        if checks.flag(self.early_stopping, "early_stopping"):
            self._fit_early(X, y, weights)
            return
        Z = self._build(X, y, weights)
        self.subspaces_ = fit_subspaces(self.n_components, self._channels_first(Z), y, weights, self.group)

    def _fit_early(self, X: Array, y: Array, weights: Array | None) -> None:
        """`fit` of some samples, with as many layers as the others want."""
        kept, held = hold_out(y, self.validation_fraction, self.random_state)
        weights_kept, weights_held = (None if weights is None else weights[at] for at in (kept, held))
        patience = Patience(self.n_iter_no_change)
        for net in self._growing(X[kept], y[kept], weights_kept):
            wanted = range(len(patience.scores) + 1, net.n_layers + 1)
            stages = (self._stages(net, X[at], wanted) for at in (kept, held))
            for Z, Z_held in zip(*stages, strict=True):
                subspaces = fit_subspaces(self.n_components, Z, y[kept], weights_kept, self.group)
                right = subspaces.predict(Z_held, shifts=self.shifts) == y[held]
                if patience.look(float(np.average(right, weights=weights_held))):
                    self.subspaces_ = subspaces
                if patience.over:
                    break
            if patience.over:
                break
        self.net_, self.classes_ = net.truncate(patience.best), net.classes_
        self.validation_scores_ = np.array(patience.scores)

    def _growing(self, X: Array, y: Array, weights: Array | None) -> Iterator[ReduNet]:
        """Networks of more and more layers, to ``n_layers``; each goes on from the one before."""
        options = {name: getattr(self, name) for name in BUILD_OPTIONS}
        most = checks.integer(self.n_layers, "n_layers", 1)
        etas = checks.step_sizes(self.eta, most)
        n, net = min(self.n_iter_no_change + 1, most), None
        while True:
            options |= {"n_layers": n, "eta": self.eta if etas is None else etas[:n], "resume": net}
            net, _ = build(self._signals(X), y, sample_weight=weights, **options)
            yield net
            if n == most or net.n_layers < n:
                return
            n = min(2 * n, most)
            options["channels"] = self.channels or "first"  # a warning is said once

    def _stages(self, net: ReduNet, X: Array, wanted: range) -> Iterator[Array]:
        """Features as `subspaces_` has them, after those numbers of layers."""
        where: Channels = "last" if self._last else "first"
        given = net._entering(self._signals(X), where, self.backend, self.n_threads)
        return (axes.channels_first(Z, where, "Z") for Z in net._staged(given, wanted))

    def _features(self, X: Any) -> Array:
        return self._channels_first(NetworkEstimator._features(self, X))

    def _channels_first(self, Z: Array) -> Array:
        """Features as `subspaces_` has them."""
        return axes.channels_first(self._signals(Z), "last" if self._last else "first", "Z")
