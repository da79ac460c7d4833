"""Gradient of Delta R, to features and to the membership, against finite differences.

Central differences with step h err by h^2/6 times the third derivative and by u R/h. With h = 1e-5, features
of norm 1 and alpha <= C/eps^2 <= 20 (so that third derivatives are below alpha^1.5 < 100 per unit of length)
that is below 2e-9 + 2e-11; 1e-8 is taken. Half of the directions are coordinates, half are random of norm 1.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from oracle import construct, relative

import redunet as rn
from redunet._backends import numpy_backend
from redunet._inputs import prepare

H = 1e-5
TOLERANCE = 1e-8
SHAPES = [(6, 4), (3, 5), (5, 1), (5, 2, 6), (4, 3, 5), (3, 6, 4), (4, 2, 3, 4), (4, 1, 4, 3), (3, 5, 2, 2)]


def features(shape, complex_valued):
    rng = np.random.default_rng(sum(shape))
    Z = rng.standard_normal(shape)
    if complex_valued:
        Z = Z + 1j * rng.standard_normal(shape)
    return Z / np.linalg.norm(Z.reshape(len(Z), -1), axis=1).reshape(-1, *[1] * (Z.ndim - 1))


def directions(Z):
    rng = np.random.default_rng(0)
    for index in rng.choice(Z.size, min(6, Z.size), replace=False):
        D = np.zeros(Z.size, Z.dtype)
        D[index] = 1j if np.iscomplexobj(Z) and index % 2 else 1
        yield D.reshape(Z.shape)
    for _ in range(6):
        D = rng.standard_normal(Z.shape).astype(Z.dtype)
        if np.iscomplexobj(Z):
            D += 1j * rng.standard_normal(Z.shape)
        yield D / np.linalg.norm(D)


@pytest.mark.parametrize("dft_norm", ["ortho", "backward"])
@pytest.mark.parametrize("membership", ["hard", "soft", "weighted", "soft and weighted"])
@pytest.mark.parametrize("complex_valued", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_finite_differences(backend, shape, complex_valued, membership, dft_norm):
    Z = features(shape, complex_valued)
    rng = np.random.default_rng(1)
    m = len(Z)
    y = rng.dirichlet(np.ones(3), m) if "soft" in membership else np.arange(m) % 2
    weights = rng.uniform(0.2, 3.0, m) if "weighted" in membership else None
    n_points = int(np.prod(shape[2:]))
    options = {
        "epsilon_sq": shape[1] / 10 * (n_points if dft_norm == "backward" else 1),
        "sample_weight": weights,
        "dft_norm": dft_norm,
    }
    G = rn.rate_reduction_gradient(Z, y, **options)
    assert G.shape == Z.shape
    assert G.dtype == Z.dtype
    for D in directions(Z):
        plus, minus = (rn.rate_reduction(Z + h * D, y, **options).delta for h in (H, -H))
        assert abs((plus - minus) / (2 * H) - np.vdot(G, D).real) < TOLERANCE


def test_of_vectors_is_the_formula(backend):
    """E z_i - sum_j gamma_j pi_ij C^j z_i."""
    Z = features((7, 4), False)
    Pi = np.random.default_rng(0).dirichlet(np.ones(2), 7)
    net = construct(Z, Pi, etas=[0.0], epsilon_sq=0.3, lam=0.0)
    layer = net.layers[0]
    expected = Z @ layer.E - np.einsum("j,mj,jcd,md->mc", net.gammas, Pi, layer.Cs, Z)
    assert relative(rn.rate_reduction_gradient(Z, Pi, epsilon_sq=0.3), expected) < 1e-12


@pytest.mark.parametrize(
    ("given", "expected"),
    [(np.float32, np.float32), (np.float16, np.float32), (np.int8, np.float64), (np.complex64, np.complex64)],
)
def test_keeps_the_dtype(backend, given, expected):
    Z = np.array([[2, 1, 0, 3], [1, 0, 1, 1], [0, 1, 1, 0]], dtype=given)
    for features_ in (Z, Z.reshape(3, 2, 2), Z.reshape(3, 1, 2, 2)):
        assert rn.rate_reduction_gradient(features_, [0, 1, 1]).dtype == expected


def class_rate(Z, Pi, epsilon_sq, m, weights):
    """R_c of vectors by its definition, for any Pi >= 0."""
    d = Z.shape[1]
    total = 0.0
    for share in weights * Pi.T:
        A = np.eye(d) + d / (share.sum() * epsilon_sq) * (Z.T * share) @ Z.conj()
        total += share.sum() / (2 * m) * np.linalg.slogdet(A)[1]
    return total


@pytest.mark.parametrize("complex_valued", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("hard", [False, True])
def test_to_the_membership_of_vectors(backend, hard, complex_valued):
    """Off the simplex too: m is held."""
    Z = features((9, 4), complex_valued)
    rng = np.random.default_rng(3)
    y = np.arange(9) % 3
    Pi = np.eye(3)[y] if hard else rng.dirichlet(np.ones(3), 9)
    weights = rng.uniform(0.2, 3.0, 9)
    options = {"epsilon_sq": 0.4, "sample_weight": weights, "with_respect_to": "membership"}
    G = rn.rate_reduction_gradient(Z, y if hard else Pi, **options)
    assert G.shape == (9, 3)
    assert G.dtype == np.float64
    for i, j in np.ndindex(G.shape):
        D = np.zeros(G.shape)
        D[i, j] = H
        minus = (
            Pi if hard and y[i] != j else Pi - D
        )  # one-sided at the simplex's corner, which errs by H times curvature
        plus = class_rate(Z, Pi + D, 0.4, weights.sum(), weights) - class_rate(Z, minus, 0.4, weights.sum(), weights)
        tolerance = TOLERANCE if minus is not Pi else 100 * H
        assert abs(-plus / (H if minus is Pi else 2 * H) - G[i, j]) < tolerance


@pytest.mark.parametrize("dft_norm", ["ortho", "backward"])
@pytest.mark.parametrize(
    ("shape", "group"),
    [((9, 3, 5), "cyclic"), ((7, 4, 3, 4), "cyclic"), ((5, 9), "cyclic"), ((8, 3, 6), "dihedral")],
    ids=str,
)
def test_to_the_membership_along_the_simplex(backend, shape, group, dft_norm):
    Z = features(shape, False)
    rng = np.random.default_rng(4)
    Pi = rng.dirichlet(np.ones(3), len(Z))
    n_points = int(np.prod(shape[2:]))
    options = {"epsilon_sq": 0.5 * (n_points if dft_norm == "backward" else 1), "group": group, "dft_norm": dft_norm}
    G = rn.rate_reduction_gradient(Z, Pi, with_respect_to="membership", **options)
    for _ in range(6):
        D = rng.standard_normal(Pi.shape)
        D -= D.mean(axis=1, keepdims=True)
        D /= np.linalg.norm(D)
        plus, minus = (rn.rate_reduction(Z, Pi + h * D, **options).delta for h in (H, -H))
        assert abs((plus - minus) / (2 * H) - np.vdot(G, D)) < TOLERANCE


@pytest.mark.parametrize("shape", [(40, 6), (30, 5, 4)], ids=str)
def test_shares_that_do_not_add_up_to_one(backend, shape):
    """What the contract allows, and no public function yet gives: the total is not the sum of the classes then."""
    given = prepare.samples(features(shape, False), "Z")
    m = len(given)
    Pi = np.random.default_rng(7).uniform(0.0, 1.0, (m, 3))
    problem, _ = prepare.problem(given, Pi / Pi.sum(1)[:, None], sample_weight=None, epsilon_sq=0.3, dft_norm="ortho")
    alphas = shape[1] / (np.concatenate([[m], Pi.sum(0)]) * 0.3)
    problem = replace(problem, membership=Pi, alphas=alphas, gammas=Pi.sum(0) / m)
    V = given.spectra(normalize=False)
    found = given.module.rates_and_gradient(V, problem, membership=True, n_threads=2)
    expected = numpy_backend.rates_and_gradient(np.asarray(V), problem, membership=True, n_threads=1)
    for a, b in zip(found, expected, strict=True):
        assert relative(np.asarray(a), b) < 1e-12


@pytest.mark.parametrize("shape", [(9, 20), (30, 6), (12, 4, 5)], ids=str)
def test_no_classes_at_all(backend, shape):
    """The rate of all features alone, and its gradient: half the work of one class."""
    given = prepare.samples(features(shape, False), "Z")
    one, _ = prepare.problem(given, np.zeros(len(given)), sample_weight=None, epsilon_sq=0.3, dft_norm="ortho")
    none = replace(
        one,
        labels=None,
        membership=np.empty((len(given), 0)),
        alphas=one.alphas[:1],
        gammas=one.gammas[:0],
        counts=one.counts[:1],
        ranks=one.ranks[:1],
    )
    V = given.spectra(normalize=False)
    row, gradient, _ = given.module.rates_and_gradient(V, none, membership=False, n_threads=2)
    expected = numpy_backend.rates_and_gradient(np.asarray(V), none, membership=False, n_threads=1)
    assert row.shape == (1,)
    assert abs(row[0] - given.module.rates(V, one, n_threads=2)[0]) < 1e-13 * row[0]
    assert relative(np.asarray(gradient), expected.features) < 1e-12


def test_what_it_is_the_gradient_to(backend):
    with pytest.raises(ValueError, match=r"with_respect_to is 'weights'; expected one of 'features', 'membership'"):
        rn.rate_reduction_gradient(np.eye(2), [0, 1], with_respect_to="weights")


@pytest.mark.parametrize("shape", [(150, 24), (150, 9, 5), (150, 6, 4, 4)], ids=str)
def test_of_classes_of_every_size(backend, shape):
    """Small ones are factors, large ones dense; samples lie in tiles of 8 or 16, of which classes share some."""
    Z = features(shape, False)
    y = np.random.default_rng(5).permutation(np.repeat(np.arange(8), [1, 2, 5, 12, 13, 30, 40, 47]))
    Pi = np.eye(8)[y] * (1 - 1e-15) + 1e-15 / 8  # soft: every sample is in every class, and all operators dense
    weights = np.random.default_rng(6).uniform(0.5, 2.0, len(Z))
    hard, soft = (rn.rate_reduction_gradient(Z, given, sample_weight=weights) for given in (y, Pi))
    # What is elsewhere changes alpha_j G_j, alpha_j <= C / eps^2 = 240, by at most 150 * 240 * 1e-15 / 8 = 5e-12.
    assert relative(hard, soft) < 1e-10


def test_is_zero_for_one_class(backend):
    Z = features((6, 3, 4), False)
    G = rn.rate_reduction_gradient(Z, np.zeros(6))
    assert np.abs(G).max() < 1e-13  # a difference of equal terms below alpha = 5, with a few roundings


def test_single_precision_follows_double(backend):
    Z = features((40, 6, 7), False)
    y = np.arange(40) % 3
    double = rn.rate_reduction_gradient(Z, y)
    assert relative(rn.rate_reduction_gradient(Z.astype(np.float32), y), double) < 1e-4
