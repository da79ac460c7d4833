"""Sizes, means and scatter of the regions of an image, of features that filters make of its windows: in NumPy.

Features are made for some rows at a time and not kept: once for the means, and again for the scatter about them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from redunet._backends.contract import Array
from redunet._backends.tasks import interruptible

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: Numbers of the windows that are copied at a time.
BLOCK = 1 << 22


@interruptible
def region_moments(
    image: Array, filters: Array | None, labels: Integers, n_regions: int, *, n_threads: int
) -> tuple[Floats, Floats, Floats]:
    D = image.shape[2] if filters is None else filters.shape[3]
    sizes, means, scatters = np.zeros(n_regions), np.zeros((n_regions, D)), np.zeros((n_regions, D, D))

    def sums(of: Integers, values: Floats) -> Floats:
        return np.bincount(of, values, n_regions).astype(np.float64, copy=False)

    for regions, features in _pixels(image, filters, labels):
        sizes += np.bincount(regions, minlength=n_regions)
        for d in range(D):
            means[:, d] += sums(regions, features[:, d])
    means /= np.maximum(sizes, 1)[:, None]
    for regions, features in _pixels(image, filters, labels):
        features -= means[regions]
        for i in range(D):
            for j in range(i + 1):
                scatters[:, i, j] += sums(regions, features[:, i] * features[:, j])
    return sizes, means, np.tril(scatters) + np.tril(scatters, -1).transpose(0, 2, 1)


def _pixels(image: Array, filters: Array | None, labels: Integers) -> Iterator[tuple[Integers, Floats]]:
    """Regions (n,) and features (n, D) of the pixels in some rows that are in a region."""
    H, W = labels.shape
    c, w = (1, 1) if filters is None else filters.shape[:2]
    step = max(1, BLOCK // (W * c * w * w))
    for y in range(0, H, step):
        regions = labels[y : y + step].ravel()
        if filters is None:
            features = image[y : y + step].reshape(len(regions), -1)
        else:
            windows = sliding_window_view(image[:, y : y + step + w - 1], (w, w), axis=(1, 2))  # (c, rows, W, w, w)
            rows = windows.transpose(1, 2, 0, 3, 4).reshape(len(regions), -1)
            features = rows @ filters.reshape(rows.shape[1], -1)
        inside = regions >= 0
        yield regions[inside], features[inside].astype(np.float64)
