"""Filters that make features of an image's windows: the main components of windows about a pixel, weighted by distance.

An image becomes channels (c, H, W) in L*a*b*, in which distances are about those that people see; features of a pixel
are filters (c, w, w, D) on the window about it. Of the covariance of windows only the products of pixels at every
distance are needed: one product of all pixels with those about them, and the same for a turned or mirrored image but
for the order of its rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from redunet._backends.tasks import interruptible
from redunet._inputs import checks

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]

COLORS = ("auto", "none")
#: What unsigned integers, and numbers in [0, 1], are on the scale of L*.
WHITE = 100.0
#: Numbers that are copied at a time.
BLOCK = 1 << 21

#: From linear sRGB to X/Xn, Y, Z/Zn for the white of daylight, D65 (IEC 61966-2-1).
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
XYZ /= XYZ.sum(axis=1, keepdims=True)
#: L* = 116 f(Y) - 16, a* = 500 (f(X) - f(Y)), b* = 200 (f(Y) - f(Z)) (CIE 1976).
LAB = np.array([[0.0, 116.0, 0.0], [500.0, -500.0, 0.0], [0.0, 200.0, -200.0]])


class Windows(NamedTuple):
    """What features are made of.

    Attributes
    ----------
    image : (c, H + w - 1, W + w - 1) float32 array
        Channels about their mean, mirrored beyond the edges.
    filters : (c, w, w, D) float32 array
        Each the product of a main component, of norm 1, with the weights of the pixels, all of norm 1.
    """

    image: Singles
    filters: Singles


def channels(image: npt.ArrayLike, color: str, mask: Mask | None) -> Singles:
    """Channels (c, H, W) in the units that distortions are in, finite where the mask is.

    Elsewhere what is not finite becomes the mean of what is within the mask.
    """
    given = checks.array(image, "image")
    if given.ndim not in (2, 3) or 0 in given.shape:
        raise ValueError(f"image has shape {given.shape}; expected (H, W) or (H, W, channels)")
    if given.ndim == 2:
        given = given[:, :, None]
    if given.dtype.kind == "f" and given.dtype.itemsize <= 8:
        result = _of_floats(given, color, mask)
    elif given.dtype == bool or (given.dtype.kind == "u" and given.dtype.itemsize <= 2):
        result = _of_integers(given, color)
    else:
        raise TypeError(f"image has dtype {given.dtype}; expected floats, uint8, uint16 or bool")
    return result


def _of_floats(image: Array, color: str, mask: Mask | None) -> Singles:
    inside = image if mask is None else image[mask]
    low, high = float(inside.min()), float(inside.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("image holds NaN or infinity; expected finite numbers wherever the mask is")
    if color == "auto" and image.shape[2] in (1, 3) and (low < 0 or high > 1):
        raise ValueError(
            f"image holds floats from {low:.4g} to {high:.4g}; expected grey or RGB in [0, 1], or color='none' for "
            "channels in units of their own"
        )
    if max(-low, high) > 1e18:
        raise ValueError(f"image holds {max(-low, high):.4g}, whose square overflows single precision; expected less")
    clean: Array = image
    if mask is not None:
        outside = ~(mask[:, :, None] & np.isfinite(image))
        if outside.any():
            clean = np.where(np.isfinite(image), image, inside.mean(axis=0, dtype=np.float64).astype(image.dtype))
            if color == "auto" and image.shape[2] in (1, 3):
                clean = clean.clip(0, 1)
    if color == "auto" and image.shape[2] == 3:
        return _lab(clean, lambda rgb: _linear(rgb.astype(np.float32)))
    scale = WHITE if color == "auto" and image.shape[2] == 1 else 1.0
    result = np.empty((image.shape[2], *image.shape[:2]), np.float32)
    np.multiply(clean.transpose(2, 0, 1), scale, out=result, casting="same_kind")
    return result


def _of_integers(image: Array, color: str) -> Singles:
    """By tables of all values: integers count from black to white, unless they are in units of their own."""
    n = 2 if image.dtype == bool else 1 << 8 * image.dtype.itemsize
    values = np.arange(n, dtype=np.float32)
    if color == "auto":
        values /= n - 1
        if image.shape[2] == 3:
            table = _linear(values)
            return _lab(image, lambda rgb: table[rgb.astype(np.intp, copy=False)])
        values *= WHITE
    return values[image.transpose(2, 0, 1).astype(np.intp)]


def _linear(values: Singles) -> Singles:
    """Light of sRGB's values in [0, 1]."""
    return np.where(values <= 0.04045, values / np.float32(12.92), ((values + 0.055) / 1.055) ** np.float32(2.4))


def _lab(image: Array, linear: Any) -> Singles:
    H, W, _ = image.shape
    result = np.empty((3, H * W), np.float32)
    pixels = image.reshape(H * W, 3)
    step = BLOCK // 8
    xyz, lab = XYZ.astype(np.float32), LAB.astype(np.float32)  # (3, 3) each
    for start in range(0, H * W, step):
        light = xyz @ linear(pixels[start : start + step]).T
        f = np.where(light > 216 / 24389, np.cbrt(light), light * np.float32(841 / 108) + np.float32(4 / 29))
        np.matmul(lab, f, out=result[:, start : start + step])
    result[0] -= 16
    return result.reshape(3, H, W)


def windows(given: Singles, *, window: int, n_components: int, mask: Mask | None) -> Windows:
    """Windows of channels (c, H, W), which are changed, and filters for their main components."""
    c = len(given)
    for channel in given:
        channel -= channel.mean(dtype=np.float64) if mask is None else channel[mask].mean(dtype=np.float64)
    known = given if mask is None else given * mask
    if c > n_components:  # their main components first: of windows of all of them nothing else would be left
        axes = _axes(np.tensordot(known, known, ((1, 2), (1, 2))).astype(np.float64), n_components).astype(np.float32)
        given, known = np.tensordot(axes.T, given, 1), np.tensordot(axes.T, known, 1)
        c = n_components
    weights = gaussian(window)
    covariance = _covariance(known, window) * np.multiply.outer(weights, weights)[None, :, :, None]
    size = c * window * window
    filters = _axes(covariance.reshape(size, size), min(n_components, size)).reshape(c, window, window, -1)
    filters *= weights[:, :, None]
    r = window // 2
    mirrored = np.pad(given, ((0, 0), (r, r), (r, r)), mode="reflect")
    return Windows(mirrored, np.ascontiguousarray(filters, dtype=np.float32))


def gaussian(window: int) -> Floats:
    """Weights of a window's pixels, of norm 1: a Gaussian with a quarter of the window as standard deviation."""
    squares = ((np.arange(window) - window // 2) / (window / 4)) ** 2
    weights: Floats = np.exp(-np.add.outer(squares, squares) / 2)
    return weights / np.linalg.norm(weights)


def _axes(covariance: Floats, n: int) -> Floats:
    """The n main axes, in columns."""
    axes: Floats = _eigh(covariance)[1][:, : -n - 1 : -1]
    return axes


_eigh: Callable[..., Any] = interruptible(np.linalg.eigh)


@interruptible
def _covariance(x: Singles, w: int) -> Floats:
    """Covariance (c, w, w, c, w, w) of windows of x (c, H, W), zero beyond its edges, up to a factor.

    With R[a, u, b, v] = sum_yx x_a(y - u, x) x_b(y, x + v), rows u = 0..w-1 before and columns v = -(w-1)..w-1, it is
    that of channels a and b at pixels that lie u rows and v columns apart.
    """
    c, H, W = x.shape
    padded = np.zeros((c, H + w - 1, W + 2 * (w - 1)), np.float32)
    padded[:, w - 1 :, w - 1 : w - 1 + W] = x
    R = np.zeros((c * w, c * (2 * w - 1)))
    step = max(1, BLOCK // (W * c * 3 * w))
    for y in range(0, H, step):
        rows = padded[:, y : y + step + w - 1]
        n = rows.shape[1] - (w - 1)
        before = sliding_window_view(rows[:, :, w - 1 : w - 1 + W], n, axis=1)[:, ::-1]  # (c, u, W, n)
        about = sliding_window_view(rows[:, w - 1 :], W, axis=2)  # (c, n, v, W)
        left = before.transpose(0, 1, 3, 2).reshape(c * w, n * W)
        R += left @ about.transpose(0, 2, 1, 3).reshape(c * (2 * w - 1), n * W).T
    R = R.reshape(c, w, c, 2 * w - 1)
    full = np.zeros((c, 2 * w - 1, c, 2 * w - 1))  # of all u, u = 0 at w - 1
    full[:, w - 1 :] = R
    full[:, : w - 1] = R[:, :0:-1].transpose(2, 1, 0, 3)[..., ::-1]
    at = np.arange(w)
    u = at[None, :] - at[:, None] + w - 1  # from row i of the window to row k
    # [a, i, j, b, k, l] = full[a, u(i, k), b, u(j, l)]
    rows_of = full[:, u][:, :, :, :, u]  # (a, i, k, b, j, l)
    return rows_of.transpose(0, 1, 4, 3, 2, 5)
