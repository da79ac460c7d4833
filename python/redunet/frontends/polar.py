"""Polar sampling: gray images (m, H, W) become signals (m, C, T), so that turning an image shifts its signal.

Channel c at time t is the image at radius r_c on the ray of angle 360 t / T degrees: the ray that points left once the
image is turned by that angle (`scipy.ndimage.rotate`). The centre is ((H - 1) / 2, (W - 1) / 2); outside, images are 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet._backends.tasks import interruptible
from redunet._inputs import checks

Array = npt.NDArray[Any]

# As many images are sampled at a time as have samples of this size, which stay in the second-level cache, and so many
# at least: a pixel of all of them is one row of numbers.
CHUNK_BYTES = 1 << 19
LEAST_IMAGES = 16


def to_polar(
    images: npt.ArrayLike,
    *,
    n_channels: int,
    n_angles: int,
    compat: bool = False,
    endpoint: bool = False,
) -> Array:
    """Sample images on rays from their centre.

    Parameters
    ----------
    images : array_like, (m, H, W) or (m, 1, H, W)
        Real grey values; uint8 with `compat`.
    n_channels : int
        C, the number of radii. They are the middles (c + 1/2) R / C of C rings, from the centre outwards, with
        R = min(H, W) / 2 pixels.
    n_angles : int
        T, the number of angles, in [0, 360) degrees.
    compat : bool
        Sample as the ReduNet authors' code: cubic splines, rounded and clipped to 0..255, at C columns of the
        middle row from the left edge inwards to the centre. Needs SciPy.
    endpoint : bool
        Spread the angles over [0, 360], which counts 0 twice, as the authors do.

    Returns
    -------
    ndarray, (m, C, T)
        float32 for float32 and float16 images, else float64. If `endpoint` is False, turning an image by 360 s / T
        degrees, counterclockwise as displayed, gives ``numpy.roll(signal, -s)``: exactly for quarter turns of square
        images where 4 divides T, elsewhere up to interpolation.

    Raises
    ------
    ValueError, TypeError
        If an argument has another shape, type or range than said above, or an image holds a NaN or infinite value.
    ImportError
        If `compat` is asked for and SciPy is not installed.

    Notes
    -----
    Bilinear interpolation reads the four pixels around a point. With `compat` the result equals
    ``scipy.ndimage.rotate(image, angle, reshape=False)[H // 2, columns]`` for every angle, but only those points are
    evaluated.

    Examples
    --------
    >>> import numpy as np
    >>> from redunet import to_polar
    >>> image = np.zeros((1, 5, 5))
    >>> image[0, 2, :2] = 1.0  # a bar from the left edge to the centre
    >>> to_polar(image, n_channels=1, n_angles=4)[0]
    array([[1., 0., 0., 0.]])
    >>> to_polar(np.rot90(image, axes=(1, 2)), n_channels=1, n_angles=4)[0]
    array([[0., 0., 0., 1.]])
    """
    array = _images(images)
    C = checks.integer(n_channels, "n_channels", 1)
    T = checks.integer(n_angles, "n_angles", 1)
    compat, endpoint = checks.flag(compat, "compat"), checks.flag(endpoint, "endpoint")
    if compat and array.dtype != np.uint8:
        raise TypeError(f"images have dtype {array.dtype}; expected uint8 with compat=True")
    dtype = checks.floating(None, array)
    checks.memory(len(array) * C * T * dtype.itemsize, "the polar samples")
    if compat:
        return _spline(array, C, T, endpoint)
    # A quarter of the angles is enough where quarter turns carry the grid of pixels onto itself.
    quarters = 4 if array.shape[1] == array.shape[2] and T % 4 == 0 and not endpoint else 1
    angles = np.deg2rad(np.linspace(0.0, 360.0, T, endpoint=endpoint)[: T // quarters])
    return _bilinear(array, C, angles, quarters, dtype)


def _images(images: npt.ArrayLike) -> Array:
    array = checks.array(images, "images")
    if array.dtype.kind not in "fiub" or (array.dtype.kind == "f" and array.dtype.itemsize > 8):
        raise TypeError(f"images have dtype {array.dtype}; expected real numbers of at most double precision")
    if array.ndim == 4 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 3:
        raise ValueError(f"images have shape {array.shape}; expected (m, H, W) or (m, 1, H, W)")
    if 0 in array.shape:
        raise ValueError(f"images have shape {array.shape}; expected at least one image and pixel")
    return array


def _bilinear(images: Array, C: int, angles: Array, quarters: int, dtype: np.dtype[Any]) -> Array:
    """Samples (m, C, quarters * len(angles)) at the angles and, for 4 quarters, at their turns by 90 degrees."""
    H, W = images.shape[1:]
    radii = (np.arange(C) + 0.5)[:, None] * (min(H, W) / 2 / C)
    # A frame of zeros, one pixel wide: points are taken at most that far outside.
    y = np.clip((H - 1) / 2 - radii * np.sin(angles), -1, H) + 1
    x = np.clip((W - 1) / 2 - radii * np.cos(angles), -1, W) + 1
    top, left = np.minimum(np.floor(y).astype(np.intp), H), np.minimum(np.floor(x).astype(np.intp), W)
    down, right = y - top, x - left
    weights = np.stack([(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right]).astype(dtype)
    grid = np.arange((H + 2) * (W + 2)).reshape(H + 2, W + 2)
    corners = top * (W + 2) + left + np.array([0, 1, W + 2, W + 3])[:, None, None]
    # Turning the image by a quarter is reading it at the turned pixels: bit for bit the same arithmetic.
    pixels = np.concatenate([np.rot90(grid, q).ravel()[corners] for q in range(quarters)], axis=-1)

    def framed(chunk: Array, start: int) -> Array:
        if not np.isfinite(chunk).all():
            bad = start + int(np.argmin(np.isfinite(chunk).all(axis=(1, 2))))
            raise ValueError(f"images hold a NaN or infinite value in image {bad}; expected finite values")
        return np.pad(chunk.astype(dtype), ((0, 0), (1, 1), (1, 1)))

    return _weighted_sums(images, framed, pixels, np.tile(weights, quarters))


def _spline(images: Array, C: int, T: int, endpoint: bool) -> Array:
    """What `scipy.ndimage.rotate` gives at C columns of the middle row, for every angle; (m, C, T), float64."""
    try:
        from scipy import ndimage
    except ImportError as error:
        raise ImportError("to_polar with compat=True needs SciPy: pip install scipy") from error
    H, W = images.shape[1:]
    columns = np.linspace(0, W // 2, C).astype(np.int64)
    angles = np.deg2rad(np.linspace(0, 360, T, endpoint=endpoint))
    cy, cx = (H - 1) / 2, (W - 1) / 2
    dy, dx = H // 2 - cy, (columns - cx)[:, None]
    cosine, sine = np.cos(angles)[None], np.sin(angles)[None]
    rows, y_weights = _cubic(cosine * dy + sine * dx + cy, H)  # (4, C, T) each
    columns, x_weights = _cubic(-sine * dy + cosine * dx + cx, W)
    pixels = (rows[:, None] * W + columns).reshape(16, C, T)
    weights = (y_weights[:, None] * x_weights).reshape(16, C, T)
    filtered = interruptible(ndimage.spline_filter1d)

    def coefficients(chunk: Array, _: int) -> Array:
        down = filtered(chunk, order=3, axis=1, output=np.float64, mode="mirror")
        both: Array = filtered(down, order=3, axis=2, output=np.float64, mode="mirror")
        return both

    out = _weighted_sums(images, coefficients, pixels, weights)
    out += 0.5
    np.floor(out, out=out)
    result: Array = np.clip(out, 0, 255, out=out)
    return result


def _cubic(x: Array, n: int) -> tuple[Array, Array]:
    """The four of n coefficients around a point that a cubic spline is made of there, and their weights: (4, *x.shape).

    Coefficients go on as in a mirror at the first and the last one. A point outside of [0, n - 1] has weights of zero.
    """
    left = np.floor(x)
    t = x - left
    weights = np.stack([(1 - t) ** 3, 4 - 6 * t**2 + 3 * t**3, 1 + 3 * t + 3 * t**2 - 3 * t**3, t**3]) / 6
    weights *= (x >= 0) & (x <= n - 1)
    period = max(1, 2 * n - 2)
    near = (left + np.arange(-1, 3).reshape(4, *[1] * x.ndim)).astype(np.intp) % period
    return np.minimum(near, period - near), weights


def _weighted_sums(images: Array, read: Callable[[Array, int], Array], pixels: Array, weights: Array) -> Array:
    """Samples (m, C, T): sums of q weighted pixels, both (q, C, T), of what ``read(images, first index)`` gives.

    One pixel of all images of a chunk lies side by side, so that a sum is of rows of numbers: three times as fast as
    gathering the pixels of one image after the other.
    """
    m, (q, C, T) = len(images), pixels.shape
    dtype = weights.dtype
    pixels, weights = pixels.reshape(q, C * T), weights.reshape(q, C * T, 1)
    out = np.empty((m, C, T), dtype)
    n = max(LEAST_IMAGES, CHUNK_BYTES // (C * T * dtype.itemsize))
    for i in range(0, m, n):
        chunk = read(images[i : i + n], i)
        values = np.ascontiguousarray(chunk.reshape(len(chunk), -1).T)
        sums = values[pixels[0]] * weights[0]
        part = np.empty_like(sums)
        for p, w in zip(pixels[1:], weights[1:], strict=True):
            np.take(values, p, axis=0, out=part, mode="clip")  # any other mode writes to a copy first
            part *= w
            sums += part
        out[i : i + n] = sums.T.reshape(-1, C, T)
    return out
