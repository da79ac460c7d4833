"""Classifiers on features: nearest subspace, with the scores of all cyclic shifts, and k nearest by cosine.

The nearest subspace sees every shift of a sample without a shifted copy: <u, roll(z, s)> for all s is one circular
cross-correlation, |<u, roll(z, s)>| = |IDFT(sum_c DFT(u_c) conj(DFT(z_c)))(s)|. Since a ReduNet of signals is exactly
shift-equivariant, one forward pass of a sample and this give what its classifier says of all its shifts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet import checks

Array = npt.NDArray[Any]

# Samples are scored in pieces whose largest temporary array has about this size.
CHUNK_BYTES = 1 << 26


def _features(Z: npt.ArrayLike, name: str = "Z") -> Array:
    array = checks.samples(Z, name)
    array = array.astype(checks.floating(None, array), copy=False)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity; expected finite numbers")
    return array


def _labels(y: npt.ArrayLike, m: int) -> tuple[Array, npt.NDArray[np.int64]]:
    if np.ndim(y) != 1:
        raise ValueError(f"y has shape {np.shape(y)}; expected labels ({m},)")
    labels, _, classes = checks.membership(y, m)
    assert labels is not None
    return classes, labels


def _chunks(m: int, bytes_per_sample: int) -> Iterator[slice]:
    step = max(1, CHUNK_BYTES // max(1, bytes_per_sample))
    return (slice(start, min(start + step, m)) for start in range(0, m, step))


class _Classifier:
    """What both classifiers share: the shape of a sample, and accuracy."""

    classes_: Array
    _sample_shape: tuple[int, ...]

    def _check(self, Z: npt.ArrayLike) -> Array:
        if not hasattr(self, "_sample_shape"):
            raise ValueError(f"this {type(self).__name__} is not fitted; call fit first")
        array = _features(Z)
        if array.shape[1:] != self._sample_shape:
            expected = ", ".join(map(str, ("m", *self._sample_shape)))
            raise ValueError(f"Z has shape {array.shape}; expected ({expected}), like the features it was fitted to")
        return array

    def _decode(self, codes: Array) -> Array:
        labels: Array = self.classes_[codes]
        return labels

    def predict(self, Z: npt.ArrayLike) -> Array:
        """Labels of samples, (m,)."""
        raise NotImplementedError

    def score(self, Z: npt.ArrayLike, y: npt.ArrayLike) -> float:
        """Share of samples whose label is predicted as in ``y``."""
        return float(np.mean(self.predict(Z) == np.asarray(y)))


class NearestSubspace(_Classifier):
    """Predicts the class whose subspace is nearest: argmin_j ||(I - U_j U_j*) z||.

    Parameters
    ----------
    n_components : int, default 10
        Dimension of every subspace. A class has fewer when its features span fewer dimensions, and never as many as the
        features have: then d - 1, since the whole space is near to everything.

    Attributes
    ----------
    classes_ : (k,) array
        The labels.
    bases_ : list of (d, r_j) arrays
        Orthonormal bases U_j, the top left singular vectors of each class's features (not centred).

    Examples
    --------
    >>> import numpy as np, redunet as rn
    >>> Z = np.array([[1.0, 0.1, 0.0], [1.0, -0.1, 0.0], [0.0, 0.1, 1.0], [0.0, -0.1, 1.0]])
    >>> classifier = rn.NearestSubspace(n_components=1).fit(Z, ["a", "a", "b", "b"])
    >>> classifier.predict([[0.9, 0.2, 0.3]]).tolist()
    ['a']
    """

    def __init__(self, n_components: int = 10) -> None:
        self.n_components = checks.integer(n_components, "n_components", 1)

    def fit(self, Z: npt.ArrayLike, y: npt.ArrayLike) -> NearestSubspace:
        """Find the subspaces.

        Parameters
        ----------
        Z : (m, d), (m, C, T) or (m, C, H, W) array, real or complex
            Features.
        y : (m,) array
            Labels of any dtype.

        Returns
        -------
        NearestSubspace
            Itself.
        """
        array = _features(Z)
        self.classes_, labels = _labels(y, len(array))
        self._sample_shape = array.shape[1:]
        rows = array.reshape(len(array), -1)
        self.bases_ = [_leading_subspace(rows[labels == j], self.n_components) for j in range(len(self.classes_))]
        return self

    def scores(self, Z: npt.ArrayLike) -> Array:
        """Squared distances to the subspaces, ||z||^2 - ||U_j* z||^2, (m, k): the smallest wins.

        They are good to a few rounding units of ||z||^2, and never negative.
        """
        array = self._check(Z)
        rows = array.reshape(len(array), -1)
        squares = _squares(rows).sum(axis=1)
        inside = np.stack([_squares(rows @ U.conj()).sum(axis=1) for U in self.bases_], axis=1)
        distances: Array = np.maximum(squares[:, None] - inside, 0)
        return distances

    def predict(self, Z: npt.ArrayLike) -> Array:
        """Labels of samples, (m,)."""
        codes = self.scores(Z).argmin(axis=1)
        return self._decode(codes)

    def scores_all_shifts(self, Z: npt.ArrayLike, *, stride: int = 1) -> Array:
        """`scores` of every cyclic shift of every sample.

        Parameters
        ----------
        Z : (m, C, T) or (m, C, H, W) array
            Features of signals or images.
        stride : int, default 1
            Step between the shifts, in every axis.

        Returns
        -------
        (m, S, k) array
            Entry s belongs to ``np.roll(z, s * stride, axis=-1)``; for images the shifts are in row-major order, those
            of the vertical axis first.
        """
        array = self._check(Z)
        return np.concatenate([scores for _, scores in self._shift_scores(array, stride)])

    def predict_all_shifts(self, Z: npt.ArrayLike, *, stride: int = 1) -> Array:
        """Labels of every cyclic shift of every sample, (m, S), ordered as in `scores_all_shifts`."""
        array = self._check(Z)
        parts = [scores.argmin(axis=2) for _, scores in self._shift_scores(array, stride)]
        return self._decode(np.concatenate(parts))

    def score_all_shifts(self, Z: npt.ArrayLike, y: npt.ArrayLike, *, stride: int = 1) -> float:
        """Share of all cyclic shifts of all samples whose label is predicted as in ``y``, (m,)."""
        return float(np.mean(self.predict_all_shifts(Z, stride=stride) == np.asarray(y)[:, None]))

    def _shift_scores(self, array: Array, stride: int) -> Iterator[tuple[slice, Array]]:
        stride = checks.integer(stride, "stride", 1)
        if array.ndim == 2:
            raise ValueError(f"Z has shape {array.shape}; expected signals (m, C, T) or images (m, C, H, W)")
        m, C, *signal_shape = array.shape
        shape = tuple(signal_shape)
        axes = tuple(range(2, array.ndim))
        real = array.dtype.kind == "f" and self.bases_[0].dtype.kind == "f"
        transform = np.fft.rfftn if real else np.fft.fftn
        # Spectra of all basis vectors, frequency first: (F, C, R).
        stacked = np.concatenate([U.T for U in self.bases_]).reshape(-1, C, *shape)
        U = transform(stacked, axes=axes).reshape(len(stacked), C, -1).transpose(2, 1, 0)
        starts = np.cumsum([0, *(basis.shape[1] for basis in self.bases_)])
        picked = (slice(None), slice(None), *[slice(None, None, stride)] * len(shape))
        for rows in _chunks(m, 4 * stacked[:, 0].nbytes):
            Z = array[rows]
            V = transform(Z, axes=axes)
            freqs = V.shape[2:]
            product = V.conj().reshape(len(Z), C, -1).transpose(2, 0, 1) @ U  # (F, m, R)
            product = product.transpose(1, 2, 0).reshape(len(Z), -1, *freqs)
            correlations: Array = (np.fft.irfftn if real else np.fft.ifftn)(product, s=shape, axes=axes)
            inside = _squares(correlations[picked]).reshape(len(Z), len(stacked), -1)  # (m, R, S)
            squares = _squares(Z.reshape(len(Z), -1)).sum(axis=1)
            scores = np.empty((len(Z), inside.shape[2], len(self.bases_)), inside.dtype)
            for j in range(len(self.bases_)):
                scores[:, :, j] = squares[:, None] - inside[:, starts[j] : starts[j + 1]].sum(axis=1)
            yield rows, np.maximum(scores, 0, out=scores)

    def __repr__(self) -> str:
        return f"NearestSubspace(n_components={self.n_components})"


class CosineNeighbors(_Classifier):
    """Predicts the most frequent label among the nearest neighbours by cosine similarity.

    Parameters
    ----------
    n_neighbors : int, default 5
        Neighbours that vote (all samples, if there are fewer). On a tie the smallest label wins.

    Attributes
    ----------
    classes_ : (k,) array
        The labels.

    Examples
    --------
    >>> import redunet as rn
    >>> classifier = rn.CosineNeighbors(n_neighbors=1).fit([[1.0, 0.0], [0.0, 1.0]], [3, 7])
    >>> classifier.predict([[5.0, 1.0], [1.0, 5.0]]).tolist()
    [3, 7]
    """

    def __init__(self, n_neighbors: int = 5) -> None:
        self.n_neighbors = checks.integer(n_neighbors, "n_neighbors", 1)

    def fit(self, Z: npt.ArrayLike, y: npt.ArrayLike) -> CosineNeighbors:
        """Keep the features; parameters as in `NearestSubspace.fit`."""
        array = _features(Z)
        self.classes_, self._codes = _labels(y, len(array))
        self._sample_shape = array.shape[1:]
        self._directions = _directions(array)
        return self

    def predict(self, Z: npt.ArrayLike) -> Array:
        """Labels of samples, (m,)."""
        directions = _directions(self._check(Z))
        n = min(self.n_neighbors, len(self._codes))
        codes = np.empty(len(directions), np.int64)
        for rows in _chunks(len(directions), 3 * self._directions.dtype.itemsize * len(self._codes)):
            similarity = directions[rows] @ self._directions.T
            nearest = np.argpartition(-similarity, n - 1, axis=1)[:, :n]
            votes = np.zeros((len(nearest), len(self.classes_)), np.int64)
            np.add.at(votes, (np.arange(len(nearest))[:, None], self._codes[nearest]), 1)
            codes[rows] = votes.argmax(axis=1)  # the first, hence smallest, on a tie
        return self._decode(codes)

    def __repr__(self) -> str:
        return f"CosineNeighbors(n_neighbors={self.n_neighbors})"


def _squares(Z: Array) -> Array:
    """|z|^2, entry by entry."""
    result: Array = Z.real**2 + Z.imag**2 if Z.dtype.kind == "c" else Z * Z
    return result


def _directions(array: Array) -> Array:
    """Rows of unit norm (zero rows stay zero); complex numbers as pairs, so that a product is Re <z, z'>."""
    rows = np.ascontiguousarray(array.reshape(len(array), -1))
    if rows.dtype.kind == "c":
        rows = rows.view(rows.real.dtype)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    directions: Array = rows / np.where(norms == 0, 1, norms).astype(rows.dtype)
    return directions


def _leading_subspace(rows: Array, n_components: int) -> Array:
    """The top left singular vectors, (d, r), of features (m, d), by the smaller Gram matrix in double precision."""
    m, d = rows.shape
    wide = rows.astype(np.result_type(rows, np.float64), copy=False).T  # (d, m): one column per sample
    gram = wide.conj().T @ wide if m <= d else wide @ wide.conj().T
    values, vectors = np.linalg.eigh(gram)
    largest = float(values[-1])
    # Eigenvalues of a Gram matrix are good to max(m, d) units of the largest: below that there is no direction.
    rank = int(np.count_nonzero(values > max(m, d) * np.finfo(np.float64).eps * largest)) if largest > 0 else 0
    r = min(n_components, rank, max(d - 1, 1))
    top = vectors[:, ::-1][:, :r]
    basis: Array = wide @ (top / np.sqrt(values[::-1][:r])) if m <= d else top
    return np.ascontiguousarray(basis.astype(rows.dtype))
