"""Small regions to start merging from: scikit-image's SLIC where it is installed, else squares of a grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Singles = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

#: SLIC's weight of places beside colours that differ by up to about a hundred.
COMPACTNESS = 30 / 100


def superpixels(channels: Singles, n: int) -> Integers:
    """About n regions (H, W) of an image's channels (c, H, W)."""
    try:
        from skimage.segmentation import slic
    except ImportError:
        return grid(channels.shape[1:], n)
    spread = float(channels.max()) - float(channels.min())
    if not spread > 0:
        return grid(channels.shape[1:], n)
    labels: Any = slic(
        channels.transpose(1, 2, 0),
        n,
        compactness=COMPACTNESS * (1 if len(channels) not in (1, 3) else 100 / spread),
        convert2lab=False,
        start_label=0,
        channel_axis=-1,
    )
    return np.ascontiguousarray(labels, dtype=np.int64)


def grid(shape: tuple[int, ...], n: int) -> Integers:
    """About n rectangles, near to squares, of sides that differ by a pixel at most."""
    H, W = shape
    rows = min(H, max(1, round(np.sqrt(n * H / W))))
    columns = min(W, max(1, round(n / rows)))
    y, x = np.arange(H) * rows // H, np.arange(W) * columns // W
    labels: Integers = np.add.outer(y * columns, x)
    return labels
