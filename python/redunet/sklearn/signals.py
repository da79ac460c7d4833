"""What the estimators share: X as a table or as signals, labels, and weights."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from redunet._inputs import checks
from redunet._inputs.axes import Channels

Array = npt.NDArray[Any]

NUMBERS: dict[str, Any] = {"dtype": (np.float64, np.float32), "allow_nd": True}


class SignalEstimator(BaseEstimator):  # type: ignore[misc]
    """What the estimators share: tables or signals as X, and weights."""

    signal_shape: int | Sequence[int] | None = None
    channels: Channels | None = None

    def _samples(self, X: Any, *, reset: bool) -> Array:
        result: Array = self._validated(X, reset=reset)
        return result

    def _validated(self, X: Any, *y: Any, **options: Any) -> Any:
        """What scikit-learn's check gives, after our own of what it would lose; every error names the argument."""
        given = checks.array(X, "X")
        if given.dtype.kind == "c":  # it prints all of X
            raise ValueError(
                f"Complex data not supported: X has dtype {given.dtype}; expected real numbers. Complex "
                "samples are for redunet.build and redunet.NearestSubspace"
            )
        if given.dtype.kind not in "fiubO":  # it reads dates and text as numbers
            raise TypeError(f"X has dtype {given.dtype}; expected real numbers")
        try:
            return validate_data(self, X, *y, **{**NUMBERS, **options})
        except (TypeError, ValueError) as error:
            if type(error) not in (TypeError, ValueError) or re.search(r"\b[Xy]\b", str(error)):
                raise
            raise type(error)(f"{'X and y' if y else 'X'} cannot be used: {error}") from error

    def _labelled(self, X: Any, y: Any, sample_weight: Any, *, reset: bool = True) -> tuple[Array, Array, Array | None]:
        """X, y and weights checked, without the samples of weight zero."""
        if y is not None:
            checks.complete(y)
        X, y = self._validated(X, y, reset=reset)
        check_classification_targets(y)
        weights = checks.sample_weights(sample_weight, len(y))
        if weights is None:
            return X, y, None
        used = weights > 0
        if not used.any():
            raise ValueError("sample_weight is zero for every sample; expected a positive weight for some")
        return (X, y, weights) if used.all() else (X[used], y[used], weights[used])

    @property
    def _last(self) -> bool:
        """Whether X has its channels last."""
        if self.channels is not None:
            checks.choice(self.channels, "channels", get_args(Channels))
        return self.channels == "last"

    def _signals(self, X: Array) -> Array:
        """X with the axes of its signals: a table is (m, C * prod(signal_shape)), or with the channels last."""
        if self.signal_shape is None:
            return X
        given: Any = self.signal_shape
        lengths = np.atleast_1d(checks.array(given, "signal_shape"))
        if lengths.ndim != 1 or len(lengths) not in (1, 2):
            raise ValueError(f"signal_shape is {given!r}; expected (T,) or (H, W)")
        shape = tuple(checks.integer(n, "signal_shape", 1) for n in lengths.tolist())
        last = self._last
        points = ", ".join(map(str, shape))
        if X.ndim > 2:
            if (X.shape[1:-1] if last else X.shape[2:]) != shape:
                says = f"(m, {points}, C)" if last else f"(m, C, {points})"
                raise ValueError(f"X has shape {X.shape}; signal_shape says {says}")
            return X
        C, rest = divmod(X.shape[1], int(np.prod(shape)))
        if C == 0 or rest:
            raise ValueError(
                f"X has shape {X.shape}; expected (m, C * {' * '.join(map(str, shape))}), as signal_shape says"
            )
        return X.reshape(len(X), *shape, C) if last else X.reshape(len(X), C, *shape)

    def _check_container(self, X: Array) -> None:
        """An error for signals whose features should be a table of pandas or polars."""
        asked = getattr(self, "_sklearn_output_config", {}).get("transform", get_config()["transform_output"])
        if X.ndim > 2 and asked != "default":
            points = X.shape[1:-1] if self._last else X.shape[2:]
            raise ValueError(
                f"X has shape {X.shape}, and set_output asks for a table of {asked}: "
                f"pass X.reshape({len(X)}, -1), with signal_shape={points}"
            )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


class SignalFeaturesOut(ClassNamePrefixFeaturesOutMixin):  # type: ignore[misc]
    """Names of columns that are features: of signals and images with channel and point."""

    _last: bool

    def _shape_out(self) -> tuple[int, ...]:
        """Channels and points of the output, (C, T) or (C, H, W); of vectors (d,)."""
        raise NotImplementedError

    @property
    def _n_features_out(self) -> int:
        return int(np.prod(self._shape_out()))

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """Names of the columns of a table of features, in their order.

        Parameters
        ----------
        input_features : object
            Ignored.

        Returns
        -------
        (d,) array of str objects
            Of vectors the class and a number, ``redunettransformer0``; of signals channel and time,
            ``redunettransformer_c0_t0``, of images channel, row and column, ``redunettransformer_c0_y0_x0``.
        """
        check_is_fitted(self)
        C, *points = self._shape_out()
        if not points:
            return np.asarray(super().get_feature_names_out(input_features))
        axes = [("c", C), *zip("t" if len(points) == 1 else "yx", points, strict=True)]
        order = np.indices([length for _, length in axes])
        if self._last:
            order = np.moveaxis(order, 1, -1)
        prefix = type(self).__name__.lower()
        numbers = order.reshape(len(axes), -1).T.tolist()
        names = ["_".join([prefix, *(f"{axes[i][0]}{n}" for i, n in enumerate(row))]) for row in numbers]
        return np.array(names, dtype=object)
