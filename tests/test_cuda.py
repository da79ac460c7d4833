"""What the CUDA engine does that no other backend has: sizes at which it changes its ways, little memory, graphs.

These run on a device, or on the host where the engine is built for that (see docs/gpu.md). `TestSmall` goes through
every kernel in sizes that the thread sanitizer can bear; it is also what must fail where a fault is built in.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
import types

import numpy as np
import pytest
from oracle import relative

import redunet as rn
from redunet import _backends, linalg
from redunet._backends import numpy_backend
from redunet._backends.contract import BuildRequest, BuildResult, Operators
from redunet._inputs import prepare

REQUIRED = os.environ.get("REDUNET_REQUIRE_BACKENDS", "").split(",")
if _backends.status()["cuda"] != "available" and "cuda" not in REQUIRED:
    pytest.skip(f"CUDA cannot be used: {_backends.status()['cuda']}", allow_module_level=True)

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
    np.testing.assert_allclose(net.etas, reference.etas, rtol=tolerance)
    np.testing.assert_array_equal(net.betas, reference.betas)
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

    @pytest.mark.parametrize("n_channels", [3, 10])
    def test_momentum_and_search(self, n_channels):
        X, y = problem((20, n_channels, 4), 2)
        agrees(X, y, n_layers=3, momentum=True)
        agrees(X, y, n_layers=3, eta="search", momentum=True)

    @pytest.mark.parametrize(("shape", "seed"), [((16, 3), 2), ((16, 9), 0)], ids=str)
    def test_steps_that_are_too_long_and_momentum_that_goes_too_far(self, shape, seed):
        X, y = problem(shape, 2, seed)
        options = {"eta": "auto", "epsilon_sq": 5.0, "lam": 200.0}
        net = agrees(X, y, n_layers=7, **options)
        assert net.etas[-1] < net.etas[0]
        agrees(X, y, n_layers=4 + 4 * (shape[1] == 3), momentum=True, **options)

    @pytest.mark.parametrize(("shape", "k"), [((9, 3, 4), 3), ((20, 9), 2), ((8, 10, 3), 2)], ids=str)
    def test_verbs(self, cuda, shape, k):
        (V, of, state), reference = states(cuda, *problem(shape, k))
        given, factors, _ = reference.operators()
        ops = Operators.single(of, given, factors, eta=0.3, lam=20.0)
        rng = np.random.default_rng(0)
        pi, g, by = rng.uniform(-1, 1, (len(V), k)), rng.standard_normal(V.shape) * V, rng.uniform(1, 2, len(V))
        before = state.copy(), reference.copy()
        close(state.grams(), reference.grams())
        close(cuda.operators_of_grams(reference.grams(), of, n_threads=1)[1], reference.operators()[2])
        close(state.response_norms(ops), reference.response_norms(ops))
        close(state.step(ops, pi, 0.3), reference.step(ops, pi, 0.3))
        taken, expected = state.advance(ops, 0.3), reference.advance(ops, 0.3)
        for one, other in zip(taken, expected, strict=True):
            close(one, other)
        for given in (taken, taken._replace(squares=None)) if not ops.ranks.any() else ():
            found, right = (some.pullback(ops, 0.3, given, reference.features(), g) for some in before)
            for one, other in zip(found, right, strict=True):
                close(np.atleast_1d(one), np.atleast_1d(other))
        state.scale(by)
        reference.scale(by)
        state.extrapolate(before[0], 0.5)
        reference.extrapolate(before[1], 0.5)
        close(state.features(), reference.features())

    @pytest.mark.parametrize("n", [1, 5, 17, 33])
    def test_linear_algebra(self, n):
        check_linear_algebra(n, 3, np.complex128)

    def test_gradient(self):
        X, y = problem((9, 3, 4), 3)
        found = [rn.rate_reduction_gradient(X, y, backend=backend) for backend in ("cuda", "numpy")]
        assert relative(*found) < 1e-10


def states(cuda, X, y):
    """Spectra and their problem, with a state of them; NumPy's state of the same."""
    given = prepare.samples(X, backend="numpy", n_threads=1)
    of, _ = prepare.problem(given, y, sample_weight=None, epsilon_sq=0.5, dft_norm="ortho")
    V = given.spectra(normalize=True)
    return (V, of, cuda.state(V, of, n_threads=1)), numpy_backend.state(V, of, n_threads=1)


def close(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-10 * np.abs(other).max())


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
    cuda.set_shortcuts(fused=False)
    assert relative(rn.build(X, y, **options)[1], Z) < 1e-10


# --- Steps, and builds that end before their time. ---

KINDS_OF_STEPS = [
    {"eta": 0.3},
    {"eta": "auto"},
    {"eta": "search"},
    {"eta": 0.3, "momentum": True},
    {"eta": "auto", "momentum": True},
    {"eta": "search", "momentum": True},
]
SHAPES = [(50, 2), (40, 5, 5), (20, 12, 2, 3)]


@pytest.mark.parametrize("options", KINDS_OF_STEPS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_steps_are_those_of_numpy(shape, options):
    X, y = problem(shape, 2)
    net = agrees(X, y, n_layers=8, **options)
    assert (net.betas > 0).any() == ("momentum" in options)
    agrees(X.astype(np.float32), y, n_layers=3, **options)


def counted(cuda, X, y, **options):
    """What a build asks of the device."""
    before = cuda.counts()
    net, _ = rn.build(X, y, backend="cuda", **options)
    return {name: count - before[name] for name, count in cuda.counts().items()}, net


@pytest.mark.parametrize("options", KINDS_OF_STEPS, ids=str)
@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)  # whose natural steps are never halved
def test_nothing_returns_to_the_host_between_layers(cuda, shape, options):
    if not cuda.emulated:
        pytest.skip("a device does not count")
    X, y = problem(shape, 2)
    for n in (8, 24):  # what they keep is of different sizes, which others may have left in the pool or not
        rn.build(X, y, n_layers=n, backend="cuda", **options)
    few, _ = counted(cuda, X, y, n_layers=8, **options)
    many, _ = counted(cuda, X, y, n_layers=24, **options)
    if options["eta"] == "search":  # it cannot be known how many trials there will be
        for name in ("waits", "host_copies"):
            assert many[name] - few[name] <= 4
        few = {**few, "waits": many["waits"], "host_copies": many["host_copies"]}
    assert (many["waits"], many["host_copies"], many["allocations"]) == (
        few["waits"], few["host_copies"], few["allocations"]
    )  # fmt: skip
    graph = shape[1] <= 8
    assert (few["graph_launches"] > 0) == graph
    assert (many["launches"] == few["launches"]) == graph


@pytest.mark.parametrize("options", KINDS_OF_STEPS, ids=str)
@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)  # whose natural steps are never halved
def test_a_watched_build_waits_once_a_turn_at_most(cuda, shape, options):
    if not cuda.emulated:
        pytest.skip("a device does not count")
    X, y = problem(shape, 2)
    watch = {"on_layer": lambda index, rates: False}
    for n in (4, 12):  # as above
        rn.build(X, y, n_layers=n, backend="cuda", **options, **watch)
    few, _ = counted(cuda, X, y, n_layers=4, **options, **watch)
    many, _ = counted(cuda, X, y, n_layers=12, **options, **watch)
    waits = many["waits"] - few["waits"]
    assert waits == 8 if options["eta"] != "search" else 8 < waits <= 8 * 8
    assert many["host_copies"] - few["host_copies"] == 2 * waits
    assert many["allocations"] == few["allocations"]


def test_a_few_layers_are_not_captured(cuda):
    if not cuda.emulated:
        pytest.skip("a device does not count")
    X, y = problem((40, 5, 5), 2)
    for n_layers, graph in ((7, False), (8, True)):
        counts, net = counted(cuda, X, y, n_layers=n_layers, eta=0.3)
        assert counts["graph_launches"] == n_layers * graph
        assert counted(cuda, X, y, n_layers=n_layers + 7, eta=0.3, resume=net)[0]["graph_launches"] == 0


@pytest.mark.parametrize("options", KINDS_OF_STEPS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_who_watches_sees_the_build_that_nobody_watches(shape, options):
    """Also where it ends, and in the steps of few layers, which are launched one by one."""
    X, y = problem(shape, 2)
    options = {**options, "epsilon_sq": 5.0, "lam": 200.0, "backend": "cuda"}
    alone, Z = rn.build(X, y, n_layers=10, **options)
    seen = []
    watched, W = rn.build(X, y, n_layers=10, on_layer=lambda index, rates: seen.append(rates) and False, **options)
    same(watched, alone, 10)
    np.testing.assert_array_equal(W, Z)
    assert [rates.rate for rates in seen] == alone.rates.rate.tolist()
    short, U = rn.build(X, y, n_layers=4, **options)
    stopped, V = rn.build(X, y, n_layers=10, on_layer=lambda index, rates: index == 4, **options)
    same(stopped, short, 4)
    np.testing.assert_array_equal(V, U)


@pytest.mark.parametrize("options", KINDS_OF_STEPS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_build_that_goes_on_is_the_whole_build(shape, options):
    X, y = problem(shape, 2)
    options = {**options, "epsilon_sq": 0.5, "lam": 20.0, "backend": "cuda"}
    whole, Z = rn.build(X, y, n_layers=7, **options)
    for n in (1, 4, 7):
        first, _ = rn.build(X, y, n_layers=n, **options)
        net, W = rn.build(X, y, n_layers=7, resume=first, **options)
        same(net, whole, 7)
        np.testing.assert_array_equal(W, Z)


def same(net, whole, n_layers):
    """The first layers of a network, bit by bit."""
    assert net.n_layers == n_layers
    first = whole.operators.layers(0, n_layers)
    np.testing.assert_array_equal(net.operators.dense, first.dense)
    np.testing.assert_array_equal(net.operators.factors, first.factors)
    np.testing.assert_array_equal(net.etas, first.etas)
    np.testing.assert_array_equal(net.betas, first.betas)
    np.testing.assert_array_equal(net.rates.rate[:n_layers], whole.rates.rate[:n_layers])
    if (whole.betas == 0).all():  # else one row is of the features, the other of a point ahead of them
        np.testing.assert_array_equal(net.rates.per_class[n_layers], whole.rates.per_class[n_layers])


@pytest.mark.parametrize("options", KINDS_OF_STEPS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_an_interrupted_build_leaves_its_layers(shape, options):
    def press(index, rates):
        if index == 5:
            raise KeyboardInterrupt

    X, y = problem(shape, 2)
    whole, _ = rn.build(X, y, n_layers=8, backend="cuda", **options)
    with pytest.raises(rn.BuildInterrupted) as stop:
        rn.build(X, y, n_layers=8, backend="cuda", on_layer=press, **options)
    same(stop.value.net, whole, 5)


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
@pytest.mark.parametrize("shape", [(20, 2), (20, 9)], ids=str)
def test_ctrl_c_between_layers_of_whom_the_host_knew_nothing(shape):
    X, y = problem(shape, 2)
    options = {"eta": 0.3, "backend": "cuda"}
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    net, delay = None, 0.25
    try:
        while net is None:  # it may come before the first layers on a slow machine
            delay *= 2
            signal.setitimer(signal.ITIMER_REAL, delay)
            try:
                rn.build(X, y, n_layers=10**5, **options)
            except KeyboardInterrupt as stop:
                net = getattr(stop, "net", None)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert 0 < net.n_layers < 10**5
    same(net, rn.build(X, y, n_layers=net.n_layers, **options)[0], net.n_layers)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_checkpoints_hold_the_layers_before(shape, tmp_path):
    X, y = problem(shape, 2)
    whole, _ = rn.build(X, y, n_layers=7, eta=0.3, backend="cuda")
    path, seen = tmp_path / "net.safetensors", []

    def look(index, rates):
        if index > 1 and index < 7:
            same(rn.load(path), whole, index // 2 * 2)
            seen.append(index)

    rn.build(X, y, n_layers=7, eta=0.3, backend="cuda", on_layer=look, checkpoint=path, every=2)
    assert seen == [2, 3, 4, 5, 6]
    same(rn.load(path), whole, 7)


@pytest.mark.parametrize("watch", [None, lambda index, rates: False], ids=["alone", "watched"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_layers_before_one_that_is_not_definite_are_there(cuda, shape, watch):
    """A step without length and end, which the public functions refuse, makes features that are no numbers."""
    (V, of, _), _ = states(cuda, *problem(shape, 2))
    n_layers, options = 5, {"lam": 20.0, "keep": True}
    etas = np.array([0.3, 0.3, np.nan, 0.3, 0.3])
    result, expected = (BuildResult.room(of, n_layers, V.shape[1], V.dtype, **options) for _ in range(2))
    with pytest.raises(np.linalg.LinAlgError, match=r"^layer 3, all classes, frequency 0: "):
        cuda.build(V.copy(), of, BuildRequest(n_layers, etas, 20.0, on_layer=watch), result, n_threads=1)
    assert result.n_done == 2
    cuda.build(V.copy(), of, BuildRequest(2, etas[:2].copy(), 20.0), part(expected, 2), n_threads=1)
    np.testing.assert_array_equal(result.rates[:3], expected.rates[:3])
    for name in ("dense", "factors"):
        np.testing.assert_array_equal(*(getattr(one.operators, name)[:2] for one in (result, expected)))


def part(result, n):
    """Room for the first n layers alone."""
    operators = result.operators.layers(0, n)
    return BuildResult(operators, result.etas[:n], result.betas[:n], result.rates[: n + 1], result.done)


def test_a_state_of_features_on_the_device_stays_there(cuda):
    (V, of, state), reference = states(cuda, *problem((20, 3, 4), 2))
    there = cuda.state(cuda.Array(V), of, n_threads=1)
    assert isinstance(there.features(), cuda.Array)
    assert isinstance(state.features(), np.ndarray)
    ops = Operators.single(of, *reference.operators()[:2], eta=0.3, lam=20.0)
    taken = there.copy().advance(ops, 0.3)
    back, expected = (of.pullback(ops, 0.3, taken, A, A) for of, A in ((there, cuda.Array(V)), (state, V)))
    assert isinstance(back.features, cuda.Array)
    for one, other in zip(back, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(one), other)


def test_many_classes_do_not_fit_the_kernel_of_few_channels():
    agrees(*problem((400, 2), 130))


@pytest.mark.parametrize(
    ("shape", "k", "group", "eta"),
    [
        ((150, 12, 5), 3, "cyclic", 0.3),
        ((90, 40, 3), 9, "cyclic", 0.3),
        ((120, 12, 4), 3, "dihedral", 0.3),
        ((60, 12, 5), 3, "cyclic", "search"),
        ((200, 5, 40), 2, "cyclic", "search"),
    ],
    ids=str,
)
def test_short_memory_means_tiles_of_samples_and_operators_that_leave_layer_by_layer(
    cuda, monkeypatch, shape, k, group, eta
):
    if not cuda.emulated:
        pytest.skip("a device cannot be made small")
    gc.collect()  # networks of other tests take memory while they wait for it
    X, y = problem(shape, k)
    settings = {"n_layers": 6, "eta": eta, "momentum": True, "group": group, "backend": "cuda"}
    ample, Z = rn.build(X, y, **settings)
    moved = ample.transform(X, backend="cuda")
    tried = 0

    def press(index, rates):
        if index == 4:
            raise KeyboardInterrupt

    for size in range(0, 1 << 22, 1 << 15):
        monkeypatch.setenv("REDUNET_EMULATION_MEMORY", str(size))
        try:
            net, W = rn.build(X, y, **settings)
            again = net.transform(X, backend="cuda")
            with pytest.raises(rn.BuildInterrupted) as stop:
                rn.build(X, y, **settings, on_layer=press)
            first = stop.value.net
            gone_on, U = rn.build(X, y, **settings, resume=first)
        except rn.CudaError:
            continue
        tried += 1
        assert relative(W, Z) < 1e-12
        assert relative(net.operators.dense, ample.operators.dense) < 1e-12
        assert relative(again, moved) < 1e-12
        same(first, net, 4)
        same(gone_on, net, 6)
        np.testing.assert_array_equal(U, W)
        if tried == 8:
            break
    assert tried == 8


def test_an_array_too_large_is_an_error_that_says_how_large(cuda, monkeypatch):
    if not cuda.emulated:
        pytest.skip("a device cannot be made small")
    X, y = problem((150, 12, 5), 3)
    gc.collect()  # what errors of other tests hold on the device
    monkeypatch.setenv("REDUNET_EMULATION_MEMORY", "1000")
    with pytest.raises(rn.CudaError, match=r"spectra of 1800 channels of 5 points need at least \S+ GiB"):
        rn.build(X, y, n_layers=1, backend="cuda")
    monkeypatch.setenv("REDUNET_EMULATION_MEMORY", "240000")  # samples and spectra have room
    with pytest.raises(rn.CudaError, match=r"150 samples of 12 x 3 numbers needs at least \S+ GiB"):
        rn.build(X, y, n_layers=1, backend="cuda")
    monkeypatch.setenv("REDUNET_EMULATION_MEMORY", "1000")
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


# --- Networks whose operators stay on the device. ---


def on_host(net):
    """The same network, whose operators lie on the host."""
    return pickle.loads(pickle.dumps(net))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_operators_stay_on_the_device_until_the_host_asks(cuda, shape):
    if not cuda.emulated:
        pytest.skip("a device does not count")
    X, y = problem(shape, 2)
    few, _ = counted(cuda, X, y, n_layers=3, eta=0.3)
    many, net = counted(cuda, X, y, n_layers=23, eta=0.3)
    rows = 20 * (net.n_classes + 1 + 2) * 8  # of rates, steps and momentum
    assert many["host_bytes"] - few["host_bytes"] <= 2 * rows
    assert net.operators.there is not None
    before = cuda.counts()
    net.transform(X[:1], backend="cuda")
    assert net.nbytes / 2 > cuda.counts()["host_bytes"] - before["host_bytes"]
    before = cuda.counts()["host_bytes"]
    assert repr(net.truncate(5)).startswith("ReduNet(5 layers")
    assert cuda.counts()["host_bytes"] == before
    assert net.layers[1].E.shape[:2] == (shape[1], shape[1])
    assert net.layers[2].Cs.shape[0] == 2
    assert cuda.counts()["host_bytes"] == before + net.operators.dense.nbytes  # once
    assert not net.operators.dense.flags.writeable


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_network_on_the_device_is_the_network(cuda, shape, tmp_path):
    """Of whatever backend, and in whatever way it is used."""
    X, y = problem(shape, 2)
    net, _ = rn.build(X, y, n_layers=6, eta=0.3, momentum=True, backend="cuda")
    copy = on_host(net)
    assert (copy.operators.there, net.operators.there is None) == (None, False)
    same(net, copy, 6)
    new = X[::2] + 0.1
    expected = copy.transform(new, backend="cuda")
    np.testing.assert_array_equal(net.transform(new, backend="cuda"), expected)
    np.testing.assert_array_equal(net.truncate(6).transform(new, backend="cuda"), expected)
    stages = (list(one.staged_transform(new, backend="cuda")) for one in (net, copy))
    for one, other in zip(*stages, strict=True):
        np.testing.assert_array_equal(one, other)
    assert relative(net.truncate(6).transform(new, backend="numpy"), expected) < 1e-10
    assert relative(list(net.staged_transform(new, backend="numpy"))[-1], expected) < 1e-10
    net.save(tmp_path / "net")
    same(rn.load(tmp_path / "net"), copy, 6)
    for before in (net, copy):
        longer, W = rn.build(X, y, n_layers=8, eta=0.3, momentum=True, backend="cuda", resume=before.truncate(4))
        assert longer.operators.there is not None
        same(longer.truncate(6), copy, 6)
    assert relative(rn.build(X, y, n_layers=8, eta=0.3, momentum=True, backend="numpy", resume=net)[1], W) < 1e-8


def test_a_verb_takes_operators_where_they_lie(cuda):
    X, y = problem((9, 3, 4), 3)
    net, _ = rn.build(X, y, n_layers=2, eta=0.3, backend="cuda")
    V = prepare.samples(X, backend="numpy", n_threads=1).spectra(normalize=True)
    found = []
    for operators in (net.operators, on_host(net).operators):
        layer = operators.layers(1, 2)
        state = cuda.state(V, operators, n_threads=1)
        taken = state.copy().advance(layer, 0.3)
        found.append([*taken, *state.pullback(layer, 0.3, taken, V, V), state.response_norms(layer)])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_network_that_ends_early_leaves_the_room_of_the_others(cuda):
    X, y = problem((20, 12, 2, 3), 2)
    net, _ = rn.build(X, y, n_layers=40, eta=0.3, backend="cuda", on_layer=lambda index, rates: index == 3)
    whole, _ = rn.build(X, y, n_layers=3, eta=0.3, backend="cuda")
    same(net, whole, 3)
    assert [array.shape for array in net.operators.there] == [array.shape for array in whole.operators.there]
    if cuda.emulated:
        at = [array.__cuda_array_interface__["data"][0] for array in (*net.operators.there, *whole.operators.there)]
        assert len({*at}) == 4 or 0 in [array.nbytes for array in net.operators.there]


def test_networks_keep_no_more_than_half_of_the_device(cuda, monkeypatch):
    if not cuda.emulated:
        pytest.skip("a device cannot be made small")
    gc.collect()
    shapes, of_doubles = ((100_000,), (28_000,)), (np.dtype(np.float64), np.zeros(0))
    for name in ("first", "other"):  # what was let go is to be had again
        monkeypatch.setenv("REDUNET_EMULATION_MEMORY", str(1 << 22))
        room = cuda.room_to_keep(shapes, *of_doubles, 0)
        assert [array.shape for array in room] == list(shapes), name
        assert cuda.room_to_keep(((140_000,),), *of_doubles, 0) is None, name
        assert cuda.room_to_keep(((40_000,),), *of_doubles, 0) is not None, name
        assert cuda.room_to_keep(((40_000,),), *of_doubles, 1 << 21) is not None, name  # what else a build needs
        assert cuda.room_to_keep(((40_000,),), *of_doubles, 3 << 20) is None, name
        del room


def test_what_networks_keep_on_one_device_leaves_the_others_their_share(cuda, other, monkeypatch):
    gc.collect()
    monkeypatch.setenv("REDUNET_EMULATION_MEMORY", str(1 << 22))
    of_doubles, there = np.dtype(np.float64), other(np.zeros(1))
    room = cuda.room_to_keep(((128_000,),), of_doubles, np.zeros(0), 0)
    assert room is not None
    assert cuda.room_to_keep(((140_000,),), of_doubles, np.zeros(0), 0) is None
    assert cuda.room_to_keep(((140_000,),), of_doubles, there, 0) is not None


def test_rows_of_an_array_are_its_memory(cuda):
    X = np.arange(24.0).reshape(4, 3, 2)
    there = cuda.Array(X)
    np.testing.assert_array_equal(np.asarray(there[1:3]), X[1:3])
    there[:2] = there[2:]
    there[3:] = X[:1]
    np.testing.assert_array_equal(np.asarray(there), X[[2, 3, 2, 0]])
    assert there[4:].shape == (0, 3, 2)
    with pytest.raises(ValueError, match="rows of an array on a CUDA device are neighbours"):
        there[::2]
    for wrong in (X, X[:1].astype(np.float32)):
        with pytest.raises(ValueError, match="another dtype or shape than the rows"):
            there[:1] = wrong


def test_much_comes_to_the_host_by_way_of_two_buffers(cuda):
    """More than fits into both, and no multiple of one."""
    X = np.random.default_rng(0).standard_normal((9 << 20) + 3)
    there = cuda.Array(X)
    before = cuda.counts()["host_copies"] if cuda.emulated else 0
    np.testing.assert_array_equal(np.asarray(there), X)
    if cuda.emulated:
        assert cuda.counts()["host_copies"] - before == 3


# --- Memory, plans, uploads, and what CUDA refuses. ---


@pytest.mark.parametrize("options", KINDS_OF_STEPS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_what_a_call_has_taken_the_next_finds(cuda, shape, options):
    if not cuda.emulated:
        pytest.skip("a device does not count")
    X, y = problem(shape, 2)
    gc.collect()
    counted(cuda, X, y, n_layers=3, **options)[1].transform(X, backend="cuda")
    counts, net = counted(cuda, X, y, n_layers=3, **options)
    assert counts["allocations"] == counts["plans"] == 0
    before = cuda.counts()
    net.transform(X, backend="cuda")
    rn.rate_reduction(X, y, backend="cuda")
    assert {name: cuda.counts()[name] - before[name] for name in ("plans", "waits")}["plans"] == 0


def test_constants_go_to_the_device_without_a_wait(cuda):
    if not cuda.emulated:
        pytest.skip("a device does not count")
    X, y = problem((40, 5, 5), 2)
    counts, _ = counted(cuda, X, y, n_layers=9, eta=0.3)
    assert counts["host_copies"] > counts["waits"] <= 9


def test_plans_that_were_not_used_for_long_are_made_again(cuda):
    if not cuda.emulated:
        pytest.skip("a device does not count")
    lengths = range(20, 37)

    def forward(n):
        before = cuda.counts()["plans"]
        cuda.forward(np.ones((2, 1, n)), normalize=True)
        return cuda.counts()["plans"] - before

    for n in lengths:
        forward(n)
    assert [forward(n) for n in (36, 25, 20, 25)] == [0, 0, 1, 0]


def test_memory_that_another_library_has_seen_waits_for_its_work(cuda):
    if not cuda.emulated:
        pytest.skip("a device does not count")
    shows = {
        "not at all": (lambda array: None, 0),
        "DLPack": (lambda array: array.__dlpack__(), 1),
        "interface": (lambda array: array.__cuda_array_interface__, 1),
    }
    numbers = np.ones(123_456)
    held = [cuda.Array(numbers)]
    for how, (show, waits) in shows.items():
        show(held.pop())
        before = cuda.counts()
        held.append(cuda.Array(numbers))
        assert cuda.counts()["allocations"] == before["allocations"], how
        assert cuda.counts()["waits"] == before["waits"] + 1 + waits, how  # one of the upload


def test_memory_that_python_lets_go_is_freed_by_the_call_that_comes_next(cuda):
    """Python's thread would wait for the device, and may have no context; a quarter of the device stays."""
    if not cuda.emulated:
        pytest.skip("a device does not count")
    gc.collect()
    large = cuda.Array(np.zeros(36 << 20))  # of the gibibyte that there is
    before = cuda.counts()["frees"]
    del large
    assert cuda.counts()["frees"] == before
    held = [cuda.Array(np.ones(3))]
    assert cuda.counts()["frees"] == before + 1
    held.clear()
    held.append(cuda.Array(np.ones(3)))
    assert cuda.counts()["frees"] == before + 1


def test_idle_memory_is_given_back_to_who_asks(cuda):
    gc.collect()
    numbers = np.ones(100_000)
    held = [cuda.Array(numbers), cuda.Array(2 * numbers)]
    held[0].__cuda_array_interface__  # noqa: B018
    del held[0]
    assert rn.empty_cache() >= numbers.nbytes
    assert rn.empty_cache() == 0
    np.testing.assert_array_equal(np.asarray(held[0]), 2 * numbers)


def test_nobody_waits_for_the_device_while_python_waits_for_them(cuda):
    """Work of another library may be a function of Python's, which the device then never comes to."""
    if not cuda.emulated:
        pytest.skip("a device does not count")
    A = np.eye(40)[None] * np.ones((9, 1, 1))
    there, seen = cuda.Array(A), cuda.Array(A)
    kept = linalg.inv(there)
    before = cuda.counts()
    seen.__cuda_array_interface__  # noqa: B018
    del seen
    inverse = linalg.inv(there)  # in the memory that was seen
    assert cuda.counts()["allocations"] == before["allocations"]
    inverse.__dlpack__(copy=True)
    linalg.solve(there, kept)
    cuda.view(InterfaceOnly(there), "there")
    large = cuda.Array(np.zeros(36 << 20))
    del large
    rn.empty_cache()
    assert cuda.counts()["waits"] > before["waits"]
    assert cuda.counts()["waits_with_gil"] == before["waits_with_gil"]


def test_copies_and_arrays_of_others_wait_for_the_call_at_work(cuda):
    """What they put on the stream would become a part of what it captures."""
    X, y = problem((20, 3, 4), 2)
    held = cuda.Array(X)
    ways = {"a copy": lambda: held.__dlpack__(copy=True), "an array": lambda: cuda.view(Tensor(held), "X")}
    for name, way in ways.items():
        thread, waited = threading.Thread(target=way), []

        def look(index, rates, thread=thread, waited=waited):
            if index == 1:
                thread.start()
                thread.join(0.3)
                waited.append(thread.is_alive())

        rn.build(X, y, n_layers=2, backend="cuda", on_layer=look)
        thread.join(60)
        assert (waited, thread.is_alive()) == ([True], False), name


def test_a_batch_of_more_matrices_than_one_call_of_cublas_takes():
    n = 65535 + 3
    A = np.linspace(1, 2, n)[:, None, None]
    with rn.use_backend("cuda"):
        np.testing.assert_allclose(linalg.solve(A, np.ones((n, 1, 2)))[..., 1], 1 / A[..., 0], rtol=1e-14)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("cufft=2", r"cuFFT: CUFFT_ALLOC_FAILED, no room for what it works in; \S+ GiB are free \(what PyTorch caches"),
        ("cufft=5", "cuFFT: CUFFT_INTERNAL_ERROR, from fft.cufftMakePlanMany"),
        ("cublas=3", r"cuBLAS: CUBLAS_STATUS_ALLOC_FAILED, no room for what it works in; \S+ GiB are free"),
        ("cublas=14", "cuBLAS: CUBLAS_STATUS_INTERNAL_ERROR, from entry"),
        ("cublas=77", "cuBLAS: status 77, from entry"),
    ],
)
def test_what_the_libraries_refuse_has_a_name(cuda, monkeypatch, fault, message):
    if not cuda.emulated:
        pytest.skip("a device fails when it likes")
    monkeypatch.setenv("REDUNET_EMULATION_FAULT", fault)
    X, y = problem((20, 12, 43), 2)  # of a length that no other test has a plan for
    with pytest.raises(rn.CudaError, match=message):
        rn.build(X, y, n_layers=1, backend="cuda")


def test_a_device_that_has_failed_for_good_says_so_and_auto_leaves_it(cuda):
    if not cuda.emulated:
        pytest.skip("a device fails when it likes")
    code = """
import os, numpy as np, redunet as rn
from redunet import _backends
X, y = np.random.default_rng(0).standard_normal((9, 3)), np.arange(9) % 3
_backends.select("cuda")[1].emulated = False
_backends.LEAST_WORK = 1.0
assert rn.build(X, y, n_layers=2)[0].backend == "cuda"
os.environ["REDUNET_EMULATION_FAULT"] = "cuda=719"
try:
    rn.build(X, y, n_layers=2)
except rn.CudaError as error:
    print(error)
assert rn.build(X, y, n_layers=2)[0].backend != "cuda"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "which must be started again" in done.stdout


@pytest.mark.parametrize("options", ["", ", features", ", auto"])
def test_the_benchmark_times_what_users_get(cuda, options):
    """Layers from a graph in both of its builds, and nothing but them where these differ."""
    if not cuda.emulated:
        pytest.skip("a device does not count")
    implementations = pytest.importorskip("bench.implementations", reason="benchmarks are not in a sdist")
    workloads = pytest.importorskip("bench.workloads")
    X, y = problem((40, 5, 5), 2, dtype=np.float32)
    tiny = workloads.Workload("rot01", X, y, X, 2, 20)
    run = implementations.runner(f"redunet cuda{options}", tiny, 20, n_threads=1, limit_s=60)
    before = cuda.counts()
    found = run()
    assert (found.n_first, found.n_layers) == (10, 20)
    assert found.total_s > 0
    assert cuda.counts()["graph_launches"] - before["graph_launches"] >= 30
    first, last = workloads.DEVICE_LAYERS["rot01"]
    assert implementations.first_layers("redunet cuda", tiny, last) == first >= 8
    assert implementations.first_layers("redunet cpu", tiny, last) == 1


# --- Two devices. ---


@pytest.fixture
def other(cuda):
    """What lies on the second device."""
    if not cuda.emulated:
        pytest.skip("there may be no other device")

    def on_other(X):
        cuda.set_device(1)
        try:
            return cuda.Array(X)
        finally:
            cuda.set_device(0)

    return on_other


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_work_is_done_where_the_samples_lie(cuda, other, shape):
    """From any thread, whose device is another, and in turn."""
    X, y = problem(shape, 2)
    options = {"n_layers": 9, "eta": 0.3, "momentum": True}
    net, Z = rn.build(X, y, backend="cuda", **options)
    there = other(X)
    assert there.__dlpack_device__() == (2, 1)
    found = []

    def work():
        found.append(rn.build(there, y, **options))
        found.append(rn.rate_reduction_gradient(there, y))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    (second, W), gradient = found
    assert {array.__dlpack_device__() for array in (W, gradient, *second.operators.there)} == {(2, 1)}
    assert {array.__dlpack_device__() for array in net.operators.there} == {(2, 0)}
    assert repr(W).endswith("on CUDA device 1")
    np.testing.assert_array_equal(np.asarray(W), Z)
    same(second, net, 9)
    np.testing.assert_array_equal(np.asarray(gradient), rn.rate_reduction_gradient(X, y, backend="cuda"))
    for one in (net, second):  # whose operators lie here and there
        for samples in (X, there):
            moved = one.transform(samples, backend="cuda")
            np.testing.assert_array_equal(np.asarray(moved), net.transform(X, backend="cuda"))
        resumed, U = rn.build(there, y, resume=one.truncate(4), **options)
        same(resumed, net, 9)
        np.testing.assert_array_equal(np.asarray(U), Z)


def test_matrices_and_sides_of_two_devices_are_refused(cuda, other):
    A, B = np.eye(3)[None], np.ones((1, 3, 2))
    with pytest.raises(ValueError, match="B lies on CUDA device 0; expected that of A, 1"):
        linalg.solve(other(A), cuda.Array(B))
    solved = linalg.solve(other(A), other(B))
    assert solved.__dlpack_device__() == (2, 1)
    np.testing.assert_array_equal(np.asarray(solved), B)


def test_log_dets_come_back_where_the_matrices_lie(cuda, other):
    A = np.eye(3)[None] * np.ones((4, 1, 1)) * 2
    there = other(A)
    for found in (linalg.logdet(there), linalg.det(there), *linalg.slogdet(there)):
        assert found.__dlpack_device__() == (2, 1)
    np.testing.assert_allclose(np.asarray(linalg.det(there)), np.full(4, 8.0))


def test_a_thread_makes_no_context_on_a_device_that_nobody_uses(cuda, other):
    code = """
import threading, numpy as np, redunet as rn
from redunet import _backends, linalg
cuda = _backends.select("cuda")[1]
X, y = np.random.default_rng(0).standard_normal((9, 3)), np.arange(9) % 3
print(cuda.contexts())
cuda.set_device(1)
there = cuda.Array(X)
def work():
    assert rn.build(there, y, n_layers=1)[1].__dlpack_device__() == (2, 1)
    assert rn.rate_reduction(there, y).delta > 0
thread = threading.Thread(target=work)
thread.start()
thread.join()
del there
print(rn.empty_cache() > 0, cuda.contexts())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[]", "True [1]"]


def test_a_state_stays_on_its_device(cuda, other):
    (V, of, state), _ = states(cuda, *problem((20, 9), 2))
    there = cuda.state(other(V), of, n_threads=1)
    ops = Operators.single(of, *state.operators()[:2], eta=0.3, lam=20.0)
    copy = there.copy()
    for one, two in zip(there.advance(ops, 0.3), state.advance(ops, 0.3), strict=True):
        np.testing.assert_array_equal(one, two)
    copy.extrapolate(there, 0.5)
    assert copy.features().__dlpack_device__() == (2, 1)
    np.testing.assert_array_equal(np.asarray(there.features()), state.features())
    with pytest.raises(ValueError, match="before lies on device 0; expected that of the state, 1"):
        there.extrapolate(state, 0.5)
    taken, V = there.copy().advance(ops, 0.3), (other(V), cuda.Array(V))
    for name, after, upstream in (("after", V[1], V[0]), ("upstream", V[0], V[1])):
        with pytest.raises(ValueError, match=f"{name} lies on device 0; expected that of the state, 1"):
            there.pullback(ops, 0.3, taken, after, upstream)


# --- Arrays that lie on the device: those of a made-up library, as CuPy's and PyTorch's do. ---


class Tensor:
    """An array of a library that speaks DLPack."""

    __module__ = "made_up.tensors"

    def __init__(self, array, dtype=None):
        self._held = array
        self.dtype = dtype or array.dtype
        self.streams = []

    def __dlpack_device__(self):
        return (2, 0)

    def __dlpack__(self, *, stream):
        self.streams.append(stream)
        return self._held.__dlpack__()

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self._held)


class InterfaceOnly:
    """An array of a library that speaks the CUDA array interface alone."""

    __module__ = "made_up"

    def __init__(self, array, **changes):
        self._held = array
        self.__cuda_array_interface__ = {**array.__cuda_array_interface__, **changes}


@pytest.fixture
def library(cuda, monkeypatch):
    def from_dlpack(array):
        assert array.__dlpack_device__() == (2, 0)
        return Tensor(cuda.view(array, "array"))

    library = types.ModuleType("made_up")
    library.from_dlpack = from_dlpack
    monkeypatch.setitem(sys.modules, "made_up", library)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
@pytest.mark.parametrize("signal", [(), (6,), (7,), (4, 6), (3, 5)], ids=str)
def test_spectra_and_back(cuda, signal, dtype):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((5, 3, *signal)) + 1j * rng.standard_normal((5, 3, *signal))
    X = X.astype(dtype) if np.issubdtype(dtype, np.complexfloating) else X.real.astype(dtype)
    X[2] *= 1e-30
    X[3] = 0
    V, bad = cuda.forward(X, normalize=True)
    sizes = np.linalg.norm(X.reshape(5, -1).astype(np.complex128), axis=1).reshape(5, *[1] * (X.ndim - 1))
    unit = X / np.where(sizes == 0, 1, sizes)
    axes = tuple(range(2, X.ndim))
    expected = (
        unit if not axes else (np.fft.rfftn if X.dtype.kind == "f" else np.fft.fftn)(unit, axes=axes, norm="ortho")
    )
    assert bad == -1
    assert relative(np.asarray(V), expected.reshape(5, 3, -1)) < 10 * np.finfo(dtype).eps
    assert relative(np.asarray(cuda.inverse(V, np.dtype(dtype), X.shape)), unit) < 10 * np.finfo(dtype).eps
    X[4, 1] = np.inf
    assert cuda.forward(X, normalize=True)[1] == 4
    X[1, 2] = np.nan
    assert cuda.forward(X, normalize=False)[1] == 1


@pytest.mark.parametrize("kind", [Tensor, InterfaceOnly])
@pytest.mark.parametrize("shape", [(34, 3), (37, 3, 4), (20, 2, 3, 4)], ids=str)
def test_device_arrays_in_and_out(cuda, library, kind, shape):
    X, y = problem(shape, 2)
    there = kind(cuda.Array(X))
    net, Z = rn.build(X, y, n_layers=3, eta=0.3, backend="cuda")
    same, W = rn.build(there, y, n_layers=3, eta=0.3)
    assert isinstance(W, Tensor)  # what `from_dlpack` of the array's own library gives
    assert np.array_equal(np.asarray(W), Z)
    assert np.array_equal(same.operators.dense, net.operators.dense)
    assert np.array_equal(np.asarray(net.transform(there)), net.transform(X, backend="cuda"))
    assert np.array_equal(net.assign(there), net.assign(X, backend="cuda"))
    assert rn.rate_reduction(there, y) == rn.rate_reduction(X, y, backend="cuda")
    assert rn.coding_rate(there) == rn.coding_rate(X, backend="cuda")
    gradient = rn.rate_reduction_gradient(there, y)
    assert np.array_equal(np.asarray(gradient), rn.rate_reduction_gradient(X, y, backend="cuda"))
    assert np.array_equal(np.asarray(there._held), X)  # it was left as it is
    if kind is Tensor:
        assert min(there.streams) > 2  # the engine's own: the producer must make it wait


def test_an_array_of_the_engine_can_be_used_again(cuda):
    X, y = problem((37, 3, 4), 2)
    there = cuda.Array(X)
    _, Z = rn.build(there, y, n_layers=2)
    assert isinstance(Z, cuda.Array)
    assert (Z.shape, Z.ndim, len(Z), Z.dtype, Z.nbytes) == (X.shape, 3, 37, X.dtype, X.nbytes)
    assert repr(Z) == "redunet array (37, 3, 4) of float64 on CUDA device 0"
    assert np.asarray(Z, dtype=np.float32).dtype == np.float32
    with pytest.raises(ValueError, match="can't be had on the host without a copy"):
        np.asarray(Z, copy=False)
    assert rn.rate_reduction(Z, y).delta > 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
def test_what_a_consumer_of_dlpack_sees(cuda, dtype):
    if not cuda.emulated:
        pytest.skip("NumPy reads host memory")
    import ctypes

    held = cuda.Array(np.ones((4, 3, 2), dtype))
    capsule = held.__dlpack__(stream=None, max_version=(1, 0))
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    device = ctypes.cast(pointer(capsule, b"dltensor") + 8, ctypes.POINTER(ctypes.c_int32))
    assert device[0] == 2
    device[0] = 1  # the host, which it is in truth

    class OnHost:
        def __dlpack_device__(self):
            return (1, 0)

        def __dlpack__(self, **_):
            return capsule

    seen = np.from_dlpack(OnHost())
    assert (seen.dtype, seen.shape, seen.strides) == (held.dtype, held.shape, np.ones((4, 3, 2), dtype).strides)
    assert seen.__array_interface__["data"][0] == held.__cuda_array_interface__["data"][0]
    del held
    assert seen.shape == (4, 3, 2)  # kept alive by its consumer


def test_dlpack_gives_what_is_asked_for(cuda):
    """And no alias where the consumer wants numbers of its own."""
    held = cuda.Array(np.arange(6.0).reshape(2, 3))
    alias = cuda.view(types.SimpleNamespace(__dlpack_device__=lambda: (2, 0), __dlpack__=held.__dlpack__), "alias")
    asked = {"copy": True, "dl_device": (2, 0), "max_version": (1, 0)}
    copy = cuda.view(
        types.SimpleNamespace(
            __dlpack_device__=lambda: (2, 0), __dlpack__=lambda *, stream: held.__dlpack__(stream=stream, **asked)
        ),
        "copy",
    )
    held[:] = np.zeros((2, 3))
    np.testing.assert_array_equal(np.asarray(alias), np.zeros((2, 3)))
    np.testing.assert_array_equal(np.asarray(copy), np.arange(6.0).reshape(2, 3))
    for device, message in (((1, 0), "device 0 of DLPack's kind 1"), ((2, 1), "device 1 of DLPack's kind 2")):
        with pytest.raises(BufferError, match=f"an array on CUDA device 0 is not given to {message}"):
            held.__dlpack__(dl_device=device)


@pytest.mark.parametrize("dtype", [np.float32, np.complex128])
@pytest.mark.parametrize("n", [5, 140])
def test_linear_algebra_of_device_arrays_stays_there(cuda, library, n, dtype):
    rng = np.random.default_rng(n)
    M = rng.standard_normal((2, 3, n, n)) + 1j * rng.standard_normal((2, 3, n, n))
    M = (M if dtype == np.complex128 else M.real).astype(dtype)
    A = M @ M.conj().swapaxes(-1, -2) + n * np.eye(n, dtype=dtype)
    B = rng.standard_normal((2, 3, n, 2)).astype(dtype)
    there, sides = Tensor(cuda.Array(A)), Tensor(cuda.Array(B))
    calls = {
        "cholesky": (), "inv": (), "solve": (B,), "logdet": (), "det": (), "slogdet": (),
    }  # fmt: skip
    for name, others in calls.items():
        before = cuda.counts()["host_bytes"] if cuda.emulated else 0
        with np.errstate(over="ignore"):
            found = getattr(linalg, name)(there, *([sides] if others else []))
            bytes_moved = cuda.counts()["host_bytes"] - before if cuda.emulated else 0
            expected = getattr(linalg, name)(A, *others, backend="cuda")
        assert bytes_moved < 1000, name  # log dets alone
        for one, two in zip(*(each if name == "slogdet" else [each] for each in (found, expected)), strict=True):
            assert isinstance(one, Tensor)
            np.testing.assert_array_equal(np.asarray(one), two)
    np.testing.assert_array_equal(np.asarray(sides), B)  # they were left as they are
    one, vector = Tensor(cuda.Array(A[0, 0])), Tensor(cuda.Array(np.ascontiguousarray(B[0, 0, :, 0])))
    solved = linalg.solve(one, vector)
    np.testing.assert_array_equal(np.asarray(solved), linalg.solve(A[0, 0], B[0, 0, :, 0], backend="cuda"))
    with pytest.raises(np.linalg.LinAlgError, match=r"matrix \(1, 2\) of shape \(2, 3\) is not positive definite"):
        linalg.inv(cuda.Array(A * np.where(np.arange(6).reshape(2, 3, 1, 1) == 5, -1, 1).astype(dtype)))
    with pytest.raises(np.linalg.LinAlgError, match=r"A has shape \(2, 3\); expected square"):
        linalg.inv(cuda.Array(np.ones((2, 3))))
    with pytest.raises(TypeError, match="one of A and B lies on a CUDA device and the other does not"):
        linalg.solve(there, B)
    with pytest.raises(TypeError, match="one of A and B lies on a CUDA device and the other does not"):
        linalg.solve(A, sides)
    with pytest.raises(ValueError, match="expected equal batches on a CUDA device"):
        linalg.solve(there, cuda.Array(B[0]))
    with pytest.raises(TypeError, match=r"B has dtype float64 on a CUDA device; expected that of A"):
        linalg.solve(there, cuda.Array(np.ones(B.shape)))
    with pytest.raises(RuntimeError, match="backend 'numpy' cannot be used"):
        linalg.inv(there, backend="numpy")
    with pytest.raises(ValueError, match="n_threads is 0; expected"):
        linalg.inv(there, n_threads=0)


def test_lengths_of_vectors_on_the_device(cuda):
    Z = np.random.default_rng(0).standard_normal((20, 3))
    found = rn.coding_length(cuda.Array(Z), epsilon_sq=0.5)
    assert found == rn.coding_length(Z, epsilon_sq=0.5, backend="cuda")


def test_device_arrays_that_are_refused(cuda):
    X, y = problem((12, 3, 4), 2)
    there = cuda.Array(X)
    with pytest.raises(ValueError, match="X is not C-contiguous"):
        rn.build(InterfaceOnly(there, strides=(96, 8, 24)), y, n_layers=1)
    with pytest.raises(TypeError, match="X has masked entries; expected an array without a mask"):
        rn.build(InterfaceOnly(there, mask=there), y, n_layers=1)
    with pytest.raises(TypeError, match="X has dtype float16; expected float32, float64, complex64 or complex128"):
        rn.build(InterfaceOnly(there, typestr="<f2"), y, n_layers=1)
    with pytest.raises(TypeError, match="X has dtype float64 on a CUDA device; expected float32"):
        rn.build(there, y, n_layers=1, dtype=np.float32)
    with pytest.raises(RuntimeError, match="backend 'numpy' cannot be used: the samples lie on a CUDA device"):
        rn.build(there, y, n_layers=1, backend="numpy")
    with (
        pytest.raises(RuntimeError, match="backend 'numpy' cannot be used: the samples lie on a CUDA device"),
        rn.use_backend("numpy"),
    ):
        rn.build(there, y, n_layers=1)
    message = "X lies on a CUDA device; expected an array of the host with group='dihedral'"
    net, _ = rn.build(X, y, n_layers=1, group="dihedral")
    for call in (lambda: rn.build(there, y, n_layers=1, group="dihedral"), lambda: net.transform(there)):
        with pytest.raises(TypeError, match=message):
            call()
    X[7] = np.nan
    with pytest.raises(ValueError, match="X holds NaN or infinity in sample 7"):
        rn.build(cuda.Array(X), y, n_layers=1)
