"""`segment`: images whose segments are known come back, however they lie, are scaled, masked and made of channels."""

from __future__ import annotations

import sys
import tracemalloc

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

import redunet as rn
from redunet import segmentation as seg
from redunet.segmentation import regions, superpixels, windows


def same(a, b):
    """Whether two label images say the same but for the names."""
    pairs = len(np.unique(np.stack([a.ravel(), b.ravel()]), axis=1).T)
    return pairs == len(np.unique(a)) == len(np.unique(b))


def truth_of_blocks(H=96, W=144):
    """Five segments, unions of squares of 12 pixels: one with a hole, one a single square."""
    blocks = np.zeros((H // 12, W // 12), int)
    blocks[:, 7:] = 1
    blocks[5:, :7] = 2
    blocks[1:4, 2:5] = 3
    blocks[2, 9] = 4
    return np.kron(blocks, np.ones((12, 12), int))


COLORS = np.array([[0.2, 0.4, 0.8], [0.9, 0.7, 0.3], [0.3, 0.6, 0.2], [0.7, 0.2, 0.2], [0.95, 0.95, 0.95]])


def noisy(values, noise, seed=0):
    image = values + noise * np.random.default_rng(seed).standard_normal(values.shape)
    return (image.clip(0, 1) * 255).round().astype(np.uint8)


def squares(shape, side=12):
    H, W = shape
    return np.arange(H)[:, None] // side * -(-W // side) + np.arange(W) // side


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.06])
@pytest.mark.parametrize("epsilon_sq", ["auto", 16.0])
def test_flat_segments_with_noise_come_back_exactly(backend, noise, epsilon_sq):
    truth = truth_of_blocks()
    found = seg.segment(noisy(COLORS[truth], noise), superpixels=squares(truth.shape), epsilon_sq=epsilon_sq)
    assert found.dtype == np.int64
    assert same(found, truth)
    grey = noisy(np.array([0.2, 0.7, 0.45, 0.9, 0.05])[truth], noise)
    assert same(seg.segment(grey, superpixels=squares(truth.shape), epsilon_sq=epsilon_sq), truth)


def test_textures_of_one_mean_are_told_apart(backend):
    """Stripes one way and the other, of equal mean and variance: only windows know."""
    y, x = np.indices((96, 96))
    image = 0.5 + 0.2 * np.where(x < 48, np.sin(2 * np.pi * y / 6), np.sin(2 * np.pi * x / 6))
    found = seg.segment(noisy(image, 0.02), superpixels=squares(image.shape), n_segments=2)
    assert same(found, (x >= 48).astype(int))


def photograph(side=120):
    """Not symmetric, of many colours, without ties: smooth fields that a few thresholds cut."""
    random = np.random.default_rng(5)
    y, x = np.indices((side, side + 36)) / side
    image = np.stack([np.sin(a * x + b * y + c) for a, b, c in random.uniform(1, 7, (3, 3))], axis=2)
    image = 0.5 + 0.3 * np.sign(image) * np.abs(image) ** 0.3
    return noisy(image, 0.03, 1)


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("flip", [False, True])
def test_a_turned_image_has_the_turned_segments(backend, turns, flip):
    image = photograph()
    start = squares(image.shape[:2], 7)

    def moved(a):
        return np.rot90(a[::-1] if flip else a, turns)

    found = seg.segment(image, superpixels=start)
    assert 2 < found.max() < 60
    assert same(seg.segment(moved(image), superpixels=moved(start)), moved(found))


def test_backends_agree():
    pytest.importorskip("redunet._cpu", reason="the engine is not built")
    image = photograph()
    one, other = (seg.segment(image, superpixels=squares(image.shape[:2], 8), backend=b) for b in ("numpy", "cpu"))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("n_threads", [2, 3, 7])
def test_threads_change_nothing(backend, n_threads):
    image = photograph(160)
    start = squares(image.shape[:2], 8)
    one, other = (seg.segment(image, superpixels=start, n_threads=n) for n in (1, n_threads))
    np.testing.assert_array_equal(one, other)


def test_auto_knows_no_contrast(backend):
    """Channels in any unit have the same segments: "auto" goes with their variance. A fixed eps^2 would not."""
    truth = truth_of_blocks()
    image = noisy(COLORS[truth], 0.04).astype(np.float64)
    options = {"superpixels": squares(truth.shape), "color": "none"}
    for unit in (1e-6, 1.0, 1e6):
        assert same(seg.segment(unit * image - 3 * unit, **options), truth)


def test_what_integers_and_floats_mean(backend):
    truth = truth_of_blocks()
    bytes_ = noisy(COLORS[truth], 0.03)
    start = {"superpixels": squares(truth.shape)}
    found = seg.segment(bytes_, **start)
    for other in (bytes_ / 255, (bytes_ / 255).astype(np.float32), bytes_.astype(np.uint16) * 257):
        np.testing.assert_array_equal(seg.segment(other, **start), found)
    np.testing.assert_array_equal(seg.segment(bytes_[:, :, 0], **start), seg.segment(bytes_[:, :, :1], **start))
    flags = truth % 2 == 1
    assert same(seg.segment(flags, **start), regions_of(flags))


def regions_of(flags):
    """Connected components of True and False by four neighbours, by flooding."""
    labels, n = np.full(flags.shape, -1), 0
    for place in np.ndindex(*flags.shape):
        if labels[place] < 0:
            stack = [place]
            while stack:
                y, x = stack.pop()
                if labels[y, x] < 0 and flags[y, x] == flags[place]:
                    labels[y, x] = n
                    stack += [
                        (v, u)
                        for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
                        if 0 <= v < flags.shape[0] and 0 <= u < flags.shape[1]
                    ]
            n += 1
    return labels


@pytest.mark.parametrize("channels", [2, 5, 12])
def test_any_number_of_channels(backend, channels):
    """More than features, too. What tells the segments apart is in all of them."""
    truth = truth_of_blocks()
    random = np.random.default_rng(2)
    image = random.uniform(0, 50, (5, channels))[truth] + random.standard_normal((*truth.shape, channels))
    assert same(seg.segment(image, superpixels=squares(truth.shape), window=3), truth)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 3), (4, 4, 3), (3, 3, 11)])
def test_the_smallest_images(backend, shape):
    image = np.random.default_rng(3).random(shape)
    found = seg.segment(image)
    assert found.shape == shape[:2]
    assert found.min() == 0


def test_an_image_of_one_colour_is_one_segment(backend):
    for image in (np.zeros((20, 30), np.uint8), np.full((20, 30, 3), 0.5), np.full((20, 30, 4), 7.0)):
        assert not seg.segment(image).any()


def test_masks(backend):
    """What lies outside has no segment, and changes nothing a window away from the edge; it may be NaN."""
    truth = truth_of_blocks()
    image = noisy(COLORS[truth], 0.02) / 255
    mask = np.ones(truth.shape, bool)
    mask[:, 60:72] = False
    image[:, 64:68] = np.nan
    found = seg.segment(image, superpixels=squares(truth.shape), mask=mask)
    assert (found[~mask] == -1).all()
    apart = np.where(np.indices(truth.shape)[1] < 60, truth, truth + 10)  # the mask cuts segments in two
    assert same(found[mask], apart[mask])
    with pytest.raises(ValueError, match=r"n_segments is 1; expected 2 to 88, .*: parts of the image that do not"):
        seg.segment(image, superpixels=squares(truth.shape), mask=mask, n_segments=1)


def test_numbers_of_segments_and_stops(backend):
    image = photograph()
    start = {"superpixels": squares(image.shape[:2], 10)}
    counts = [len(np.unique(seg.segment(image, n_segments=k, **start))) for k in (1, 2, 7, 50)]
    assert counts == [1, 2, 7, 50]
    best, first = (seg.segment(image, stop=stop, **start).max() for stop in ("best", "first"))
    assert best <= first
    assert seg.segment(image, epsilon_sq=1e6, **start).max() == 0


def test_progress(capsys, backend):
    seg.segment(photograph(), superpixels=squares((120, 156), 12), progress=True)
    assert "merge 129/129" in capsys.readouterr().err


# --- What it is made of ---


def test_covariance_is_that_of_all_windows():
    """Of zeros beyond the edges, from its definition."""
    random = np.random.default_rng(4)
    for c, H, W, w in ((2, 9, 11, 3), (1, 5, 4, 7), (3, 1, 6, 5)):
        x = random.standard_normal((c, H, W)).astype(np.float32)
        wide = np.pad(x.astype(np.float64), ((0, 0), (w, w), (w, w)))
        rows = sliding_window_view(wide, (w, w), axis=(1, 2)).transpose(1, 2, 0, 3, 4).reshape(-1, c * w * w)
        got = windows._covariance(x, w).reshape(c * w * w, -1)
        # sums of at most H W products in single precision
        np.testing.assert_allclose(got, rows.T @ rows, rtol=0, atol=H * W * 1.2e-7 * np.abs(x).max() ** 2 * H * W)


def test_blocks_of_rows_change_no_covariance(monkeypatch):
    x = np.random.default_rng(6).standard_normal((2, 37, 20)).astype(np.float32)
    whole = windows._covariance(x, 5)
    monkeypatch.setattr(windows, "BLOCK", 1)
    np.testing.assert_allclose(windows._covariance(x, 5), whole, rtol=0, atol=37 * 20 * 1.2e-7 * 37 * 20)


def test_lab_is_that_of_scikit_image():
    """To what their rounded matrices differ by: their white is X, Z = 0.95047, 1.08883, ours that of the matrix."""
    color = pytest.importorskip("skimage.color")
    rgb = np.random.default_rng(7).integers(0, 256, (50, 60, 3), np.uint8)
    rgb[:2, :3] = [[[0, 0, 0], [255, 255, 255], [1, 2, 3]], [[255, 0, 0], [0, 255, 0], [0, 0, 255]]]
    expected = color.rgb2lab(rgb).transpose(2, 0, 1)
    for given in (rgb, rgb / 255):
        np.testing.assert_allclose(windows.channels(given, "auto", None), expected, rtol=0, atol=0.01)


def test_grids():
    for shape, n in (((481, 321), 400), ((30, 200), 50), ((1, 7), 3), ((5, 5), 100), ((9, 9), 1)):
        labels = superpixels.grid(shape, n)
        sizes = np.bincount(labels.ravel())
        assert sizes.min() > 0
        assert abs(len(sizes) - min(n, labels.size)) <= 0.2 * n
    assert (np.bincount(superpixels.grid((12, 18), 6).ravel()) == 36).all()


def test_without_scikit_image_the_start_is_a_grid(monkeypatch, backend):
    image = photograph()
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    found = seg.segment(image, superpixels=100)
    grid = superpixels.grid(image.shape[:2], 100)
    np.testing.assert_array_equal(found, seg.segment(image, superpixels=grid))


def test_slic_keeps_borders_and_numbers():
    """Also where noise is strong, in which it would leave next to no superpixel with less weight on places."""
    pytest.importorskip("skimage")
    truth = (np.hypot(*(np.indices((120, 160)) - [[[60]], [[80]]])) < 40).astype(int)
    for noise in (0.0, 0.08):
        labels = superpixels.superpixels(windows.channels(noisy(COLORS[truth], noise), "auto", None), 200)
        assert 100 < len(np.unique(labels)) < 260
        majority = np.array([np.bincount(truth[labels == k]).argmax() for k in range(labels.max() + 1)])
        assert (majority[labels] != truth).mean() < 0.02


def test_inner_pixels_by_definition():
    labels = np.random.default_rng(8).integers(-1, 2, (9, 8)).repeat(4, axis=0).repeat(4, axis=1)
    wide = np.pad(labels, 1, mode="edge")
    around = sliding_window_view(wide, (3, 3))
    inner = (around == labels[:, :, None, None]).all(axis=(2, 3))
    np.testing.assert_array_equal(regions.inner_pixels(labels, 2, 1), np.where(inner, labels, -1))
    np.testing.assert_array_equal(regions.inner_pixels(labels, 2, 10**6), labels)


def test_memory_of_a_large_image(engine):
    """Two million pixels: channels and their padded copy in single precision, labels, and little else."""
    image = np.zeros((1000, 2000), np.uint8)
    image[300:, 700:] = 200
    start = squares(image.shape, 50)
    seg.segment(image[:100, :100], superpixels=start[:100, :100])
    tracemalloc.start()
    found = seg.segment(image, superpixels=start)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.max() == 1
    assert peak < 80 * image.size


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"image": np.zeros(4)}, ValueError, r"image has shape \(4,\); expected \(H, W\) or \(H, W, channels\)"),
        ({"image": np.zeros((4, 0, 3))}, ValueError, r"image has shape \(4, 0, 3\); expected"),
        ({"image": np.zeros((4, 5), int)}, TypeError, "image has dtype int64; expected floats, uint8, uint16 or bool"),
        ({"image": np.zeros((4, 5), complex)}, TypeError, "image has dtype complex128; expected floats"),
        (
            {"image": np.full((4, 5), 7.0)},
            ValueError,
            r"floats from 7 to 7; .* in \[0, 1\], or color='none'",
        ),
        ({"image": np.full((4, 5), np.nan)}, ValueError, "image holds NaN or infinity; expected finite numbers"),
        (
            {"image": np.full((4, 5, 2), 1e30)},
            ValueError,
            r"image holds 1e\+30, whose square overflows single",
        ),
        ({"epsilon_sq": "best"}, ValueError, "epsilon_sq is 'best'; expected one of 'auto'"),
        ({"epsilon_sq": -1.0}, ValueError, r"epsilon_sq is -1\.0; expected a finite number > 0"),
        ({"superpixels": 0}, ValueError, "superpixels is 0; expected an integer >= 1"),
        ({"superpixels": 2.5}, TypeError, "superpixels has dtype float64; expected integer labels"),
        (
            {"superpixels": np.zeros((5, 4), int)},
            ValueError,
            r"superpixels has shape \(5, 4\); expected \(4, 5\), as",
        ),
        ({"window": 4}, ValueError, "window is 4; expected an odd number"),
        ({"window": 0}, ValueError, "window is 0; expected an integer >= 1"),
        ({"n_components": 0}, ValueError, "n_components is 0; expected an integer >= 1"),
        ({"overlap": 0}, ValueError, "overlap is 0; expected a finite number > 0"),
        ({"boundary_bits": -2}, ValueError, "boundary_bits is -2; expected a finite number >= 0"),
        ({"n_segments": 0}, ValueError, "n_segments is 0; expected an integer >= 1"),
        ({"n_segments": 21}, ValueError, "n_segments is 21; expected 1 to 20, as many as there are superpixels$"),
        ({"stop": "last"}, ValueError, "stop is 'last'; expected one of 'best', 'first'"),
        ({"mask": np.ones((2, 5), bool)}, ValueError, r"mask has shape \(2, 5\); expected \(4, 5\), as image has"),
        ({"color": "lab"}, ValueError, "color is 'lab'; expected one of 'auto', 'none'"),
        ({"progress": "no"}, TypeError, "progress is 'no' of type str; expected True or False"),
        ({"n_threads": 0}, ValueError, "n_threads is 0; expected an integer >= 1"),
        ({"backend": "gpu"}, ValueError, "backend is 'gpu'; expected one of"),
    ],
)
def test_errors(changes, kind, message):
    given = {"image": np.zeros((4, 5)), "superpixels": np.arange(20).reshape(4, 5), **changes}
    with pytest.raises(kind, match=message):
        seg.segment(given.pop("image"), **given)


def test_the_package_hands_it_out():
    assert rn.segmentation.segment is seg.segment
