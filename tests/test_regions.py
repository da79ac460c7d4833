"""Merging of an image's regions against brute force from the definitions, and the moments that it starts from."""

from __future__ import annotations

import itertools
import os
import tracemalloc
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from merge_oracle import Oracle, check_greedy

import redunet as rn
from redunet import segmentation as seg
from redunet._backends import select_with

EPS = np.finfo(np.float64).eps


@dataclass
class RegionOracle(Oracle):
    """Segments are sets of pixels, numbered in raster order; n of them count as m = n/overlap samples."""

    where: list = field(default_factory=list)  # rows and columns of the pixels
    regions: list = field(default_factory=list)  # of each
    overlap: float = 1.0
    bits: float = 0.0

    @property
    def tolerance(self):
        """With m up to n/overlap samples in place of n, and boundaries, of which sums are rounded."""
        boundaries = EPS * np.log(2) * self.bits * 4 * len(self.X)
        return super().tolerance * max(1, 1 / self.overlap) + 4 * boundaries

    @cached_property
    def start(self):
        named = list(dict.fromkeys(self.regions))  # in the order of their first pixels
        return [tuple(x for x, region in enumerate(self.regions) if region == name) for name in named]

    def F(self, segment):
        W = self.X[list(segment)]
        n, D = W.shape
        m, of_mean, basis = n / self.overlap, 0.0, D if self.length == "full" else 0
        if self.mean == "estimate":
            mu = W.mean(axis=0)
            W = W - mu
            of_mean = D / 2 * np.log(1 + mu @ mu / self.epsilon_sq) if basis else 0.0
        logdet = np.linalg.slogdet(np.eye(D) + D / (n * self.epsilon_sq) * W.T @ W)[1]
        return (m + basis) / 2 * logdet + of_mean - m * np.log(m)

    def boundary(self, a, b):
        """Pairs of pixels, one in each, of which one is right of the other or below."""
        places = {self.where[x] for x in b}
        steps = ((0, 1), (1, 0), (0, -1), (-1, 0))
        return sum((y + dy, x + dx) in places for y, x in (self.where[p] for p in a) for dy, dx in steps)

    def total(self, segments):
        segments, M = list(segments), len(self.X) / self.overlap
        of_boundaries = sum(self.boundary(a, b) for a, b in itertools.combinations(segments, 2))
        return sum(map(self.F, segments)) + M * np.log(M) + np.log(2) * self.bits * of_boundaries

    def gains(self, segments):
        found = {}
        for i, j in itertools.combinations(sorted(segments), 2):
            if shared := self.boundary(segments[i], segments[j]):
                union = self.F(tuple(sorted(segments[i] + segments[j])))
                found[i, j] = union - self.F(segments[i]) - self.F(segments[j]) - np.log(2) * self.bits * shared
        return found


@st.composite
def problems(draw):
    """Features (H, W, D), labels, options of merge_regions, and the oracle of them."""
    H, W, D = draw(st.integers(1, 5)), draw(st.integers(1, 5)), draw(st.integers(1, 3))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    features = random.standard_normal((H, W, D)) * random.uniform(0.1, 2, D)
    if draw(st.booleans()):
        features = np.round(features)  # ties, and regions without scatter
    features = features.astype(draw(st.sampled_from([np.float32, np.float64])))
    labels = random.integers(-3, draw(st.integers(-2, 8)), (H, W))
    mask = random.random((H, W)) < 0.8 if draw(st.booleans()) else np.ones((H, W), bool)
    mask[H // 2, W // 2] = True
    options = {
        "epsilon_sq": draw(st.sampled_from([1e-3, 0.3, 10.0])),
        "mean": draw(st.sampled_from(["estimate", "zero"])),
        "length": draw(st.sampled_from(["full", "rate"])),
        "overlap": draw(st.sampled_from([0.5, 1.0, 9.0])),
        "boundary_bits": draw(st.sampled_from([0.0, 1.65, 20.0])),
    }
    oracle = RegionOracle(
        features[mask],
        *(options[name] for name in ("epsilon_sq", "mean", "length")),
        where=list(zip(*(places.tolist() for places in np.nonzero(mask)), strict=True)),
        regions=labels[mask].tolist(),
        overlap=options["overlap"],
        bits=options["boundary_bits"],
    )
    return features, labels, options | {"mask": None if mask.all() else mask}, oracle


@given(problem=problems())
def test_every_merge_is_the_best_of_all_neighbours(backend, problem):
    features, labels, options, oracle = problem
    path = seg.merge_regions(features, labels, **options)
    check_greedy(path, oracle)
    assert path.n_start == len(oracle.start)


@given(problem=problems(), exponent=st.sampled_from([-300, -90, 3, 250]))
def test_powers_of_two_as_units_change_no_bit(backend, problem, exponent):
    features, labels, options, _ = problem
    features, unit = features.astype(np.float64), 2.0**exponent
    path = seg.merge_regions(features, labels, **options)
    if exponent == 250:  # beyond what squares of squares are numbers for
        unit = 2.0**505
    options["epsilon_sq"] *= unit**2
    scaled = seg.merge_regions(features * unit, labels, **options)
    for name in ("children", "gains", "code_lengths"):
        np.testing.assert_array_equal(getattr(scaled, name), getattr(path, name))
    assert scaled.epsilon_sq == options["epsilon_sq"]


@pytest.mark.skipif("REDUNET_SHARED" not in os.environ, reason="REDUNET_SHARED names no folder of fixtures")
def test_pixels_of_a_grid_are_the_fixture(backend):
    """As regions of their own, with no boundary bits: the path of samples with the grid as connectivity."""
    folder = Path(os.environ["REDUNET_SHARED"]) / "fixtures" / "compress"
    with np.load(folder / "clustering_grid_6x5.npz") as ref:
        for q, epsilon_sq in enumerate(ref["epsilon_sq"].tolist()):
            X = ref["X"].reshape(6, 5, -1)
            path = seg.merge_regions(X, np.arange(30).reshape(6, 5), epsilon_sq=epsilon_sq, mean=str(ref["mean"]))
            np.testing.assert_array_equal(path.children, ref[f"children_{q}"])
            np.testing.assert_allclose(path.gains, ref[f"gains_{q}"], rtol=0, atol=1e-8)
            np.testing.assert_allclose(path.code_lengths, ref[f"code_lengths_{q}"], rtol=1e-11, atol=1e-8)
            np.testing.assert_array_equal(path.labels("first"), ref[f"labels_first_{q}"])
            np.testing.assert_array_equal(path.labels("best"), ref[f"labels_best_{q}"])


def test_regions_are_clusters_with_connectivity(backend):
    """Where a pixel is a sample and boundaries cost nothing, `merge_path` does the same, from samples."""
    random = np.random.default_rng(0)
    features, labels = random.standard_normal((12, 9, 4)), np.arange(12)[:, None] // 3 * 3 + np.arange(9) // 3
    places = np.indices((12, 9)).reshape(2, -1).T
    near = np.abs(places[:, None] - places).sum(axis=2) == 1
    ours = seg.merge_regions(features, labels, epsilon_sq=0.2)
    theirs = rn.clustering.merge_path(features.reshape(108, 4), epsilon_sq=0.2, init=labels.ravel(), connectivity=near)
    np.testing.assert_array_equal(ours.children, theirs.children)
    np.testing.assert_allclose(ours.gains, theirs.gains, rtol=0, atol=Oracle(features.reshape(108, 4), 0.2).tolerance)
    np.testing.assert_array_equal(ours.sizes, theirs.sizes)


# --- Moments ---


def moments(image, filters, labels, n_regions, n_threads=2):
    return select_with("region_moments").region_moments(image, filters, labels, n_regions, n_threads=n_threads)


def by_definition(image, filters, labels, n_regions):
    """By loops over pixels, in double precision."""
    w = 1 if filters is None else filters.shape[1]
    members = [[] for _ in range(n_regions)]
    for y, x in np.ndindex(*labels.shape):
        if labels[y, x] >= 0:
            feature = image[y, x] if filters is None else np.tensordot(image[:, y : y + w, x : x + w], filters, 3)
            members[labels[y, x]].append(feature)
    D = image.shape[2] if filters is None else filters.shape[3]
    sizes, means, scatters = np.zeros(n_regions), np.zeros((n_regions, D)), np.zeros((n_regions, D, D))
    for region, rows in enumerate(members):
        if rows:
            W = np.array(rows, np.float64)
            sizes[region], means[region] = len(W), W.mean(axis=0)
            scatters[region] = (W - means[region]).T @ (W - means[region])
    return sizes, means, scatters


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("H", "W", "c", "w", "D", "K"),
    [(5, 7, 3, 3, 8, 4), (20, 33, 1, 7, 9, 9), (3, 2, 2, 1, 3, 2), (67, 41, 2, 5, 17, 20), (130, 17, 1, 1, 1, 5),
     (1, 300, 3, 3, 4, 7), (2, 1, 1, 3, 2, 1)],
)  # fmt: skip
def test_moments_of_filtered_windows(backend, H, W, c, w, D, K, dtype):
    """Features are sums of n = c w^2 products in the image's precision: each off by at most n units of |image||filter|,

    which moves a mean by as much, and a scatter by 2 |d| of it for each pixel and 2 units of its own sum.
    """
    random = np.random.default_rng(H * W)
    image = random.standard_normal((c, H + w - 1, W + w - 1)).astype(dtype)
    filters = random.standard_normal((c, w, w, D)).astype(dtype)
    labels = random.integers(-1, K, (H, W))
    labels[:, W // 2 :] = labels[:, :1]  # runs
    sizes, means, scatters = moments(image, filters, labels, K)
    exact = by_definition(image.astype(np.float64), filters.astype(np.float64), labels, K)
    n = c * w * w
    unit = n * np.finfo(dtype).eps * n * np.abs(image).max() * np.abs(filters).max()
    np.testing.assert_array_equal(sizes, exact[0])
    np.testing.assert_allclose(means, exact[1], rtol=0, atol=unit)
    spread = np.sqrt(np.trace(exact[2], axis1=1, axis2=2).max())
    np.testing.assert_allclose(scatters, exact[2], rtol=0, atol=4 * unit * np.sqrt(H * W) * (spread + unit))
    np.testing.assert_array_equal(scatters, scatters.transpose(0, 2, 1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_small_scatter_far_from_zero_is_kept(backend, dtype):
    """Of features near 1e4 that differ by 0.1. Sums of n squares of 1e8 would be off by n 1e8 units: 2e-5 of double.

    Means of 1e4 are off by a unit of that at each of 64 bands of rows, and scatter by 2 n |d| times as much: 1e-7.
    """
    random = np.random.default_rng(1)
    features = (1e4 + 0.1 * random.standard_normal((150, 40, 3))).astype(dtype)
    labels = random.integers(0, 6, (150, 40))
    exact = by_definition(features.astype(np.float64), None, labels, 6)
    sizes, means, scatters = moments(features, None, labels, 6)
    np.testing.assert_array_equal(sizes, exact[0])
    np.testing.assert_allclose(means, exact[1], rtol=0, atol=64e4 * EPS)
    spread = np.abs(features - features.mean()).max()
    np.testing.assert_allclose(scatters, exact[2], rtol=0, atol=2 * sizes.max() * spread * 64e4 * EPS)


def test_moments_are_bitwise_equal_for_any_number_of_threads(backend):
    random = np.random.default_rng(2)
    image, filters = random.standard_normal((3, 206, 307)).astype(np.float32), random.standard_normal((3, 7, 7, 8))
    labels = np.arange(200)[:, None] // 20 * 16 + np.arange(301) // 20
    one = moments(image, filters.astype(np.float32), labels, 160, 1)
    for n_threads in (2, 3, 7):
        for a, b in zip(moments(image, filters.astype(np.float32), labels, 160, n_threads), one, strict=True):
            np.testing.assert_array_equal(a, b)


def test_regions_without_pixels_and_pixels_without_regions(backend):
    features, labels = np.ones((3, 4, 2)), np.full((3, 4), -1)
    labels[1, 2] = 2
    sizes, means, scatters = moments(features, None, labels, 4)
    assert sizes.tolist() == [0, 0, 1, 0]
    assert means.tolist() == [[0, 0], [0, 0], [1, 1], [0, 0]]
    assert not scatters.any()


def test_many_regions_take_no_memory_but_theirs(backend):
    """Every pixel a region: what is kept is of the size of the result, 8 (1 + D + D^2) bytes a pixel."""
    labels = np.arange(10_000).reshape(100, 100)
    features = np.random.default_rng(3).standard_normal((100, 100, 3))
    tracemalloc.start()
    sizes, means, scatters = moments(features, None, labels, 10_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(means, features.reshape(-1, 3))
    assert not scatters.any()
    assert (sizes == 1).all()
    assert peak < 4 * (sizes.nbytes + means.nbytes + scatters.nbytes)


# --- The API ---


def test_a_label_image_may_hold_any_integers(backend):
    features = np.random.default_rng(4).standard_normal((6, 6, 2))
    labels = np.random.default_rng(5).integers(0, 4, (6, 6))
    path = seg.merge_regions(features, labels, epsilon_sq=0.1)
    for names in (labels * 1000 - 7, labels.astype(np.uint8), (labels * 2**61).astype(np.uint64)):
        other = seg.merge_regions(features, names, epsilon_sq=0.1)
        np.testing.assert_array_equal(other.children, path.children)
    flat = seg.merge_regions(features[:, :, 0], labels, epsilon_sq=0.1)
    np.testing.assert_array_equal(flat.gains, seg.merge_regions(features[:, :, :1], labels, epsilon_sq=0.1).gains)


def test_parts_of_the_image_that_a_mask_cuts_stay_apart(backend):
    mask = np.ones((4, 7), bool)
    mask[:, 3] = False
    features = np.zeros((4, 7))
    features[:, 3] = np.nan  # which nobody reads
    path = seg.merge_regions(features, np.arange(28).reshape(4, 7), epsilon_sq=1.0, mask=mask)
    image = np.full((4, 7), -1)
    image[mask] = path.labels()
    assert image.tolist() == [[0, 0, 0, -1, 1, 1, 1]] * 4


def test_boundaries_shorten_the_path(backend):
    """The more a boundary costs, the fewer segments are left, and the code has each pair of pixels that it parts."""
    random = np.random.default_rng(6)
    features = np.where(np.arange(12) < 5, 0.0, 0.4) + 0.3 * random.standard_normal((10, 12))
    cells = np.arange(10)[:, None] // 2 * 6 + np.arange(12) // 2
    paths = [seg.merge_regions(features, cells, epsilon_sq=0.05, boundary_bits=b) for b in (0.0, 2.0, 50.0)]
    assert paths[0].n_best >= paths[1].n_best >= paths[2].n_best == 1
    apart = 4 * 12 + 5 * 10
    assert paths[1].code_lengths[0] - paths[0].code_lengths[0] == pytest.approx(2 * np.log(2) * apart, rel=1e-12)
    assert paths[1].code_lengths[-1] == pytest.approx(paths[0].code_lengths[-1], rel=1e-12)


def test_progress(capsys, backend):
    features = np.random.default_rng(7).standard_normal((8, 8))
    seg.merge_regions(features, np.arange(64).reshape(8, 8), epsilon_sq=0.1, progress=True)
    assert "merge 63/63" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"features": np.ones(4)}, ValueError, r"features has shape \(4,\); expected \(H, W, D\) or \(H, W\)"),
        ({"features": np.ones((4, 5, 0))}, ValueError, r"features has shape \(4, 5, 0\); expected"),
        ({"features": np.ones((4, 5)) * 1j}, TypeError, "features has dtype complex128; expected real numbers"),
        ({"features": np.full((4, 5), np.nan)}, ValueError, "features hold NaN or infinity; expected finite numbers"),
        (
            {"labels": np.ones((4, 4), int)},
            ValueError,
            r"labels has shape \(4, 4\); expected \(4, 5\), as features has",
        ),
        ({"labels": np.ones((4, 5))}, TypeError, "labels has dtype float64; expected integer labels"),
        ({"mask": np.ones((4, 5))}, TypeError, "mask has dtype float64; expected bool"),
        ({"mask": np.ones((5, 4), bool)}, ValueError, r"mask has shape \(5, 4\); expected \(4, 5\), as labels has"),
        ({"mask": np.zeros((4, 5), bool)}, ValueError, "mask is False everywhere; expected at least one pixel"),
        ({"epsilon_sq": 0}, ValueError, "epsilon_sq is 0; expected a finite number > 0"),
        ({"epsilon_sq": 1e-320}, ValueError, "epsilon_sq is 1e-320: the squares of features beside it overflow"),
        ({"overlap": 0.0}, ValueError, r"overlap is 0\.0; expected a finite number > 0"),
        ({"boundary_bits": -1}, ValueError, "boundary_bits is -1; expected a finite number >= 0"),
        ({"mean": "none"}, ValueError, "mean is 'none'; expected one of 'estimate', 'zero'"),
        ({"length": "short"}, ValueError, "length is 'short'; expected one of 'full', 'rate'"),
        ({"progress": 1}, TypeError, "progress is 1 of type int; expected True or False"),
        ({"n_threads": 0}, ValueError, "n_threads is 0; expected an integer >= 1"),
        ({"backend": "gpu"}, ValueError, "backend is 'gpu'; expected one of"),
    ],
)
def test_errors(changes, kind, message):
    given = {"features": np.ones((4, 5)), "labels": np.arange(20).reshape(4, 5), "epsilon_sq": 0.1, **changes}
    with pytest.raises(kind, match=message):
        seg.merge_regions(given.pop("features"), given.pop("labels"), **given)
