"""Segments of an image by the length of its code: neighbouring superpixels merge as long as that makes it shorter."""

from __future__ import annotations

import operator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from redunet._inputs import checks, words
from redunet.clustering.codes import Coding
from redunet.clustering.path import STOPS, MergePath
from redunet.segmentation.labels import label_image
from redunet.segmentation.regions import Mask, Regions, pixels_inside, regions_inside
from redunet.segmentation.superpixels import superpixels as find_superpixels
from redunet.segmentation.windows import COLORS, channels, windows

Array = npt.NDArray[Any]
Integers = npt.NDArray[np.int64]

#: Of the variance of all features, the part that the code of an image may leave: it covered the true segments of 129
#: mosaics and photographs best, within a hundredth from 0.018 to 0.05; docs/segmentation.md says how it does on others.
DISTORTION = 0.025


def segment(
    image: npt.ArrayLike,
    *,
    epsilon_sq: float | Literal["auto"] = "auto",
    superpixels: int | npt.ArrayLike = 400,
    window: int = 7,
    n_components: int = 8,
    overlap: float = 9.0,
    boundary_bits: float = 1.65,
    n_segments: int | None = None,
    stop: words.Stop = "best",
    mask: npt.ArrayLike | None = None,
    color: Literal["auto", "none"] = "auto",
    backend: words.Backend = "auto",
    n_threads: int | None = None,
    progress: bool = False,
) -> Integers:
    """Segment an image where that makes its code shortest: regions of one colour, gradient or texture.

    Parameters
    ----------
    image : (H, W) or (H, W, channels) array
        Unsigned integers of 8 or 16 bits, bool, or floats: grey and RGB from 0 to the largest integer, or in [0, 1].
    epsilon_sq : float or "auto", default "auto"
        Squared distortion eps^2 > 0 of the code per pixel, all features together, in units of L*a*b*, or of the
        channels: the larger, the fewer segments. "auto": a fortieth of the variance of all features.
    superpixels : int or (H, W) array of integers, default 400
        How many regions to start from, about; or regions, as a label image. They come from scikit-image's SLIC where it
        is installed (``pip install 'redunet[image]'``), else they are rectangles, whose edges the segments then have.
    window : int, default 7
        Pixels that a feature sees: window by window, odd.
    n_components : int, default 8
        Features of a pixel, at most: main components of its window.
    overlap : float, default 9.0
        How many pixels count as one sample, since windows share pixels.
    boundary_bits : float, default 1.65
        What the code has for each pair of neighbouring pixels that a boundary parts.
    n_segments : int, optional
        How many segments to find. Default: as ``stop`` says.
    stop : {"best", "first"}, default "best"
        "best": the shortest code on the path; "first": before the first merge that makes it longer, as in [1].
    mask : (H, W) bool array, optional
        Pixels to segment; default: all. Windows see the others too, where they are finite.
    color : {"auto", "none"}, default "auto"
        "auto": three channels are sRGB, of which L*a*b* is made, and one is grey, from 0 to 100. "none": channels are
        taken as they are, in any unit. Images of other numbers of channels always are, integers from 0 to 100.
    backend, n_threads
        As in `redunet.build`.
    progress : bool, default False
        Show merges on standard error.

    Returns
    -------
    (H, W) int64 array
        Segments 0, 1, ... in the order of their first pixels; -1 outside of the mask.

    Raises
    ------
    ValueError, TypeError
        If the image is none, holds NaN, infinity or floats that are no colours, or an argument is out of range.

    Notes
    -----
    Windows are weighted by a Gaussian of norm one. Regions W_j of n_j pixels, m_j = n_j/overlap, are coded in
    sum_j L(W_j) - m_j log(m_j/M) nats, L as in `redunet.clustering.merge_path`, and boundary_bits log 2 for each unit
    of boundary [1] [2]. Windows across an edge belong to neither side: mean and covariance of a superpixel are of
    windows about pixels as deep in it as the Gaussian's standard deviation, a quarter of the window, or as deep as at
    least twice as many pixels as features are.

    Which segments are found depends on the superpixels, but not on how the image lies: turned and mirrored with them,
    it has the same. Memory is a few times that of the image in single precision, whatever the window.

    References
    ----------
    [1] Yang, Wright, Ma and Sastry, "Unsupervised segmentation of natural images via lossy data compression", CVIU
       110 (2008).
    [2] Rao, Mobahi, Yang, Sastry and Ma, "Natural image segmentation with adaptive texture and boundary encoding",
       ACCV (2009).

    Examples
    --------
    >>> import numpy as np, redunet as rn
    >>> image = np.full((40, 60, 3), [0.2, 0.4, 0.8])
    >>> image[:, 20:] = [0.9, 0.7, 0.3]
    >>> image += np.random.default_rng(0).uniform(-0.05, 0.05, image.shape)
    >>> squares = np.arange(40)[:, None] // 10 * 6 + np.arange(60) // 10
    >>> labels = rn.segmentation.segment(image, superpixels=squares)
    >>> labels[0, ::6]
    array([0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
    """
    given = checks.array(image, "image")
    checks.choice(color, "color", COLORS)
    coding = None if isinstance(epsilon_sq, str) else Coding(epsilon_sq, "estimate", "full")
    if coding is None:
        checks.choice(epsilon_sq, "epsilon_sq", ("auto",))
    size = _odd(window)
    components = checks.integer(n_components, "n_components", 1)
    options: dict[str, Any] = {
        "overlap": checks.positive(overlap, "overlap"),
        "boundary_bits": checks.non_negative(boundary_bits, "boundary_bits"),
        "progress": checks.flag(progress, "progress"),
    }
    checks.choice(stop, "stop", STOPS)
    k = None if n_segments is None else checks.integer(n_segments, "n_segments", 1)
    engine: dict[str, Any] = {"backend": backend, "n_threads": checks.threads(n_threads)}
    inside = pixels_inside(mask, given.shape[:2], "image")
    start = channels(given, color, inside)
    labels = regions_inside(_superpixels(superpixels, start), inside)
    features = windows(start, window=size, n_components=components, mask=inside)
    regions = Regions.of(*features, labels, depth=round(size / 4), **engine)
    if coding is None:
        coding = Coding(DISTORTION * regions.variance or 1.0, "estimate", "full")
    path = regions.path(coding, **options, **engine)
    return _image(path, stop if k is None else _reachable(k, path), labels.shape, inside)


def _odd(window: int) -> int:
    size = checks.integer(window, "window", 1)
    if size % 2 == 0:
        raise ValueError(f"window is {size}; expected an odd number: as many pixels on either side")
    return size


def _superpixels(given: int | npt.ArrayLike, start: Array) -> Array:
    try:
        number = operator.index(given)  # type: ignore[arg-type]
    except TypeError:
        labels = label_image(given, "superpixels")
        if labels.shape != start.shape[1:]:
            raise ValueError(
                f"superpixels has shape {labels.shape}; expected {start.shape[1:]}, as image has, or a number"
            ) from None
        return labels
    return find_superpixels(start, checks.integer(given if isinstance(given, bool) else number, "superpixels", 1))


def _reachable(k: int, path: MergePath) -> int:
    least = path.n_start - len(path.children)
    if not least <= k <= path.n_start:
        apart = "" if least == 1 else ": parts of the image that do not touch stay apart"
        raise ValueError(
            f"n_segments is {k}; expected {least} to {path.n_start}, as many as there are superpixels{apart}"
        )
    return k


def _image(path: MergePath, stop: words.Stop | int, shape: tuple[int, ...], mask: Mask | None) -> Integers:
    labels = path.labels(stop)
    if mask is None:
        return labels.reshape(shape)
    result = np.full(shape, -1, np.int64)
    result[mask] = labels
    return result
