"""The sparse lift: codes of the dictionary that it says, homogeneous, equivariant, in blocks of any size."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import redunet as rn
from redunet import sparse
from redunet.frontends import sparse_lift as module

SHAPES = [((5, 2, 11), 4), ((4, 1, 6, 7), 3), ((3, 2, 5, 4), (1, 4))]


@pytest.mark.parametrize("block", [1, 1 << 24])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "size"), SHAPES)
def test_it_gives_codes(shape, size, dtype, block, monkeypatch):
    """Of y over max |A* y|, times that: the optimality of what many steps give, sample by sample."""
    monkeypatch.setattr(module, "BLOCK_BYTES", block)
    X = np.random.default_rng(0).normal(size=shape).astype(dtype)
    lift = rn.SparseLift(6, size, lam=0.3, n_iter=15, random_state=0)
    Z = lift(X)
    A = sparse.ConvolutionalDictionary(lift.kernels_, shape[2:])
    peaks = np.abs(A.adjoint(X.astype(float))).max(axis=tuple(range(1, X.ndim)))
    for x, z, peak in zip(X, Z, peaks, strict=True):
        expected = sparse.fista(A, x.astype(float), 0.3 * peak, n_iter=15)
        # 15 steps, each through two FFTs of tens of points, with factors of order 1 in units of the signal.
        atol = 15 * 100 * np.finfo(dtype).eps * np.abs(x).max()
        np.testing.assert_allclose(z, expected, rtol=0, atol=atol)
    assert Z.dtype == dtype
    assert Z.shape == (shape[0], 6, *shape[2:])
    assert 0 < (Z != 0).mean() < 0.5


def test_one_step_is_the_random_lift_by_soft_thresholds():
    X = np.random.default_rng(0).normal(size=(3, 2, 9))
    lift = rn.SparseLift(4, 3, lam=0.2, n_iter=1, random_state=5)
    plain = rn.RandomLift(4, 3, activation="identity", random_state=5)
    found = lift(X)
    U = plain(X)
    norms = np.sqrt((plain.kernels_**2).sum(axis=(1, 2), keepdims=True))
    np.testing.assert_allclose(lift.kernels_, plain.kernels_ / norms, rtol=1e-15)
    U /= norms[:, 0][None]
    L = sparse.ConvolutionalDictionary(lift.kernels_, 9).largest_eigenvalue()
    peaks = np.abs(U).max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(found, sparse.soft_threshold(U / L, 0.2 * peaks / L), rtol=0, atol=1e-14)


def test_lam_of_one_would_be_zero_and_zero_samples_are():
    X = np.random.default_rng(0).normal(size=(3, 1, 8))
    X[1] = 0
    Z = rn.SparseLift(3, 2, lam=0.999, n_iter=50, random_state=0)(X)
    assert not Z[1].any()
    assert all(1 <= np.count_nonzero(z) <= 3 for z in Z[[0, 2]])


def test_patches_are_pieces_of_the_samples():
    X = np.random.default_rng(0).normal(size=(4, 2, 5, 6))
    lift = rn.SparseLift(8, (2, 3), source="patches", random_state=1).fit(X)
    pieces = np.lib.stride_tricks.sliding_window_view(X, (2, 3), axis=(2, 3)).transpose(0, 2, 3, 1, 4, 5)
    pieces = pieces.reshape(-1, 2, 6)
    pieces = pieces - pieces.mean(axis=2, keepdims=True)
    pieces /= np.linalg.norm(pieces.reshape(len(pieces), -1), axis=1)[:, None, None]
    found = np.abs(lift.kernels_.reshape(8, 1, 2, 6) - pieces).max(axis=(2, 3)).min(axis=1)
    assert (found < 1e-15).all()
    assert len(np.unique(lift.kernels_.reshape(8, -1), axis=0)) >= 6  # of 64 pieces, one may come again
    other = rn.SparseLift(8, (2, 3), source="patches", random_state=np.random.default_rng(1)).fit(X)
    assert not np.array_equal(other.kernels_, lift.kernels_)
    again = rn.SparseLift(8, (2, 3), source="patches", random_state=1).fit(X)
    np.testing.assert_array_equal(again.kernels_, lift.kernels_)


@pytest.mark.parametrize(("shape", "shift"), [((3, 2, 10), 3), ((3, 2, 6, 7), (2, 5))])
def test_scaled_and_shifted_samples_have_scaled_and_shifted_codes(shape, shift):
    X = np.random.default_rng(2).normal(size=shape)
    lift = rn.SparseLift(4, 3, random_state=0)
    axes = tuple(range(2, X.ndim)) if isinstance(shift, tuple) else -1
    np.testing.assert_allclose(
        lift(1e6 * np.roll(X, shift, axes)), 1e6 * np.roll(lift(X), shift, axes), rtol=0, atol=1e-5
    )


def test_words_copies_and_integers():
    lift = rn.SparseLift(4, 3, lam=0.25, random_state=0)
    assert repr(lift) == "SparseLift(4, 3, lam=0.25, n_iter=20, source='random', random_state=0)"
    X = np.arange(24).reshape(2, 1, 12)
    Z = lift.fit_transform(X)
    assert Z.dtype == np.float64
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(lift)).transform(X), Z)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rn.SparseLift(2, 2, lam=1), r"lam is 1; expected a number in \[0, 1\)"),
        (lambda: rn.SparseLift(2, 2, source="sparse"), "source is 'sparse'; expected one of 'random', 'patches'"),
        (lambda: rn.SparseLift(2, 5)(np.ones((2, 1, 4))), r"X has shape \(2, 1, 4\); expected points for kernels of 5"),
        (lambda: rn.SparseLift(2, (2, 2))(np.ones((2, 1, 4))), r"kernel_size is \(2, 2\); expected 1 numbers for X of"),
        (lambda: rn.SparseLift(2, 2).fit(np.ones((2, 1, 4)))(np.ones((2, 3, 4))),
         r"X has shape \(2, 3, 4\); expected \(m, 1, T\), as the kernels were drawn for"),
        (lambda: rn.SparseLift(2, 2).fit(np.ones((2, 1, 4, 4)))(np.ones((2, 1, 4))),
         r"X has shape \(2, 1, 4\); expected \(m, 1, H, W\), as the kernels were drawn for"),
        (lambda: rn.SparseLift(2, 2, source="patches").fit(np.ones((2, 1, 4))), "X has no pieces of 2 that vary; exp"),
        (lambda: rn.SparseLift(2, 2)([[[1.0, 2.0]], [[1.0, np.nan]]]), "X holds a NaN or infinite value in sample 1"),
    ],
)  # fmt: skip
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
