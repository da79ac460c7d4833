"""A ReduNet as a classifier: the nearest subspace on its features."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.metaestimators import available_if

from redunet._inputs import axes, checks, words
from redunet._inputs.axes import Channels
from redunet.classifiers import SHIFTS
from redunet.network import ReduNet, build
from redunet.sklearn.network import N_COMPONENTS, Auto, NetworkEstimator, is_auto
from redunet.sklearn.probabilities import behind, excess, softmax, temperature
from redunet.sklearn.stopping import Patience, check_options, folds_of, hold_out
from redunet.sklearn.subspace import SubspaceMixin, fit_subspaces
from redunet.sklearn.weights import ClassWeight, with_class_weight

Array = npt.NDArray[Any]


class ReduNetClassifier(SubspaceMixin, NetworkEstimator):
    """Nearest subspace on the features of a ReduNet, whose number of layers may be chosen by accuracy.

    Parameters
    ----------
    n_layers : int, default 20
        Number of layers (at most, with `tol`).
    n_components : int or "auto", default "auto"
        Dimensions of each class's subspace (at most); "auto" is 1 of vectors with the affine lift, and 10 of others.
    affine : bool or "auto", default "auto"
        Whether columns are standardised, by mean and deviation of the training samples, and a constant column is
        appended, the square root of their number: with it unit vectors keep offset and scale. For vectors only, rows of
        a table without `signal_shape`, and "auto" is true for all of them.
    epsilon_sq : float or "auto", default "auto"
        Squared distortion, as in `redunet.build`; "auto" is 1 of vectors with the affine lift, and 0.1 of others.
    class_weight : {"balanced"}, mapping or None, default "balanced"
        Factors of the samples' weights for each label; "balanced" makes all classes weigh the same in the network.
        Where they don't, the heaviest may win all gates, and the network does nothing.
    channels, group, eta, momentum, lam, assignment, dft_norm, tol, patience, backend, n_threads, progress
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
    probability : bool, default False
        Whether there is `predict_proba`. Its one number, a temperature, is found on the samples that `early_stopping`
        holds out, or else by 5-fold cross-validation (of fewer folds where a class has fewer samples), for which as
        many more networks are built. A weight of 2 is not the sample twice there: copies may lie in two folds.

    Attributes
    ----------
    net_ : ReduNet
        The network; its ``rates`` hold R, R_c and their difference along the layers.
    subspaces_ : NearestSubspace
        The classifier on its features, with the axes of signals and images.
    classes_ : (k,) array
        The labels.
    affine_ : object or None
        The affine lift: ``affine_(X)`` is what the network sees of vectors.
    temperature_ : float
        T of `predict_proba`; only with `probability`.
    validation_scores_ : (n,) float64 array
        Accuracy on the samples held out after every layer that was looked at; only with `early_stopping`.
    n_features_in_ : int
        Columns of a table, or channels of signals and images (the first of their axes, with the channels last).

    Notes
    -----
    `early_stopping` builds `n_iter_no_change` + 1 layers, and goes on from them to twice as many as often as it has to.
    After each layer it finds the subspaces of all classes, which may take longer than the layer.

    Unit norm takes offset and size away from a sample; the affine lift keeps them for vectors. From signals and images
    subtract means that say nothing, and append a constant channel where loudness says something, before.

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
        n_components: int | Auto = "auto",
        affine: bool | Auto = "auto",
        channels: Channels | None = None,
        group: words.Group = "cyclic",
        eta: Any = "auto",
        momentum: bool = False,
        epsilon_sq: float | Auto = "auto",
        lam: float = 500.0,
        class_weight: ClassWeight = "balanced",
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
        probability: bool = False,
        backend: words.Backend = "auto",
        n_threads: int | None = None,
        progress: bool = False,
    ) -> None:
        self._set(locals())

    def _fit(self, X: Array, y: Array, weights: Array | None) -> None:
        """The network, and the subspaces of its features."""
        for name in ("validation_scores_", "temperature_"):  # of a fit before
            self.__dict__.pop(name, None)
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
        if checks.flag(self.probability, "probability"):
            self.temperature_ = self._temperature(X, y, weights)
        Z = self._build(X, y, weights)
        self._fit_subspaces(self._channels_first(Z), y, weights)

    def _fit_subspaces(self, Z: Array, y: Array, weights: Array | None) -> None:
        """Set ``subspaces_``."""
        n_components: Any = self.n_components
        if is_auto(n_components, "n_components", "an integer >= 1"):
            n_components = N_COMPONENTS[self.affine_ is not None]
        self.subspaces_ = fit_subspaces(n_components, Z, y, weights, self.group)

    def _fit_early(self, X: Array, y: Array, weights: Array | None) -> None:
        """`fit` of some samples, with as many layers as the others want."""
        kept, held = hold_out(y, self.validation_fraction, self.random_state)
        weights_kept, weights_held = (None if weights is None else weights[at] for at in (kept, held))
        patience = Patience(self.n_iter_no_change)
        self._learn_affine(X[kept], weights_kept)
        entering = self._entering(X[kept]), self._entering(X[held])
        weighted = with_class_weight(self.class_weight, y[kept], weights_kept)
        for net in self._growing(entering[0], y[kept], weighted, self._options(X)):
            wanted = range(len(patience.scores) + 1, net.n_layers + 1)
            stages = (self._stages(net, some, wanted) for some in entering)
            for Z, Z_held in zip(*stages, strict=True):
                self._fit_subspaces(Z, y[kept], weights_kept)
                distances = self.subspaces_._distances(Z_held, self.shifts)
                right = self.subspaces_.classes_[distances.argmin(axis=1)] == y[held]
                if patience.look(float(np.average(right, weights=weights_held))):
                    best = self.subspaces_, distances
                if patience.over:
                    break
            if patience.over:
                break
        self.net_, self.classes_ = net.truncate(patience.best), net.classes_
        self.subspaces_, distances = best
        self.validation_scores_ = np.array(patience.scores)
        if checks.flag(self.probability, "probability"):
            self.temperature_ = temperature(behind(distances), np.searchsorted(self.classes_, y[held]), weights_held)

    def _temperature(self, X: Array, y: Array, weights: Array | None) -> float:
        """By distances of samples to the subspaces of networks that were built without them."""
        classes, labels = checks.labels(y, len(y))
        distances = np.empty((len(y), len(classes)))
        for kept, held in folds_of(labels, classes):
            one = clone(self).set_params(probability=False, progress=False, channels=self.channels or "first")
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "no step raises")  # the network itself will say so
                one._fit(X[kept], y[kept], None if weights is None else weights[kept])
            distances[held] = one.subspaces_._distances(one._channels_first(one._transformed(X[held])), self.shifts)
        return temperature(behind(distances), labels, weights)

    def _growing(self, X: Array, y: Array, weights: Array | None, options: dict[str, Any]) -> Iterator[ReduNet]:
        """Networks of more and more layers, to ``n_layers``; each goes on from the one before."""
        most = checks.integer(self.n_layers, "n_layers", 1)
        etas = checks.step_sizes(self.eta, most)
        n, net = min(self.n_iter_no_change + 1, most), None
        while True:
            options |= {"n_layers": n, "eta": self.eta if etas is None else etas[:n], "resume": net}
            net, _ = build(X, y, sample_weight=weights, **options)
            yield net
            if n == most or net.n_layers < n:
                return
            n = min(2 * n, most)
            options["channels"] = self.channels or "first"  # a warning is said once

    def _stages(self, net: ReduNet, X: Array, wanted: range) -> Iterator[Array]:
        """Features as `subspaces_` has them, after those numbers of layers."""
        where: Channels = "last" if self._last else "first"
        given = net._entering(X, where, self.backend, self.n_threads)
        return (axes.channels_first(Z, where, "Z") for Z in net._staged(given, wanted))

    def decision_function(self, X: Any) -> Array:
        """How far each class is behind the nearest, negated: c_j^2 / max_l c_l^2 - 1, c_j the cosine to its subspace.

        Parameters
        ----------
        X : (m, d), (m, C, T) or (m, C, H, W) array, real
            Samples.

        Returns
        -------
        (m, k) array, or (m,) for two classes
            In [-1, 0], 0 of the class that is predicted; for two classes that of the second minus that of the first,
            positive for the second.
        """
        Z = self._features(X)
        scores = excess(self.subspaces_._distances(Z, self.shifts))
        result: Array = scores[:, 0] - scores[:, 1] if len(self.classes_) == 2 else -scores
        return result

    @available_if(lambda self: self.probability)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> Array:
        """Probabilities of the classes, (m, k): the softmax of cosines to the subspaces over ``temperature_``.

        Cosines are relative to the largest of a sample.

        There are such if `probability` is true. The most probable class is that of `predict`.

        Parameters
        ----------
        X : (m, d), (m, C, T) or (m, C, H, W) array, real
            Samples.
        """
        Z = self._features(X)
        if not hasattr(self, "temperature_"):
            raise NotFittedError("probability was False in fit, and is True; expected it True before")
        return softmax(behind(self.subspaces_._distances(Z, self.shifts)), self.temperature_)

    def _features(self, X: Any) -> Array:
        return self._channels_first(NetworkEstimator._features(self, X))

    def _channels_first(self, Z: Array) -> Array:
        """Features as `subspaces_` has them."""
        return axes.channels_first(self._signals(Z), "last" if self._last else "first", "Z")
