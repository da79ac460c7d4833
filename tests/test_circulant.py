"""The shift-equivariant network against dense matrices of all cyclic shifts, which decide what ``dft_norm`` means.

A sample z of C channels on N points becomes circ(z), (C N, N), one column per cyclic shift. On paper the
network of all shifts has Zbar = [circ(z^1) .. circ(z^m)] and

    R = 1/(2N) log det(I + alpha Zbar Zbar*),  Ebar = alpha (I + alpha Zbar Zbar*)^-1,  alpha = C/(m eps^2),

and so on for the classes: ``dft_norm="backward"``. Cases are tiny (C N <= 48), in double precision; the
condition numbers are at most 1 + C N / eps^2 < 1e3, so that 1e-10 leaves three digits for the sizes and the
sharpness of the gates.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from oracle import half, normalized, relative

import redunet as rn

EPSILON_SQ = 0.5
ETA = 0.3
LAM = 2.0
TOLERANCE = 1e-10
SHAPES = [(5, 1, 4), (4, 3, 5), (7, 2, 8), (3, 2, 1), (5, 1, 2, 3), (6, 3, 4, 4), (4, 2, 3, 5), (4, 2, 1, 4)]


def samples(shape, complex_valued):
    rng = np.random.default_rng(sum(shape))
    X = rng.standard_normal(shape)
    if complex_valued:
        X = X + 1j * rng.standard_normal(shape)
    y = rng.permutation(np.arange(shape[0]) % 2)
    return X, y


def all_shifts(Z):
    """(m, C, *S) to (m, N, C, *S): every cyclic shift of every sample."""
    axes = tuple(range(2, Z.ndim))
    return np.stack([np.roll(Z, s, axes) for s in itertools.product(*map(range, Z.shape[2:]))], axis=1)


def circulant(Z):
    """Zbar, (C N, m N)."""
    m, N = len(Z), int(np.prod(Z.shape[2:]))
    return all_shifts(Z).reshape(m * N, -1).T


def spectral_blocks(operator, C, signal_shape):
    """A block-circulant operator in the Fourier basis: its diagonals, (C, C, *S), and what is off them."""
    N = int(np.prod(signal_shape))
    n = len(signal_shape)
    A = operator.reshape(C, *signal_shape, C, *signal_shape)
    A = np.fft.fftn(A, axes=range(1, 1 + n), norm="ortho")
    A = np.fft.ifftn(A, axes=range(2 + n, 2 + 2 * n), norm="ortho").reshape(C, N, C, N)
    diagonal = np.einsum("apbp->abp", A)
    rest = A - np.einsum("abp,pq->apbq", diagonal, np.eye(N))
    return diagonal.reshape(C, C, *signal_shape), rest


def dense_layer(Z, y):
    """Rates (R, R_c), operators, and features after one layer."""
    m, C = Z.shape[:2]
    N = int(np.prod(Z.shape[2:]))
    columns = Z.reshape(m, -1).T
    operators, logdets, gammas = [], [], []
    for members in (np.ones(m, bool), y == 0, y == 1):
        Zbar = circulant(Z[members])
        alpha = C / (members.sum() * EPSILON_SQ)
        M = np.eye(C * N) + alpha * Zbar @ Zbar.conj().T
        operators.append(alpha * np.linalg.inv(M))
        logdets.append(np.linalg.slogdet(M)[1] / (2 * N))
        gammas.append(members.mean())
    E, *Cs = operators
    responses = np.stack([C_j @ columns for C_j in Cs])
    norms = np.linalg.norm(responses, axis=1)
    pi = np.exp(-LAM * norms)
    pi /= pi.sum(axis=0)
    moved = columns + ETA * (E @ columns - np.einsum("j,jm,jcm->cm", gammas[1:], pi, responses))
    rates = np.array([logdets[0], np.dot(gammas[1:], logdets[1:])])
    return rates, operators, normalized(moved.T.reshape(Z.shape))


@pytest.mark.parametrize("complex_valued", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_backward_is_the_circulant_formula(backend, shape, complex_valued):
    X, y = samples(shape, complex_valued)
    rates, operators, features = dense_layer(normalized(X), y)
    net, Z = rn.build(X, y, n_layers=1, eta=ETA, epsilon_sq=EPSILON_SQ, lam=LAM, dft_norm="backward")
    np.testing.assert_allclose([net.rates.rate[0], net.rates.class_rate[0]], rates, rtol=TOLERANCE)
    reduction = rn.rate_reduction(normalized(X), y, epsilon_sq=EPSILON_SQ, dft_norm="backward")
    np.testing.assert_allclose([reduction.rate, reduction.class_rate], rates, rtol=TOLERANCE)
    for operator, got in zip(operators, (net.layers[0].E, *net.layers[0].Cs), strict=True):
        blocks, rest = spectral_blocks(operator, shape[1], shape[2:])
        assert np.abs(rest).max() < TOLERANCE * np.abs(blocks).max()  # block circulant indeed
        assert relative(got, half(blocks, not complex_valued, len(shape) - 2)) < TOLERANCE
    assert relative(Z, features) < TOLERANCE


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_backward_is_the_vector_network_of_all_shifts(backend, shape):
    """Three layers of the vector network on m N shifted samples of C N features, told nothing about shifts."""
    X, y = samples(shape, False)
    N = int(np.prod(shape[2:]))
    options = {"n_layers": 3, "eta": ETA, "epsilon_sq": EPSILON_SQ, "lam": LAM}
    net, Z = rn.build(X, y, dft_norm="backward", **options)
    vectors = all_shifts(X).reshape(len(X) * N, -1)
    flat, W = rn.build(vectors, np.repeat(y, N), **options)
    # R of the vectors is not divided by N.
    np.testing.assert_allclose(flat.rates.rate, N * net.rates.rate, rtol=TOLERANCE)
    np.testing.assert_allclose(flat.rates.per_class, N * net.rates.per_class, rtol=TOLERANCE)
    assert relative(all_shifts(Z).reshape(W.shape), W) < TOLERANCE


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_ortho_at_epsilon_sq_is_backward_at_n_times_epsilon_sq(backend, shape):
    """Inside the inverses and log dets they agree; the factor alpha in front is N times smaller for "backward"."""
    X, y = samples(shape, False)
    N = int(np.prod(shape[2:]))
    ortho, Z = rn.build(X, y, n_layers=2, eta=ETA, epsilon_sq=EPSILON_SQ, lam=LAM)
    backward, W = rn.build(X, y, n_layers=2, eta=ETA * N, epsilon_sq=EPSILON_SQ * N, lam=LAM * N, dft_norm="backward")
    np.testing.assert_allclose(backward.rates.rate, ortho.rates.rate, rtol=TOLERANCE)
    np.testing.assert_allclose(backward.rates.per_class, ortho.rates.per_class, rtol=TOLERANCE)
    for a, b in zip(backward.layers, ortho.layers, strict=True):
        assert relative(N * a.E, b.E) < TOLERANCE
        assert relative(N * a.Cs, b.Cs) < TOLERANCE
    assert relative(W, Z) < TOLERANCE
    # By the labels, which random ones need: gates that are estimated find no step for some.
    natural_ortho, _ = rn.build(X, y, n_layers=1, epsilon_sq=EPSILON_SQ, assignment="given")
    natural_backward, _ = rn.build(X, y, n_layers=1, epsilon_sq=EPSILON_SQ * N, dft_norm="backward", assignment="given")
    assert natural_ortho.etas.all()
    np.testing.assert_allclose(natural_backward.etas, N * natural_ortho.etas, rtol=TOLERANCE)


def test_vectors_have_one_point_so_both_agree(backend):
    X, y = samples((9, 4), False)
    ortho, Z = rn.build(X, y, n_layers=2)
    backward, W = rn.build(X, y, n_layers=2, dft_norm="backward")
    np.testing.assert_array_equal(Z, W)
    np.testing.assert_array_equal(ortho.rates.delta, backward.rates.delta)
