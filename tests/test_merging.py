"""Merging by coding length, against brute force from the definitions (`merge_oracle`), on every backend.

A path is checked merge by merge: each has the gain that the definition says, and no pair of that moment has a lower
one, up to a rounding that `Oracle.tolerance` derives from the problem. That holds whatever ties there are.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import os
import pickle
import runpy
import tracemalloc
import types
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from merge_oracle import Oracle, check_greedy

import redunet as rn
from redunet import _backends, clustering
from redunet._backends import numpy_backend
from redunet._backends.host_contract import MergeRequest

FOLDER = Path(__file__).parent / "fixtures" / "clustering"
OURS = sorted(path.stem for path in FOLDER.glob("*.npz"))
SHARED = os.environ.get("REDUNET_SHARED")
FILES = [FOLDER / f"{name}.npz" for name in OURS]
if SHARED:
    FILES += sorted((Path(SHARED) / "fixtures" / "compress").glob("clustering_*.npz"))


@cache
def read(path):
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}


def path_of(oracle, **changes):
    """The package's path of an oracle's problem."""
    given = {"epsilon_sq": oracle.epsilon_sq, "mean": oracle.mean, "length": oracle.length}
    given |= {"init": oracle.init, "connectivity": oracle.adjacency, **changes}
    return clustering.merge_path(given.pop("X", oracle.X), **given)


def same_partition(a, b):
    """Whether two arrays of labels say the same but for the names."""
    pairs = len(set(zip(a.tolist(), b.tolist(), strict=True)))
    return pairs == len(set(a.tolist())) == len(set(b.tolist()))


# --- Fixtures ---


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_fixtures(backend, file):
    """In double precision to 1e-8; no step of theirs is a tie, so trees are the same."""
    ref = read(file)
    length = "rate" if str(ref["length"]) == "rate" else "full"
    settings = {"mean": str(ref["mean"]), "length": length}
    for q, epsilon_sq in enumerate(ref["epsilon_sq"].tolist()):
        path = clustering.merge_path(
            ref["X"], epsilon_sq=epsilon_sq, init=ref.get("init"), connectivity=ref.get("adjacency"), **settings
        )
        np.testing.assert_array_equal(path.children, ref[f"children_{q}"])
        np.testing.assert_array_equal(path.sizes, ref[f"sizes_{q}"])
        np.testing.assert_allclose(path.gains, ref[f"gains_{q}"], rtol=0, atol=1e-8)
        np.testing.assert_allclose(path.code_lengths, ref[f"code_lengths_{q}"], rtol=1e-11, atol=1e-8)
        for stop, name in (("first", "labels_first"), ("best", "labels_best"), (3, "labels_k3")):
            if f"{name}_{q}" in ref:
                np.testing.assert_array_equal(path.labels(stop), ref[f"{name}_{q}"])


@pytest.mark.parametrize("name", OURS)
def test_the_script_still_makes_the_fixtures(name):
    make = runpy.run_path(str(FOLDER / "make.py"))
    assert sorted(make["CASES"]) == OURS
    stored = read(FOLDER / f"{name}.npz")
    again = make["arrays"](name, **make["problem"](name))
    assert again.keys() == stored.keys()
    for key, value in again.items():
        if value.dtype.kind == "f":
            np.testing.assert_allclose(value, stored[key], rtol=1e-8, atol=1e-8, err_msg=key)
        else:
            np.testing.assert_array_equal(value, stored[key], err_msg=key)


def test_fixtures_are_small():
    assert len(OURS) == 6
    assert sum(path.stat().st_size for path in FOLDER.glob("*.npz")) < 50_000


# --- Properties, for any data ---


@dataclass(frozen=True)
class Case:
    """A small problem, with repeated samples, zeros and single dimensions among them."""

    X: np.ndarray
    epsilon_sq: float
    mean: str
    length: str

    @property
    def options(self):
        return {"epsilon_sq": self.epsilon_sq, "mean": self.mean, "length": self.length}

    @property
    def oracle(self):
        return Oracle(self.X, **self.options)


@st.composite
def cases(draw, least=1, most=11, dtypes=(np.float64, np.float32), ties=True):
    N, D = draw(st.integers(least, most)), draw(st.integers(1, 5))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    X = random.standard_normal((N, D)) * random.uniform(0.1, 2, D)
    if ties:
        kind = draw(st.sampled_from(["plain", "repeated", "zeros", "integers"]))
        if kind == "repeated":
            X = X[random.integers(0, max(1, N // 2), N)]
        elif kind == "zeros":
            X[random.random(N) < 0.5] = 0
        elif kind == "integers":
            X = np.round(X)
    X = X.astype(draw(st.sampled_from(dtypes)))
    epsilon_sq = draw(st.sampled_from([1e-4, 0.01, 0.3, 1.0, 30.0]))
    return Case(X, epsilon_sq, draw(st.sampled_from(["estimate", "zero"])), draw(st.sampled_from(["full", "rate"])))


@given(case=cases())
def test_every_merge_is_the_best_of_all_pairs(backend, case):
    check_greedy(clustering.merge_path(case.X, **case.options), case.oracle)


@given(case=cases(least=2), data=st.data())
def test_the_same_from_clusters_and_with_neighbours(backend, case, data):
    N = len(case.X)
    oracle = case.oracle
    if data.draw(st.booleans()):
        oracle.init = np.array(data.draw(st.lists(st.integers(0, 5), min_size=N, max_size=N)))
    if data.draw(st.booleans()):
        pairs = data.draw(st.lists(st.tuples(st.integers(0, N - 1), st.integers(0, N - 1)), max_size=2 * N))
        oracle.adjacency = np.zeros((N, N))
        for i, j in pairs:
            oracle.adjacency[i, j] = -1.5  # not zero is all that is asked
    path = path_of(oracle)
    check_greedy(path, oracle)
    assert path.n_start == len(oracle.start)


def without_ties(oracle):
    """The oracle's path, where no two gains of a moment are near enough for rounding to choose between them."""
    expected = oracle.path()
    assume(expected["min_gap"] > 8 * oracle.tolerance)
    return expected


@given(case=cases(ties=False), seed=st.integers(0, 1000))
def test_rotations_change_nothing(backend, case, seed):
    expected = without_ties(case.oracle)
    Q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((case.X.shape[1],) * 2))
    path = clustering.merge_path(case.X.astype(np.float64) @ Q, **case.options)
    np.testing.assert_array_equal(path.children, expected["children"])
    np.testing.assert_allclose(path.gains, expected["gains"], rtol=0, atol=4 * case.oracle.tolerance)


@given(case=cases(dtypes=(np.float64,)), exponent=st.integers(-300, 300))
def test_powers_of_two_as_units_change_no_bit(backend, case, exponent):
    path = clustering.merge_path(case.X, **case.options)
    unit = 2.0**exponent
    scaled = clustering.merge_path(case.X * unit, **case.options | {"epsilon_sq": case.epsilon_sq * unit**2})
    for name in ("children", "gains", "code_lengths"):
        np.testing.assert_array_equal(getattr(scaled, name), getattr(path, name))


@given(case=cases(ties=False, dtypes=(np.float64,)), unit=st.floats(1e-3, 1e3))
def test_units_change_nothing(backend, case, unit):
    expected = without_ties(case.oracle)
    path = clustering.merge_path(case.X * unit, **case.options | {"epsilon_sq": case.epsilon_sq * unit**2})
    np.testing.assert_array_equal(path.children, expected["children"])
    np.testing.assert_allclose(path.gains, expected["gains"], rtol=0, atol=4 * case.oracle.tolerance)


@given(case=cases(least=2, ties=False), seed=st.integers(0, 1000))
def test_the_order_of_samples_changes_names_only(backend, case, seed):
    without_ties(case.oracle)
    order = np.random.default_rng(seed).permutation(len(case.X))
    path, other = (clustering.merge_path(X, **case.options) for X in (case.X, case.X[order]))
    np.testing.assert_allclose(other.gains, path.gains, rtol=0, atol=2 * case.oracle.tolerance)
    for k in range(1, len(case.X) + 1):
        assert same_partition(path.labels(k)[order], other.labels(k))


@given(case=cases())
def test_lengths_of_partitions(backend, case):
    """Along the path, from singular values of the partition, and by definition: three ways."""
    path, oracle = clustering.merge_path(case.X, **case.options), case.oracle
    for k in range(1, len(case.X) + 1):
        labels = path.labels(k)
        expected = oracle.of_labels(labels)
        allowed = len(case.X) * oracle.tolerance
        assert abs(path.code_lengths[len(case.X) - k] - expected) <= allowed
        assert abs(clustering.code_length(case.X, labels, **case.options) - expected) <= allowed
    bits = clustering.code_length(case.X, labels, unit="bits", **case.options)
    assert bits == pytest.approx(clustering.code_length(case.X, labels, **case.options) / np.log(2), rel=1e-15)
    assert path.code_lengths[case.X.shape[0] - path.n_best] == path.code_lengths.min()
    assert path.n_best <= path.n_first or path.code_lengths.min() < path.code_lengths[len(case.X) - path.n_first]


@given(case=cases())
def test_effective_dimensions(case):
    labels = np.arange(len(case.X)) % 3
    dims = clustering.effective_dimensions(case.X, labels, epsilon_sq=case.epsilon_sq, mean=case.mean)
    D = case.X.shape[1]
    for label, dim in enumerate(dims):
        W = case.X[labels == label].astype(np.float64)
        S = np.atleast_2d(np.cov(W.T, bias=True)) if case.mean == "estimate" else W.T @ W / len(W)
        expected = np.trace(S @ np.linalg.inv(S + case.epsilon_sq / D * np.eye(D)))
        assert dim == pytest.approx(expected, abs=case.oracle.tolerance)


# --- Edges ---


def test_one_sample(backend):
    path = clustering.merge_path([[1.0, 2.0]], epsilon_sq=0.5)
    assert path.children.shape == (0, 2)
    assert path.gains.shape == path.sizes.shape == (0,)
    assert path.n_first == path.n_best == path.n_start == path.n_samples == 1
    assert path.code_lengths.tolist() == [pytest.approx(np.log(1 + 5 / 0.5), rel=1e-14)]  # D/2 log(1 + |mu|^2/eps^2)
    assert path.labels().tolist() == path.labels(1).tolist() == [0]
    assert path.linkage().shape == (0, 4)


def test_one_cluster_to_start_from(backend):
    path = clustering.merge_path(np.eye(3), epsilon_sq=0.5, init=["a"] * 3)
    assert len(path.children) == 0
    assert path.labels().tolist() == [0, 0, 0]


def test_components_stay_apart(backend):
    """What connectivity keeps apart never merges, sparse or dense."""
    sparse = pytest.importorskip("scipy.sparse")
    random = np.random.default_rng(0)
    X, component = random.standard_normal((12, 2)), np.arange(12) % 3
    together = component[:, None] == component
    path = clustering.merge_path(X, epsilon_sq=100.0, connectivity=together)
    assert len(path.children) == 9
    assert same_partition(path.labels(3), component)
    for make in (sparse.csr_matrix, sparse.coo_array, sparse.csc_array):
        again = clustering.merge_path(X, epsilon_sq=100.0, connectivity=make(np.triu(together)))
        np.testing.assert_array_equal(again.children, path.children)
    stored_zeros = sparse.coo_array((together.ravel().astype(float), np.indices((12, 12)).reshape(2, -1)))
    assert len(clustering.merge_path(X, epsilon_sq=100.0, connectivity=stored_zeros).children) == 9
    alone = clustering.merge_path(X, epsilon_sq=100.0, connectivity=np.eye(12))
    assert alone.labels().tolist() == list(range(12))
    with pytest.raises(ValueError, match="the path ends with 3 clusters that connectivity keeps apart; expected one"):
        path.linkage()
    with pytest.raises(ValueError, match="stop is 2; expected a number of clusters on this path: 3 to 12"):
        path.labels(2)


@pytest.mark.parametrize(("mean", "epsilon_sq"), [("estimate", 1e-30), ("estimate", 1e-200), ("zero", 1e-12)])
def test_distortions_far_below_all(backend, mean, epsilon_sq):
    """Equal samples, for a zero mean those on one ray, merge before any others: that alone makes the code shorter.

    Beside 1e-12 the rounding of a scatter matrix is small yet; that of equal samples about their mean is zero.
    """
    random = np.random.default_rng(1)
    points = random.standard_normal((6, 4))
    which = random.permutation(np.repeat(np.arange(6), 3))
    X = points[which] * (1 if mean == "estimate" else random.choice([-2.0, 1.0, 4.0], (18, 1)))
    path = clustering.merge_path(X, epsilon_sq=epsilon_sq, mean=mean)
    assert same_partition(path.labels(6), which)
    assert np.isfinite(path.code_lengths).all()
    assert (path.gains[:12] < 0).all()


@pytest.mark.parametrize("mean", ["estimate", "zero"])
@pytest.mark.parametrize("epsilon_sq", [1e30, 1e300])
def test_distortions_far_above_all(backend, mean, epsilon_sq):
    """Nothing is left but what it takes to say which cluster a sample is in."""
    X = np.random.default_rng(2).standard_normal((15, 3))
    path = clustering.merge_path(X, epsilon_sq=epsilon_sq, mean=mean)
    assert path.n_first == path.n_best == 1
    assert path.code_lengths[0] == pytest.approx(15 * np.log(15), rel=1e-14)
    assert abs(path.code_lengths[-1]) < 1e-12  # (15 log 15 - sums of gains) in 15 steps


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
def test_samples_whose_squares_have_no_number(backend, scale):
    """The code depends on X / eps only, as long as eps^2 is a number."""
    X = np.random.default_rng(3).standard_normal((10, 2))
    epsilon_sq = 1e-300 if scale < 1 else 1e300
    path = clustering.merge_path(X * scale, epsilon_sq=epsilon_sq)
    assert np.isfinite(path.code_lengths).all()
    assert len(path.children) == 9


@pytest.mark.parametrize("mean", ["estimate", "zero"])
def test_clusters_of_more_dimensions_than_rounding_knows(backend, mean):
    """Where 1 is rounding beside the scatter of clusters, Cholesky may fail; a path comes out, and gains add up."""
    random = np.random.default_rng(4)
    X = random.standard_normal((40, 2)) @ random.standard_normal((2, 8))  # of rank 2 in 8 dimensions
    for epsilon_sq in (1e-14, 1e-17, 1e-20, 1e-25):
        path = clustering.merge_path(X, epsilon_sq=epsilon_sq, mean=mean)
        assert len(path.children) == 39
        assert np.isfinite(path.gains).all()


def test_single_precision_is_read_as_it_is(backend):
    X = np.random.default_rng(5).standard_normal((60, 4)).astype(np.float32)
    path, same = (clustering.merge_path(samples, epsilon_sq=0.1) for samples in (X, X.astype(np.float64)))
    assert path.gains.dtype == np.float64
    np.testing.assert_array_equal(path.children, same.children)
    np.testing.assert_allclose(path.gains, same.gains, rtol=0, atol=Oracle(X, 0.1).tolerance)


def test_a_larger_problem_is_the_best_of_all_pairs(backend):
    """Clusters of many samples, and many clusters of several: the paths of small problems know few."""
    X, _ = rn.datasets.lines_and_plane(44, noise=0.1, random_state=3)
    for mean, length, epsilon_sq in (("zero", "full", 0.01), ("estimate", "rate", 0.1)):
        oracle = Oracle(X, epsilon_sq, mean, length)
        check_greedy(path_of(oracle), oracle)


def test_threads_change_no_bit(backend):
    X = np.random.default_rng(6).standard_normal((80, 5))
    one, three = (clustering.merge_path(X, epsilon_sq=0.05, n_threads=n) for n in (1, 3))
    np.testing.assert_array_equal(one.children, three.children)
    np.testing.assert_array_equal(one.gains, three.gains)


def shapes_of_data(D, N, seed):
    """Planes with noise beside uniform samples: clusters of all sizes come, and samples that stay alone for long."""
    random = np.random.default_rng(seed)
    planes = [random.standard_normal((N // 4, 2)) @ random.standard_normal((2, D)) for _ in range(2)]
    rest = random.uniform(-2, 2, (N - 2 * (N // 4), D))
    return np.concatenate([*planes, rest]) + 0.02 * random.standard_normal((N, D))


class TestEngine:
    """The C++ loop passes over balls of samples, fills gaps and runs on threads: only where there are many samples."""

    @pytest.fixture(autouse=True)
    def engine(self):
        if _backends.status()["cpu"] != "available":
            pytest.skip("the C++ engine is not in this installation")
        self.module = _backends.require("cpu")

    def paths(self, X, n_threads=2, **options):
        X = X / np.abs(X).max()
        request = MergeRequest(**{"epsilon_sq": 0.01, "centred": True, "full": True} | options)
        expected = numpy_backend.merge_path(X, request, n_threads=1)
        return expected, self.module.merge_path(X, request, n_threads=n_threads)

    def check(self, X, **options):
        (children, gains), (found, theirs) = self.paths(X, **options)
        np.testing.assert_array_equal(found, children)
        np.testing.assert_allclose(theirs, gains, rtol=0, atol=1e-9)

    @pytest.mark.parametrize("full", [True, False], ids=["full", "rate"])
    @pytest.mark.parametrize("centred", [True, False], ids=["estimate", "zero"])
    @pytest.mark.parametrize(("D", "N"), [(1, 400), (2, 900), (3, 1200), (7, 700), (21, 300)])
    def test_the_tree_of_the_reference(self, D, N, centred, full):
        self.check(shapes_of_data(D, N, D), centred=centred, full=full)

    def test_every_simd_level(self):
        X = shapes_of_data(5, 400, 1)
        before = self.module.simd_level()
        try:
            for level in self.module.simd_levels():
                self.module.set_simd(level)
                self.check(X)
                self.check(X, centred=False)
        finally:
            self.module.set_simd(before)

    def test_threads_change_no_bit(self):
        X = shapes_of_data(6, 6000, 2)
        X /= np.abs(X).max()
        request = MergeRequest(epsilon_sq=0.01, centred=True, full=True)
        one, three = (self.module.merge_path(X, request, n_threads=n) for n in (1, 3))
        for ours, theirs in zip(one, three, strict=True):
            np.testing.assert_array_equal(ours, theirs)

    def test_single_precision_is_widened(self):
        X = shapes_of_data(4, 300, 3).astype(np.float32)
        self.check(X / np.abs(X).max())

    @pytest.mark.parametrize("centred", [True, False])
    def test_clusters_to_start_from(self, centred):
        random = np.random.default_rng(4)
        clusters = np.concatenate([np.arange(150), random.integers(0, 150, 450)])
        self.check(shapes_of_data(4, 600, 4), clusters=random.permutation(clusters), centred=centred)

    @pytest.mark.parametrize("centred", [True, False])
    def test_neighbours(self, centred):
        N = 300
        X = shapes_of_data(3, N, 5)
        near = np.argsort(((X[:, None] - X) ** 2).sum(axis=-1), axis=1)[:, 1:6]
        table = np.zeros((N, N), bool)
        table[np.arange(N)[:, None], near] = True
        table |= table.T
        self.check(X, neighbours=tuple(np.flatnonzero(row) for row in table), centred=centred)

    def test_arrays_that_are_not_plain(self):
        request = MergeRequest(epsilon_sq=0.01, centred=True, full=True)
        for X in (np.ones((3, 4))[:, ::2], np.ones(3), np.ones((2, 2), np.complex64), np.ones((2, 2), int)):
            with pytest.raises((TypeError, ValueError), match="X "):
                self.module.merge_path(X, request, n_threads=1)


def test_memory_is_that_of_the_samples_not_of_pairs():
    N = 1200
    X = np.random.default_rng(7).standard_normal((N, 3))
    tracemalloc.start()
    clustering.merge_path(X, epsilon_sq=0.01, backend="numpy")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < N * N  # an eighth of a table of float64


# --- What it finds ---


class TestLinesAndPlane:
    """The data of the paper's phase transition: 358 samples, noise 0.05."""

    X, y = rn.datasets.lines_and_plane(358, noise=0.05, random_state=0)

    def test_three_clusters_over_a_wide_range_then_one(self, backend):
        found = clustering.phase_transition(self.X, [0.001, 0.01, 0.03, 0.066, 0.3, 1.0], mean="zero")
        assert found.n_best.tolist() == found.n_first.tolist() == [3, 3, 3, 3, 1, 1]
        assert (np.diff(found.bits_per_sample) < 0).all()
        assert found.epsilons.tolist() == [0.001, 0.01, 0.03, 0.066, 0.3, 1.0]
        path = clustering.merge_path(self.X, epsilon_sq=0.03**2, mean="zero")
        bits = clustering.code_length(self.X, path.labels(), epsilon_sq=0.03**2, mean="zero", unit="bits") / 358
        assert found.bits_per_sample[2] == pytest.approx(bits, rel=1e-12)

    def test_without_what_bases_take_there_are_three_regimes(self, backend):
        found = clustering.phase_transition(self.X, [0.001, 0.031, 0.05, 0.2], mean="zero", length="rate")
        assert found.n_best[0] > 300
        assert found.n_best.tolist()[1:] == [3, 3, 1]
        assert found.n_first[1] > 3  # where the paper stops too early

    def test_the_clusters_are_the_lines_and_the_plane(self, backend):
        labels = clustering.merge_path(self.X, epsilon_sq=0.05**2, mean="zero").labels()
        table = np.zeros((3, 3), int)
        np.add.at(table, (labels, self.y), 1)
        assert table.max(axis=1).sum() > 0.9 * 358


def test_lines_and_plane_are_lines_and_a_plane():
    X, y = rn.datasets.lines_and_plane(40, noise=0, n_outliers=7, random_state=1)
    assert X.shape == (47, 3)
    assert np.bincount(y + 1).tolist() == [7, 10, 10, 20]
    for cluster, dim in ((0, 1), (1, 1), (2, 2)):
        values = np.linalg.svd(X[y == cluster], compute_uv=False)
        assert (values > 1e-9).sum() == dim
    assert (np.abs(X[y == -1]) <= 1).all()


# --- The path ---


@pytest.fixture(scope="module")
def path():
    X, _ = rn.datasets.lines_and_plane(50, noise=0.05, random_state=0)
    return clustering.merge_path(X, epsilon_sq=0.05**2, mean="zero")


def test_partitions_of_a_path(path):
    for k in (1, 2, 3, 17, 49, 50):
        labels = path.labels(k)
        assert labels.dtype == np.int64
        assert len(np.unique(labels)) == k
        _, first = np.unique(labels, return_index=True)
        assert (np.diff(first) > 0).all()  # in the order of their first samples
    for stop in ("best", "first"):
        assert path.labels(stop).max() + 1 == getattr(path, f"n_{stop}")
    np.testing.assert_array_equal(path.labels(), path.labels("best"))


def test_small_clusters_are_noise(path):
    labels, kept = path.labels(20), path.labels(20, min_cluster_size=3)
    counts = np.bincount(labels)
    np.testing.assert_array_equal(kept < 0, counts[labels] < 3)
    assert 0 < (kept < 0).sum() < 50
    assert same_partition(labels[kept >= 0], kept[kept >= 0])
    assert np.unique(kept).tolist() == list(range(-1, (counts >= 3).sum()))
    assert (path.labels(20, min_cluster_size=51) == -1).all()


@pytest.mark.parametrize("height", ["gain", "order"])
def test_linkage_is_what_scipy_wants(path, height):
    hierarchy = pytest.importorskip("scipy.cluster.hierarchy")
    Z = path.linkage(height)
    assert hierarchy.is_valid_linkage(Z, throw=True)
    assert hierarchy.is_monotonic(Z)
    assert Z.shape == (49, 4)
    if height == "order":
        for k in (1, 3, 20):
            assert same_partition(hierarchy.fcluster(Z, k, "maxclust"), path.labels(k))


def test_linkage_from_clusters_counts_clusters():
    hierarchy = pytest.importorskip("scipy.cluster.hierarchy")
    X = np.random.default_rng(8).standard_normal((30, 2))
    path = clustering.merge_path(X, epsilon_sq=0.1, init=np.arange(30) % 7)
    assert hierarchy.is_valid_linkage(path.linkage(), throw=True)
    assert path.linkage()[-1, 3] == 7
    assert path.sizes[-1] == 30


def test_a_path_is_immutable_and_so_are_its_copies(path):
    for each in (path, copy.deepcopy(path), pickle.loads(pickle.dumps(path))):
        np.testing.assert_array_equal(each.labels(5), path.labels(5))
        for name in ("children", "gains", "sizes", "code_lengths", "start"):
            with pytest.raises(ValueError, match="read-only"):
                getattr(each, name)[:1] = 0
        with pytest.raises(AttributeError):
            each.epsilon_sq = 1.0
    assert repr(path) == f"MergePath(epsilon_sq={0.05**2}, mean='zero', length='full')"
    arrays = (path.children, path.gains, path.sizes, path.code_lengths, path.start)
    assert path.nbytes == sum(array.nbytes for array in arrays)


def test_labels_that_were_given_stay_writeable():
    init = np.arange(6) % 3
    clustering.merge_path(np.eye(6), epsilon_sq=0.1, init=init)
    init[0] = 1


def transition(counts, ratio=2.0):
    counts = np.asarray(counts)
    return clustering.PhaseTransition(ratio ** np.arange(len(counts)), counts, counts, np.zeros(len(counts)))


class TestPlateau:
    def test_the_middle_of_the_longest(self):
        assert transition([9, 3, 3, 3, 5, 5, 1, 1, 1, 1]).plateau() == pytest.approx(2.0**2, rel=1e-15)
        assert transition([7, 7, 4, 4, 1]).plateau(0) == pytest.approx(2.0**2.5, rel=1e-15)  # of two, the last
        assert transition([1, 2, 1]).plateau() == pytest.approx(2.0, rel=1e-15)

    def test_numbers_within_the_tolerance_are_one_plateau(self):
        counts = transition([30, 20, 18, 17, 16, 9, 9, 9, 1])
        assert counts.plateau() == pytest.approx(2.0**2.5, rel=1e-15)
        assert counts.plateau(0) == counts.plateau(0.1) == pytest.approx(2.0**6, rel=1e-15)
        assert counts.plateau(1.0) == pytest.approx(2.0**4.5, rel=1e-15)  # 18 to 9

    def test_lengths_are_ratios_in_any_order(self):
        epsilons, counts = np.array([8.0, 1.0, 1.2, 1.1, 2.0]), np.array([2, 4, 4, 4, 2])
        found = clustering.PhaseTransition(epsilons, counts, counts, np.zeros(5)).plateau()
        assert found == pytest.approx(4.0, rel=1e-15)

    def test_the_lines_and_the_plane(self, backend):
        for seed in range(3):
            X, _ = rn.datasets.lines_and_plane(200, noise=0.05, random_state=seed)
            epsilon = clustering.phase_transition(X, np.geomspace(0.01, 2, 16), mean="zero").plateau()
            assert clustering.merge_path(X, epsilon_sq=epsilon**2, mean="zero").n_best == 3

    def test_errors(self):
        with pytest.raises(ValueError, match="at every one of the epsilons the shortest code is one cluster; expected"):
            transition([1, 1]).plateau()
        with pytest.raises(ValueError, match="tolerance is -1"):
            transition([2, 1]).plateau(-1)


# --- Backends ---


def test_a_module_that_cannot_merge_leaves_it_to_the_next(monkeypatch):
    """As long as an engine lacks the function."""
    cpu, cuda = types.ModuleType("cpu"), types.ModuleType("cuda")
    modules = {"cuda": cuda, "cpu": cpu, "numpy": numpy_backend}
    monkeypatch.setattr(_backends, "_load", lambda name: (modules[name], ""))
    assert _backends.select_with("merge_path", "cpu") is numpy_backend
    assert _backends.select_with("merge_path", "cuda") is numpy_backend
    cpu.merge_path = lambda *_, **__: None
    for name in ("auto", "cpu", "cuda"):
        assert _backends.select_with("merge_path", name) is cpu
    cuda.merge_path = cpu.merge_path
    assert _backends.select_with("merge_path", "cuda") is cuda
    assert _backends.select_with("merge_path", "auto") is cpu  # and not a device's


def test_on_merge_watches_and_its_exceptions_end_the_path(backend):
    """It sees the last merge, where the path ends with several clusters too."""
    X = np.random.default_rng(9).standard_normal((9, 2)) / 4
    apart = np.arange(9) % 2
    seen = []

    def watch(t, gain, error=None):
        seen.append((t, gain))
        if error is not None:
            raise error

    request = MergeRequest(epsilon_sq=0.1, centred=True, full=True, on_merge=watch)
    for neighbours in (None, tuple(np.flatnonzero((apart == a) & (np.arange(9) != i)) for i, a in enumerate(apart))):
        request = dataclasses.replace(request, neighbours=neighbours)
        children, gains = _backends.select_with("merge_path").merge_path(X, request, n_threads=1)
        assert len(children) == len(gains) == (8 if neighbours is None else 7)
        assert seen[-1] == (len(gains), gains[-1])
    request = dataclasses.replace(request, on_merge=functools.partial(watch, error=ZeroDivisionError))
    with pytest.raises(ZeroDivisionError):
        _backends.select_with("merge_path").merge_path(X, request, n_threads=1)


def test_progress(backend, capsys):
    clustering.merge_path(np.eye(12), epsilon_sq=0.1, progress=True)
    err = capsys.readouterr().err
    assert "merge 11/11  gain=" in err
    clustering.merge_path(np.eye(12), epsilon_sq=0.1)
    assert capsys.readouterr().err == ""


# --- Errors ---


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"X": np.ones((2, 3, 4))}, ValueError, r"X has shape \(2, 3, 4\) and dtype float64; expected real vectors"),
        ({"X": np.eye(3) * 1j}, ValueError, r"X has shape \(3, 3\) and dtype complex128; expected real vectors"),
        ({"X": [[1.0], [np.nan]]}, ValueError, "X holds NaN or infinity in sample 1; expected finite float64 numbers"),
        ({"X": np.float32([[np.inf]])}, ValueError, "X holds NaN or infinity in sample 0; expected finite float32"),
        ({"epsilon_sq": 0.0}, ValueError, "epsilon_sq is 0.0; expected a finite number > 0"),
        (
            {"epsilon_sq": 5e-324},
            ValueError,
            "epsilon_sq is 5e-324: the squares of X beside it overflow; expected a la",
        ),
        ({"mean": "none"}, ValueError, "mean is 'none'; expected one of 'estimate', 'zero'"),
        ({"length": "short"}, ValueError, "length is 'short'; expected one of 'full', 'rate'"),
        ({"init": [0, 1]}, ValueError, r"init has shape \(2,\); expected labels \(3,\)"),
        ({"init": [[0], [1], [2]]}, ValueError, r"init has shape \(3, 1\); .*: pass numpy.ravel\(init\)"),
        ({"init": [0, 1, np.nan]}, ValueError, "init holds a NaN or infinite label; expected a label for every sample"),
        ({"init": [0, "a", (1,)]}, (TypeError, ValueError), "init "),
        ({"connectivity": np.eye(2)}, ValueError, r"connectivity has shape \(2, 2\); expected \(3, 3\): a row"),
        ({"connectivity": "all"}, TypeError, "connectivity has dtype <U3; expected real numbers"),
        ({"connectivity": np.full((3, 3), np.nan)}, ValueError, "connectivity holds NaN or infinity; expected finite"),
        ({"progress": 1}, TypeError, "progress is 1 of type int; expected True or False"),
        ({"n_threads": 0}, ValueError, "n_threads is 0; expected an integer >= 1"),
        ({"backend": "gpu"}, ValueError, "backend is 'gpu'; expected one of"),
    ],
)
def test_errors_of_merge_path(changes, kind, message):
    with pytest.raises(kind, match=message):
        clustering.merge_path(**{"X": np.eye(3), "epsilon_sq": 0.1, **changes})


def test_other_errors(path):
    with pytest.raises(ValueError, match="stop is 'last'; expected one of 'best', 'first'"):
        path.labels("last")
    with pytest.raises(ValueError, match="stop is 51; expected a number of clusters on this path: 1 to 50"):
        path.labels(51)
    with pytest.raises(TypeError, match=r"stop is 2\.0 of type float; expected an integer"):
        path.labels(2.0)
    with pytest.raises(ValueError, match="min_cluster_size is 0; expected an integer >= 1"):
        path.labels(min_cluster_size=0)
    with pytest.raises(ValueError, match="height is 'length'; expected one of 'gain', 'order'"):
        path.linkage("length")
    with pytest.raises(ValueError, match=r"labels has shape \(2,\); expected labels \(3,\)"):
        clustering.code_length(np.eye(3), [0, 1], epsilon_sq=0.1)
    with pytest.raises(ValueError, match="unit is 'bytes'; expected one of 'nats', 'bits'"):
        clustering.code_length(np.eye(3), [0, 1, 1], epsilon_sq=0.1, unit="bytes")
    with pytest.raises(ValueError, match=r"epsilons is 0\.0; expected a finite number > 0"):
        clustering.phase_transition(np.eye(3), [0.1, 0.0])
    with pytest.raises(ValueError, match=r"epsilons has shape \(\); expected \(q,\): one or more distortions"):
        clustering.phase_transition(np.eye(3), 0.1)
    with pytest.raises(TypeError, match="epsilons has dtype <U1; expected real numbers"):
        clustering.phase_transition(np.eye(3), ["a"])
