"""Local incremental coding length of every backend: what it finds, what it leaves alone, and where it ends.

`test_micl.py` holds scores against lengths from the definition, for few samples; here are sizes at which blocks,
panels and lanes are full, and not, against the NumPy backend. Both differ by rounding alone, by
`micl_oracle.rounding` at most.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
from micl_oracle import rounding, scores

from redunet import _backends
from redunet._backends import numpy_backend, numpy_local
from redunet._backends.host_contract import LocalRequest
from redunet.classifiers import MICL

DTYPES = [np.float32, np.float64]


def request_of(Z, sizes, n, *, centred=True, epsilons=(0.3,)):
    return LocalRequest(
        offsets=np.concatenate([[0], np.cumsum(sizes)]),
        origin=Z.mean(axis=0, dtype=np.float64).astype(Z.dtype),
        n_neighbors=n,
        centred=centred,
        epsilons=np.array(epsilons),
    )


def increments(X, Z, request, n_threads=2):
    return _backends.select_with("local_increments").local_increments(X, Z, request, n_threads=n_threads)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize(
    ("sizes", "d", "m", "n"),
    [
        ((60, 1, 7), 1, 3, 2),
        ((50, 130, 49, 10), 17, 150, 10),  # two blocks of samples in double precision, three of rows
        ((300,), 16, 33, 21),
        ((97, 48), 33, 1, 1),
        ((70, 40), 200, 300, 3),
        ((150, 160), 5, 4, 140),  # too large for lanes
    ],
)
def test_sizes(backend, sizes, d, m, n, centred, dtype):
    random = np.random.default_rng(d)
    Z, X = (random.standard_normal((rows, d)).astype(dtype) for rows in (sum(sizes), m))
    request = request_of(Z, sizes, n, centred=centred, epsilons=(0.1 * d, 10.0, 1e4))
    found = increments(X, Z, request)
    wide = request_of(Z, sizes, n, centred=centred, epsilons=request.epsilons)
    expected = numpy_local.local_increments(X.astype(float), Z.astype(float), wide, n_threads=1)
    assert found.shape == (3, m, len(sizes))
    assert found.dtype == np.float64
    for e, epsilon_sq in enumerate(request.epsilons.tolist()):
        # Of the members of a sample, n + 1 at most, not of all: `rounding` takes one more than it is given.
        atol = rounding(Z[: min(n, max(sizes))], Z, epsilon_sq, unit=float(np.finfo(dtype).eps))
        atol *= ((Z**2).sum(axis=1).max() + (X**2).sum(axis=1).max()) / (Z**2).sum(axis=1).max() * 2  # about x
        np.testing.assert_allclose(found[e], expected[e], rtol=0, atol=atol)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 3, 4, 11])
def test_of_equally_near_ones_the_first_are_taken(backend, n, dtype):
    """24 around a sample at one distance, 24 at another, in small integers, so that nothing is rounded."""
    random = np.random.default_rng(n)
    x = np.arange(6.0)[None]
    steps = np.concatenate([np.eye(6), -np.eye(6), 2 * np.eye(6), -2 * np.eye(6)])
    Z = x + steps[random.permutation(np.repeat(np.arange(24), 2))]
    np.testing.assert_array_equal(Z.mean(axis=0), x[0])
    distances = ((Z - x) ** 2).sum(axis=1)
    first = np.argsort(distances, kind="stable")[:n]
    for centred, mean in ((True, "estimate"), (False, "zero")):
        found = increments(x.astype(dtype), Z.astype(dtype), request_of(Z.astype(dtype), (48,), n, centred=centred))
        expected = scores(Z[first], np.zeros(n), x, 0.3, mean=mean)
        atol = rounding(Z[first], x, 0.3)
        np.testing.assert_allclose(found[0], expected, rtol=0, atol=atol)
        others = np.sort(np.argsort(distances[::-1], kind="stable")[:n])
        last = scores(Z[::-1][others], np.zeros(n), x, 0.3, mean=mean)
        if n in (3, 4):  # and others, as near, would show
            assert np.abs(last - expected).max() > 100 * atol


def test_neither_threads_nor_pieces_nor_the_samples_beside_one_change_a_bit(backend, monkeypatch):
    random = np.random.default_rng(0)
    Z, X = (random.standard_normal((rows, 9)).astype(np.float32) for rows in (400, 160))
    request = request_of(Z, (150, 250), 6, epsilons=(0.1, 1.0))
    one = increments(X, Z, request, n_threads=1)
    for n_threads in (2, 3, 5):
        np.testing.assert_array_equal(increments(X, Z, request, n_threads=n_threads), one)
    if backend != "numpy":
        for some in (slice(0, 1), slice(7, 24), slice(100, 159)):
            np.testing.assert_array_equal(increments(X[some], Z, request), one[:, some])
    else:  # whose BLAS adds up in another order
        monkeypatch.setattr(numpy_local, "PIECE_BYTES", 1)
        atol = 2 * rounding(Z[:6], Z, 0.1, unit=float(np.finfo(np.float32).eps))
        np.testing.assert_allclose(increments(X, Z, request), one, rtol=0, atol=atol)


def test_of_no_samples(backend):
    Z = np.ones((5, 3))
    assert increments(np.empty((0, 3)), Z, request_of(Z, (2, 3), 2)).shape == (1, 0, 2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_double_precision_does_not_hold_is_an_error(backend, dtype):
    """Also where distances overflow, so that there is no nearest."""
    largest = float(np.finfo(dtype).max)
    X = np.array([[largest, 0.0], [0.0, largest], [1.0, 1.0], [-largest, 3.0]], dtype)
    y = [0, 0, 1, 1]
    with (
        np.errstate(all="ignore"),
        pytest.raises(ValueError, match=re.escape("epsilon_sq is too small for double precision")),
    ):
        MICL(0.1, n_neighbors=1).fit(X, y).predict(X)


def test_a_backend_without_it_leaves_it_to_the_host(monkeypatch):
    """As a device does, whose linear algebra it has itself."""

    class Device:
        cholesky = staticmethod(lambda A, n_threads: A)

    loaded = {"cuda": (Device, ""), "cpu": (None, "missing"), "numpy": (numpy_backend, "")}
    monkeypatch.setattr(_backends, "_load", loaded.__getitem__)
    for function in ("local_increments", "quadratic_forms", "logdet_of_sums", "merge_path"):
        assert _backends.select_with(function, "cuda") is numpy_backend
    assert _backends.select_with("cholesky", "cuda") is Device
