"""What the CUDA engine does that no other backend has: sizes at which it changes its ways, little memory, graphs.

These run on a device, or on the host where the engine is built for that (see docs/gpu.md). `TestSmall` goes through
every kernel in sizes that the thread sanitizer can bear; it is also what must fail where a fault is built in.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from oracle import relative

import redunet as rn
from redunet import _backends, linalg

pytestmark = pytest.mark.skipif(
    _backends.status()["cuda"] != "available" and not os.environ.get("REDUNET_REQUIRE_CUDA"),
    reason=f"CUDA cannot be used: {_backends.status()['cuda']}",
)
PROMISED = {np.float32: 1e-3, np.float64: 1e-8}


@pytest.fixture
def cuda():
    module = _backends.select("cuda")[1]
    yield module
    module.set_shortcuts()


def problem(shape, k, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(shape[0]) % k)
    return (rng.standard_normal((k, *shape[1:]))[y] + 0.7 * rng.standard_normal(shape)).astype(dtype), y


def agrees(X, y, **options):
    """The same network as NumPy's, its features, and new samples through it."""
    options = {"n_layers": 2, "eta": 0.3, "epsilon_sq": 0.5, "lam": 20.0, **options}
    reference, Z = rn.build(X, y, backend="numpy", **options)
    net, W = rn.build(X, y, backend="cuda", **options)
    tolerance = PROMISED[X.real.dtype.type]
    assert relative(W, Z) < tolerance
    assert relative(net.operators.dense, reference.operators.dense) < tolerance
    assert relative(net.operators.factors, reference.operators.factors) < tolerance
    np.testing.assert_allclose(net.rates.rate, reference.rates.rate, rtol=tolerance)
    np.testing.assert_allclose(net.rates.class_rate, reference.rates.class_rate, rtol=tolerance)
    new = X[::2] + 0.1
    assert relative(net.transform(new, backend="cuda"), reference.transform(new, backend="numpy")) < tolerance
    return net


class TestSmall:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("n_channels", [1, 3, 8])
    def test_few_channels(self, n_channels, dtype):
        agrees(*problem((37, n_channels, 4), 2, dtype=dtype))

    def test_vectors(self):
        agrees(*problem((34, 3), 3))
        agrees(*problem((34, 9), 3))

    def test_channels_by_matrix_products(self):
        agrees(*problem((36, 10, 3), 2))

    def test_small_classes(self):
        assert agrees(*problem((12, 10, 3), 3)).operators.factors.shape[-1] > 0

    def test_soft_membership_and_weights(self):
        X, _ = problem((9, 3, 4), 3)
        rng = np.random.default_rng(1)
        agrees(X, rng.dirichlet(np.ones(3), len(X)), sample_weight=rng.uniform(0.5, 2, len(X)))

    def test_given_assignment_and_natural_steps(self):
        agrees(*problem((20, 3, 4), 2), assignment="given")
        agrees(*problem((20, 3, 4), 2), eta="auto")

    @pytest.mark.parametrize("n", [1, 5, 17, 33])
    def test_linear_algebra(self, n):
        check_linear_algebra(n, 3, np.complex128)

    def test_gradient(self):
        X, y = problem((9, 3, 4), 3)
        found = [rn.rate_reduction_gradient(X, y, backend=backend) for backend in ("cuda", "numpy")]
        assert relative(*found) < 1e-10


def check_linear_algebra(n, count, dtype):
    rng = np.random.default_rng(n)
    M = rng.standard_normal((count, n, n + 2)) + 1j * rng.standard_normal((count, n, n + 2))
    M = M if np.issubdtype(dtype, np.complexfloating) else M.real
    A = (M @ M.conj().swapaxes(1, 2) / n + np.eye(n)).astype(dtype)
    B = rng.standard_normal((count, n, 2)).astype(dtype)
    unit = float(np.finfo(dtype).eps) * 40 * n
    with rn.use_backend("cuda"):
        L, inverse, X, logdet = linalg.cholesky(A), linalg.inv(A), linalg.solve(A, B), linalg.logdet(A)
    assert relative(L @ L.conj().swapaxes(1, 2), A) < unit
    assert np.array_equal(L, np.tril(L))
    assert relative(inverse @ A, np.broadcast_to(np.eye(n), A.shape)) < unit
    assert np.array_equal(inverse, inverse.conj().swapaxes(1, 2))
    assert relative(A @ X, B) < unit
    assert relative(logdet, np.linalg.slogdet(A.astype(np.complex128))[1]) < unit


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
@pytest.mark.parametrize("n", [16, 32, 64, 77, 78, 100, 112, 128, 129, 160, 200])
def test_linear_algebra_in_one_block_and_by_blocks(n, dtype):
    check_linear_algebra(n, 2, dtype)


@pytest.mark.parametrize("n_channels", [*range(1, 10), 40, 79, 130])
@pytest.mark.parametrize("complex_valued", [False, True], ids=["real", "complex"])
def test_numbers_of_channels(n_channels, complex_valued):
    X, y = problem((2 * n_channels + 40, n_channels, 2), 2, dtype=np.float32)
    agrees((X + 1j * X[::-1]).astype(np.complex64) if complex_valued else X, y, n_layers=1)


@pytest.mark.parametrize("shape", [(70, 5, 9), (50, 2)], ids=str)
def test_a_graph_of_a_layer_and_separate_launches_give_the_same(cuda, shape):
    X, y = problem(shape, 2)
    options = {"n_layers": 9, "backend": "cuda"}
    net, Z = rn.build(X, y, **options)
    watched, W = rn.build(X, y, **options, on_layer=lambda index, rates: False)
    assert np.array_equal(W, Z)
    assert np.array_equal(watched.operators.dense, net.operators.dense)
    assert np.array_equal(rn.build(X, y, **options, keep="features")[1], Z)
    cuda.set_shortcuts(one_sweep=False)
    assert relative(rn.build(X, y, **options)[1], Z) < 1e-10


def test_many_classes_do_not_fit_the_kernel_of_few_channels():
    agrees(*problem((400, 2), 130))


@pytest.mark.parametrize(("shape", "k"), [((150, 12, 5), 3), ((90, 40, 3), 9)], ids=str)
def test_short_memory_means_tiles_of_samples_and_operators_that_leave_layer_by_layer(cuda, monkeypatch, shape, k):
    if not cuda.emulated:
        pytest.skip("a device cannot be made small")
    X, y = problem(shape, k)
    ample, Z = rn.build(X, y, n_layers=6, eta=0.3, backend="cuda")
    moved = ample.transform(X, backend="cuda")
    tried = 0
    for size in range(0, 1 << 22, 1 << 15):
        monkeypatch.setenv("REDUNET_EMULATION_MEMORY", str(size))
        try:
            net, W = rn.build(X, y, n_layers=6, eta=0.3, backend="cuda")
            again = net.transform(X, backend="cuda")
        except rn.CudaError:
            continue
        tried += 1
        assert relative(W, Z) < 1e-12
        assert relative(net.operators.dense, ample.operators.dense) < 1e-12
        assert relative(again, moved) < 1e-12
        if tried == 8:
            break
    assert tried == 8


def test_an_array_too_large_is_an_error_that_says_how_large(cuda, monkeypatch):
    if not cuda.emulated:
        pytest.skip("a device cannot be made small")
    X, y = problem((150, 12, 5), 3)
    monkeypatch.setenv("REDUNET_EMULATION_MEMORY", "1000")
    with pytest.raises(rn.CudaError, match=r"150 samples of 12 x 3 numbers needs at least \S+ GiB"):
        rn.build(X, y, n_layers=1, backend="cuda")
    with pytest.raises(rn.CudaError, match=r"size 40 needs \S+ GiB of device memory, and \S+ GiB are free"):
        linalg.inv(np.eye(40), backend="cuda")


def test_results_repeat_bit_by_bit():
    X, y = problem((200, 12, 5), 3, dtype=np.float32)
    once, twice = (rn.build(X, y, n_layers=4, backend="cuda")[1] for _ in range(2))
    assert np.array_equal(once, twice)


def test_an_operator_that_is_not_definite_names_its_layer():
    """Also from within a graph, whose layers are looked at when all are done."""
    X = np.repeat(np.random.default_rng(0).standard_normal((1, 8, 64)), 16, axis=0).astype(np.float32)
    for watch in (None, lambda index, rates: False):
        with pytest.raises(np.linalg.LinAlgError, match=r"layer 0, (all classes|class 0), frequency \d+: I \+ alpha G"):
            rn.build(X, np.zeros(16), n_layers=5, epsilon_sq=1e-12, backend="cuda", on_layer=watch)
