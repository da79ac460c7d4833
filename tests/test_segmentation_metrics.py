"""Metrics of segmentations against their definitions, by loops over pixels and pairs of pixels.

A float64 mean over n pixels of terms in [0, t] is off by at most about n eps t: with at most 108 pixels, and terms of
at most 20, below 1e-12. The Rand index is a ratio of whole numbers, and exact.
"""

from __future__ import annotations

import itertools
import math
import os
import tracemalloc
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import redunet as rn
from redunet import segmentation as seg
from redunet.segmentation import boundary

TIGHT = {"rel": 0, "abs": 1e-12}
SYMMETRIC = (
    seg.rand_index,
    seg.probabilistic_rand_index,
    seg.variation_of_information,
    seg.global_consistency_error,
    seg.boundary_displacement_error,
)
METRICS = (*SYMMETRIC, seg.covering)
OF_COUNTS = tuple(metric for metric in METRICS if metric is not seg.boundary_displacement_error)
WITH_MEANS = tuple(metric for metric in METRICS if metric is not seg.rand_index)
by_name = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.__name__)


# --- Definitions ---


def segments(image):
    """Sets of pixels."""
    flat = np.ravel(image).tolist()
    return [{x for x, other in enumerate(flat) if other == label} for label in set(flat)]


def rand(A, B):
    pairs = list(itertools.combinations(zip(np.ravel(A).tolist(), np.ravel(B).tolist(), strict=True), 2))
    agree = sum((x[0] == y[0]) == (x[1] == y[1]) for x, y in pairs)
    return float(Fraction(agree, len(pairs))) if pairs else 1.0


def information(A, B):
    n = np.size(A)

    def entropy(parts):
        return -sum(len(part) / n * math.log2(len(part) / n) for part in parts if part)

    joint = [a & b for a in segments(A) for b in segments(B)]
    return 2 * entropy(joint) - entropy(segments(A)) - entropy(segments(B))


def inconsistency(A, B):
    def error(one, other):
        at = {x: part for part in other for x in part}
        return sum(len(part - at[x]) / len(part) for part in one for x in part)

    return min(error(segments(A), segments(B)), error(segments(B), segments(A))) / np.size(A)


def cover(A, B):
    return sum(len(b) * max(len(a & b) / len(a | b) for a in segments(A)) for b in segments(B)) / np.size(B)


def boundary_pixels(image, offsets=((0, 1), (1, 0))):
    H, W = np.shape(image)
    found = []
    for i, j in itertools.product(range(H), range(W)):
        near = [(i + p, j + q) for p, q in offsets if 0 <= i + p < H and 0 <= j + q < W]
        if any(image[i][j] != image[p][q] for p, q in near):
            found.append((i, j))
    return found


def displacement(A, B):
    x, y = boundary_pixels(A), boundary_pixels(B)
    if not x or not y:
        return math.hypot(*np.shape(A)) if x or y else 0.0

    def one_way(here, there):
        return sum(min(math.dist(p, q) for q in there) for p in here) / len(here)

    return (one_way(x, y) + one_way(y, x)) / 2


DEFINITIONS = {
    seg.rand_index: rand,
    seg.probabilistic_rand_index: rand,
    seg.variation_of_information: information,
    seg.global_consistency_error: inconsistency,
    seg.boundary_displacement_error: displacement,
    seg.covering: cover,
}


@st.composite
def images(draw, count=2):
    """Label images of one shape, from a single segment to one for every pixel."""
    H, W = draw(st.integers(1, 6)), draw(st.integers(1, 7))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    result = []
    for _ in range(count):
        kind = draw(st.sampled_from(["one", "few", "many", "rows", "each"]))
        if kind == "rows":
            image = np.broadcast_to(random.integers(0, 3, (H, 1)), (H, W)).copy()
        elif kind == "each":
            image = random.permutation(H * W).reshape(H, W)
        else:
            image = random.integers(0, {"one": 1, "few": 3, "many": H * W}[kind], (H, W))
        result.append(image)
    return result


# --- Against definitions, fixtures and other libraries ---


@by_name
@given(pair=images())
def test_definitions(metric, pair):
    assert metric(*pair) == pytest.approx(DEFINITIONS[metric](*pair), **TIGHT)


@pytest.mark.skipif(not os.environ.get("REDUNET_SHARED"), reason="REDUNET_SHARED names no folder with the fixture")
@pytest.mark.parametrize(
    ("metric", "table"),
    [
        (seg.rand_index, "rand"),
        (seg.probabilistic_rand_index, "rand"),
        (seg.variation_of_information, "voi"),
        (seg.global_consistency_error, "gce"),
        (seg.boundary_displacement_error, "bde"),
        (seg.covering, "covering"),
    ],
)
def test_fixture(metric, table):
    path = Path(os.environ["REDUNET_SHARED"]) / "fixtures" / "compress" / "segmentation_metrics_9x12.npz"
    with np.load(path) as file:
        stored, expected = file["images"], file[table]
    values = [[metric(row, column) for column in stored] for row in stored]
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-12)


@given(pair=images())
def test_rand_score_of_scikit_learn(pair):
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    if pair[0].size > 1:
        assert seg.rand_index(*pair) == pytest.approx(metrics.rand_score(*map(np.ravel, pair)), **TIGHT)


@given(pair=images())
def test_variation_of_information_of_scikit_image(pair):
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    ours = seg.variation_of_information(*pair)
    assert ours == pytest.approx(sum(metrics.variation_of_information(*pair)), **TIGHT)


# --- Properties ---


@by_name
@given(pair=images())
def test_identical_segmentations_are_perfect(metric, pair):
    perfect = 1.0 if metric in (seg.rand_index, seg.probabilistic_rand_index, seg.covering) else 0.0
    assert metric(pair[0], pair[0]) == perfect


@pytest.mark.parametrize("metric", SYMMETRIC, ids=lambda metric: metric.__name__)
@given(pair=images())
def test_symmetry(metric, pair):
    assert metric(*pair) == pytest.approx(metric(*pair[::-1]), **TIGHT)


def test_covering_is_of_the_second_by_the_first():
    """Three of four pixels cover the whole by 3/4; the whole covers three pixels by 3/4 and one by 1/4."""
    assert seg.covering([[0, 0, 0, 1]], [[0, 0, 0, 0]]) == 0.75
    assert seg.covering([[0, 0, 0, 0]], [[0, 0, 0, 1]]) == (3 * 0.75 + 0.25) / 4


@by_name
@given(pair=images(), data=st.data())
def test_names_of_labels_do_not_matter(metric, pair, data):
    """Any integers of any dtype, near each other (counted) or far apart (sorted)."""
    dtype = np.dtype(data.draw(st.sampled_from(["b", "B", "h", ">i4", "q", "Q", ">u8"])))
    limits = np.iinfo(dtype)
    renamed = []
    for image in pair:
        distinct, codes = np.unique(image, return_inverse=True)
        k = len(distinct)
        names = data.draw(st.lists(st.integers(limits.min, limits.max), min_size=k, max_size=k, unique=True))
        renamed.append(np.array(names, dtype)[codes.reshape(image.shape)])
    assert metric(*renamed) == pytest.approx(metric(*pair), **TIGHT)


@by_name
def test_extreme_labels_and_booleans(metric):
    whole, parts = np.zeros((2, 3), int), np.array([[0, 0, 1], [0, 1, 1]])
    expected = metric(parts, whole)
    for dtype in (np.int64, np.uint64, np.int8, np.uint8):
        limits = np.iinfo(dtype)
        extremes = np.array([limits.min, limits.max], dtype)
        assert metric(extremes[parts], extremes[1 - whole]) == expected
    assert metric(parts.astype(bool), whole.astype(bool)) == expected


@given(three=images(count=3))
def test_variation_of_information_has_the_triangle_inequality(three):
    A, B, C = three
    apart = seg.variation_of_information
    assert apart(A, C) <= apart(A, B) + apart(B, C) + 1e-12
    assert (apart(A, B) < 1e-12) == (rand(A, B) == 1.0)
    assert 0 <= apart(A, B) <= math.log2(A.size) + 1e-12


def test_variation_of_information_in_nats():
    pair = [0, 0, 1, 1], [0, 0, 0, 0]
    assert seg.variation_of_information(*pair, unit="nats") == pytest.approx(math.log(2), rel=1e-15)


@given(pair=images())
def test_a_refinement_is_consistent(pair):
    finer = pair[0] * (1 + pair[1].max()) + pair[1]
    assert seg.global_consistency_error(pair[0], finer) == 0


@pytest.mark.parametrize("metric", WITH_MEANS, ids=lambda metric: metric.__name__)
@given(four=images(count=4))
def test_several_ground_truths_give_the_mean(metric, four):
    labels, *truths = four
    expected = np.mean([metric(labels, truth) for truth in truths])
    assert metric(labels, truths) == pytest.approx(expected, **TIGHT)
    assert metric(labels, np.stack(truths)) == metric(labels, truths)


@given(four=images(count=4))
def test_the_probabilistic_rand_index_by_its_probabilities(four):
    labels, *truths = (image.ravel().tolist() for image in four)
    pairs = list(itertools.combinations(range(len(labels)), 2))
    total = 0.0
    for x, y in pairs:
        p = sum(truth[x] == truth[y] for truth in truths) / len(truths)
        total += p if labels[x] == labels[y] else 1 - p
    expected = total / len(pairs) if pairs else 1.0
    assert seg.probabilistic_rand_index(labels, truths) == pytest.approx(expected, **TIGHT)


@pytest.mark.parametrize("metric", OF_COUNTS, ids=lambda metric: metric.__name__)
def test_counts_know_no_shape(metric):
    A, B = np.random.default_rng(0).integers(0, 4, (2, 24))
    expected = metric(A, B)
    for shape in ((4, 6), (2, 3, 4), (1, 24)):
        assert metric(A.reshape(shape), B.reshape(shape)) == expected
    assert metric(A.reshape(4, 6).T, B.reshape(4, 6).T) == expected
    assert metric(A.tolist(), B.tolist()) == expected


# --- Boundaries and distances ---


@given(pair=images())
def test_boundaries(pair):
    for thick, offsets in ((False, ((0, 1), (1, 0))), (True, ((0, 1), (1, 0), (0, -1), (-1, 0)))):
        mask = seg.boundaries(pair[0], thick=thick)
        assert mask.dtype == bool
        assert mask.shape == pair[0].shape
        assert list(zip(*map(np.ndarray.tolist, np.nonzero(mask)), strict=True)) == boundary_pixels(pair[0], offsets)


def test_displacement_without_boundaries():
    parts, whole = np.arange(12).reshape(3, 4), np.zeros((3, 4), int)
    assert seg.boundary_displacement_error(whole, whole) == 0
    assert seg.boundary_displacement_error(parts, whole) == 5
    assert seg.boundary_displacement_error(whole, parts) == 5
    assert seg.boundary_displacement_error(whole, [whole, parts]) == 2.5


def nearest(mask):
    """Squared distances by all pairs."""
    pixels = np.argwhere(mask)
    grid = np.stack(np.meshgrid(*map(np.arange, mask.shape), indexing="ij"), axis=-1)
    return ((grid[:, :, None] - pixels) ** 2).sum(axis=-1).min(axis=2)


@given(
    H=st.integers(1, 19),
    W=st.integers(1, 19),
    share=st.sampled_from([0.0, 0.02, 0.2, 0.9]),
    block=st.sampled_from([1, 40, 1 << 20]),
    seed=st.integers(0, 2**32 - 1),
)
def test_distances_are_exact(H, W, share, block, seed):
    random = np.random.default_rng(seed)
    mask = random.random((H, W)) < share
    mask[random.integers(H), random.integers(W)] = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boundary, "BLOCK", block)
        np.testing.assert_array_equal(boundary.squared_distances(mask), nearest(mask))


@pytest.mark.parametrize("shape", [(9, 9), (9, 12), (12, 9)])
def test_distances_to_one_corner(shape):
    """Farther than the longer side, in columns without any pixel of the mask."""
    mask = np.zeros(shape, bool)
    mask[-1, 0] = True
    np.testing.assert_array_equal(boundary.squared_distances(mask), nearest(mask))


@pytest.mark.parametrize("shape", [(1, 1), (1, 2_100_000), (2_100_000, 1)])
def test_distances_of_lines(shape):
    """So long that the cube of the length overflows."""
    mask = np.zeros(shape, bool)
    mask.flat[0] = True
    expected = np.arange(mask.size, dtype=np.int64) ** 2
    np.testing.assert_array_equal(boundary.squared_distances(mask).ravel(), expected)


def test_distances_as_scipy_has_them():
    ndimage = pytest.importorskip("scipy.ndimage", reason="SciPy is not installed")
    mask = np.random.default_rng(0).random((211, 350)) < 0.001
    expected = np.rint(ndimage.distance_transform_edt(~mask) ** 2)
    np.testing.assert_array_equal(boundary.squared_distances(mask), expected)


def peak_memory(function, *arrays):
    tracemalloc.start()
    try:
        function(*arrays)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_distances_are_found_in_blocks(monkeypatch):
    """Of 512 x 512 pixels at most two more arrays beside g^2 at a time; without blocks there would be nine."""
    monkeypatch.setattr(boundary, "BLOCK", 1 << 12)
    mask = np.zeros((512, 512), bool)
    mask[3, 4] = True
    assert peak_memory(boundary.squared_distances, mask) < 3.5 * 8 * mask.size


@by_name
def test_memory_does_not_grow_with_the_number_of_labels(metric):
    """A table of all pairs of 10^5 labels would take 80 GB; this takes a few hundred bytes a pixel."""
    n = 100_000
    one, other = np.arange(n).reshape(250, 400), np.random.default_rng(0).permutation(n).reshape(250, 400)
    assert peak_memory(metric, one, other) < 300 * n


# --- Errors ---

IMAGE = np.zeros((3, 4), int)


@by_name
def test_errors(metric):
    truth = "truths" if metric is seg.probabilistic_rand_index else "truth"
    with pytest.raises(TypeError, match=r"labels has dtype float64; expected integer labels"):
        metric(IMAGE.astype(float), IMAGE)
    with pytest.raises(TypeError, match=rf"{truth} has dtype <U21; expected integer labels"):
        metric(IMAGE, IMAGE.astype(str))
    with pytest.raises(ValueError, match=r"labels has shape \(0, 4\); expected labels of at least one pixel"):
        metric(IMAGE[:0], IMAGE)
    with pytest.raises(ValueError, match=rf"{truth} has shape \(4, 3\); expected \(3, 4\), as labels has"):
        metric(IMAGE, IMAGE.T)
    with pytest.raises(ValueError, match=rf"{truth} has shape \(0, 3, 4\); expected labels of at least one pixel"):
        metric(IMAGE, np.empty((0, 3, 4), int))


@pytest.mark.parametrize("metric", WITH_MEANS, ids=lambda metric: metric.__name__)
def test_errors_of_several_truths(metric):
    with pytest.raises(ValueError, match=r"shape \(2, 4, 3\); expected \(3, 4\), as labels has, or \(n, 3, 4\) for n"):
        metric(IMAGE, [IMAGE.T, IMAGE.T])
    with pytest.raises(ValueError, match=r"truths? has rows that differ in shape; expected an array"):
        metric(IMAGE, [IMAGE, IMAGE.T])


def test_errors_of_images_and_options():
    with pytest.raises(ValueError, match=r"truth has shape \(1, 3, 4\); expected \(3, 4\), as labels has"):
        seg.rand_index(IMAGE, [IMAGE])
    for function in (seg.boundaries, lambda labels: seg.boundary_displacement_error(labels, labels)):
        with pytest.raises(ValueError, match=r"labels has shape \(12,\); expected a label image \(H, W\)"):
            function(IMAGE.ravel())
    with pytest.raises(TypeError, match=r"thick is 1 of type int; expected True or False"):
        seg.boundaries(IMAGE, thick=1)
    with pytest.raises(ValueError, match=r"unit is 'bytes'; expected one of 'nats', 'bits'"):
        seg.variation_of_information(IMAGE, IMAGE, unit="bytes")


def test_the_package_has_it():
    assert rn.segmentation is seg
