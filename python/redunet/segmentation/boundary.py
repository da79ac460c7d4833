"""Where segments meet, and how far every pixel is from there: an exact Euclidean distance transform in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from redunet._backends.tasks import interruptible
from redunet._inputs import checks
from redunet.segmentation.labels import label_image

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]

#: Pixels whose distances are found at a time: temporary arrays of 8 MB, about ten of them.
BLOCK = 1 << 20


def boundaries(labels: npt.ArrayLike, *, thick: bool = False) -> Mask:
    """Which pixels lie at a boundary between segments.

    Parameters
    ----------
    labels : (H, W) array of integers
        The segment of every pixel.
    thick : bool, default False
        Mark the pixels on both sides of a boundary: those with any of the four neighbours in another segment. By
        default one side is marked: pixels whose right or lower neighbour is in another segment.

    Returns
    -------
    (H, W) bool array
        True at boundaries; the edge of the image is none.

    Raises
    ------
    ValueError, TypeError
        If labels are no integers or no image.

    Examples
    --------
    >>> import redunet as rn
    >>> labels = [[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0]]
    >>> rn.segmentation.boundaries(labels).astype(int)
    array([[0, 1, 0, 0],
           [0, 1, 1, 1],
           [0, 0, 0, 0]])
    >>> rn.segmentation.boundaries(labels, thick=True).astype(int)
    array([[0, 1, 1, 0],
           [0, 1, 1, 1],
           [0, 0, 1, 1]])
    """
    image = label_image(labels, "labels")
    return between_segments(image, thick=checks.flag(thick, "thick"))


def between_segments(image: Array, *, thick: bool = False) -> Mask:
    """`boundaries` of a label image that is checked."""
    right, lower = image[:, :-1] != image[:, 1:], image[:-1] != image[1:]
    mask = np.zeros(image.shape, np.bool_)
    mask[:, :-1] = right
    mask[:-1] |= lower
    if thick:
        mask[:, 1:] |= right
        mask[1:] |= lower
    return mask


@interruptible
def squared_distances(mask: Mask) -> Integers:
    """Squared Euclidean distance of every pixel (H, W) to the nearest one of a mask, which must have one. Exact.

    First along columns, to g; then along rows, min_k (j - k)^2 + g_ik^2. The k of the minimum, of several the first,
    never falls as j grows: found for every other j, it bounds where it is for those between. That takes
    O(HW log min(H, W)) whatever the mask, and no loop over pixels.
    """
    H, W = mask.shape
    if H < W:
        turned: Integers = squared_distances(mask.T)
        return turned.T
    rows = np.arange(H)[:, None]
    far = H + W  # farther than any pixel is, and its square is below what overflows
    g = rows - np.maximum.accumulate(np.where(mask, rows, -far), axis=0)
    np.minimum(g, np.minimum.accumulate(np.where(mask, rows, H + far)[::-1], axis=0)[::-1] - rows, out=g)
    squares: Integers = np.minimum(g, far, out=g) ** 2
    step = max(1, BLOCK // W)
    for start in range(0, H, step):
        squares[start : start + step] = _along_rows(squares[start : start + step])
    return squares


def _along_rows(f: Integers) -> Integers:
    """min_k (j - k)^2 + f_ik of every row i (R, W)."""
    R, W = f.shape
    result = np.empty_like(f)
    stride = 1 << (W.bit_length() - 1)
    nearest = np.full((R, 2 * stride + 1), W - 1)  # k of column j at j + 1, between bounds for the first and last
    nearest[:, 0] = 0
    row_starts = W * np.arange(R)[:, None]
    while stride:
        at = np.arange(stride, W + 1, 2 * stride)
        first, last = nearest[:, at - stride], nearest[:, at + stride]
        counts = (last - first + 1).ravel()
        starts = counts.cumsum() - counts
        # All candidates of a block in one array: k, its distance along the row, and (distance^2 + f) W + k.
        k = np.arange(counts.sum()) + np.repeat(first.ravel() - starts, counts)
        costs = k - np.repeat(np.broadcast_to(at - 1, first.shape).ravel(), counts)
        costs *= costs
        costs += f.ravel()[k + np.repeat(np.broadcast_to(row_starts, first.shape).ravel(), counts)]
        costs *= W
        costs += k
        best = np.minimum.reduceat(costs, starts).reshape(first.shape)
        result[:, at - 1], nearest[:, at] = np.divmod(best, W)
        stride //= 2
    return result
