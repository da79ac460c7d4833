"""`redunet.linalg` against `numpy.linalg` in double precision, for every size up to 40 and some up to 512.

Matrices are Q diag(s) Q* with s from 1 down to 1/kappa. For Cholesky-based methods (Higham, *Accuracy and
Stability of Numerical Algorithms*, chapters 10 and 14), with u the rounding unit, all norms spectral or
larger, n bounding the sums:

    ||A - L L*|| <= c n u ||A||,   ||X - A^-1|| <= c n u kappa ||A^-1||,   ||x - A^-1 b|| <= c n u kappa ||x||,
    |log det - exact| <= c n u (n kappa + sum |log diag|), from tr(A^-1 dA) and the sum of logarithms,

c = 4 for real and 8 for complex arithmetic.
"""

from __future__ import annotations

import numpy as np
import pytest

from redunet import linalg

DTYPES = [np.float32, np.float64, np.complex64, np.complex128]
BATCHES = [(), (0,), (1,), (3,), (2, 5), (37,)]
SIZES = [*range(1, 41), 64, 65, 128, 200, 512]
KAPPA = 50.0


def hermitian(n, batch, dtype, seed=0):
    """Positive definite matrices in ``dtype``, and the same numbers in double precision."""
    rng = np.random.default_rng(seed + n)
    G = rng.standard_normal((*batch, n, n))
    if np.dtype(dtype).kind == "c":
        G = G + 1j * rng.standard_normal((*batch, n, n))
    Q = np.linalg.qr(G)[0] if G.size else G
    s = np.geomspace(1, 1 / KAPPA, n)
    A = (Q * s) @ Q.conj().swapaxes(-1, -2)
    A = ((A + A.conj().swapaxes(-1, -2)) / 2).astype(dtype)
    return A, A.astype(np.complex128 if A.dtype.kind == "c" else np.float64)


def bound(n, dtype):
    """c n u."""
    return (8 if np.dtype(dtype).kind == "c" else 4) * (n + 1) * float(np.finfo(dtype).eps)


def error(a, b):
    """Largest relative Frobenius error over the batch."""
    if b.size == 0:
        return 0.0
    return float((np.linalg.norm(a - b, axis=(-2, -1)) / np.linalg.norm(b, axis=(-2, -1))).max())


def adjoint(A):
    return A.conj().swapaxes(-1, -2)


def check_all(A, exact, dtype):
    """Every function on one batch of Hermitian matrices."""
    n = A.shape[-1]
    unit = bound(n, dtype)
    L = linalg.cholesky(A)
    assert L.shape == A.shape
    assert L.dtype == A.dtype
    np.testing.assert_array_equal(np.triu(L, 1), 0)
    diagonal = np.diagonal(L, axis1=-2, axis2=-1)
    assert (diagonal.real > 0).all()
    assert (diagonal.imag == 0).all()
    wide = L.astype(exact.dtype)
    assert error(wide @ adjoint(wide), exact) < unit

    inverse = linalg.inv(A)
    assert inverse.shape == A.shape
    assert inverse.dtype == A.dtype
    np.testing.assert_array_equal(inverse, adjoint(inverse))
    assert error(inverse, np.linalg.inv(exact)) < unit * KAPPA

    B = np.random.default_rng(1).standard_normal((*A.shape[:-1], 3)).astype(dtype)
    X = linalg.solve(A, B)
    assert X.shape == B.shape
    assert X.dtype == A.dtype
    assert error(X, np.linalg.solve(exact, B.astype(exact.dtype))) < unit * KAPPA

    rows = np.swapaxes(B, -1, -2)
    forms, same = linalg.quadratic_forms(A, rows)
    wanted = (rows.conj() * np.swapaxes(np.linalg.solve(exact, B.astype(exact.dtype)), -1, -2)).sum(axis=-1).real
    assert forms.shape == rows.shape[:-1]
    assert forms.dtype == same.dtype == A.real.dtype
    # ||L^-1 b||^2 moves by b* A^-1 dA A^-1 b with ||dA|| <= c n u ||A||, which is c n u kappa of it at most.
    assert (np.abs(forms - wanted) <= 2 * unit * KAPPA * wanted).all()

    logdets = linalg.logdet(A)
    expected = np.linalg.slogdet(exact)[1]
    assert logdets.shape == A.shape[:-2]
    assert logdets.dtype == A.real.dtype
    slack = unit * (n * KAPPA + np.abs(np.log(np.geomspace(1, 1 / KAPPA, n))).sum())
    assert (np.abs(logdets - expected) < slack).all()
    assert (np.abs(same - expected) < slack).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", SIZES)
def test_every_size(backend, n, dtype):
    check_all(*hermitian(n, (2,) if n <= 65 else (), dtype), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", BATCHES, ids=str)
@pytest.mark.parametrize("n", [1, 3, 8, 17])
def test_every_batch_shape(backend, n, batch, dtype):
    check_all(*hermitian(n, batch, dtype), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33])
def test_full_and_partial_groups(backend, n, dtype):
    """16 or 8 matrices go side by side: what lies beside one, and where arrays begin in memory, changes nothing."""
    A, exact = hermitian(n, (33,), dtype)
    B = np.random.default_rng(2).standard_normal((33, n, 2)).astype(dtype)
    check_all(A, exact, dtype)
    whole = linalg.cholesky(A), linalg.inv(A), linalg.solve(A, B), linalg.logdet(A)
    shifted = np.empty(A.size + 1, dtype)[1:].reshape(A.shape)
    shifted[:] = A
    np.testing.assert_array_equal(linalg.cholesky(shifted), whole[0])
    np.testing.assert_array_equal(linalg.solve(shifted, B), whole[2])
    for batch in (1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 20, 24, 31, 32):
        some = linalg.cholesky(A[:batch]), linalg.inv(A[:batch]), linalg.solve(A[:batch], B[:batch])
        for part, full in zip((*some, linalg.logdet(A[:batch])), whole, strict=True):
            if batch >= (4 if n <= 32 else 8):
                np.testing.assert_array_equal(part, full[:batch])
            else:  # few matrices may go another way
                np.testing.assert_allclose(
                    part, full[:batch], rtol=0, atol=KAPPA * bound(n, dtype) * np.abs(full).max()
                )


@pytest.mark.parametrize("dtype", DTYPES)
def test_roots_of_squares_are_exact(backend, dtype):
    squares = np.arange(1.0, 41.0) ** 2
    A = (squares[:, None, None] * np.eye(3)).astype(dtype)
    np.testing.assert_array_equal(
        np.diagonal(linalg.cholesky(A), axis1=1, axis2=2), np.sqrt(squares)[:, None] + np.zeros(3)
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [1, 20])
def test_smallest_and_largest_numbers(backend, count, dtype):
    """Subnormal pivots and those near overflow: roots to rounding, logarithms of what was rounded."""
    real = np.finfo(dtype).dtype
    for value in (np.finfo(dtype).smallest_subnormal * 1000, np.finfo(dtype).tiny, np.finfo(dtype).max):
        scale = real.type(value)
        A = np.tile(scale * np.eye(5, dtype=dtype), (count, 1, 1))
        L = linalg.cholesky(A)
        np.testing.assert_allclose(L[:, 2, 2].real, np.sqrt(scale), rtol=4 * np.finfo(dtype).eps)
        np.testing.assert_allclose(linalg.logdet(A), 5 * np.log(np.float64(scale)), rtol=bound(5, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_order_of_bytes_does_not_matter(backend, dtype):
    A, _ = hermitian(4, (3,), dtype)
    swapped = A.astype(A.dtype.newbyteorder())
    for function in (linalg.cholesky, linalg.inv, linalg.logdet):
        result = function(swapped)
        assert result.dtype.isnative
        np.testing.assert_array_equal(result, function(A))
    np.testing.assert_array_equal(linalg.solve(A, swapped), linalg.solve(A, A))
    np.testing.assert_array_equal(linalg.solve(swapped, A), linalg.solve(A, A))


@pytest.mark.parametrize("dtype", DTYPES)
def test_of_no_rows(backend, dtype):
    """Empty matrices: as in numpy.linalg, log det is 0."""
    A = np.empty((3, 0, 0), dtype)
    assert linalg.cholesky(A).shape == linalg.inv(A).shape == (3, 0, 0)
    assert linalg.solve(A, np.empty((3, 0, 2), dtype)).shape == (3, 0, 2)
    np.testing.assert_array_equal(linalg.logdet(A), np.zeros(3))


@pytest.mark.parametrize("dtype", DTYPES)
def test_only_the_lower_triangle_is_read(backend, dtype):
    A, _ = hermitian(7, (4,), dtype)
    spoiled = A.copy()
    spoiled[:, np.triu(np.ones((7, 7), bool), 1)] = np.nan
    before = spoiled.copy()
    B = np.ones((7, 2), dtype)
    np.testing.assert_array_equal(linalg.cholesky(spoiled), linalg.cholesky(A))
    np.testing.assert_array_equal(linalg.inv(spoiled), linalg.inv(A))
    np.testing.assert_array_equal(linalg.solve(spoiled, B), linalg.solve(A, B))
    np.testing.assert_array_equal(linalg.logdet(spoiled), linalg.logdet(A))
    np.testing.assert_array_equal(spoiled, before)  # and nothing is written


@pytest.mark.parametrize("dtype", DTYPES)
def test_memory_order_does_not_matter(backend, dtype):
    A, _ = hermitian(6, (5,), dtype)
    B = np.random.default_rng(0).standard_normal((5, 6, 3)).astype(dtype)
    big = np.zeros((10, 12, 12), dtype)
    big[::2, ::2, 1::2] = A
    views = [
        big[::2, ::2, 1::2],
        np.asfortranarray(A),
        A[::-1][::-1],
        np.moveaxis(np.moveaxis(A, 0, -1).copy(), -1, 0),
    ]
    for view in views:
        np.testing.assert_array_equal(linalg.cholesky(view), linalg.cholesky(A))
        np.testing.assert_array_equal(linalg.inv(view), linalg.inv(A))
        np.testing.assert_array_equal(linalg.solve(view, np.asfortranarray(B)), linalg.solve(A, B))
        np.testing.assert_array_equal(linalg.logdet(view), linalg.logdet(A))


def test_real_and_complex_agree(backend):
    A, _ = hermitian(9, (3,), np.float64)
    for function in (linalg.cholesky, linalg.inv, linalg.logdet):
        np.testing.assert_allclose(function(A.astype(complex)), function(A), rtol=1e-12, atol=1e-12)


def test_integers_become_double(backend):
    A = [[4, 2], [2, 5]]
    for function in (linalg.cholesky, linalg.inv, linalg.logdet):
        result = function(A)
        assert result.dtype == np.float64
        np.testing.assert_array_equal(result, function(np.array(A, dtype=float)))
    assert linalg.solve(A, [2, 5]).dtype == np.float64
    np.testing.assert_allclose(linalg.solve(A, [2, 5]), [0, 1], atol=1e-15)
    assert linalg.solve(np.eye(2, dtype=bool), np.eye(2, dtype=bool)).dtype == np.float64


class TestSolve:
    def test_broadcasts_batches(self, backend):
        A, _ = hermitian(4, (2, 1), np.float64)
        B = np.random.default_rng(0).standard_normal((5, 4, 3))
        X = linalg.solve(A, B)
        assert X.shape == (2, 5, 4, 3)
        np.testing.assert_allclose(
            X, np.linalg.solve(A, B), rtol=0, atol=KAPPA * bound(4, np.float64) * np.abs(X).max()
        )
        one, _ = hermitian(4, (), np.float64)
        assert linalg.solve(one, B).shape == (5, 4, 3)
        assert linalg.solve(A, B[0]).shape == (2, 1, 4, 3)

    def test_takes_one_vector(self, backend):
        A, _ = hermitian(4, (3,), np.complex128)
        b = np.arange(4.0)
        x = linalg.solve(A, b)
        assert x.shape == (3, 4)
        assert x.dtype == np.complex128
        np.testing.assert_allclose(np.einsum("bij,bj->bi", A, x), np.tile(b, (3, 1)), atol=1e-12)

    def test_has_the_common_dtype(self, backend):
        A = np.eye(3, dtype=np.float32)
        assert linalg.solve(A, np.ones(3, np.float32)).dtype == np.float32
        assert linalg.solve(A, np.ones(3, np.complex64)).dtype == np.complex64
        assert linalg.solve(A, np.ones(3, np.float64)).dtype == np.float64
        assert linalg.solve(A.astype(np.float64), np.ones(3, np.complex64)).dtype == np.complex128

    def test_of_no_right_hand_side(self, backend):
        assert linalg.solve(np.eye(3), np.empty((3, 0))).shape == (3, 0)

    def test_leaves_its_arguments_alone(self, backend):
        A, _ = hermitian(5, (2,), np.float64)
        B = np.ones((2, 5, 2))
        copies = A.copy(), B.copy()
        for function in (linalg.cholesky, linalg.inv, linalg.logdet):
            function(A)
        linalg.solve(A, B)
        np.testing.assert_array_equal(A, copies[0])
        np.testing.assert_array_equal(B, copies[1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 5, 20, 70])
def test_not_positive_definite_names_the_matrix(backend, n, dtype):
    A, _ = hermitian(n, (2, 3), dtype)
    for spoil in (-1.0, 0.0, np.nan, np.inf):
        bad = A.copy()
        bad[1, 1, n - 1, n - 1] = spoil
        message = r"^matrix \(1, 1\) of shape \(2, 3\) is not positive definite$"
        with pytest.raises(np.linalg.LinAlgError, match=message):
            linalg.cholesky(bad)
        with pytest.raises(np.linalg.LinAlgError, match=message):
            linalg.inv(bad)
        with pytest.raises(np.linalg.LinAlgError, match=message):
            linalg.logdet(bad)
        with pytest.raises(np.linalg.LinAlgError, match=message):
            linalg.solve(bad, np.ones((n, 1), dtype))


def test_the_first_of_several_bad_matrices_is_named_for_any_number_of_threads(backend):
    A = np.tile(np.eye(3), (50, 1, 1))
    A[[11, 12, 40], 2, 2] = -1
    for n_threads in (1, 2, 3, 7):
        with pytest.raises(np.linalg.LinAlgError, match="matrix 11 of 50 is"):
            linalg.cholesky(A, n_threads=n_threads)


@pytest.mark.parametrize("dtype", DTYPES)
def test_logdet_neither_overflows_nor_vanishes(backend, dtype):
    """Determinants of 1e600 and 1e-600 have plain logarithms."""
    n = 40
    for scale in (1e15, 1e-15):
        expected = n * np.log(scale)
        assert abs(linalg.logdet(scale * np.eye(n, dtype=dtype)) - expected) < bound(n, dtype) * abs(expected)


def test_threads_do_not_change_a_bit(backend):
    A, _ = hermitian(11, (64,), np.float32)
    for function in (linalg.cholesky, linalg.inv, linalg.logdet):
        one = function(A, n_threads=1)
        for n_threads in (2, 3, 7):
            np.testing.assert_array_equal(function(A, n_threads=n_threads), one)


def test_quadratic_forms_of_a_single_vector_and_of_batches_that_broadcast(backend):
    A, exact = hermitian(5, (2, 1), np.complex128)
    x = np.random.default_rng(3).standard_normal((3, 4, 5))
    forms, logdet = linalg.quadratic_forms(A, x)
    wanted = np.einsum(
        "hbmi,hbij,hbmj->hbm",
        np.broadcast_to(x, (2, 3, 4, 5)),
        np.linalg.inv(exact) + np.zeros((2, 3, 1, 1)),
        np.broadcast_to(x, (2, 3, 4, 5)),
    ).real
    assert forms.shape == (2, 3, 4)
    assert logdet.shape == (2, 3)
    np.testing.assert_allclose(forms, wanted, rtol=2 * bound(5, np.complex128) * KAPPA)
    one, scalar = linalg.quadratic_forms(A[0, 0], x[1, 2])
    assert np.ndim(one) == np.ndim(scalar) == 0
    np.testing.assert_allclose(one, forms[0, 1, 2], rtol=2 * bound(5, np.complex128) * KAPPA)
    assert linalg.quadratic_forms(A[0, 0], np.empty((0, 5))).forms.shape == (0,)
    mixed = linalg.quadratic_forms(np.eye(2, dtype=np.float32), [[3, 4]])
    assert mixed.forms.dtype == mixed.logdet.dtype == np.float64
    assert mixed.forms.tolist() == [25.0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("n", "batch", "m"),
    [(3, (40,), 1), (20, (17,), 5), (20, (), 100), (50, (2,), 33), (97, (), 9), (130, (), 150), (8, (3,), 0)],
)
def test_quadratic_forms_of_many_sizes(backend, n, batch, m, dtype):
    """Matrices in lanes, vectors in lanes, and blocks of rows: full ones and others; threads change no bit."""
    A, exact = hermitian(n, batch, dtype)
    random = np.random.default_rng(n)
    X = random.standard_normal((*batch, m, n))
    if np.dtype(dtype).kind == "c":
        X = X + 1j * random.standard_normal(X.shape)
    X = X.astype(dtype)
    forms, logdet = linalg.quadratic_forms(A, X, n_threads=1)
    wide = X.astype(exact.dtype)
    expected = (wide.conj() * np.swapaxes(np.linalg.solve(exact, np.swapaxes(wide, -1, -2)), -1, -2)).sum(axis=-1).real
    assert forms.shape == (*batch, m)
    assert forms.dtype == logdet.dtype == A.real.dtype
    # ||L^-1 x||^2, where L has an error that is c n u ||A|| in A: c n u kappa of it, and as much of the substitution.
    np.testing.assert_allclose(forms, expected, rtol=4 * bound(n, dtype) * KAPPA, atol=0)
    np.testing.assert_array_equal(linalg.quadratic_forms(A, X, n_threads=3).forms, forms)
    spoiled = A.copy()
    spoiled[..., np.triu(np.ones((n, n), bool), 1)] = np.nan
    np.testing.assert_array_equal(linalg.quadratic_forms(spoiled, X).forms, forms)


def test_quadratic_forms_name_the_matrix(backend):
    with pytest.raises(np.linalg.LinAlgError, match="matrix 1 of 2 is not positive definite"):
        linalg.quadratic_forms([np.eye(2), -np.eye(2)], np.ones(2))


class TestLogdetOfSums:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("n", [1, 3, 8, 15, 16, 33, 70])
    def test_all_pairs(self, backend, n, dtype):
        """Halves that are not positive definite themselves: A[i] + A[j] is what is well conditioned."""
        A, exact = hermitian(n, (7,), dtype)
        shift = 3 * (np.arange(7) - 3.0)[:, None, None] * np.eye(n)
        A, exact = (A + shift).astype(dtype), exact + shift
        exact = A.astype(exact.dtype)
        first = np.arange(7)
        second = 6 - first  # shifts cancel
        logdets = linalg.logdet_of_sums(A, first, second)
        assert logdets.shape == (7,)
        assert logdets.dtype == A.real.dtype
        expected = np.linalg.slogdet(exact[first] + exact[second])[1]
        # Sums are off by u times their terms, 9 and 1, and the log det by n kappa times that; as in `check_all`.
        slack = bound(n, dtype) * (10 * n * KAPPA + np.abs(np.log(np.geomspace(1, 1 / KAPPA, n))).sum())
        np.testing.assert_allclose(logdets, expected, rtol=0, atol=slack)
        np.testing.assert_array_equal(linalg.logdet_of_sums(A, second, first), logdets)
        np.testing.assert_array_equal(linalg.logdet_of_sums(A, first, second, n_threads=3), logdets)

    def test_is_the_logdet_of_the_sums(self, backend):
        A, exact = hermitian(5, (30,), np.float32)
        first, second = np.triu_indices(30)
        found = linalg.logdet_of_sums(A, first, second)
        if backend.startswith("cpu"):  # the same sums, in the same lanes
            np.testing.assert_array_equal(found, linalg.logdet(A[first] + A[second]))
        expected = linalg.logdet(exact[first] + exact[second])
        # The condition of a sum is below that of the worse of the two; 5 numbers of at most log(2 kappa).
        np.testing.assert_allclose(found, expected, atol=bound(5, np.float32) * (2 * 5 * KAPPA + 5 * np.log(2 * KAPPA)))

    def test_indices_broadcast(self, backend):
        A, _ = hermitian(3, (4,), np.float64)
        table = linalg.logdet_of_sums(A, np.arange(4)[:, None], np.arange(4, dtype=np.uint8))
        assert table.shape == (4, 4)
        np.testing.assert_array_equal(table, table.T)
        assert np.ndim(linalg.logdet_of_sums(A, 1, 2)) == 0
        assert linalg.logdet_of_sums(A, 1, 2) == table[1, 2]
        assert linalg.logdet_of_sums(A, [], []).shape == (0,)
        assert linalg.logdet_of_sums(A, [[]], [1]).shape == (1, 0)
        np.testing.assert_array_equal(linalg.logdet_of_sums(np.empty((2, 0, 0)), [0, 1], 1), [0, 0])

    @pytest.mark.parametrize("n", [3, 40])
    def test_names_the_pair(self, backend, n, monkeypatch):
        A = np.stack([np.eye(n), -np.eye(n), 3 * np.eye(n)])
        with pytest.raises(np.linalg.LinAlgError, match="matrix 13 of 20 is not positive definite"):
            linalg.logdet_of_sums(A, [0, 2] * 6 + [2, 1] + [0] * 6, [2, 1] * 6 + [2, 0] + [1] * 6)
        monkeypatch.setattr("redunet._backends.numpy_backend.SUMS_BYTES", 1)
        with pytest.raises(np.linalg.LinAlgError, match="matrix 2 of 3 is not positive definite"):
            linalg.logdet_of_sums(A, [0, 2, 0], [2, 1, 1])

    def test_what_single_precision_refuses_is_done_in_double(self, backend):
        """Also the sum, whose 2^-26 is lost beside 1."""
        A = np.array([[[1.0, 1.0], [1.0, 1.0]], [[2.0**-26, 0.0], [0.0, 2.0**-26]]], np.float32)
        expected = np.linalg.slogdet(A.astype(float).sum(axis=0))[1]
        for count in (1, 40):
            found = linalg.logdet_of_sums(A, [0] * count, 1)
            np.testing.assert_allclose(found, expected, rtol=4 * np.finfo(np.float32).eps)
