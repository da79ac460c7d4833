"""Arrays whose numbers lie at odd addresses, as in packed records and files: right, and never seen by an engine."""

from __future__ import annotations

import numpy as np
import pytest

import redunet as rn
from redunet import linalg
from redunet._backends import select


def unaligned(array):
    """The same numbers, a byte off."""
    memory = np.empty(array.nbytes + 1, np.uint8)
    copy = memory[1:].view(array.dtype).reshape(array.shape)
    copy[...] = array
    assert array.nbytes == 0 or not copy.flags.aligned
    return copy


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
@pytest.mark.parametrize("shape", [(8, 8), (3, 5, 5), (40, 6, 6), (1, 70, 70)], ids=str)
def test_linear_algebra(backend, shape, dtype):
    n = shape[-1]
    A = (4 * np.eye(n) + np.diag(np.ones(n - 1), 1) + np.diag(np.ones(n - 1), -1) + np.zeros(shape)).astype(dtype)
    B = np.arange(A[..., :2].size).reshape(A[..., :2].shape).astype(dtype)
    for function in (linalg.cholesky, linalg.inv, linalg.logdet):
        np.testing.assert_array_equal(function(unaligned(A)), function(A))
    expected = linalg.solve(A, B)
    for left, right in [(unaligned(A), B), (A, unaligned(B)), (unaligned(A), unaligned(B))]:
        np.testing.assert_array_equal(linalg.solve(left, right), expected)
    vector = B.reshape(-1)[:n]
    np.testing.assert_array_equal(linalg.solve(A, unaligned(vector)), linalg.solve(A, vector))


@pytest.mark.parametrize("shape", [(30, 7), (30, 3, 8), (30, 12, 5), (30, 2, 4, 6)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.int32])
def test_networks_and_rates(backend, shape, dtype):
    rng = np.random.default_rng(0)
    X = (8 * rng.standard_normal(shape)).astype(dtype)
    weights, etas = rng.uniform(0.5, 2, 30), np.array([0.1, 0.2])
    Pi = rng.dirichlet(np.ones(3), 30)
    for y in (np.arange(30) % 3, Pi):
        net, Z = rn.build(X, y, n_layers=2, eta=etas, sample_weight=weights)
        same, W = rn.build(
            unaligned(X), unaligned(y), n_layers=2, eta=unaligned(etas), sample_weight=unaligned(weights)
        )
        np.testing.assert_array_equal(W, Z)
        np.testing.assert_array_equal(same.transform(unaligned(X)), net.transform(X))
        np.testing.assert_array_equal(same.assign(unaligned(X)), net.assign(X))
        assert rn.rate_reduction(unaligned(Z), unaligned(y)) == rn.rate_reduction(Z, y)
        gradient = rn.rate_reduction_gradient(unaligned(Z), unaligned(y), sample_weight=unaligned(weights))
        np.testing.assert_array_equal(gradient, rn.rate_reduction_gradient(Z, y, sample_weight=weights))


def test_memory_maps_at_odd_offsets(backend, tmp_path):
    X = np.random.default_rng(0).standard_normal((40, 6, 10)).astype(np.float32)
    path = tmp_path / "samples"
    path.write_bytes(b"odd" + X.tobytes())
    mapped = np.memmap(path, np.float32, mode="r", offset=3, shape=X.shape)
    assert not mapped.flags.aligned
    np.testing.assert_array_equal(
        rn.build(mapped, np.arange(40) % 2, n_layers=2)[1], rn.build(X, np.arange(40) % 2, n_layers=2)[1]
    )


def test_classifiers_and_front_ends():
    rng = np.random.default_rng(0)
    Z, y = rng.standard_normal((30, 3, 8)), np.arange(30) % 3
    for classifier in (rn.NearestSubspace(2), rn.CosineNeighbors(3)):
        expected = classifier.fit(Z, y).predict(Z)
        np.testing.assert_array_equal(classifier.fit(unaligned(Z), unaligned(y)).predict(unaligned(Z)), expected)
    np.testing.assert_array_equal(rn.shifts(unaligned(Z)), rn.shifts(Z))
    lift = rn.RandomLift(4, 3, random_state=0)
    np.testing.assert_array_equal(lift(unaligned(Z)), lift(Z))
    polar = {"n_channels": 2, "n_angles": 4}
    np.testing.assert_array_equal(rn.to_polar(unaligned(Z), **polar), rn.to_polar(Z, **polar))


def test_engines_refuse_what_a_caller_overlooked(backend):
    name, module = select()
    if name == "numpy":
        pytest.skip("NumPy reads numbers at any address")
    A, V = unaligned(np.eye(4)), unaligned(np.ones((4, 2, 1)))
    for function in (module.cholesky, module.inv, module.logdet):
        with pytest.raises(TypeError, match=r"^A is not C-contiguous and aligned$"):
            function(A, n_threads=1)
    with pytest.raises(TypeError, match=r"^A is not C-contiguous and aligned$"):
        module.solve(A, np.eye(4), n_threads=1)
    for B in (unaligned(np.eye(4)), np.eye(4, dtype=np.float32), np.eye(8)[::2, ::2]):
        with pytest.raises(TypeError, match=r"^B is not plain numbers of A's dtype$"):
            module.solve(np.eye(4), B, n_threads=1)
    net, _ = rn.build(np.eye(4, 2)[:, :, None], [0, 1, 0, 1], n_layers=1)
    with pytest.raises(TypeError, match=r"^V is not C-contiguous and aligned$"):
        module.apply(V, net.operators, n_threads=1)
