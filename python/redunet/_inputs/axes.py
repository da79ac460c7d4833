"""Which axis of samples has the channels: the second, as everywhere in redunet, or the last, as in other libraries.

Samples that have them last come in as a view, (m, C, T) or (m, C, H, W), and what is made of them goes out as one.
Where nothing is said of channels, a shape that looks like a common mistake is a warning: it would be taken in silence.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from redunet._inputs import checks, notices

Array = npt.NDArray[Any]
#: Where samples have their channels.
Channels = Literal["first", "last"]

# The smallest picture that is looked for, the 8 x 8 digits of scikit-learn; the most channels that pictures have, RGBA;
# and by how much the channels of signals must outnumber their points, and how many they must be, to look like points.
SMALLEST_IMAGE = 8
MOST_COLOURS = 4
MANY_CHANNELS = 8
LEAST_CHANNELS = 32


def channels_first(X: Array, channels: Channels | None, name: str) -> Array:
    """Samples of 2 to 4 axes with their channels second: a view.

    Parameters
    ----------
    X : (m, d), (m, C, T), (m, C, H, W) array; or with the channels last (m, T, C), (m, H, W, C)
        Samples. Vectors have one axis alone.
    channels : {None, "first", "last"}
        Where X has its channels; with None they are first, and a warning says so where they don't look it.
    name : str
        What messages call X.

    Raises
    ------
    ValueError, TypeError
        If ``channels`` is another word, or "last" and X lies on a device.
    """
    if channels is None:
        if X.ndim > 2 and (meant := _meant(X.shape)):
            notices.warn(_doubt(X.shape, name, meant))
        return X
    checks.choice(channels, "channels", get_args(Channels))
    if channels == "first" or X.ndim == 2:
        return X
    if not isinstance(X, np.ndarray):
        raise TypeError(f"{name} lies on a CUDA device; expected an array of the host with channels='last'")
    return np.moveaxis(X, -1, 1)


def as_given(Z: Array, channels: Channels | None) -> Array:
    """What was made of samples, with its channels where the samples had theirs: a view."""
    return np.moveaxis(Z, 1, -1) if channels == "last" and Z.ndim > 2 else Z


def shape_as_given(shape: tuple[Any, ...], channels: Channels | None) -> tuple[Any, ...]:
    """The shape (C, ...) of one sample, in the order in which samples are given."""
    return (*shape[1:], shape[0]) if channels == "last" else shape


def _meant(shape: tuple[int, ...]) -> str:
    """What samples (m, C, T) or (m, C, H, W) of this shape are more likely to be, and how they are passed; or ""."""
    C, points = shape[1], shape[2:]
    if len(points) == 2:
        few_last = points[1] <= MOST_COLOURS and min(C, points[0]) >= SMALLEST_IMAGE
        return "Images (m, H, W, C) need channels='last'" if few_last else ""
    if C == points[0] >= SMALLEST_IMAGE:
        return "Gray images (m, H, W) need an axis of one channel, {name}[:, None]"
    exchanged = max(LEAST_CHANNELS, MANY_CHANNELS * points[0]) <= C
    return "Signals (m, T, C) need channels='last'" if exchanged else ""


def _doubt(shape: tuple[int, ...], name: str, meant: str) -> str:
    m, C, *points = shape
    what = f"signals of {C} channels and {points[0]} points"
    if len(points) == 2:
        what = f"images of {C} channels and {points[0]} x {points[1]} pixels"
    return (
        f"{name} has shape {shape}, which is taken as {m} {what}. {meant.format(name=name)}; "
        f"channels='first' says that it is right as it stands."
    )
