"""Images whose true segments are known: mosaics of colours, gradients and textures; photographs outlined by hand.

Mosaics have 2 to 8 segments with wavy borders. Their textures are grey, from scikit-image or noise through a band-pass,
and take the colour of their segment; all but flat ones are blurred by less than a pixel, as by a lens; noise comes on
top. Outlines of photographs are rough, a hundredth of the image or so, and one person's opinion of what a segment is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

KINDS = ("flat", "gradients", "bands", "textures")
NOISE = (0.005, 0.01, 0.02, 0.04, 0.08)
TEXTURES = ("brick", "grass", "gravel")


def mosaic(kind: str, seed: int, shape: tuple[int, int]) -> tuple[Array, Integers]:
    """An image (H, W, 3) of bytes and its segments (H, W): one of `KINDS`."""
    random = np.random.default_rng([KINDS.index(kind), seed])
    k = int(random.integers(2, 9))
    truth = _cells(random, shape, k)
    image = np.empty((*shape, 3))
    for segment, color in enumerate(random.uniform(0.15, 0.85, (k, 3))):
        inside = truth == segment
        image[inside] = color + _texture(kind, random, shape)[inside]
    if kind != "flat":
        image = _blurred(image, random.uniform(0.3, 0.9))
    image += random.choice(NOISE) * random.standard_normal(image.shape)
    return (image.clip(0, 1) * 255).round().astype(np.uint8), truth


def _cells(random: np.random.Generator, shape: tuple[int, int], k: int) -> Integers:
    """The nearest of k points, of which no two are close, to pixels that a smooth field moves."""
    places = np.indices(shape) + 6 * np.stack([_field(random, shape, _gaussian(shape, 12)) for _ in shape])
    while True:
        points = random.uniform(0.08, 0.92, (k, 2)) * shape
        apart = np.linalg.norm(points[:, None] - points, axis=2) + 1e9 * np.eye(k)
        if apart.min() >= 0.5 * np.sqrt(np.prod(shape) / k):
            squares = np.stack([((places - point[:, None, None]) ** 2).sum(axis=0) for point in points])
            cells: Integers = squares.argmin(axis=0)
            return cells


def _texture(kind: str, random: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """(H, W, 3), to add to a colour."""
    if kind == "gradients":
        y, x = np.indices(shape) / max(shape) - 0.5
        slopes = random.uniform(-0.35, 0.35, (2, 3))
        bumps = random.uniform(0, 0.04) * _field(random, shape, _gaussian(shape, 25))
        result: Floats = y[..., None] * slopes[0] + x[..., None] * slopes[1] + bumps[..., None]
        return result
    if kind == "bands":
        return _tinted(random, random.uniform(0.04, 0.15) * _field(random, shape, _band(random, shape)))
    if kind == "textures":
        return _tinted(random, random.uniform(0.4, 1.0) * _crop(random, shape))
    return np.zeros((*shape, 3))


def _tinted(random: np.random.Generator, texture: Floats) -> Floats:
    result: Floats = texture[..., None] * random.uniform(0.6, 1.2, 3)
    return result


def _crop(random: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Of a photographed texture, turned and scaled."""
    from skimage import data

    texture = np.rot90(getattr(data, str(random.choice(TEXTURES)))() / 255.0, int(random.integers(4)))
    size = np.minimum(np.ceil(np.array(shape) / random.uniform(0.5, 1.2)).astype(int), texture.shape)
    y, x = (int(random.integers(room + 1)) for room in np.array(texture.shape) - size)
    part = _resized(texture[y : y + size[0], x : x + size[1]], shape)
    result: Floats = part - part.mean()
    return result


def _resized(image: Array, shape: tuple[int, ...]) -> Floats:
    from skimage import transform

    resize: Any = transform.resize
    result: Floats = resize(image, shape, anti_aliasing=True)
    return result


def _frequencies(shape: tuple[int, int]) -> tuple[Array, Array]:
    return np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None]


def _gaussian(shape: tuple[int, int], sigma: float) -> Floats:
    """The filter of a Gaussian, at the frequencies of a DFT."""
    v, u = _frequencies(shape)
    filter_: Floats = np.exp(-2 * np.pi**2 * sigma**2 * (u**2 + v**2))
    return filter_


def _band(random: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Frequencies near a random one, in size and direction."""
    v, u = _frequencies(shape)
    frequency, direction, width = random.uniform([0.04, 0, 0.2], [0.25, np.pi, 0.8])
    octaves = np.log(np.maximum(np.hypot(v, u), 1e-6) / frequency)
    angles = np.angle(np.exp(2j * (np.arctan2(v, u) - direction))) / 2
    filter_: Floats = np.exp(-(octaves**2) / (2 * 0.4**2) - angles**2 / (2 * width**2))
    return filter_


def _field(random: np.random.Generator, shape: tuple[int, int], filter_: Floats) -> Floats:
    """Filtered noise of mean 0 and variance 1."""
    noise: Floats = np.fft.irfft2(np.fft.rfft2(random.standard_normal(shape)) * filter_, shape)
    result: Floats = (noise - noise.mean()) / noise.std()
    return result


def _blurred(image: Floats, sigma: float) -> Floats:
    shape = image.shape[:2]
    planes = image.transpose(2, 0, 1)
    result: Floats = np.fft.irfft2(np.fft.rfft2(planes) * _gaussian(shape, sigma), shape)
    return result.transpose(1, 2, 0)


# --- Photographs: what lies where, later ones over earlier ones, in pixels of an image of 300 rows ---

Shape = tuple[tuple[float, ...], ...]


def _ellipse(x: float, y: float, a: float, b: float) -> Shape:
    """Of half axes a and b, as a polygon."""
    t = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    return tuple(zip((x + a * np.cos(t)).tolist(), (y + b * np.sin(t)).tolist(), strict=True))


#: Of each photograph of scikit-image its segments, on what is left.
OUTLINES: dict[str, tuple[Shape, ...]] = {
    "coffee": (
        _ellipse(210, 175, 150, 115),  # saucer
        ((133, 95), (310, 95), (293, 165), (250, 184), (170, 176), (142, 145)),  # cup
        _ellipse(220, 85, 89, 71),  # rim
        _ellipse(222, 115, 68, 39),  # coffee
        _ellipse(274, 211, 30, 31),  # spoon
    ),
    "astronaut": (
        ((0, 0), (40, 0), (62, 30), (60, 75), (35, 140), (20, 180), (0, 200)),  # flag
        ((222, 155), (215, 125), (228, 45), (235, 10), (245, 0), (262, 10), (270, 60), (272, 155)),  # shuttle
        ((205, 165), (300, 160), (300, 250), (210, 230)),  # dark
        ((12, 250), (22, 185), (50, 145), (80, 112), (170, 130), (205, 165), (212, 215), (160, 240), (150, 300),
         (20, 300)),  # suit
        _ellipse(122, 130, 57, 42),  # collar, on the suit
        _ellipse(135, 45, 43, 37),  # hair
        _ellipse(133, 75, 27, 34),  # face
        ((172, 300), (165, 255), (190, 215), (235, 200), (280, 225), (300, 260), (300, 300)),  # helmet
        _ellipse(232, 262, 50, 48),  # visor
    ),
    "chelsea": (
        ((451, 0), (405, 0), (385, 60), (370, 100), (362, 150), (345, 220), (330, 260), (320, 300), (451, 300)),  # wall
        ((335, 60), (405, 0), (375, 0), (345, 30)),  # ear
        _ellipse(172, 118, 37, 30),  # eyes
        _ellipse(320, 135, 25, 27),
        _ellipse(258, 243, 25, 18),  # nose
    ),
    "rocket": (
        ((0, 270), (450, 270), (450, 300), (0, 300)),  # ground
        ((20, 0), (60, 0), (55, 120), (60, 280), (8, 280), (12, 150)),  # towers
        ((405, 0), (440, 0), (450, 280), (400, 280)),
        ((217, 285), (219, 110), (227, 92), (235, 110), (237, 285)),  # rocket
    ),
    "camera": (
        ((0, 138), (300, 136), (300, 300), (0, 300)),  # grass
        ((0, 105), (240, 105), (242, 70), (252, 70), (255, 118), (300, 122), (300, 138), (0, 138)),  # town
        ((0, 145), (12, 120), (35, 88), (65, 70), (95, 62), (100, 45), (125, 37), (155, 60), (156, 85), (145, 105),
         (160, 88), (190, 85), (188, 115), (165, 125), (180, 150), (160, 180), (110, 168), (95, 200),
         (90, 300), (0, 300)),  # man
    ),
    "coins": tuple(
        _ellipse(x, y, r, r)
        for x, y, r in (
            (44, 54, 22), (99, 56, 20), (154, 50, 23), (213, 50, 24), (273, 53, 20), (331, 42, 29),
            (45, 123, 21), (101, 125, 19), (152, 125, 20), (204, 122, 20), (268, 117, 26), (333, 123, 19),
            (43, 195, 19), (101, 194, 22), (153, 196, 19), (211, 190, 24), (271, 192, 23), (344, 185, 31),
            (46, 258, 28), (112, 262, 21), (171, 259, 28), (242, 261, 24), (298, 261, 25), (354, 262, 22),
        )
    ),
}  # fmt: skip


def photograph(name: str, rows: int) -> tuple[Array, Integers]:
    """One of `OUTLINES`, scaled to so many rows: bytes (H, W, 3) or (H, W), and its segments."""
    from skimage import data

    image = getattr(data, name)()
    shape = (rows, round(image.shape[1] * rows / image.shape[0]), *image.shape[2:])
    scaled = _resized(image, shape)
    truth = np.zeros(shape[:2], np.int64)
    y, x = (np.indices(shape[:2]) + 0.5) * 300 / rows
    for segment, polygon in enumerate(OUTLINES[name], 1):
        truth[_inside(polygon, y, x)] = segment
    return (scaled * 255).round().astype(np.uint8), truth


def _inside(polygon: Shape, y: Floats, x: Floats) -> npt.NDArray[np.bool_]:
    """Points from which a ray to the right crosses the polygon an odd number of times."""
    result = np.zeros(y.shape, np.bool_)
    for (a, b), (c, d) in zip(polygon, (*polygon[1:], polygon[0]), strict=True):
        if b != d:
            result ^= ((b > y) != (d > y)) & (x < a + (y - b) * (c - a) / (d - b))
    return result


def mosaics(seeds: range, shape: tuple[int, int]) -> Iterator[tuple[str, Array, Integers]]:
    """Of all kinds."""
    for kind in KINDS:
        for seed in seeds:
            yield (kind, *mosaic(kind, seed, shape))
