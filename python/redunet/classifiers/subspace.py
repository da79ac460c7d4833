"""The nearest subspace, with the scores of all cyclic shifts, or of all that a larger group makes of a sample.

It sees every shift of a sample without a shifted copy (`transforms.correlate`). Since a ReduNet of signals is
shift-equivariant, one forward pass of a sample and this give what its classifier says of all its shifts, and with
``shifts="best"`` an answer that is invariant: the nearest class over all of them.
Features: (m, d), (m, C, T) or (m, C, H, W), finite, of any norm.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from redunet._backends.tasks import interruptible
from redunet._inputs import checks, words
from redunet.classifiers.base import Classifier, accuracy, chunks, features, truth
from redunet.transforms import correlate, groups, norms

Array = npt.NDArray[Any]

# What `shifts` may be, None apart.
SHIFTS = ("best",)


class NearestSubspace(Classifier):
    """Predicts the class whose subspace is nearest: argmin_j ||(I - U_j U_j*) z||.

    With ``shifts="best"`` the distance to a class is the smallest over all cyclic shifts of z, so that every shift of
    a signal or image has the same label. What is said of shifts here holds of mirror images too with
    ``group="dihedral"``.

    Parameters
    ----------
    n_components : int, default 10
        Dimension of every subspace. A class has fewer when its features span fewer dimensions (their
        numerical rank, so never more than its samples), and never as many as the features have: then d - 1,
        since the whole space is near to everything.
    group : {"cyclic", "dihedral"}, default "cyclic"
        ``"dihedral"``: the shifts of a sample are those of its mirror images too, as of a network that was built with
        this group.

    Attributes
    ----------
    classes_ : (k,) array
        The labels.
    bases_ : list of (d, r_j) arrays
        Orthonormal bases U_j, the top left singular vectors of each class's features (not centred), in double
        precision; d = C T or C H W for signals and images. A class of zeros has r_j = 0.

    Raises
    ------
    ValueError, TypeError
        If n_components is not an integer >= 1, or the group is unknown. The methods raise ValueError before `fit`, for
        NaN or infinity, for features of another shape than those fitted, and unless y holds one label per sample.

    Notes
    -----
    The bases come from the smaller Gram matrix, (m_j, m_j) or (d, d), in double precision:
    O(m_j d min(m_j, d)). A direction whose singular value is below about sqrt(max(m_j, d) eps) of the
    largest, or within the rounding of single-precision features, counts as absent.

    References
    ----------
    .. [1] Chan, Yu, You, Qi, Wright and Ma, "ReduNet: A White-box Deep Network from the Principle of
       Maximizing Rate Reduction", JMLR 23 (2022).

    Examples
    --------
    >>> import numpy as np, redunet as rn
    >>> Z = np.array([[1.0, 0.1, 0.0], [1.0, -0.1, 0.0], [0.0, 0.1, 1.0], [0.0, -0.1, 1.0]])
    >>> classifier = rn.NearestSubspace(n_components=1).fit(Z, ["a", "a", "b", "b"])
    >>> classifier.predict([[0.9, 0.2, 0.3]]).tolist()
    ['a']
    """

    def __init__(self, n_components: int = 10, *, group: words.Group = "cyclic") -> None:
        self.n_components = checks.integer(n_components, "n_components", 1)
        self.group = checks.choice(group, "group", groups.GROUPS)

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

        Raises
        ------
        ValueError, TypeError
            If Z holds NaN, infinity or no numbers, or has other axes, or y is not one label per sample.
        """
        return self._fit(Z, y)

    def _fit(self, Z: npt.ArrayLike, y: npt.ArrayLike, weights: Array | None = None) -> NearestSubspace:
        """`fit` with weights > 0, (m,): a sample of weight w counts w times."""
        array = features(Z)
        checks.group(self.group, array.shape, "Z")
        self.classes_, labels = checks.labels(y, len(array))
        self._sample_shape = array.shape[1:]
        rows = array.reshape(len(array), -1)
        members = [labels == j for j in range(len(self.classes_))]
        self.bases_ = [
            _leading_subspace(rows[chosen], self.n_components, None if weights is None else weights[chosen])
            for chosen in members
        ]
        return self

    def scores(self, Z: npt.ArrayLike, *, shifts: Literal["best"] | None = None) -> Array:
        """Squared distances to the subspaces, ||z||^2 - ||U_j* z||^2, (m, k) float64: the smallest wins.

        They are computed in double precision, since subspaces may be close, and never negative. Of samples with norms
        above about 1e154 they are infinite, and below 1e-162 zero: `predict` compares them before that.

        Parameters
        ----------
        Z : (m, d), (m, C, T) or (m, C, H, W) array, real or complex
            Features like those of `fit`.
        shifts : {None, "best"}, default None
            ``"best"``, for signals and images: the smallest distance over all cyclic shifts of each sample, at the cost
            of `scores_all_shifts`. Classes that are as near as the nearest, to rounding, have its distance.

        Raises
        ------
        ValueError, TypeError
            If shifts is something else, or "best" for vectors.

        Examples
        --------
        >>> import redunet as rn
        >>> classifier = rn.NearestSubspace(n_components=1).fit([[1.0, 0.0], [0.0, 1.0]], ["a", "b"])
        >>> classifier.scores([[3.0, 1.0]]).tolist()
        [[1.0, 9.0]]
        """
        array, exponents = norms.squarable(self._check(Z))
        return norms.scaled_back(self._distances(array, shifts), exponents)

    def _distances(self, array: Array, shifts: Literal["best"] | None) -> Array:
        """`scores` of samples that can be squared."""
        if shifts is not None:
            checks.choice(shifts, "shifts", SHIFTS)
            return self._best_distances(array)
        double = np.result_type(array, np.float64)
        distances = np.empty((len(array), len(self.bases_)))
        for part in chunks(len(array), 2 * array[0].size * double.itemsize):
            rows = array[part].reshape(-1, array[0].size).astype(double, copy=False)
            squares = _squared_norms(rows)
            for j, U in enumerate(self.bases_):
                distances[part, j] = squares - _squared_norms(rows @ U.conj())
        return np.maximum(distances, 0, out=distances)

    def _best_distances(self, array: Array) -> Array:
        """The smallest of `scores_all_shifts` for every class, (m, k)."""
        best = np.empty((len(array), len(self.bases_)))
        rounding = _rounding(array.shape[1:], max(U.shape[1] for U in self.bases_))
        for part, scores in self._shift_scores(array, 1):
            distances = scores.min(axis=1)
            # Where a class is made of shifts of another, both are as near, and rounding would choose between them
            # differently for every shift of a sample: all that are nearest to rounding tie, and the first wins.
            nearest = distances.min(axis=1, keepdims=True)
            rows = array[part].reshape(len(distances), -1).astype(np.result_type(array, np.float64), copy=False)
            ties = distances - nearest <= rounding * _squared_norms(rows)[:, None]
            best[part] = np.where(ties, nearest, distances)
        return best

    def predict(self, Z: npt.ArrayLike, *, shifts: Literal["best"] | None = None) -> Array:
        """Labels of samples, (m,).

        Parameters
        ----------
        Z, shifts
            As in `scores`: with ``shifts="best"`` all cyclic shifts of a sample have the same label.

        Examples
        --------
        >>> import numpy as np, redunet as rn
        >>> Z = [[[1.0, 2.0, 0.0, 0.0]], [[1.0, 0.0, 2.0, 0.0]]]  # two signals of 4 points: (2, 1, 4)
        >>> classifier = rn.NearestSubspace(n_components=1).fit(Z, ["near", "far"])
        >>> moved = np.roll(Z, 1, axis=-1)
        >>> classifier.predict(moved).tolist(), classifier.predict(moved, shifts="best").tolist()
        (['far', 'near'], ['near', 'far'])
        """
        array, _ = norms.squarable(self._check(Z))
        return self._decode(self._distances(array, shifts).argmin(axis=1))

    def score(self, Z: npt.ArrayLike, y: npt.ArrayLike, *, shifts: Literal["best"] | None = None) -> float:
        """Accuracy: the share of samples whose label is predicted as in ``y``, (m,); Z and shifts as in `scores`."""
        return accuracy(self.predict(Z, shifts=shifts), y)

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
            Entry s belongs to ``np.roll(z, s * stride, axis=-1)``, S = ceil(T / stride). For images the
            shifts (dy, dx), ``np.roll(z, (dy, dx), axis=(-2, -1))``, are in row-major order: dx runs fastest.
            With ``group="dihedral"`` those of its mirror images follow, and S is 2 or 4 times as many. The order is
            that of `redunet.shifts`.

        Raises
        ------
        ValueError, TypeError
            If Z is not of signals or images, or stride is not an integer >= 1.

        Notes
        -----
        A product of spectra summed over channels and one inverse FFT per sample, class and component:
        O(m k r (C + log N) N) with N = T or H W. The arrays in use are bounded apart from the result.

        Examples
        --------
        >>> import redunet as rn
        >>> Z = [[[1.0, 0.0, 0.0]], [[1.0, 1.0, 1.0]]]  # a pulse and a constant: (2, 1, 3)
        >>> classifier = rn.NearestSubspace(n_components=1).fit(Z, ["pulse", "constant"])
        >>> classifier.scores_all_shifts(Z[:1]).round(3)[0]  # classes in sorted order
        array([[0.667, 0.   ],
               [0.667, 1.   ],
               [0.667, 1.   ]])
        """
        array, exponents = norms.squarable(self._check(Z))
        scores = np.concatenate([scores for _, scores in self._shift_scores(array, stride)])
        return norms.scaled_back(scores, exponents)

    def predict_all_shifts(self, Z: npt.ArrayLike, *, stride: int = 1) -> Array:
        """Labels of every cyclic shift of every sample, (m, S), ordered as in `scores_all_shifts`."""
        array, _ = norms.squarable(self._check(Z))
        parts = [scores.argmin(axis=2) for _, scores in self._shift_scores(array, stride)]
        return self._decode(np.concatenate(parts))

    def score_all_shifts(self, Z: npt.ArrayLike, y: npt.ArrayLike, *, stride: int = 1) -> float:
        """Accuracy over all cyclic shifts of all samples, each counted once, with labels ``y``, (m,)."""
        predicted = self.predict_all_shifts(Z, stride=stride)
        return float(np.mean(predicted == truth(y, len(predicted))[:, None]))

    def _shift_scores(self, array: Array, stride: int) -> Iterator[tuple[slice, Array]]:
        """`scores_all_shifts` of samples that can be squared, piece by piece."""
        stride = checks.integer(stride, "stride", 1)
        if array.ndim == 2:
            raise ValueError(f"Z has shape {array.shape}; expected signals (m, C, T) or images (m, C, H, W)")
        shape = array.shape[1:]
        dtype = np.result_type(array, *self.bases_)
        bases = [correlate.spectrum(U.T.reshape(U.shape[1], *shape), dtype) for U in self.bases_]
        picked = (slice(None), slice(None), *[slice(None, None, stride)] * (len(shape) - 1))
        n_images = groups.n_mirrored(len(shape) - 1, self.group)
        # Per sample: the spectrum and its copies, products and correlations of one class, the scores.
        arrays = 4 * shape[0] + 5 * max(U.shape[1] for U in bases) + 2 * n_images * len(bases)
        for rows in chunks(len(array), arrays * math.prod(shape[1:]) * dtype.itemsize):
            Z = array[rows].astype(dtype, copy=False)
            squares = _squared_norms(Z.reshape(len(Z), -1))[:, None]
            images = []
            for image in groups.mirrored(Z, self.group):
                V = correlate.spectrum(image, dtype)
                np.conj(V, out=V)
                scores = []
                for U in bases:
                    correlations = correlate.all_shifts(V, U, shape[1:], dtype)[picked]  # (n, r_j, S axes)
                    scores.append(squares - _squares(correlations).sum(axis=1).reshape(len(Z), -1))
                images.append(np.stack(scores, axis=2))
            every = np.concatenate(images, axis=1) if len(images) > 1 else images[0]
            yield rows, np.maximum(every, 0, out=every)

    def __repr__(self) -> str:
        group = "" if self.group == "cyclic" else f", group={self.group!r}"
        return f"NearestSubspace(n_components={self.n_components}{group})"


def _squares(Z: Array) -> Array:
    """|z|^2, entry by entry."""
    result: Array = Z.real**2 + Z.imag**2 if Z.dtype.kind == "c" else Z * Z
    return result


def _squared_norms(rows: Array) -> Array:
    """||z||^2 of every row, (m, d) to (m,)."""
    result: Array = np.vecdot(rows, rows).real
    return result


def _rounding(shape: tuple[int, ...], r: int) -> float:
    """A bound of the difference of two all-shift scores that are equal but for rounding, in units of ||z||^2.

    With ||z|| = ||u|| = 1 three FFTs of N points err by 3 log2(N) units of eps / 2 in norm, four real operations each,
    and the sum over C channels by C: delta in every correlation c, 2 |c| delta in its square, and over r components
    sum |c| <= sqrt(r). The norm ||z||^2 errs by d = C N units.
    """
    N, d = math.prod(shape[1:]), math.prod(shape)
    delta = 4 * (3 * math.log2(N + 1) + shape[0])
    return float((2 * math.sqrt(r) * delta + d) * np.finfo(np.float64).eps)  # twice eps / 2: two scores


@interruptible
def _leading_subspace(rows: Array, n_components: int, weights: Array | None = None) -> Array:
    """The top left singular vectors, (d, r), of features (m, d), by the smaller Gram matrix."""
    m, d = rows.shape
    double = np.result_type(rows, np.float64)
    pairs, exponent = _to_one(norms.real_rows(rows).astype(np.float64))
    if weights is not None:
        pairs, more = _to_one(pairs * np.sqrt(weights / weights.max())[:, None])
        exponent += more
    wide = pairs.view(double).T  # (d, m): one column per sample
    gram = wide.conj().T @ wide if m <= d else wide @ wide.conj().T
    values, vectors = np.linalg.eigh(gram)
    # Eigenvalues of a Gram matrix are good to max(m, d) units of the largest, and features rounded to precision eps,
    # or to the smallest number of their type, are off by at most that, times ||Z||_F or for every number, in any
    # singular value: below that is no direction.
    kind = np.finfo(rows.dtype)
    rounding = kind.eps**2 * values.sum() + np.ldexp(float(kind.smallest_subnormal), -exponent) ** 2 * pairs.size
    noise = max(max(m, d) * np.finfo(np.float64).eps * values[-1], rounding)
    r = min(n_components, int(np.count_nonzero(values > noise)), d - 1)
    top = vectors[:, ::-1][:, :r]
    # Images of weak directions are orthogonal only to eps (largest / weak)^2: QR makes them so to eps.
    basis: Array = np.linalg.qr(wide @ top)[0] if m <= d else top
    return np.ascontiguousarray(basis)


def _to_one(numbers: Array) -> tuple[Array, int]:
    """Numbers over a power of two, so that the largest is near 1 and squares neither overflow nor all vanish."""
    exponent = int(np.frexp(np.abs(numbers).max())[1])
    return np.ldexp(numbers, -exponent), exponent
