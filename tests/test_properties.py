"""What must hold for any data: symmetries, invariants and bounds, on random problems of all kinds.

Two ways of computing the same features differ by rounding. `oracle.rounding` bounds it from the size of the
problem, the condition number of I + alpha G (unit-norm samples give 1 + C/eps^2), the sharpness lambda
alpha_j of the gates and the number of layers; its head has the derivation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from oracle import construct, one_hot, relative, rounding

import redunet as rn


@dataclass(frozen=True)
class Case:
    """A problem with at least one sample in each class."""

    X: np.ndarray
    y: np.ndarray
    epsilon_sq: float
    lam: float
    dft_norm: str
    n_layers: int
    eta: float | str = "auto"

    @property
    def options(self):
        names = ("epsilon_sq", "lam", "dft_norm", "n_layers", "eta")
        return {name: getattr(self, name) for name in names}

    def build(self, X=None, y=None, **changes):
        return rn.build(self.X if X is None else X, self.y if y is None else y, **{**self.options, **changes})

    @property
    def tolerance(self):
        C = self.X.shape[1]
        return rounding(
            np.float64,
            C=C,
            N=int(np.prod(self.X.shape[2:])),
            epsilon_sq=self.epsilon_sq,
            lam=self.lam,
            alpha_max=C / (np.unique(self.y, return_counts=True)[1].min() * self.epsilon_sq),
            n_layers=self.n_layers,
            s=2.0,
            dft_norm=self.dft_norm,
        )


@st.composite
def cases(draw, ndims=(2, 3, 4), complex_valued=(False, True), max_layers=2):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    m, k = draw(st.integers(1, 12)), draw(st.integers(1, 3))
    assume(k <= m)
    sizes = st.integers(1, 6)
    shape = (m, *(draw(sizes) for _ in range(draw(st.sampled_from(ndims)) - 1)))
    X = rng.standard_normal(shape)
    if draw(st.sampled_from(complex_valued)):
        X = X + 1j * rng.standard_normal(shape)
    y = rng.permutation(np.concatenate([np.arange(k), rng.integers(0, k, m - k)]))
    return Case(
        X,
        y,
        epsilon_sq=draw(st.sampled_from([0.1, 0.5, 2.0])),
        lam=draw(st.sampled_from([0.0, 1.0, 10.0])),
        dft_norm=draw(st.sampled_from(["ortho", "backward"])),
        n_layers=draw(st.integers(1, max_layers)),
    )


def norms(Z):
    return np.linalg.norm(Z.reshape(len(Z), -1), axis=1)


@given(case=cases(ndims=(3, 4)), data=st.data())
def test_shift_equivariance(backend, case, data):
    """Features of shifted samples are the shifted features, in training and for new samples."""
    axes = tuple(range(2, case.X.ndim))
    net, Z = case.build()
    shift = tuple(data.draw(st.integers(-9, 9)) for _ in axes)
    _, W = case.build(np.roll(case.X, shift, axes))
    assert relative(W, np.roll(Z, shift, axes)) < case.tolerance
    new = case.X[::-1] + 1
    assert relative(net.transform(np.roll(new, shift, axes)), np.roll(net.transform(new), shift, axes)) < case.tolerance
    assert relative(net.assign(np.roll(new, shift, axes)), net.assign(new)) < case.tolerance


@given(case=cases(), data=st.data())
def test_training_samples_may_be_shifted_one_by_one(backend, case, data):
    """Each sample by its own shift changes no operator: the network sees all shifts of each."""
    assume(case.X.ndim > 2)
    axes = tuple(range(2, case.X.ndim))
    net, _ = case.build()
    shifts = [tuple(data.draw(st.integers(0, 5)) for _ in axes) for _ in case.X]
    moved = np.stack([np.roll(x, s, tuple(a - 1 for a in axes)) for x, s in zip(case.X, shifts, strict=True)])
    other, _ = case.build(moved)
    for a, b in zip(other.layers, net.layers, strict=True):
        assert relative(a.E, b.E) < case.tolerance
        assert relative(a.Cs, b.Cs) < case.tolerance


@given(case=cases(), seed=st.integers(0, 99))
def test_permutation_of_samples(backend, case, seed):
    order = np.random.default_rng(seed).permutation(len(case.X))
    net, Z = case.build()
    other, W = case.build(case.X[order], case.y[order])
    assert relative(W, Z[order]) < case.tolerance
    assert relative(other.rates.per_class, net.rates.per_class) < case.tolerance


@given(case=cases(), seed=st.integers(0, 99))
def test_permutation_of_classes(backend, case, seed):
    k = len(np.unique(case.y))
    names = np.random.default_rng(seed).permutation(k)
    net, Z = case.build()
    other, W = case.build(y=names[case.y])
    assert relative(W, Z) < case.tolerance
    assert relative(other.layers[-1].Cs[names], net.layers[-1].Cs) < case.tolerance
    assert relative(other.assign(case.X)[:, names], net.assign(case.X)) < case.tolerance
    assert relative(other.rates.per_class[:, names], net.rates.per_class) < case.tolerance


@given(case=cases(), seed=st.integers(0, 99))
def test_unitary_invariance(backend, case, seed):
    """A unitary change of the channels leaves all rates, and turns the features with it."""
    rng = np.random.default_rng(seed)
    C = case.X.shape[1]
    G = rng.standard_normal((C, C))
    if np.iscomplexobj(case.X):
        G = G + 1j * rng.standard_normal((C, C))
    U = np.linalg.qr(G)[0]
    net, Z = case.build()
    other, W = case.build(np.einsum("ab,mb...->ma...", U, case.X))
    np.testing.assert_allclose(other.rates.rate, net.rates.rate, rtol=case.tolerance)
    np.testing.assert_allclose(other.rates.per_class, net.rates.per_class, rtol=case.tolerance)
    assert relative(W, np.einsum("ab,mb...->ma...", U, Z)) < case.tolerance


@given(case=cases())
def test_features_have_unit_norm(backend, case):
    net, Z = case.build()
    # Rounding of one normalisation and one DFT.
    slack = (4 + np.log2(Z[0].size)) * np.sqrt(Z[0].size) * np.finfo(float).eps
    assert np.abs(norms(Z) - 1).max() < slack
    assert np.abs(norms(net.transform(3 * case.X[:1])) - 1).max() < slack


@given(case=cases())
def test_operators_are_hermitian_with_eigenvalues_in_0_alpha(backend, case):
    net, _ = case.build()
    m, C = case.X.shape[:2]
    slack = case.tolerance
    alpha = C / (m * case.epsilon_sq)
    for layer in net.layers:
        assert abs(layer.gammas.sum() - 1) < 1e-14
        for operator, top in zip((layer.E, *layer.Cs), (alpha, *(alpha / layer.gammas)), strict=True):
            A = np.moveaxis(operator.reshape(C, C, -1), -1, 0)
            assert np.abs(A - A.conj().swapaxes(-1, -2)).max() <= slack * top
            eigenvalues = np.linalg.eigvalsh(A)
            assert eigenvalues.min() > 0
            assert eigenvalues.max() <= top * (1 + slack)


@given(case=cases())
def test_rate_reduction_is_never_negative(backend, case):
    """R is concave in the Gram matrix, so R >= R_c; each class adds a rate of its own >= 0."""
    reduction = rn.rate_reduction(case.X, case.y, epsilon_sq=case.epsilon_sq, dft_norm=case.dft_norm, per_class=True)
    unit = case.X[0].size * len(case.X) * np.finfo(float).eps
    assert reduction.delta >= -unit * (1 + reduction.rate)
    assert (reduction.class_rate >= -unit).all()
    net, _ = case.build()
    assert (net.rates.delta >= -unit * (1 + net.rates.rate)).all()


@given(case=cases(), data=st.data())
def test_integer_weight_is_repetition(backend, case, data):
    """Weight w is the sample w times; weight 0 leaves it out, but the network still maps it."""
    weights = np.array([data.draw(st.integers(0, 3)) for _ in case.X])
    assume(set(case.y[weights > 0]) == set(case.y))
    net, Z = case.build(sample_weight=weights)
    other, W = case.build(np.repeat(case.X, weights, axis=0), np.repeat(case.y, weights))
    smallest = min(weights[case.y == j].sum() for j in np.unique(case.y))
    tolerance = case.tolerance * max(1, np.bincount(case.y).min() / smallest) ** case.n_layers
    assert relative(W, np.repeat(Z, weights, axis=0)) < tolerance
    np.testing.assert_allclose(net.rates.per_class, other.rates.per_class, rtol=tolerance, atol=tolerance)
    assert relative(other.transform(case.X), Z) < tolerance
    for function in (
        rn.rate_reduction,
        lambda *a, **k: rn.rate_reduction(*a, **k, per_class=True).class_rate,
    ):
        np.testing.assert_allclose(
            function(case.X, case.y, sample_weight=weights),
            function(np.repeat(case.X, weights, axis=0), np.repeat(case.y, weights)),
            rtol=1e-11,
            atol=1e-13,
        )


@given(case=cases(), dtype=st.sampled_from([float, np.float32, int, bool]))
def test_one_hot_membership_is_labels(backend, case, dtype):
    net, Z = case.build()
    other, W = case.build(y=one_hot(case.y).astype(dtype))
    np.testing.assert_array_equal(W, Z)
    np.testing.assert_array_equal(other.rates.per_class, net.rates.per_class)
    np.testing.assert_array_equal(other.classes_, np.unique(case.y))


@given(case=cases())
def test_soft_membership_a_few_roundings_from_one_hot(backend, case):
    """The path of soft membership (all samples in every class) against the one of labels.

    Off by 4 units per entry, the Gram matrix of a class errs by at most 4 m units relative to its own
    alpha_j.
    """
    k = len(np.unique(case.y))
    assume(k > 1)
    off = 4 * np.finfo(float).eps
    soft = (1 - off) * one_hot(case.y) + off / k
    net, Z = case.build()
    other, W = case.build(y=soft)
    tolerance = 4 * len(case.X) * case.tolerance
    assert relative(W, Z) < tolerance
    assert relative(other.layers[-1].Cs, net.layers[-1].Cs) < tolerance
    np.testing.assert_allclose(other.rates.per_class, net.rates.per_class, rtol=tolerance)


@given(case=cases(complex_valued=(False,)))
def test_half_spectrum_is_the_full_one(backend, case):
    """The same real samples, handed over as complex numbers, take the full spectrum."""
    net, Z = case.build()
    other, W = case.build(case.X.astype(complex))
    assert W.dtype == complex
    assert relative(W.real, Z) < case.tolerance
    assert np.abs(W.imag).max() < case.tolerance
    np.testing.assert_allclose(other.rates.per_class, net.rates.per_class, rtol=case.tolerance)
    if case.X.ndim > 2:
        width = case.X.shape[-1] // 2 + 1
        assert relative(other.layers[-1].E[..., :width], net.layers[-1].E) < case.tolerance
        assert relative(other.layers[-1].Cs[..., :width], net.layers[-1].Cs) < case.tolerance


@given(case=cases(), position=st.integers(0, 11))
def test_zero_sample_stays_zero(backend, case, position):
    X = case.X.copy()
    X[position % len(X)] = 0
    net, Z = case.build(X)
    np.testing.assert_array_equal(Z[position % len(X)], 0)
    assert np.isfinite(Z).all()
    np.testing.assert_array_equal(net.transform(np.zeros_like(X)), 0)


@given(case=cases(), lam=st.sampled_from([0.0, 10.0, 500.0]), dtype=st.sampled_from([np.float32, np.float64]))
def test_auto_step_never_lowers_the_rate_reduction(backend, case, lam, dtype):
    """Up to the rounding that the step rule itself allows: 8 units of the rate. Includes m < C, one sample a class."""
    X = case.X.astype(np.result_type(dtype, np.complex64) if np.iscomplexobj(case.X) else dtype)
    net, _ = case.build(X, lam=lam, n_layers=12)
    falls = -np.diff(net.rates.delta)
    assert (falls <= 8 * np.finfo(dtype).eps * net.rates.rate[:-1]).all()
    natural = 2 * len(X) * case.epsilon_sq / X.shape[1]
    halvings = np.log2(natural / net.etas[net.etas > 0])
    np.testing.assert_allclose(halvings, np.round(halvings), atol=1e-9)
    assert (halvings > -1e-9).all()


@given(case=cases(), seed=st.integers(0, 99))
def test_given_assignment_moves_by_the_membership(backend, case, seed):
    rng = np.random.default_rng(seed)
    soft = rng.dirichlet(np.ones(len(np.unique(case.y))), len(case.X))
    for y, Pi in ((case.y, one_hot(case.y)), (soft, soft)):
        net, Z = case.build(y=y, assignment="given")
        problem = replace(case, lam=0.0)  # no gates
        tolerance = problem.tolerance * max(1.0, (1 / net.layers[0].gammas.min() / len(Pi)) ** case.n_layers)
        expected = construct(
            case.X, Pi, etas=net.etas, epsilon_sq=case.epsilon_sq, lam=0.0, dft_norm=case.dft_norm, given=True
        )
        assert relative(Z, expected.Z) < tolerance
        np.testing.assert_allclose(net.rates.per_class, expected.rates[:, 1:], rtol=tolerance, atol=tolerance)


@given(case=cases(), scale=st.sampled_from([1e-200, 1e-13, 1e-6, 0.1, 7.0, 1e6, 1e200]))
def test_samples_are_scaled_to_unit_norm_first(backend, case, scale):
    factors = scale * (1 + np.arange(len(case.X))).reshape(-1, *[1] * (case.X.ndim - 1))
    _, Z = case.build()
    _, W = case.build(case.X * factors)
    assume(norms(case.X).min() > 1e-2)
    assert relative(W, Z) < case.tolerance


@given(case=cases())
def test_input_is_not_modified_and_memory_order_does_not_matter(backend, case):
    before = case.X.copy(), case.y.copy()
    net, Z = case.build()
    wide = np.zeros((*case.X.shape[:-1], 2 * case.X.shape[-1]), case.X.dtype)
    wide[..., ::2] = case.X
    for view in (wide[..., ::2], np.asfortranarray(case.X), case.X[::-1].copy()[::-1]):
        other, W = case.build(view)
        np.testing.assert_array_equal(W, Z)
        np.testing.assert_array_equal(other.transform(view), net.transform(case.X))
    assert Z.flags.c_contiguous
    assert Z.flags.writeable
    assert not np.shares_memory(Z, case.X)
    np.testing.assert_array_equal(case.X, before[0])
    np.testing.assert_array_equal(case.y, before[1])
