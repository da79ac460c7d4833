"""Polar sampling: the authors' points against rotated images, the clean path against its formula and its symmetry."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import redunet as rn
from redunet.frontends import polar as module


def bilinear(image, y, x):
    """The image at one point, 0 outside, from its four neighbours."""
    total = 0.0
    for i in (int(np.floor(y)), int(np.floor(y)) + 1):
        for j in (int(np.floor(x)), int(np.floor(x)) + 1):
            if 0 <= i < image.shape[0] and 0 <= j < image.shape[1]:
                total += (1 - abs(y - i)) * (1 - abs(x - j)) * image[i, j]
    return total


@pytest.mark.parametrize("endpoint", [False, True])
@pytest.mark.parametrize(("H", "W", "C", "T"), [(8, 8, 3, 12), (8, 8, 3, 7), (7, 7, 9, 8), (5, 9, 4, 12), (1, 1, 2, 4)])
def test_clean_path_is_its_formula(H, W, C, T, endpoint, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_BYTES", 1)
    monkeypatch.setattr(module, "LEAST_IMAGES", 2)
    images = np.random.default_rng(0).random((3, H, W))
    out = rn.to_polar(images, n_channels=C, n_angles=T, endpoint=endpoint)
    assert out.shape == (3, C, T)
    expected = np.empty_like(out)
    for c in range(C):
        r = (c + 0.5) * min(H, W) / 2 / C
        for t, angle in enumerate(np.deg2rad(np.linspace(0, 360, T, endpoint=endpoint))):
            y, x = (H - 1) / 2 - r * np.sin(angle), (W - 1) / 2 - r * np.cos(angle)
            expected[:, c, t] = [bilinear(image, y, x) for image in images]
    # Pixels are in [0, 1], so the image changes by at most 1 a pixel: coordinates up to 9 are off by a few units of
    # eps * 9 and so is the value.
    assert np.abs(out - expected).max() <= 64 * np.finfo(float).eps


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
@pytest.mark.parametrize("size", [8, 9])
def test_quarter_turns_are_exact_shifts(dtype, size):
    images = (255 * np.random.default_rng(0).random((4, size, size))).astype(dtype)
    signals = rn.to_polar(images, n_channels=5, n_angles=20)
    for q in range(1, 4):
        turned = rn.to_polar(np.rot90(images, q, axes=(1, 2)), n_channels=5, n_angles=20)
        assert np.array_equal(turned, np.roll(signals, -5 * q, axis=-1))


def test_smooth_images_turned_by_any_angle():
    """Bilinear interpolation is off by at most (|f_xx| + |f_yy|) / 8, in each of the two images."""
    y, x = np.mgrid[:32, :32] - 15.5

    def image(angle):  # a Gaussian blob off the centre, turned counterclockwise as displayed (y points down)
        centre = 6 * np.array([-np.sin(angle), np.cos(angle)])
        return np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * 5.0**2))

    signals = rn.to_polar(np.stack([image(0), image(np.deg2rad(36))]), n_channels=6, n_angles=40)
    curvature = 2 / 5.0**2  # |f_xx| + |f_yy| of a Gaussian of width 5 is at most 2 / 25
    assert np.abs(signals[1] - np.roll(signals[0], -4, axis=-1)).max() <= 2 * curvature / 8


@pytest.mark.parametrize("endpoint", [False, True])
@pytest.mark.parametrize(("H", "W"), [(28, 28), (9, 9), (5, 12), (12, 5), (3, 3)])
def test_compat_is_the_row_of_rotated_images(H, W, endpoint, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_BYTES", 1)
    monkeypatch.setattr(module, "LEAST_IMAGES", 2)
    ndimage = pytest.importorskip("scipy.ndimage")
    images = np.random.default_rng(0).integers(0, 256, (3, H, W), dtype=np.uint8)
    out = rn.to_polar(images, n_channels=5, n_angles=12, compat=True, endpoint=endpoint)
    assert out.dtype == np.float64
    columns = np.linspace(0, W // 2, 5).astype(int)
    for t, angle in enumerate(np.linspace(0, 360, 12, endpoint=endpoint)):
        turned = ndimage.rotate(images, angle, axes=(2, 1), reshape=False, order=3)  # uint8: rounded and clipped
        assert np.array_equal(out[:, :, t], turned[:, H // 2, columns])


@pytest.mark.parametrize(
    ("dtype", "expected"), [("uint8", "float64"), ("bool", "float64"), ("float16", "float32"), ("float32", "float32")]
)
def test_dtypes(dtype, expected):
    images = np.ones((2, 6, 6), dtype)
    before = images.copy()
    assert rn.to_polar(images, n_channels=2, n_angles=8).dtype == expected
    assert np.array_equal(images, before)


def test_errors(monkeypatch):
    ok = np.zeros((2, 4, 4))
    with pytest.raises(ValueError, match=r"images have shape \(4, 4\); expected \(m, H, W\)"):
        rn.to_polar(ok[0], n_channels=2, n_angles=4)
    with pytest.raises(ValueError, match=r"images have shape \(0, 4, 4\); expected at least one image and pixel"):
        rn.to_polar(ok[:0], n_channels=2, n_angles=4)
    with pytest.raises(TypeError, match="images have dtype complex128; expected real numbers of at most double"):
        rn.to_polar(ok.astype(complex), n_channels=2, n_angles=4)
    with pytest.raises(ValueError, match="n_channels is 0; expected an integer >= 1"):
        rn.to_polar(ok, n_channels=0, n_angles=4)
    with pytest.raises(TypeError, match=r"n_angles is 4\.0 of type float; expected an integer"):
        rn.to_polar(ok, n_channels=1, n_angles=4.0)
    with pytest.raises(TypeError, match="images have dtype float64; expected uint8 with compat=True"):
        rn.to_polar(ok, n_channels=1, n_angles=4, compat=True)
    ok[1, 2, 3] = np.nan
    with pytest.raises(ValueError, match="images hold a NaN or infinite value in image 1; expected finite values"):
        rn.to_polar(ok, n_channels=1, n_angles=4)
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ImportError, match="to_polar with compat=True needs SciPy: pip install scipy"):
        rn.to_polar(np.zeros((1, 4, 4), np.uint8), n_channels=1, n_angles=4, compat=True)
    monkeypatch.setattr("redunet._inputs.checks.available_memory", lambda: 10)
    with pytest.raises(MemoryError, match="the polar samples need"):
        rn.to_polar(np.zeros((1, 4, 4)), n_channels=1, n_angles=4)
