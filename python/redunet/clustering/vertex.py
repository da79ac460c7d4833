"""Vertex steps: all samples at once go to the cluster that the gradient of the coding rate prefers.

Samples X (N, D) in double precision, scaled by `Coding.scaled`; cluster j has n_j of them, of second moment S_j about
zero or about their mean. Each is factored once a step, A_j = I + D/eps^2 S_j = V (I + Lambda) V*, by the singular
values of its samples: S_j is never formed, so directions it lacks stay exact to the square of the rounding unit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from redunet._backends.tasks import interruptible
from redunet._inputs import checks, words
from redunet.clustering.codes import Coding, vectors

Array = npt.NDArray[Any]
Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: Long ones, beside the main thread.
_qr: Callable[..., Any] = interruptible(np.linalg.qr)
_svd: Callable[..., Any] = interruptible(np.linalg.svd)


@interruptible
def _forms(X: Floats, axes: Floats, weights: Floats) -> Floats:
    """sum_d weights_d (x . axis_d)^2 of every row x."""
    result: Floats = np.square(X @ axes.T) @ weights
    return result


@dataclass(frozen=True)
class VertexCriterion:
    """The gradient of R_c + H in the membership at a partition, 2 N times and but for what clusters share.

    Attributes
    ----------
    means, axes, weights : (k, D), (k, D, D), (k, D) arrays
        mu_j, or zero; the rows of V_j*; D/eps^2 / (1 + Lambda_j).
    constants : (k,) array
        log det A_j + tr A_j^-1 - 2 log(n_j/N).
    objective : float
        R_c + H of the partition, in nats.
    """

    means: Floats
    axes: Floats
    weights: Floats
    constants: Floats
    objective: float

    @classmethod
    def of(cls, X: Floats, codes: Integers, coding: Coding) -> VertexCriterion:
        """Of a partition into clusters 0..k-1, none of them empty."""
        N, D = X.shape
        sizes = np.bincount(codes)
        k = len(sizes)
        means, axes, ratios = np.zeros((k, D)), np.empty((k, D, D)), np.zeros((k, D))
        for j, n in enumerate(sizes.tolist()):
            W = X[codes == j]
            if coding.centred:
                means[j] = W.mean(axis=0)
                W -= means[j]
            _, values, axes[j] = _svd(_qr(W, mode="r"))
            ratios[j, : len(values)] = D / (n * coding.epsilon_sq) * np.square(values)
        logdets, entropies = np.log1p(ratios).sum(axis=1), -np.log(sizes / N)
        return cls(
            means=means,
            axes=axes,
            weights=D / coding.epsilon_sq / (1 + ratios),
            constants=logdets + (1 / (1 + ratios)).sum(axis=1) + 2 * entropies,
            objective=float(sizes / N @ (logdets / 2 + entropies)),
        )

    def nearest(self, X: Floats, units: Any = 1.0) -> Integers:
        """The cluster of least derivative for every sample, (M,); the first of several.

        The samples are X / units; positive units (M, 1) keep the squares of large ones finite.
        """
        scores = np.empty((len(X), len(self.constants)))
        for j, (mean, axes, weights) in enumerate(zip(self.means, self.axes, self.weights, strict=True)):
            scores[:, j] = _forms(X - units * mean, axes, weights)
        scores += np.square(units) * self.constants
        result: Integers = scores.argmin(axis=1)
        return result


class VertexSteps(NamedTuple):
    """What `vertex_steps` gives.

    Attributes
    ----------
    labels : (N,) array
        The last partition; clusters keep their labels.
    objectives : (n_steps + 1,) float64 array
        R_c + H in nats per sample, before the first step and after each: strictly falling.
    """

    labels: Array
    objectives: Floats

    @property
    def n_steps(self) -> int:
        """Steps taken."""
        return len(self.objectives) - 1


def descend(X: Floats, codes: Integers, coding: Coding, max_iter: int) -> tuple[Integers, list[float]]:
    """Vertex steps of scaled samples from clusters 0..k-1: the last partition, and the objectives."""
    left = np.arange(codes.max() + 1)
    criterion = VertexCriterion.of(X, codes, coding)
    objectives = [criterion.objective]
    for _ in range(max_iter):
        kept, moved = np.unique(criterion.nearest(X), return_inverse=True)
        if len(kept) == len(left) and np.array_equal(moved, codes):
            break
        criterion = VertexCriterion.of(X, moved, coding)
        if not criterion.objective < objectives[-1]:  # by rounding alone
            break
        left, codes = left[kept], moved
        objectives.append(criterion.objective)
    return left[codes], objectives


def vertex_steps(
    X: npt.ArrayLike, labels: npt.ArrayLike, *, epsilon_sq: float, mean: words.Mean = "estimate", max_iter: int = 100
) -> VertexSteps:
    """Move samples between clusters, all at once, as long as that lowers their coding rate and entropy.

    Parameters
    ----------
    X : (N, D) array, real
        Samples, taken as they are; computed in double precision.
    labels : (N,) array
        The cluster of every sample at the start: labels of any dtype.
    epsilon_sq : float
        Squared distortion eps^2 > 0 per sample, in the unit of X squared.
    mean : {"estimate", "zero"}, default "estimate"
        Whether clusters are coded about their means (Gaussians, affine subspaces), or about zero (linear subspaces).
    max_iter : int, default 100
        Most steps.

    Returns
    -------
    VertexSteps
        ``(labels, objectives)``, with ``n_steps``. Clusters that lose their last sample are gone.

    Raises
    ------
    ValueError, TypeError
        If X holds NaN, infinity or no real vectors, labels are missing, or an argument is out of range.

    Notes
    -----
    The objective is the code of ``length="rate"`` by the sample, R_c + H = sum_j n_j/(2N) log det A_j - n_j/N
    log(n_j/N) with A_j = I + D/(n_j eps^2) sum z z^T over cluster j, where z is x or x - mu_j. A step takes each sample
    to

        argmin_j  log det A_j + D/eps^2 z^T A_j^-1 z + tr A_j^-1 - 2 log(n_j/N),

    which minimises the objective's linearisation over all memberships: a step of Frank and Wolfe ("An algorithm for
    quadratic programming", 1956) of full length, to a vertex. The objective is concave in the membership (whose rate is
    that of Chan et al., "ReduNet", JMLR 2022), lies below its linearisation, and so never rises. About means it is too:
    a covariance is concave in the sums that it is made of, and log det is concave and monotone. With ``length="full"``
    concavity is lost, by m + D in place of m and by the code of the means: there is no such step for it. Steps end at a
    local minimum, which depends on the start. One takes O(k N D^2 + k D^3) time.

    Examples
    --------
    >>> import numpy as np, redunet as rn
    >>> X = np.array([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [0.0, 1.0], [0.0, 2.0], [0.0, 3.0]])
    >>> steps = rn.clustering.vertex_steps(X, [0, 0, 1, 1, 1, 1], epsilon_sq=0.01, mean="zero")
    >>> steps.labels.tolist(), steps.n_steps
    ([0, 0, 0, 1, 1, 1], 1)
    """
    samples = vectors(X).astype(np.float64)
    coding = Coding(epsilon_sq, mean, "rate")
    most = checks.integer(max_iter, "max_iter", 1)
    classes, codes = checks.labels(labels, len(samples), "labels")
    samples, coding = coding.scaled(samples)
    codes, objectives = descend(samples, codes, coding, most)
    return VertexSteps(classes[codes], np.array(objectives))
