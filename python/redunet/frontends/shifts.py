"""All cyclic shifts of signals and images, and of their mirror images if asked: (m, C, T) becomes (m, S, C, T)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet._inputs import checks, words
from redunet.transforms import groups

Array = npt.NDArray[Any]

# So much of the result is written at a time: one piece of memory after the other, and Ctrl-C is heard between them.
CHUNK_BYTES = 1 << 24


def shifts(X: npt.ArrayLike, *, stride: int | tuple[int, int] = 1, group: words.Group = "cyclic") -> Array:
    """All cyclic shifts of every sample, by multiples of the stride, and of its mirror images if asked.

    Parameters
    ----------
    X : array_like, (m, C, T) or (m, C, H, W)
        Samples, real or complex.
    stride : int or tuple of int
        Step between shifts; for images one number for both axes, or (down, right).
    group : {"cyclic", "dihedral"}, default "cyclic"
        ``"dihedral"`` gives S shifts of every mirror image too: 2 S or, of images, 4 S.

    Returns
    -------
    ndarray, (m, S, C, T) or (m, S, C, H, W)
        A copy in X's dtype. S = ceil(T / stride), or ceil(H / stride) ceil(W / stride) with the shift to the right
        running fastest: ``shifts(X, stride=a)[:, s]`` is ``numpy.roll(X, a * s, axis=-1)``, and for images
        ``numpy.roll(X, (a * (s // n), a * (s % n)), axis=(-2, -1))`` with n = ceil(W / a). Those of the mirror image,
        where index t is -t mod T, come after those of the sample; of images with columns flipped, rows flipped, both.

    Raises
    ------
    ValueError, TypeError
        If X has other axes or the stride is not one or two positive integers.
    MemoryError
        If the copies do not fit; take fewer samples at a time, or a longer stride.

    Examples
    --------
    >>> import numpy as np
    >>> from redunet import shifts
    >>> shifts(np.arange(4)[None, None])[0, :, 0]
    array([[0, 1, 2, 3],
           [3, 0, 1, 2],
           [2, 3, 0, 1],
           [1, 2, 3, 0]])
    >>> shifts(np.zeros((10, 3, 8, 6)), stride=2).shape
    (10, 12, 3, 8, 6)
    """
    array = checks.samples(X)
    if array.ndim == 2:
        raise ValueError(f"X has shape {array.shape}; expected (m, C, T) or (m, C, H, W)")
    signal_shape = array.shape[2:]
    steps = (stride,) * len(signal_shape) if not isinstance(stride, (tuple, list)) else tuple(stride)
    if len(steps) != len(signal_shape):
        raise ValueError(f"stride is {stride!r}; expected one number, or one for each of the axes {signal_shape}")
    steps = tuple(checks.integer(step, "stride", 1) for step in steps)
    counts = tuple(-(-n // step) for n, step in zip(signal_shape, steps, strict=True))
    n_images = groups.n_mirrored(len(signal_shape), checks.group(group, array.shape, "X"))
    checks.memory(n_images * math.prod(counts) * array.nbytes, "the shifted samples")
    out = np.empty((array.shape[0], n_images, *counts, *array.shape[1:]), array.dtype)
    n = max(1, CHUNK_BYTES // out[0].nbytes)
    for start in range(0, len(array), n):
        rows = slice(start, start + n)
        for h, image in enumerate(groups.mirrored(array[rows], group)):
            for s in np.ndindex(*counts):
                by = tuple(a * b for a, b in zip(s, steps, strict=True))
                _roll(image, by, out[(rows, h, *s)])
    return out.reshape(len(array), -1, *array.shape[1:])


def _roll(X: Array, by: tuple[int, ...], out: Array) -> None:
    """`numpy.roll` along the last axes, written into out: two blocks for each axis."""
    if not by:
        out[...] = X
        return
    axis = X.ndim - len(by)
    lead = (slice(None),) * axis
    cut = X.shape[axis] - by[0]
    _roll(X[(*lead, slice(cut, None))], by[1:], out[(*lead, slice(None, by[0]))])
    _roll(X[(*lead, slice(None, cut))], by[1:], out[(*lead, slice(by[0], None))])
