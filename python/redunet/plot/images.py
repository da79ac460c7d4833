"""Pictures of segmentations: an image with the boundaries of its segments on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from redunet._inputs import checks
from redunet.plot import style
from redunet.segmentation import boundaries

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Of lines, with a dark rim: seen on any image.
LINE, RIM = (1.0, 0.93, 0.2, 1.0), (0.0, 0.0, 0.0, 0.6)


def segments(image: npt.ArrayLike, labels: npt.ArrayLike, *, ax: Axes | None = None, title: str | None = None) -> Axes:
    """An image with the boundaries of its segments.

    Parameters
    ----------
    image : (H, W), (H, W, 1) or (H, W, 3) array
        Grey or RGB: unsigned integers of 8 bits, or numbers in [0, 1].
    labels : (H, W) array of integers
        The segment of every pixel, as `redunet.segmentation.segment` has it.
    ax : matplotlib Axes, optional
        Where to draw; default: a new figure.
    title : str, optional
        Default: how many segments there are; negative labels are none.

    Returns
    -------
    matplotlib Axes
        With the image and the boundaries over it, and no axes.

    Raises
    ------
    ValueError, TypeError
        If the image is no picture, or labels no label image of its size.

    Examples
    --------
    >>> import numpy as np, redunet as rn
    >>> ax = rn.plot.segments(np.zeros((2, 3)), [[0, 0, 1], [0, 0, 1]])
    >>> ax.get_title(), len(ax.images)
    ('2 segments', 2)
    """
    given = checks.array(image, "image")
    if given.ndim not in (2, 3) or given.size == 0 or (given.ndim == 3 and given.shape[2] not in (1, 3)):
        raise ValueError(f"image has shape {given.shape}; expected (H, W), (H, W, 1) or (H, W, 3)")
    if given.dtype != np.uint8 and (given.dtype.kind not in "fb" or not ((given >= 0) & (given <= 1)).all()):
        raise ValueError(f"image has dtype {given.dtype} and holds no colours; expected uint8, or numbers in [0, 1]")
    lines = boundaries(labels, thick=False)
    if lines.shape != given.shape[:2]:
        raise ValueError(f"labels has shape {lines.shape}; expected {given.shape[:2]}, as image has")
    ax = style.axes(ax)
    grey = given.reshape(given.shape[:2]) if given.size == lines.size else given
    ax.imshow(grey, cmap="gray", vmin=0, vmax=255 if given.dtype == np.uint8 else 1)
    overlay = np.zeros((*lines.shape, 4))
    overlay[boundaries(np.asarray(labels), thick=True)] = RIM
    overlay[lines] = LINE
    ax.imshow(overlay, interpolation="nearest")
    named: Any = np.unique(np.asarray(labels))
    count = int((named >= 0).sum())
    ax.set_title(f"{count} segment{'s' * (count != 1)}" if title is None else title)
    ax.set_axis_off()
    return ax
