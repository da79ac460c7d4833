"""What is called in MKL by ctypes gives what NumPy gives, within rounding: strides, order and packing are right."""

from __future__ import annotations

import numpy as np
import pytest

from bench.baselines import mkl
from bench.linalg import positive_definite

pytestmark = pytest.mark.skipif(mkl.library() is None, reason="MKL is not installed")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_strided_batches_of_products(dtype: str) -> None:
    rng = np.random.default_rng(0)
    A = rng.standard_normal((5, 3, 9)).astype(dtype)[:, :, 1:8]
    B = rng.standard_normal((5, 7, 12)).astype(dtype)[:, :, 2:]
    out = np.zeros((5, 3, 14), dtype)
    mkl.gemm_batch(A, B, out[:, :, 3:13])
    # A sum of 7 products of numbers of size 1, each side with its own order.
    bound = 2 * 7 * np.finfo(dtype).eps * (np.abs(A) @ np.abs(B)).max()
    np.testing.assert_allclose(out[:, :, 3:13], A @ B, rtol=0, atol=bound)
    assert not out[:, :, :3].any()
    assert not out[:, :, 13:].any()
    gram = np.empty((5, 3, 3), dtype)
    mkl.gemm_batch(A, A, gram, transpose_B=True)
    np.testing.assert_allclose(gram, A @ A.swapaxes(1, 2), rtol=0, atol=bound)


def test_products_want_contiguous_rows() -> None:
    A = np.zeros((2, 3, 3), np.float32)
    with pytest.raises(ValueError, match="contiguous rows, of one dtype"):
        mkl.gemm_batch(A, A.swapaxes(1, 2), np.empty_like(A))
    with pytest.raises(ValueError, match="contiguous rows, of one dtype"):
        mkl.gemm_batch(A, A.astype(np.float64), np.empty_like(A))


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize(("n", "batch"), [(1, 1), (3, 7), (8, 64), (17, 5)])
def test_compact_factors_and_inverses(dtype: str, n: int, batch: int) -> None:
    A = positive_definite(n, batch, dtype)
    # Condition numbers are a few: n operations a number, tens of units of rounding at most.
    bound = 40 * n * float(np.finfo(dtype).eps)
    packed = mkl.Compact(A)
    np.testing.assert_array_equal(packed.unpack(np.empty_like(A)), A)
    packed.keep()
    packed.cholesky()
    np.testing.assert_allclose(np.tril(packed.unpack(np.empty_like(A))), np.linalg.cholesky(A), rtol=0, atol=bound)
    packed.restore()
    packed.invert()
    np.testing.assert_allclose(packed.unpack(np.empty_like(A)), np.linalg.inv(A), rtol=0, atol=bound)
