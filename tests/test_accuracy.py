"""How accurate redunet.linalg is where matrices are nearly singular: as accurate as Cholesky's own solves.

The measure is the residual ||A X - I|| of an inverse, which for two substitutions with the factor is of the size of
n u cond(A). Every path of the engine is asked: lanes (small, or in batches) and blocks (large, or few), at every
precision, up to the largest condition that a factorisation must survive, 1/(n u).
"""

from __future__ import annotations

import numpy as np
import pytest

from redunet import linalg

KINDS = ["f", "d", "F", "D"]
SIZES = [2, 8, 9, 17, 33, 65, 130]


def unit(kind):
    return float(np.finfo(kind).eps) / 2


def smooth(n, condition, kind):
    """Covariances of curves: eigenvalues fall fast, and all entries are alike."""
    x = np.linspace(0, 1, n)
    return np.exp(-((x[:, None] - x) ** 2) / 0.1) + n / condition * np.eye(n)


def hilbert(n, condition, kind):
    i = np.arange(n)
    return 1 / (i[:, None] + i + 1.0) + 2 / condition * np.eye(n)


def geometric(n, condition, kind):
    """Eigenvalues in geometric progression, eigenvectors at random."""
    rng = np.random.default_rng(n)
    Q = np.linalg.qr(rng.standard_normal((n, n)) + (1j * rng.standard_normal((n, n)) if kind in "FD" else 0))[0]
    return (Q * np.geomspace(1, 1 / condition, n)) @ Q.conj().T


def low_rank(n, condition, kind):
    """I + alpha G with G of rank 2: the matrices of a layer."""
    V = np.random.default_rng(n).standard_normal((n, 2))
    G = V @ V.T
    return np.eye(n) + condition * G / np.linalg.norm(G, 2)


FAMILIES = [smooth, hilbert, geometric, low_rank]


def matrix(family, n, condition, kind):
    A = family(n, condition, kind).astype(kind)
    return (A + A.conj().T) / np.dtype(kind).type(2)


def substitute(L, B):
    """L^-1 B, row by row, in the precision of L."""
    X = B.copy()
    for i in range(len(L)):
        X[i] = (X[i] - L[i, :i] @ X[:i]) / L[i, i]
    return X


def factor(A):
    """L with A = L L*, column by column, in the precision of A."""
    L = np.zeros_like(A)
    for j in range(len(A)):
        L[j:, j] = A[j:, j] - L[j:, :j] @ L[j, :j].conj()
        L[j:, j] /= np.sqrt(L[j, j].real)
    return L


def by_substitution(A):
    """The inverse that two substitutions with the factor give."""
    L = factor(A)
    W = substitute(L, np.eye(len(A), dtype=A.dtype))
    return substitute(L.conj().T[::-1, ::-1], W[::-1])[::-1]


def residual(A, X):
    wide = np.dtype({"f": "d", "F": "D", "d": "g", "D": "G"}[A.dtype.char])
    return float(np.sqrt((np.abs(A.astype(wide) @ X.astype(wide) - np.eye(len(A))) ** 2).sum()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_inverses_are_as_accurate_as_substitutions(backend, family, kind):
    for n in SIZES:
        if backend == "cuda" and n > 128:  # by blocks, which are multiplied by their inverses (docs/gpu.md)
            continue
        for condition in (10.0, (n * unit(kind)) ** -0.5, 0.1 / (n * unit(kind))):
            A = matrix(family, n, condition, kind)
            # Substitutions may be lucky with a small matrix; a sixteenth of what they promise is allowed beside.
            allowed = max(10 * residual(A, by_substitution(A)), n * unit(kind) * condition / 16, 10 * n * unit(kind))
            for count in (1, 3, 20):
                if count * n > 1500:
                    continue
                X = linalg.inv(np.broadcast_to(A, (count, n, n)))
                assert residual(A, X[-1]) <= allowed, (n, condition, count)
                np.testing.assert_array_equal(X, X.conj().swapaxes(-1, -2))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_solutions_are_backward_stable(backend, family, kind):
    """A x - b is of the size of n u ||A|| ||x||, whatever the condition."""
    for n in SIZES:
        A = matrix(family, n, 0.1 / (n * unit(kind)), kind)
        b = np.random.default_rng(n).standard_normal(n).astype(kind)
        for count in (1, 20):
            X = linalg.solve(np.broadcast_to(A, (count, n, n)), b[:, None])
            x = X[-1, :, 0].astype(complex)
            allowed = 4 * n * unit(kind) * np.linalg.norm(A.astype(complex), 2) * np.linalg.norm(x)
            assert np.linalg.norm(A.astype(complex) @ x - b) <= allowed


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_is_refused_that_double_precision_factors(backend, family):
    """Single precision, conditions far beyond what its own factorisation survives; one sound matrix in between."""
    if backend == "cuda":
        pytest.skip("the CUDA engine factors single precision in single precision")
    for kind in "fF":
        for n in (3, 8, 20, 70):
            A = matrix(family, n, 1e6, kind).astype(kind.upper() if kind == "F" else "d")
            A += np.eye(n) * max(0.0, 1e-9 - float(np.linalg.eigvalsh(A)[0]))
            A = A.astype(kind)
            while np.linalg.eigvalsh(A.astype(complex))[0] <= 1e-10 * np.linalg.norm(A.astype(complex), 2):
                A = A + np.eye(n, dtype=kind) * np.dtype(kind).type(1e-7)
            batch = np.stack([A, np.eye(n, dtype=kind), A])
            for function in (linalg.cholesky, linalg.inv, linalg.logdet):
                assert np.isfinite(function(batch)).all()
            assert np.isfinite(linalg.solve(batch, np.ones((n, 2), kind))).all()


def test_a_matrix_refused_in_single_precision_is_right(backend):
    """A pivot of 2^-23 - 2^-28 / 3 vanishes in single precision; the matrix is positive definite all the same."""
    if backend == "cuda":
        pytest.skip("the CUDA engine factors single precision in single precision")
    A = np.array([[1, 1 - 2**-24, 0], [1 - 2**-24, 1, 0], [0, 0, 3]], np.float32)
    A[2, :2] = A[:2, 2] = 2**-14
    expected = np.linalg.slogdet(A.astype(float))[1]
    for count in (1, 40):
        batch = np.stack([A] * count)
        np.testing.assert_allclose(linalg.logdet(batch), expected, rtol=1e-2)
        X = linalg.solve(batch, np.ones((3, 1), np.float32))
        assert np.abs(A.astype(float) @ X[-1, :, 0] - 1).max() < 1.0
    batch[7, 0, 0] = -1
    with pytest.raises(np.linalg.LinAlgError, match="matrix 7 of 40 is not positive definite"):
        linalg.inv(batch)


@pytest.mark.parametrize("kind", KINDS)
def test_matrices_near_the_smallest_normal_number(backend, kind):
    """Scaling by a power of two is exact: so are the results, as far as they have normal numbers."""
    tiny = float(np.finfo(kind).tiny)
    for n in (2, 5, 9, 33):
        V = np.random.default_rng(n).standard_normal((n, n))
        A = (V @ V.T / n + np.eye(n)).astype(kind)
        for count in (1, 20):
            batch = np.broadcast_to(A, (count, n, n))
            for exponent in (4, 1):
                scale = np.dtype(kind).type(2.0 ** (2 * round(np.log2(tiny) / 2) + 2 * exponent))
                allowed = 64 * n * unit(kind)
                np.testing.assert_allclose(
                    linalg.logdet(batch * scale), linalg.logdet(batch) + n * np.log(float(scale.real)), rtol=allowed
                )
                np.testing.assert_allclose(
                    linalg.cholesky(batch * scale) / np.sqrt(scale.real),
                    linalg.cholesky(batch),
                    atol=float(np.abs(linalg.cholesky(A)).max()) * allowed * 2 ** (8 - 2 * exponent),
                )
