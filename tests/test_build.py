"""`build` on every shape and option against the independent construction of `oracle`, in double precision.

`oracle.rounding` bounds the difference of one layer from size, condition and sharpness of the gates; see its
head.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from oracle import construct, half, one_hot, relative, rounding

import redunet as rn

SIZES = [1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33]
SHAPES = sorted(
    {
        shape
        for s in SIZES
        for shape in [
            (s, 3), (7, s), (s, 2, 3), (9, s, 4), (9, 3, s), (s, 2, 2, 3), (5, s, 2, 2), (5, 2, s, 4), (5, 2, 3, s),
        ]
    },
    key=lambda shape: (len(shape), shape),
)  # fmt: skip


def problem(shape, k=2, seed=0):
    """Random samples and labels with every class in it."""
    rng = np.random.default_rng(seed)
    k = min(k, shape[0])
    y = np.concatenate([np.arange(k), rng.integers(0, k, shape[0] - k)])
    return rng.standard_normal(shape), rng.permutation(y)


def agrees(X, y, *, etas=(0.4,), epsilon_sq=0.5, lam=3.0, weights=None, dft_norm="ortho", given=False):
    """Build with the package and with the oracle, and compare everything; returns both."""
    Pi = one_hot(y) if np.ndim(y) == 1 else y
    expected = construct(
        X, Pi, etas=etas, epsilon_sq=epsilon_sq, lam=lam, weights=weights, dft_norm=dft_norm, given=given
    )
    net, Z = rn.build(
        X,
        y,
        n_layers=len(etas),
        eta=etas,
        epsilon_sq=epsilon_sq,
        lam=lam,
        sample_weight=weights,
        dft_norm=dft_norm,
        assignment="given" if given else "estimated",
    )
    N = int(np.prod(X.shape[2:]))
    real = not np.iscomplexobj(X)
    bounds = {
        "C": X.shape[1],
        "N": N,
        "epsilon_sq": epsilon_sq,
        "lam": lam,
        "alpha_max": expected.alphas.max(),
        "s": max(etas) * expected.alphas.max(),
        "dft_norm": dft_norm,
    }
    assert Z.shape == X.shape
    for index, (layer, ref) in enumerate(zip(net.layers, expected.layers, strict=True)):
        tolerance = rounding(np.float64, **bounds, n_layers=index + 1)
        assert relative(layer.E, half(ref.E, real, X.ndim - 2)) < tolerance
        assert relative(layer.Cs, half(ref.Cs, real, X.ndim - 2)) < tolerance
        np.testing.assert_allclose(layer.gammas, expected.gammas, rtol=1e-14)
        assert layer.eta == etas[index]
    assert relative(Z, expected.Z) < tolerance
    np.testing.assert_allclose(net.rates.rate, expected.rates[:, 0], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(net.rates.per_class, expected.rates[:, 1:], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(net.rates.class_rate, expected.rates[:, 1:].sum(axis=1), rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(net.rates.delta, net.rates.rate - net.rates.class_rate)
    if not given:
        assert relative(net.transform(X), Z) < tolerance
        assert relative(net.assign(X), expected.layers[-1].pi) < tolerance
    return net, expected


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_size(backend, shape):
    agrees(*problem(shape))


@given(
    shape=st.lists(st.sampled_from(SIZES), min_size=2, max_size=4).map(tuple),
    k=st.integers(1, 5),
    complex_valued=st.booleans(),
    n_layers=st.integers(1, 2),
    dft_norm=st.sampled_from(["ortho", "backward"]),
)
def test_random_sizes(backend, shape, k, complex_valued, n_layers, dft_norm):
    assume(np.prod(shape) * shape[1] < 20_000)
    X, y = problem(shape, k)
    if complex_valued:
        X = X + 1j * problem(shape, k, seed=1)[0]
    agrees(X, y, etas=(0.4,) * n_layers, dft_norm=dft_norm)


class TestClasses:
    def test_one(self, backend):
        """One class: C^1 = E, and no rate reduction to gain."""
        X, _ = problem((9, 3, 4))
        net, _ = agrees(X, np.zeros(9, int), etas=(0.4, 0.4))
        assert relative(net.layers[0].Cs[0], net.layers[0].E) < 1e-13
        assert np.abs(net.rates.delta).max() < 1e-14
        np.testing.assert_array_equal(net.assign(X), 1)

    @pytest.mark.parametrize("shape", [(6, 4), (6, 4, 5), (4, 3, 3, 2)], ids=str)
    def test_of_one_sample_each(self, backend, shape):
        X, _ = problem(shape)
        agrees(X, np.arange(shape[0])[::-1], etas=(0.4, 0.4))

    @pytest.mark.parametrize("shape", [(40, 6), (40, 6, 5), (33, 5, 3, 4)], ids=str)
    def test_very_unequal(self, backend, shape):
        y = np.zeros(shape[0], int)
        y[[3, 17, 18, 30]] = [1, 2, 2, 3]
        agrees(problem(shape)[0], y, etas=(0.4, 0.4))

    def test_many(self, backend):
        agrees(*problem((60, 5, 4), k=37))

    @pytest.mark.parametrize("C", [1, 2, 3, 8, 9, 16, 17])
    def test_factored_up_to_half_of_the_channels(self, backend, C):
        """2 m_j <= C keeps a factor of m_j columns; one more sample keeps C x C. Both make the same operators."""
        for size in {max(1, C // 2), C // 2 + 1}:
            y = np.repeat([0, 1], [size, C + 3])
            net, _ = agrees(problem((len(y), C, 3))[0], y, etas=(0.4, 0.4))
            factored = 2 * size <= C
            assert net.operators.ranks.tolist() == [0, size if factored else 0, 0]
            assert net.operators.dense.shape == (2, 2 if factored else 3, 2, C, C)
            assert net.operators.factors.shape == (2, 2, C, size if factored else 0)

    def test_fewer_samples_than_channels_factor_everything(self, backend):
        net, _ = agrees(problem((5, 12, 4))[0], np.array([0, 1, 1, 2, 0]), etas=(0.4, 0.4))
        np.testing.assert_array_equal(net.operators.ranks, [5, 2, 2, 1])
        assert net.nbytes == 2 * 3 * 12 * 10 * 16

    def test_of_any_order_of_samples(self, backend):
        X, y = problem((31, 4, 3), k=4)
        agrees(X, np.sort(y), etas=(0.4, 0.4))
        agrees(X, np.sort(y)[::-1], etas=(0.4, 0.4))


@pytest.mark.parametrize(
    ("y", "classes", "index"),
    [
        (["b", "a", "b", "cc", "a"], ["a", "b", "cc"], [1, 0, 1, 2, 0]),
        ([True, False, True, True, False], [False, True], [1, 0, 1, 1, 0]),
        ([-3, 7, 7, 0, -3], [-3, 0, 7], [0, 2, 2, 1, 0]),
        (np.array([2, 1, 2, 9, 1], np.uint8), [1, 2, 9], [1, 0, 1, 2, 0]),
        ([0.5, -1.5, 0.5, 2.0, -1.5], [-1.5, 0.5, 2.0], [1, 0, 1, 2, 0]),
        (np.array(["x", "y", "x", "z", "y"], object), ["x", "y", "z"], [0, 1, 0, 2, 1]),
        (np.array([3, 1, 3, 2, 1], object), [1, 2, 3], [2, 0, 2, 1, 0]),
        ([b"n", b"m", b"n", b"o", b"m"], [b"m", b"n", b"o"], [1, 0, 1, 2, 0]),
        (np.array(["2024-01-02", "2024-01-01"] * 2 + ["2024-01-02"], "M8[D]"), None, [1, 0, 1, 0, 1]),
    ],
    ids=lambda value: str(np.asarray(value).dtype) if value is not None else "",
)
def test_labels_of_any_dtype(backend, y, classes, index):
    X, _ = problem((5, 4))
    net, Z = rn.build(X, y, n_layers=2)
    same, W = rn.build(X, index, n_layers=2)
    np.testing.assert_array_equal(Z, W)
    np.testing.assert_array_equal(net.classes_, np.unique(np.asarray(y)))
    if classes is not None:
        assert net.classes_.tolist() == classes
    assert net.classes_.dtype == np.asarray(y).dtype
    np.testing.assert_array_equal(net.classes_[index], np.asarray(y))
    assert net.n_classes == same.n_classes == len(net.classes_)
    rates = rn.rate_reduction(Z, y), rn.rate_reduction(Z, index)
    assert rates[0] == rates[1]


class TestMembership:
    @pytest.mark.parametrize("shape", [(17, 4), (9, 3, 5), (7, 2, 3, 4), (5, 12), (4, 9, 3)], ids=str)
    @pytest.mark.parametrize("k", [1, 2, 5])
    def test_soft(self, backend, shape, k):
        X, _ = problem(shape)
        Pi = np.random.default_rng(k).dirichlet(np.ones(k), shape[0])
        agrees(X, Pi, etas=(0.4, 0.4))
        agrees(X, Pi, etas=(0.4, 0.4), given=True)

    def test_sparse(self, backend):
        """Rows with zeros: a class counts only its own samples, so that small ones are kept as factors."""
        X, _ = problem((14, 10, 3))
        Pi = np.zeros((14, 3))
        Pi[:, 0] = 1
        Pi[2], Pi[5] = [0.5, 0.5, 0], [0, 0.25, 0.75]
        Pi[6] = [0, 0, 1]
        net, _ = agrees(X, Pi, etas=(0.4, 0.4))
        np.testing.assert_array_equal(net.operators.ranks, [0, 0, 2, 2])

    def test_in_single_precision_may_sum_to_one_in_that_precision(self, backend):
        X, _ = problem((20, 3))
        Pi = np.random.default_rng(0).dirichlet(np.ones(7), 20)
        net, _ = rn.build(X, Pi, n_layers=1)
        for dtype, tolerance in ((np.float32, 1e-4), (np.float16, 0.05)):  # the membership itself is rounded
            same, _ = rn.build(X, Pi.astype(dtype), n_layers=1)
            np.testing.assert_allclose(same.rates.per_class, net.rates.per_class, rtol=tolerance)

    def test_may_leave_a_class_empty_in_hard_form_only_as_an_error(self, backend):
        with pytest.raises(ValueError, match="class 1 has no sample"):
            rn.build(np.eye(3), np.eye(3)[[0, 0, 2]], n_layers=1)


class TestWeights:
    @pytest.mark.parametrize("shape", [(17, 4), (9, 3, 5), (7, 2, 3, 4), (5, 12)], ids=str)
    @pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
    def test_follow_the_formula(self, backend, shape, soft):
        X, y = problem(shape)
        rng = np.random.default_rng(1)
        if soft:
            y = rng.dirichlet(np.ones(3), shape[0])
        agrees(X, y, weights=rng.uniform(0.1, 4, shape[0]), etas=(0.4, 0.4))

    def test_of_zero_leave_a_sample_out_of_the_operators(self, backend):
        X, y = problem((12, 3, 4))
        weights = np.ones(12)
        weights[[1, 5]] = 0
        assert set(y[weights > 0]) == {0, 1}
        net, _ = agrees(X, y, weights=weights, etas=(0.4, 0.4))
        other, _ = rn.build(X[weights > 0], y[weights > 0], n_layers=2, eta=0.4, epsilon_sq=0.5, lam=3.0)
        assert relative(other.layers[1].Cs, net.layers[1].Cs) < 1e-12

    def test_scale_alone_changes_alpha(self, backend):
        """Weights of 2 are every sample twice: alpha halves and the Grams double, so that rates stay."""
        X, y = problem((12, 3, 4))
        one, _ = rn.build(X, y, n_layers=1)
        two, _ = rn.build(X, y, n_layers=1, sample_weight=np.full(12, 2))
        np.testing.assert_allclose(two.rates.per_class[0], one.rates.per_class[0], rtol=1e-13)
        assert relative(2 * two.layers[0].E, one.layers[0].E) < 1e-13
        np.testing.assert_allclose(two.etas, 2 * one.etas, rtol=1e-15)


class TestStepSize:
    def test_one_for_all_or_one_per_layer(self, backend):
        X, y = problem((9, 3, 4))
        net, Z = rn.build(X, y, n_layers=3, eta=0.25)
        _, W = rn.build(X, y, n_layers=3, eta=[0.25, 0.25, 0.25])
        np.testing.assert_array_equal(Z, W)
        np.testing.assert_array_equal(net.etas, [0.25] * 3)
        agrees(X, y, etas=(0.1, 0.9, 0.0))
        integer, _ = rn.build(X, y, n_layers=2, eta=1)
        np.testing.assert_array_equal(integer.etas, [1.0, 1.0])

    def test_of_zero_leaves_the_features_where_they_are(self, backend):
        X, y = problem((9, 3, 4))
        _, Z = rn.build(X, y, n_layers=3, eta=0)
        unit = X / np.linalg.norm(X.reshape(9, -1), axis=1).reshape(9, 1, 1)
        assert relative(Z, unit) < 1e-14

    def test_auto_is_the_natural_step_and_halves(self, backend):
        X, y = problem((9, 3, 4))
        net, _ = rn.build(X, y, n_layers=6)
        natural = 2 / (3 / (9 * 0.1))
        halvings = np.log2(natural / net.etas)
        np.testing.assert_allclose(halvings, halvings.round(), atol=1e-12)
        agrees(X, y, etas=tuple(net.etas), epsilon_sq=0.1)

    def test_auto_halves_only_where_the_double_step_would_lower_the_rate_reduction(self, backend):
        """Random labels and gates that do not tell classes apart: the natural step is too long after some layers."""
        rng = np.random.default_rng(52)
        X, y = rng.standard_normal((10, 4)), np.arange(10) % 2
        net, _ = rn.build(X, y, n_layers=8, lam=0.0)
        natural = 2 / (4 / (10 * 0.1))
        halved = [index for index, eta in enumerate(net.etas) if 0 < eta < 0.9 * natural]
        assert halved
        for index in halved:
            tried, _ = rn.build(X, y, n_layers=index + 1, eta=[*net.etas[:index], 2 * net.etas[index]], lam=0.0)
            assert tried.rates.delta[-1] < tried.rates.delta[-2]
        still = [index for index, eta in enumerate(net.etas) if eta == 0]
        assert still
        for index in still:  # no step helps: the layer leaves everything as it is
            np.testing.assert_allclose(net.rates.per_class[index + 1], net.rates.per_class[index], rtol=1e-14)

    def test_auto_stands_still_where_no_step_helps(self, backend):
        """One class: Delta R is zero and stays; the step must not run away, and the features stay on the sphere."""
        net, Z = rn.build(np.eye(3), [0, 0, 0], n_layers=3)
        assert np.abs(net.rates.delta).max() < 1e-15
        assert np.abs(np.linalg.norm(Z, axis=1) - 1).max() < 1e-15


class TestPrecision:
    @pytest.mark.parametrize(
        ("given", "asked", "features", "operators"),
        [
            ("f4", None, "f4", "c8"), ("f8", None, "f8", "c16"), ("c8", None, "c8", "c8"), ("c16", None, "c16", "c16"),
            ("f2", None, "f4", "c8"), ("i8", None, "f8", "c16"), ("u1", None, "f8", "c16"), ("?", None, "f8", "c16"),
            ("f8", "f4", "f4", "c8"), ("i2", "f4", "f4", "c8"), ("f4", "f8", "f8", "c16"), ("f4", "c8", "c8", "c8"),
            ("c16", "f4", "c8", "c8"), ("c8", "f8", "c16", "c16"),
        ],
    )  # fmt: skip
    def test_is_as_given_or_as_asked(self, backend, given, asked, features, operators):
        X = (problem((9, 3, 4))[0] * 10).astype(given)
        y = np.arange(9) % 2
        net, Z = rn.build(X, y, n_layers=1, dtype=asked)
        assert Z.dtype == net.dtype == features
        assert net.layers[0].E.dtype == net.layers[0].Cs.dtype == operators
        assert net.rates.rate.dtype == net.rates.per_class.dtype == net.etas.dtype == np.float64
        assert net.transform(X).dtype == features
        assert net.transform(np.abs(X).astype("i4")).dtype == features
        vectors, W = rn.build(X.reshape(9, 12), y, n_layers=1, dtype=asked)
        assert W.dtype == vectors.layers[0].E.dtype == features

    @pytest.mark.parametrize("shape", [(60, 8), (60, 5, 9), (40, 3, 4, 5), (12, 20, 6)], ids=str)
    def test_single_follows_double(self, backend, shape):
        """One layer to 1e-4, as promised."""
        X, y = problem(shape, k=3)
        net, Z = rn.build(X, y, n_layers=1)
        single, W = rn.build(X.astype(np.float32), y, n_layers=1)
        assert relative(W, Z) < 1e-4
        assert relative(single.layers[0].E, net.layers[0].E) < 1e-4
        assert relative(single.layers[0].Cs, net.layers[0].Cs) < 1e-4
        np.testing.assert_allclose(single.rates.rate, net.rates.rate, rtol=1e-4)
        np.testing.assert_allclose(single.rates.per_class, net.rates.per_class, rtol=1e-4)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64])
    @pytest.mark.parametrize("shape", [(5, 4), (5, 2, 3), (5, 2, 2, 3)], ids=str)
    def test_survives_huge_and_tiny_samples(self, backend, shape, dtype):
        """The scale of a sample does not matter, up to the ends of the range."""
        X, y = problem(shape)
        X = X.astype(dtype)
        _, Z = rn.build(X, y, n_layers=1)
        top = float(np.finfo(dtype).max) / float(np.abs(X).max()) / 2
        for factor in (top, 1e-6, 1e-30):
            _, W = rn.build((X * np.asarray(factor, X.real.dtype)).astype(dtype), y, n_layers=1)
            assert relative(W, Z) < (1e-4 if np.finfo(dtype).bits == 32 else 1e-10)

    def test_only_an_exact_zero_stays_zero(self, backend):
        X = np.eye(4)
        X[2] *= 5e-324
        X[3] = 0
        y = [0, 1, 0, 1]
        net, Z = rn.build(X, y, n_layers=2, eta=0)
        np.testing.assert_array_equal(Z, np.diag([1.0, 1, 1, 0]))
        np.testing.assert_array_equal(net.transform(X), Z)
        reference = construct(X, one_hot(y), etas=[0.0] * 2, epsilon_sq=0.1, lam=500.0)
        np.testing.assert_allclose(net.rates.rate, reference.rates[:, 0], rtol=1e-13)


def test_a_memory_mapped_array_is_read_as_it_is(backend, tmp_path, monkeypatch):
    X, y = problem((30, 3, 8))
    file = tmp_path / "X.npy"
    np.save(file, X)
    mapped = np.load(file, mmap_mode="r")
    net, Z = rn.build(X, y, n_layers=2)
    monkeypatch.setattr("redunet.transforms.cyclic.CHUNK_BYTES", 500)  # several pieces
    other, W = rn.build(mapped, y, n_layers=2)
    np.testing.assert_array_equal(W, Z)
    assert type(W) is np.ndarray
    np.testing.assert_array_equal(other.transform(mapped), net.transform(X))


def test_lists_are_taken(backend):
    net, Z = rn.build([[1.0, 0.0], [0.0, 2.0]], ["a", "b"], n_layers=1)
    assert Z.shape == (2, 2)
    assert net.transform([[1, 0]]).shape == (1, 2)


def test_keep_features_makes_the_same_features_and_rates(backend):
    for options in ({}, {"eta": 0.3}):
        X, y = problem((20, 3, 5))
        net, Z = rn.build(X, y, n_layers=4, **options)
        bare, W = rn.build(X, y, n_layers=4, keep="features", **options)
        np.testing.assert_array_equal(W, Z)
        np.testing.assert_array_equal(bare.rates.per_class, net.rates.per_class)
        np.testing.assert_array_equal(bare.etas, net.etas)
        assert bare.nbytes == 0
        assert "operators not kept" in repr(bare)
        with pytest.raises(ValueError, match='built with keep="features"; build it with keep="operators" to apply it'):
            bare.transform(X)
        for name in ("layers", "operators"):
            with pytest.raises(ValueError, match='built with keep="features"'):
                getattr(bare, name)


def test_a_longer_network_begins_with_the_shorter(backend):
    X, y = problem((20, 3, 5))
    short, Z = rn.build(X, y, n_layers=2)
    long, _ = rn.build(X, y, n_layers=5)
    for a, b in zip(short.layers, long.layers[:2], strict=True):
        np.testing.assert_array_equal(a.E, b.E)
        np.testing.assert_array_equal(a.Cs, b.Cs)
    np.testing.assert_array_equal(short.rates.rate, long.rates.rate[:3])
    more, _ = rn.build(Z, y, n_layers=1)
    assert relative(more.layers[0].E, long.layers[2].E) < 1e-10


@pytest.mark.parametrize("seed", [2, 4, 7])
def test_a_settled_network_stays_as_it_is(backend, seed):
    """Random labels that the estimated assignment contradicts: no step, however small, raises their rate reduction."""
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(6, 2)), np.arange(6) % 2
    with pytest.warns(UserWarning, match="no step raises the rate reduction: all 4 steps are 0"):
        net, Z = rn.build(X, y, n_layers=4)
    assert (net.etas == 0).all()
    # Every layer divides by norms that are 1 up to rounding; the reduction is a difference of rates of about this size.
    rounding = 8 * np.finfo(float).eps * net.rates.rate[0]
    np.testing.assert_allclose(net.rates.delta, net.rates.delta[0], rtol=0, atol=rounding)
    np.testing.assert_allclose(Z, X / np.linalg.norm(X, axis=1, keepdims=True), rtol=1e-14)
    assert len(net.layers) == 4


def test_keeping_nothing_changes_nothing_where_steps_are_halved(backend):
    """A trial step that is taken back must not leave its operators behind."""
    rng = np.random.default_rng(0)
    halved = 0
    for _ in range(150):
        X, y = rng.normal(size=(6, 2)), np.arange(6) % 2
        kept, Z = rn.build(X, y, n_layers=4)
        bare, Z_bare = rn.build(X, y, n_layers=4, keep="features")
        np.testing.assert_array_equal(Z, Z_bare)
        np.testing.assert_array_equal(kept.etas, bare.etas)
        np.testing.assert_array_equal(kept.rates.rate, bare.rates.rate)
        halved += bool(((kept.etas > 0) & (kept.etas < kept.etas.max())).any())
    assert halved > 0
