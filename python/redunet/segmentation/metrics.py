"""How well a segmentation agrees with one ground truth, or with several people's.

All but the displacement of boundaries are of counts alone, a_i pixels in segment i of the one, b_j in segment j of the
other and n_ij in both, of n: they take arrays of any shape, and the names of labels change nothing.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from redunet._inputs import checks, words
from redunet.rates import UNITS
from redunet.segmentation.boundary import between_segments, squared_distances
from redunet.segmentation.labels import (
    Contingency,
    all_truths,
    contingencies,
    label_array,
    label_image,
    one_truth,
)


def rand_index(labels: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """The share of pairs of pixels on which two segmentations agree: in one segment in both, or apart in both.

    Parameters
    ----------
    labels : (H, W) array of integers, or of any other shape
        The segment of every pixel.
    truth : array of integers, of the same shape
        The ground truth.

    Returns
    -------
    float
        In [0, 1]; higher is better, and 1 is the same segmentation. Symmetric. 1 for a single pixel.

    Raises
    ------
    ValueError, TypeError
        If labels are no integers, there are none, or shapes differ.

    Notes
    -----
    With C(n) = n (n - 1)/2 pairs of n pixels, it is 1 + (2 sum_ij C(n_ij) - sum_i C(a_i) - sum_j C(b_j))/C(n). It is
    not corrected for chance: segmentations of many segments agree on most pairs whatever they are.

    References
    ----------
    Rand, "Objective criteria for the evaluation of clustering methods", JASA 66 (1971).

    Examples
    --------
    >>> import redunet as rn
    >>> rn.segmentation.rand_index([[0, 0, 1, 1]], [[0, 0, 0, 1]])
    0.5
    """
    given = label_array(labels, "labels")
    (table,) = contingencies(given, one_truth(truth, given, "truth")[None])
    return _rand(table)


def probabilistic_rand_index(labels: npt.ArrayLike, truths: npt.ArrayLike) -> float:
    """The Rand index with several ground truths: how likely one of them agrees on a pair of pixels, over all pairs.

    Parameters
    ----------
    labels : (H, W) array of integers, or of any other shape
        The segment of every pixel.
    truths : sequence of arrays of integers, of the same shape
        Ground truths, as those of several people; or a single one.

    Returns
    -------
    float
        In [0, 1]; higher is better. The mean of `rand_index` over the ground truths; it is 1 only where these agree.

    Raises
    ------
    ValueError, TypeError
        If labels are no integers, there are none, or shapes differ.

    Notes
    -----
    Of two pixels x and y, c_xy is 1 where ``labels`` has them in one segment, else 0, and p_xy is the mean of the
    ground truths' c_xy, without a prior. The index is the mean of c_xy p_xy + (1 - c_xy) (1 - p_xy) over all pairs.

    References
    ----------
    Unnikrishnan, Pantofaru and Hebert, "Toward objective evaluation of image segmentation algorithms", IEEE
    TPAMI 29 (2007).

    Examples
    --------
    >>> import redunet as rn
    >>> rn.segmentation.probabilistic_rand_index([[0, 0, 1, 1]], [[[0, 0, 0, 1]], [[5, 5, 7, 7]]])
    0.75
    """
    given = label_array(labels, "labels")
    return _mean([_rand(table) for table in contingencies(given, all_truths(truths, given, "truths"))])


def variation_of_information(labels: npt.ArrayLike, truth: npt.ArrayLike, *, unit: words.Unit = "bits") -> float:
    """What two segmentations do not say about each other: H(labels | truth) + H(truth | labels).

    Parameters
    ----------
    labels : (H, W) array of integers, or of any other shape
        The segment of every pixel.
    truth : array of integers, of the same shape
        The ground truth; or several, with an axis for them in front: the result is the mean over them.
    unit : {"bits", "nats"}, default "bits"
        Unit of the result.

    Returns
    -------
    float
        In [0, log n]; lower is better, and 0 is the same segmentation. A metric: symmetric, with the triangle
        inequality.

    Raises
    ------
    ValueError, TypeError
        If labels are no integers, there are none, shapes differ, or ``unit`` is none of the above.

    Notes
    -----
    sum_ij n_ij/n (log(a_i/n_ij) + log(b_j/n_ij)).

    References
    ----------
    Meila, "Comparing clusterings: an axiomatic view", ICML (2005).

    Examples
    --------
    >>> import redunet as rn
    >>> rn.segmentation.variation_of_information([[0, 0, 1, 1]], [[0, 0, 0, 0]])
    1.0
    """
    given = label_array(labels, "labels")
    truths = all_truths(truth, given, "truth")
    scale = UNITS[checks.choice(unit, "unit", tuple(UNITS))]
    return scale * _mean([_information(table) for table in contingencies(given, truths)])


def global_consistency_error(labels: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """How far two segmentations are from one refining the other.

    Parameters
    ----------
    labels : (H, W) array of integers, or of any other shape
        The segment of every pixel.
    truth : array of integers, of the same shape
        The ground truth; or several, with an axis for them in front: the result is the mean over them.

    Returns
    -------
    float
        In [0, 1); lower is better, and 0 where every segment of the one lies in a segment of the other. Symmetric. One
        segment for the whole image, or one for every pixel, has 0 with any ground truth.

    Raises
    ------
    ValueError, TypeError
        If labels are no integers, there are none, or shapes differ.

    Notes
    -----
    min(sum_ij n_ij (a_i - n_ij)/a_i, sum_ij n_ij (b_j - n_ij)/b_j)/n: a pixel's error is the share of its segment
    that lies outside its segment of the other.

    References
    ----------
    Martin, Fowlkes, Tal and Malik, "A database of human segmented natural images and its application to
    evaluating segmentation algorithms and measuring ecological statistics", ICCV (2001).

    Examples
    --------
    >>> import redunet as rn
    >>> rn.segmentation.global_consistency_error([[0, 0, 1, 1]], [[0, 1, 2, 2]])
    0.0
    >>> rn.segmentation.global_consistency_error([[0, 0, 1, 1]], [[0, 1, 1, 0]])
    0.5
    """
    given = label_array(labels, "labels")
    truths = all_truths(truth, given, "truth")
    return _mean([_inconsistency(table) for table in contingencies(given, truths)])


def covering(labels: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """How well every segment of the ground truth is matched by the segment that overlaps it best.

    Parameters
    ----------
    labels : (H, W) array of integers, or of any other shape
        The segment of every pixel.
    truth : array of integers, of the same shape
        The ground truth; or several, with an axis for them in front: the result is the mean over them.

    Returns
    -------
    float
        In (0, 1]; higher is better, and 1 is the same segmentation. Not symmetric: ``truth`` is covered by ``labels``.

    Raises
    ------
    ValueError, TypeError
        If labels are no integers, there are none, or shapes differ.

    Notes
    -----
    sum_j b_j/n max_i n_ij/(a_i + b_j - n_ij), the overlap being intersection over union.

    References
    ----------
    Arbelaez, Maire, Fowlkes and Malik, "Contour detection and hierarchical image segmentation", IEEE TPAMI 33
    (2011).

    Examples
    --------
    >>> import redunet as rn
    >>> rn.segmentation.covering([[0, 0, 1, 1]], [[0, 0, 0, 0]])
    0.5
    """
    given = label_array(labels, "labels")
    truths = all_truths(truth, given, "truth")
    return _mean([_covering(table) for table in contingencies(given, truths)])


def boundary_displacement_error(labels: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """The mean distance of boundary pixels to the nearest boundary pixel of the other segmentation.

    Parameters
    ----------
    labels : (H, W) array of integers
        The segment of every pixel.
    truth : (H, W) or (n, H, W) array of integers
        The ground truth; or n of them: the result is the mean over them.

    Returns
    -------
    float
        In pixels, between 0 and the image's diagonal (H^2 + W^2)^1/2; lower is better. Symmetric. Where both are one
        segment and have no boundary it is 0; where only one of them is, the diagonal.

    Raises
    ------
    ValueError, TypeError
        If labels are no integers or no image, or shapes differ.

    Notes
    -----
    (mean_x min_y |x - y| + mean_y min_x |x - y|)/2 with x the boundary pixels of ``labels`` and y those of ``truth``,
    as `boundaries` marks them. Distances are Euclidean and exact.

    References
    ----------
    Freixenet, Munoz, Raba, Marti and Cufi, "Yet another survey on image segmentation: region and boundary
    information integration", ECCV (2002).

    Examples
    --------
    >>> import redunet as rn
    >>> rn.segmentation.boundary_displacement_error([[0, 0, 1, 1, 1]], [[0, 0, 0, 0, 1]])
    2.0
    """
    image = label_image(labels, "labels")
    truths = all_truths(truth, image, "truth")
    mask = between_segments(image)
    squares = squared_distances(mask) if mask.any() else None
    errors = []
    for other in map(between_segments, truths):
        if squares is None or not other.any():
            errors.append(0.0 if squares is None and not other.any() else math.hypot(*image.shape))
            continue
        there = np.sqrt(squares[other]).mean()
        back = np.sqrt(squared_distances(other)[mask]).mean()
        errors.append(float(there + back) / 2)
    return _mean(errors)


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def _rand(table: Contingency) -> float:
    """In whole numbers: the sum of agreeing ordered pairs, over all."""
    together, ours, theirs = (int(np.dot(x, x)) for x in (table.shared, table.sizes, table.truth_sizes))
    pairs = table.n * (table.n - 1)
    return (pairs + 2 * together - ours - theirs) / pairs if pairs else 1.0


def _information(table: Contingency) -> float:
    """In nats. No term is negative, so that nothing cancels."""
    a, b = table.sizes[table.i], table.truth_sizes[table.j]
    terms = table.shared * (np.log(a / table.shared) + np.log(b / table.shared))
    return float(terms.sum()) / table.n


def _inconsistency(table: Contingency) -> float:
    a, b, shared = table.sizes[table.i], table.truth_sizes[table.j], table.shared
    ours, theirs = (float((shared * ((sizes - shared) / sizes)).sum()) for sizes in (a, b))
    return min(ours, theirs) / table.n


def _covering(table: Contingency) -> float:
    a, b, shared = table.sizes[table.i], table.truth_sizes[table.j], table.shared
    starts = np.flatnonzero(np.diff(table.j, prepend=-1))
    best = np.maximum.reduceat(shared / (a + b - shared), starts)
    return float(np.dot(table.truth_sizes, best)) / table.n
