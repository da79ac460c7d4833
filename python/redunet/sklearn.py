"""scikit-learn estimators: thin wrappers around `build`, `RandomLift` and `NearestSubspace`.

X is (m, d), (m, C, T) or (m, C, H, W), real. Pipelines carry tables, so signals may also come flattened, (m, C * T) or
(m, C * H * W), with ``signal_shape=(T,)`` or ``(H, W)``; the output then is a table too. Samples of weight zero are left
out. Computation stays in single precision for float32 input and is in double precision otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet import checks
from redunet.classifiers import NearestSubspace
from redunet.lift import RandomLift as Lift
from redunet.network import ReduNet, build

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError("redunet.sklearn needs scikit-learn >= 1.6: pip install 'redunet[sklearn]'") from error

Array = npt.NDArray[Any]

__all__ = ["NearestSubspaceClassifier", "RandomLift", "ReduNetClassifier", "ReduNetTransformer"]


class _SignalEstimator(BaseEstimator):  # type: ignore[misc]
    """What the estimators share: tables or signals as X, and weights."""

    signal_shape: Sequence[int] | None = None

    def _samples(self, X: Any, *, reset: bool) -> Array:
        result: Array = validate_data(self, X, reset=reset, **_NUMBERS)
        return result

    def _labelled(self, X: Any, y: Any, sample_weight: Any) -> tuple[Array, Array, Array | None]:
        """X, y and weights checked, without the samples of weight zero."""
        X, y = validate_data(self, X, y, **_NUMBERS)
        check_classification_targets(y)
        weights = checks.sample_weights(sample_weight, len(y))
        if weights is None:
            return X, y, None
        used = weights > 0
        if not used.any():
            raise ValueError("sample_weight is zero for every sample; expected a positive weight for some")
        return (X, y, weights) if used.all() else (X[used], y[used], weights[used])

    def _signals(self, X: Array) -> Array:
        """X with the axes of its signals: a table is (m, C * prod(signal_shape))."""
        if self.signal_shape is None:
            return X
        shape = tuple(checks.integer(n, "signal_shape", 1) for n in self.signal_shape)
        if len(shape) not in (1, 2):
            raise ValueError(f"signal_shape is {self.signal_shape!r}; expected (T,) or (H, W)")
        if X.ndim > 2:
            if X.shape[2:] != shape:
                raise ValueError(
                    f"X has shape {X.shape}; signal_shape says (m, C, {', '.join(map(str, shape))})"
                )
            return X
        C, rest = divmod(X.shape[1], int(np.prod(shape)))
        if C == 0 or rest:
            raise ValueError(
                f"X has shape {X.shape}; expected rows of C * {' * '.join(map(str, shape))} numbers, as signal_shape says"
            )
        return X.reshape(len(X), C, *shape)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


_NUMBERS: dict[str, Any] = {"dtype": (np.float64, np.float32), "allow_nd": True}


class _Network(_SignalEstimator):
    """The parameters of `build` and the fitted network."""

    net_: ReduNet
    classes_: Array

    def __init__(
        self,
        n_layers: int = 20,
        *,
        eta: Any = "auto",
        epsilon_sq: float = 0.1,
        lam: float = 500.0,
        assignment: str = "estimated",
        dft_norm: str = "ortho",
        tol: float | None = None,
        patience: int = 10,
        signal_shape: Sequence[int] | None = None,
        backend: str = "auto",
        n_threads: int | None = None,
        progress: bool = False,
    ) -> None:
        self.n_layers = n_layers
        self.eta = eta
        self.epsilon_sq = epsilon_sq
        self.lam = lam
        self.assignment = assignment
        self.dft_norm = dft_norm
        self.tol = tol
        self.patience = patience
        self.signal_shape = signal_shape
        self.backend = backend
        self.n_threads = n_threads
        self.progress = progress

    def _build(self, X: Array, y: Array, sample_weight: Array | None) -> Array:
        """Construct the network; returns the features of X, with X's axes."""
        self.net_, Z = build(
            self._signals(X),
            y,
            n_layers=self.n_layers,
            eta=self.eta,
            epsilon_sq=self.epsilon_sq,
            lam=self.lam,
            sample_weight=sample_weight,
            assignment=self.assignment,
            dft_norm=self.dft_norm,
            tol=self.tol,
            patience=self.patience,
            backend=self.backend,
            n_threads=self.n_threads,
            progress=self.progress,
        )
        self.classes_ = self.net_.classes_
        return Z.reshape(X.shape)

    def _features(self, X: Any) -> Array:
        check_is_fitted(self)
        X = self._samples(X, reset=False)
        Z = self.net_.transform(self._signals(X), backend=self.backend, n_threads=self.n_threads)
        return Z.reshape(X.shape)


_PARAMETERS = """
    Parameters
    ----------
    n_layers : int, default 20
        Number of layers (at most, with `tol`).
    eta, epsilon_sq, lam, assignment, dft_norm, tol, patience, backend, n_threads, progress
        As in `redunet.build`.
    signal_shape : (T,) or (H, W), optional
        Shape of the signals or images in a table X of C * T or C * H * W columns; default: a table holds vectors."""


class ReduNetTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, _Network):  # type: ignore[misc]
    """Features of a ReduNet.

    Parameters
    ----------
    n_layers : int, default 20
        Number of layers (at most, with `tol`).
    eta, epsilon_sq, lam, assignment, dft_norm, tol, patience, backend, n_threads, progress
        As in `redunet.build`.
    signal_shape : (T,) or (H, W), optional
        Shape of the signals or images in a table X of C * T or C * H * W columns. Default: the rows of a table are
        vectors. Arrays of 3 or 4 axes need no `signal_shape`.

    Attributes
    ----------
    net_ : ReduNet
        The network; its ``rates`` hold R, R_c and their difference along the layers.
    classes_ : (k,) array
        The labels.
    n_features_in_ : int
        Columns of a table, or channels of signals and images.

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

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> ReduNetTransformer:
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
        X, y, weights = self._labelled(X, y, sample_weight)
        self._build(X, y, weights)
        return self

    def transform(self, X: Any) -> Array:
        """Unit-norm features, with X's shape.

        Parameters
        ----------
        X : (m, d), (m, C, T) or (m, C, H, W) array, real
            Samples like those of `fit`.
        """
        return self._features(X)

    @property
    def _n_features_out(self) -> int:
        return int(self.n_features_in_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
