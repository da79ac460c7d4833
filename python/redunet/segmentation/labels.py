"""Label images as they come in, and the contingency table of two of them.

The table holds the pairs of segments that share pixels, at most one for each pixel, never all pairs: two segmentations
into thousands of segments take no more memory than their images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet._backends.tasks import interruptible
from redunet._inputs import checks

Array = npt.NDArray[Any]
Integers = npt.NDArray[np.int64]


def label_array(value: npt.ArrayLike, name: str) -> Array:
    """Integers of any shape with at least one entry, not copied."""
    given = checks.array(value, name)
    if given.dtype.kind not in "iub":
        raise TypeError(f"{name} has dtype {given.dtype}; expected integer labels")
    if given.ndim == 0 or given.size == 0:
        raise ValueError(f"{name} has shape {given.shape}; expected labels of at least one pixel")
    return given


def label_image(value: npt.ArrayLike, name: str) -> Array:
    """Integers (H, W)."""
    image = label_array(value, name)
    if image.ndim != 2:
        raise ValueError(f"{name} has shape {image.shape}; expected a label image (H, W)")
    return image


def one_truth(value: npt.ArrayLike, labels: Array, name: str) -> Array:
    """A ground truth of the labels' shape."""
    truth = label_array(value, name)
    if truth.shape != labels.shape:
        raise ValueError(f"{name} has shape {truth.shape}; expected {labels.shape}, as labels has")
    return truth


def all_truths(value: npt.ArrayLike, labels: Array, name: str) -> Array:
    """Ground truths, one or several, with an axis for them in front."""
    truths = label_array(value, name)
    if truths.shape == labels.shape:
        return truths[None]
    if truths.shape[1:] != labels.shape:
        several = ", ".join(map(str, ("n", *labels.shape)))
        raise ValueError(
            f"{name} has shape {truths.shape}; expected {labels.shape}, as labels has, or ({several}) for n of them"
        )
    return truths


@dataclass(frozen=True)
class Contingency:
    """How the k segments of one label image and the l segments of another share their n pixels.

    Attributes
    ----------
    n : int
    sizes : (k,) array
        a_i, pixels of the segments of the one.
    truth_sizes : (l,) array
        b_j, pixels of those of the other.
    i, j, shared : arrays of one length
        All pairs that share pixels, those of a j together, and n_ij, how many.
    """

    n: int
    sizes: Integers
    truth_sizes: Integers
    i: Integers
    j: Integers
    shared: Integers


def contingencies(labels: Array, truths: Array) -> Iterator[Contingency]:
    """Of labels and each of the ground truths in front."""
    _, codes, sizes = numbered(labels.ravel())
    for truth in truths:
        _, truth_codes, truth_sizes = numbered(truth.ravel())
        pairs, _, shared = numbered(truth_codes * len(sizes) + codes)
        j, i = np.divmod(pairs, len(sizes))
        yield Contingency(labels.size, sizes, truth_sizes, i, j, shared)


@interruptible
def numbered(values: Array) -> tuple[Array, Integers, Integers]:
    """The distinct ones of integers (n,), sorted; the number of each value among them; how often each occurs.

    Values close together are counted; others are sorted, which takes several times as long.
    """
    wide = values if values.dtype.itemsize == 8 else values.astype(np.int64)
    low = wide.min()
    if int(wide.max()) - int(low) > len(wide):
        distinct, codes, counts = np.unique(wide, return_inverse=True, return_counts=True)
        return distinct, codes.astype(np.int64, copy=False), counts.astype(np.int64, copy=False)
    shifted = (wide - low).astype(np.int64, copy=False)
    counts = np.bincount(shifted)
    present = np.flatnonzero(counts)
    numbers = np.empty(len(counts), np.int64)
    numbers[present] = np.arange(len(present))
    return present.astype(wide.dtype) + low, numbers[shifted], counts[present]
