"""A ReduNet as a transformer: its features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import TransformerMixin

from redunet._inputs import words
from redunet._inputs.axes import Channels
from redunet.sklearn.network import Auto, NetworkEstimator
from redunet.sklearn.signals import SignalFeaturesOut
from redunet.sklearn.weights import ClassWeight

Array = npt.NDArray[Any]


class ReduNetTransformer(SignalFeaturesOut, TransformerMixin, NetworkEstimator):  # type: ignore[misc]
    """Features of a ReduNet.

    Parameters
    ----------
    n_layers : int, default 20
        Number of layers (at most, with `tol`).
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

    Attributes
    ----------
    net_ : ReduNet
        The network; its ``rates`` hold R, R_c and their difference along the layers.
    classes_ : (k,) array
        The labels.
    affine_ : object or None
        The affine lift: ``affine_(X)`` is what the network sees of vectors.
    n_features_in_ : int
        Columns of a table, or channels of signals and images (the first of their axes, with the channels last).

    Examples
    --------
    >>> from redunet.sklearn import ReduNetTransformer
    >>> import redunet as rn
    >>> X, y = rn.datasets.gaussian_mixture(50, n_features=3, random_state=0)
    >>> transformer = ReduNetTransformer(n_layers=10).fit(X, y)
    >>> transformer.transform(X).shape  # three dimensions, and that of the constant column
    (150, 4)
    >>> transformer.get_feature_names_out().tolist()
    ['redunettransformer0', 'redunettransformer1', 'redunettransformer2', 'redunettransformer3']
    """

    def __init__(
        self,
        n_layers: int = 20,
        *,
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
        array
            Unit-norm features, as `transform` gives them, up to rounding.
        """
        used, labels, weights = self._labelled(X, y, sample_weight)
        self._check_container(used)
        Z = self._build(used, labels, weights)
        self._kept = None
        # Samples that were left out have no features yet; with given assignments new samples move otherwise.
        return Z if len(Z) == len(np.asarray(y)) and self.assignment == "estimated" else self.transform(X)

    def transform(self, X: Any) -> Array:
        """Unit-norm features, with X's shape; of vectors with the affine lift (m, d + 1).

        Parameters
        ----------
        X : (m, d), (m, C, T) or (m, C, H, W) array, real
            Samples like those of `fit`.
        """
        Z = self._features(X)
        self._check_container(Z)
        return Z

    def _shape_out(self) -> tuple[int, ...]:
        return self.net_.n_channels, *self.net_.fourier.signal_shape

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
