"""Regions of an image as merging knows them: size, mean and scatter of each, and how long the boundary of two is.

A region with n pixels is coded like a cluster of n/overlap samples (redunet.clustering): windows of neighbours share
pixels. The code of a segmentation has the boundaries of its segments beside: so many bits for each pair of neighbouring
pixels that a boundary parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet._backends import select_with
from redunet._backends.host_contract import MergeRequest
from redunet._inputs import checks, words
from redunet.clustering.codes import Coding, magnitude
from redunet.clustering.path import MergePath, first_places
from redunet.progress import Progress
from redunet.rates import UNITS
from redunet.segmentation.labels import label_image, numbered

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: Powers of two up to which squares and their sums are numbers, whatever the image's size.
LARGEST_EXPONENT = 400


@dataclass(frozen=True)
class Regions:
    """K regions of an image.

    Attributes
    ----------
    of_pixel : (N,) int64 array
        The region of every pixel that is in one, in raster order.
    sizes, means, scatters : (K,), (K, D), (K, D, D) float64 arrays
        Pixels of each; mean and scatter of their features.
    pairs : (P, 2) int64 array
        Regions that share a boundary, each pair once.
    lengths : (P,) int64 array
        How long their boundary is, in pairs of pixels.
    exponent : int
        The features are 2^exponent times those of the moments.
    """

    of_pixel: Integers
    sizes: Floats
    means: Floats
    scatters: Floats
    pairs: Integers
    lengths: Integers
    exponent: int = 0

    @classmethod
    def of(
        cls,
        image: Array,
        filters: Array | None,
        labels: Integers,
        *,
        depth: int = 0,
        exponent: int = 0,
        backend: str,
        n_threads: int,
    ) -> Regions:
        """Of labels (H, W), 0..K-1 or -1 for none, and features as `HostBackend.region_moments` has them.

        Means and scatters are of the pixels at least so deep in their region, where there are enough of them.
        """
        of_pixel = labels.ravel() if (labels >= 0).all() else labels[labels >= 0]
        sizes = np.bincount(of_pixel).astype(np.float64)
        D = image.shape[2] if filters is None else filters.shape[3]
        seen = labels
        for _ in range(depth):
            seen = inner_pixels(seen, len(sizes), 2 * D)
        counts, means, scatters = select_with("region_moments", backend).region_moments(
            image, filters, seen, len(sizes), n_threads=n_threads
        )
        scatters *= (sizes / counts)[:, None, None]
        return cls(of_pixel, sizes, means, scatters, *shared_boundaries(labels, len(sizes)), exponent)

    @property
    def variance(self) -> float:
        """Of the features of all pixels, summed over features."""
        about = self.means - np.average(self.means, axis=0, weights=self.sizes)
        between = (self.sizes[:, None] * about**2).sum()
        return float(between + np.trace(self.scatters.sum(axis=0))) / len(self.of_pixel)

    def neighbours(self) -> tuple[list[Integers], list[Integers]]:
        """Of every region its neighbours, sorted, and how long its boundaries with them are."""
        one, other = self.pairs.T
        i, j, lengths = np.concatenate([one, other]), np.concatenate([other, one]), np.tile(self.lengths, 2)
        order = np.lexsort((j, i))
        ends = np.bincount(i, minlength=len(self.sizes)).cumsum()[:-1]
        return np.split(j[order], ends), np.split(lengths[order], ends)

    def path(
        self,
        coding: Coding,
        *,
        overlap: float,
        boundary_bits: float,
        backend: str,
        n_threads: int,
        progress: bool = False,
    ) -> MergePath:
        """Steepest descent over neighbours."""
        spread = np.sqrt(self.scatters.max(axis=(1, 2)) / self.sizes)
        exponent = magnitude(np.append(spread, np.abs(self.means).max()))
        unitless = coding.in_units(self.exponent + exponent, self.means.shape[1], "features")
        means, scatters = np.ldexp(self.means, -exponent), np.ldexp(self.scatters, -2 * exponent) / overlap
        sizes, nats = self.sizes / overlap, boundary_bits / UNITS["bits"]
        if not coding.centred:
            scatters += sizes[:, None, None] * means[:, :, None] * means[:, None, :]
        near, lengths = self.neighbours()
        with Progress(len(sizes) - 1, "merge", progress) as bar:
            request = MergeRequest(
                epsilon_sq=unitless.epsilon_sq,
                centred=coding.centred,
                full=coding.full,
                neighbours=tuple(near),
                saved=tuple(nats * length.astype(np.float64) for length in lengths) if nats else None,
                moments=(sizes, scatters),
                on_merge=(lambda t, gain: bar.update(t, {"gain": gain})) if progress else None,
            )
            children, gains = select_with("merge_path", backend).merge_path(means, request, n_threads=n_threads)
        first = _length(sizes, means, scatters, unitless) + nats * float(self.lengths.sum())
        settings = {"epsilon_sq": coding.epsilon_sq, "mean": coding.mean, "length": coding.length}
        return MergePath.of(children, gains, self.of_pixel, first, **settings)


def _length(sizes: Floats, means: Floats, scatters: Floats, coding: Coding) -> float:
    """Of the code of clusters with these moments, in nats."""
    D = means.shape[1]
    squares = np.linalg.eigvalsh(scatters).clip(min=0)
    logdet = np.log1p(D / coding.epsilon_sq * squares / sizes[:, None]).sum(axis=1)
    lengths = coding.lengths(sizes, logdet, np.square(means).sum(axis=1), D)
    return float((lengths - sizes * np.log(sizes / sizes.sum())).sum())


def shared_boundaries(labels: Integers, K: int) -> tuple[Integers, Integers]:
    """Pairs (P, 2) of the regions 0..K-1 that share a boundary, and how long it is, of labels (H, W)."""
    found = []
    for one, other in ((labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])):
        apart = (one != other) & (one >= 0) & (other >= 0)
        i, j = one[apart], other[apart]
        found.append(np.minimum(i, j) * K + np.maximum(i, j))
    codes, lengths = np.unique(np.concatenate(found), return_counts=True)
    return np.column_stack(np.divmod(codes, K)), lengths.astype(np.int64, copy=False)


def inner_pixels(labels: Integers, n_regions: int, least: int) -> Integers:
    """Labels (H, W), but -1 where one of the eight neighbours has another: if that leaves a region enough pixels."""
    H, W = labels.shape
    inner = np.ones(labels.shape, np.bool_)
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):  # and opposite
        here = np.s_[: H - dy, max(0, -dx) : W - max(0, dx)]
        there = np.s_[dy:, max(0, dx) : W + min(0, dx)]
        same = labels[here] == labels[there]
        inner[here] &= same
        inner[there] &= same
    kept = np.bincount(labels[inner & (labels >= 0)], minlength=n_regions)
    enough = np.append(kept >= least, True)  # of -1 too
    result: Integers = np.where(inner | ~enough[labels], labels, -1)
    return result


def pixels_inside(mask: npt.ArrayLike | None, shape: tuple[int, ...], name: str) -> Mask | None:
    """A mask (H, W) of the shape that ``name`` has, with a pixel in it; None: all."""
    if mask is None:
        return None
    given = checks.array(mask, "mask")
    if given.dtype != bool:
        raise TypeError(f"mask has dtype {given.dtype}; expected bool")
    if given.shape != shape:
        raise ValueError(f"mask has shape {given.shape}; expected {shape}, as {name} has")
    if not given.any():
        raise ValueError("mask is False everywhere; expected at least one pixel to segment")
    return given


def regions_inside(labels: Array, mask: Mask | None) -> Integers:
    """Labels (H, W) as regions 0..K-1 in the order of their first pixels, and -1 outside of a mask."""
    result = np.full(labels.shape, -1, np.int64)
    inside = np.ones(labels.shape, np.bool_) if mask is None else mask
    _, codes, counts = numbered(labels[inside])
    number = np.empty(len(counts), np.int64)
    number[first_places(codes, len(counts)).argsort()] = np.arange(len(counts))
    result[inside] = number[codes]
    return result


def merge_regions(
    features: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    epsilon_sq: float,
    mean: words.Mean = "estimate",
    length: words.Length = "full",
    overlap: float = 1.0,
    boundary_bits: float = 0.0,
    mask: npt.ArrayLike | None = None,
    backend: words.Backend = "auto",
    n_threads: int | None = None,
    progress: bool = False,
) -> MergePath:
    """Merge neighbouring regions of an image, always those whose merge makes its code shortest, until one is left.

    Parameters
    ----------
    features : (H, W, D) or (H, W) array, real
        Features of every pixel.
    labels : (H, W) array of integers
        Regions to start from, as superpixels are; a label may have several parts.
    epsilon_sq : float
        Squared distortion eps^2 > 0 per pixel, in the unit of the features squared.
    mean, length
        As in `redunet.clustering.merge_path`.
    overlap : float, default 1.0
        How many pixels count as one sample: more than one where features of neighbours are made of the same numbers.
    boundary_bits : float, default 0.0
        What the code has for each pair of neighbouring pixels that a boundary parts.
    mask : (H, W) bool array, optional
        Pixels to look at; default: all.
    backend, n_threads
        As in `redunet.build`.
    progress : bool, default False
        Show merges on standard error.

    Returns
    -------
    MergePath
        Of the pixels in the mask, in raster order: ``path.labels().reshape(H, W)`` is a label image. Regions are
        numbered by their first pixels. Sizes are in pixels. It ends with one segment, or with as many as have no
        neighbours.

    Raises
    ------
    ValueError, TypeError
        If features are not finite real numbers, shapes differ, or an argument is out of range.

    Notes
    -----
    Segments of n_j pixels, m_j = n_j/overlap, take sum_j L(W_j) - m_j log(m_j/M) nats, L as in
    `redunet.clustering.merge_path` with m_j in place of the number of samples, and boundary_bits log 2 for each unit of
    boundary [1] [2]. Gains are exact, from the regions' sizes, means and scatter, which one pass over the features
    gives.

    References
    ----------
    [1] Yang, Wright, Ma and Sastry, "Unsupervised segmentation of natural images via lossy data compression", CVIU
       110 (2008).
    [2] Rao, Mobahi, Yang, Sastry and Ma, "Natural image segmentation with adaptive texture and boundary encoding",
       ACCV (2009).

    Examples
    --------
    >>> import numpy as np, redunet as rn
    >>> image = np.repeat([0.0, 1.0], 4) + np.zeros((6, 1))
    >>> squares = np.arange(6)[:, None] // 2 * 4 + np.arange(8) // 2
    >>> path = rn.segmentation.merge_regions(image, squares, epsilon_sq=0.01)
    >>> path.labels().reshape(6, 8)[0]
    array([0, 0, 0, 0, 1, 1, 1, 1])
    """
    image = _features(features)
    given = label_image(labels, "labels")
    if given.shape != image.shape[:2]:
        raise ValueError(f"labels has shape {given.shape}; expected {image.shape[:2]}, as features has")
    inside = pixels_inside(mask, given.shape, "labels")
    coding = Coding(epsilon_sq, mean, length)
    count, bits = checks.positive(overlap, "overlap"), checks.non_negative(boundary_bits, "boundary_bits")
    show = checks.flag(progress, "progress")
    exponent = int(np.frexp(_largest(image, inside))[1])
    if abs(exponent) <= LARGEST_EXPONENT:
        exponent = 0
    else:
        image = np.ldexp(image, -exponent)
    engine: dict[str, Any] = {"backend": backend, "n_threads": checks.threads(n_threads)}
    regions = Regions.of(image, None, regions_inside(given, inside), exponent=exponent, **engine)
    return regions.path(coding, overlap=count, boundary_bits=bits, progress=show, **engine)


def _features(features: npt.ArrayLike) -> Array:
    """(H, W, D), float32 or float64."""
    given = checks.array(features, "features")
    if given.dtype.kind not in "fiub" or given.dtype.itemsize > 8:
        raise TypeError(f"features has dtype {given.dtype}; expected real numbers of at most double precision")
    if given.ndim not in (2, 3) or 0 in given.shape:
        raise ValueError(f"features has shape {given.shape}; expected (H, W, D) or (H, W)")
    if given.ndim == 2:
        given = given[:, :, None]
    return np.ascontiguousarray(given, dtype=checks.floating(None, given))


def _largest(image: Array, mask: Mask | None) -> float:
    """The largest magnitude, which must be finite."""
    inside = image if mask is None else image[mask]
    low, high = float(inside.min()), float(inside.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("features hold NaN or infinity; expected finite numbers wherever the mask is")
    return max(-low, high)
