"""The random and the pooled lift as transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
from sklearn.base import TransformerMixin
from sklearn.utils.validation import check_is_fitted

from redunet._inputs import words
from redunet._inputs.axes import Channels
from redunet.frontends import lift, pooled_lift
from redunet.sklearn.signals import SignalEstimator, SignalFeaturesOut

if TYPE_CHECKING:
    from typing_extensions import Self

Array = npt.NDArray[Any]


class LiftEstimator(SignalFeaturesOut, TransformerMixin, SignalEstimator):  # type: ignore[misc]
    """What both share: without `signal_shape` a row of a table is one signal of one channel, and precision is kept."""

    lift_: Any

    def fit(self, X: Any, y: Any = None) -> Self:
        """Draw the kernels for the channels of X; a pooled lift takes thresholds from its values, too.

        Parameters
        ----------
        X : (m, C * T), (m, C * H * W), (m, C, T) or (m, C, H, W) array, real
            Samples.
        y : object
            Ignored.

        Returns
        -------
        self
        """
        signals = self._signals(self._samples(X, reset=True))
        self.lift_ = self._lift().fit(signals, channels=self.channels)
        self._points = signals.shape[1:-1] if self._last else signals.shape[2:]
        return self

    def _lift(self) -> Any:
        """The package's own, of these parameters."""
        raise NotImplementedError

    def _signals(self, X: Array) -> Array:
        if X.ndim == 2 and self.signal_shape is None:
            return X[:, :, None] if self._last else X[:, None]
        return super()._signals(X)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class RandomLift(LiftEstimator):
    """More channels by random cyclic filters and a nonlinearity: `redunet.RandomLift` for scikit-learn.

    Parameters
    ----------
    n_channels : int, default 16
        Channels of the output.
    kernel_size : int or tuple of int, default 3
        Length of the kernels; for images one number for both axes, or (height, width).
    activation : {"relu", "identity", "soft"}, default "relu"
        Nonlinearity.
    threshold : float, default 0
        Threshold of "relu" and "soft".
    symmetric : bool, default False
        Whether kernels equal their mirror images, so that the lift commutes with them: for ``group="dihedral"``.
    signal_shape : int T, (T,) or (H, W), optional
        Shape of the signals or images in a table X of C * T or C * H * W columns. Default: each row of a table is
        one signal of one channel.
    channels : {None, "first", "last"}, default None
        Where X has its channels, as in `redunet.build`; the output has them there too.
    random_state : int, numpy.random.RandomState, numpy.random.Generator or None
        Where the kernels come from.

    Attributes
    ----------
    lift_ : redunet.RandomLift
        The lift, with ``kernels_``.
    n_features_in_ : int
        Columns of a table, or channels of signals and images (the first of their axes, with the channels last).

    Examples
    --------
    >>> import numpy as np
    >>> from redunet.sklearn import RandomLift
    >>> lift = RandomLift(16, 3, signal_shape=(8, 8), random_state=0)
    >>> lift.fit_transform(np.ones((10, 64))).shape  # 16 channels of 8 x 8, in a table
    (10, 1024)
    >>> lift.fit_transform(np.ones((10, 1, 8, 8))).shape
    (10, 16, 8, 8)
    """

    lift_: lift.RandomLift

    def __init__(
        self,
        n_channels: int = 16,
        kernel_size: int | tuple[int, ...] = 3,
        *,
        activation: words.Activation = "relu",
        threshold: float = 0.0,
        symmetric: bool = False,
        signal_shape: int | Sequence[int] | None = None,
        channels: Channels | None = None,
        random_state: Any = None,
    ) -> None:
        self.n_channels = n_channels
        self.kernel_size = kernel_size
        self.activation = activation
        self.threshold = threshold
        self.symmetric = symmetric
        self.signal_shape = signal_shape
        self.channels = channels
        self.random_state = random_state

    def _lift(self) -> lift.RandomLift:
        return lift.RandomLift(
            self.n_channels,
            self.kernel_size,
            activation=self.activation,
            threshold=self.threshold,
            symmetric=self.symmetric,
            random_state=self.random_state,
        )

    def transform(self, X: Any) -> Array:
        """Lift X.

        Parameters
        ----------
        X : (m, C * T), (m, C * H * W), (m, C, T) or (m, C, H, W) array, real
            Samples.

        Returns
        -------
        array
            With X's number of axes, and X's dtype if that is single or double precision.
        """
        check_is_fitted(self)
        X = self._samples(X, reset=False)
        self._check_container(X)
        lifted = self.lift_.transform(self._signals(X), channels=self.channels)
        return lifted.reshape(len(X), -1) if X.ndim == 2 else lifted

    def _shape_out(self) -> tuple[int, ...]:
        return len(self.lift_.kernels_), *self._points


class PooledLift(LiftEstimator):
    """Vectors that no shift changes, from random filters of several scales: `redunet.PooledLift` for scikit-learn.

    Parameters
    ----------
    n_features : int, default 1000
        Length of the vectors.
    kernel_size : int or tuple of int, default 9
        Taps of a kernel; for images one number for both axes, or (height, width).
    differences : bool, default True
        Whether some of the filters see differences of neighbouring points.
    boundary : {"cyclic", "zero"}, default "cyclic"
        What filters see beyond the ends: the other end, or nothing but the mean.
    signal_shape : int T, (T,) or (H, W), optional
        Shape of the signals or images in a table X of C * T or C * H * W columns. Default: each row of a table is
        one signal of one channel.
    channels : {None, "first", "last"}, default None
        Where X has its channels, as in `redunet.build`.
    random_state : int, numpy.random.RandomState, numpy.random.Generator or None
        Where kernels and thresholds come from.

    Attributes
    ----------
    lift_ : redunet.PooledLift
        The lift, with ``filters_``.
    n_features_in_ : int
        Columns of a table, or channels of signals and images (the first of their axes, with the channels last).

    Examples
    --------
    >>> import numpy as np
    >>> from redunet.sklearn import PooledLift
    >>> X = np.random.default_rng(0).normal(size=(10, 3, 50))  # (n_cases, n_channels, n_timepoints)
    >>> PooledLift(200, random_state=0).fit_transform(X).shape
    (10, 200)
    """

    lift_: pooled_lift.PooledLift

    def __init__(
        self,
        n_features: int = 1000,
        kernel_size: int | tuple[int, ...] = 9,
        *,
        differences: bool = True,
        boundary: words.Boundary = "cyclic",
        signal_shape: int | Sequence[int] | None = None,
        channels: Channels | None = None,
        random_state: Any = None,
    ) -> None:
        self.n_features = n_features
        self.kernel_size = kernel_size
        self.differences = differences
        self.boundary = boundary
        self.signal_shape = signal_shape
        self.channels = channels
        self.random_state = random_state

    def _lift(self) -> pooled_lift.PooledLift:
        return pooled_lift.PooledLift(
            self.n_features,
            self.kernel_size,
            differences=self.differences,
            boundary=self.boundary,
            random_state=self.random_state,
        )

    def transform(self, X: Any) -> Array:
        """The vectors of X.

        Parameters
        ----------
        X : (m, C * T), (m, C * H * W), (m, C, T) or (m, C, H, W) array, real
            Samples.

        Returns
        -------
        (m, n_features) array
            In X's dtype if that is single or double precision.
        """
        check_is_fitted(self)
        return self.lift_.transform(self._signals(self._samples(X, reset=False)), channels=self.channels)

    def _shape_out(self) -> tuple[int, ...]:
        return (self.lift_.n_features,)
