"""Which backend runs, and that all of them compute the same on problems of medium size.

Promised against the NumPy backend in double precision: operators, rates and features of one layer to 1e-4
(single) and 1e-10 (double), features after several layers to 1e-3 and 1e-8 in relative Frobenius norm, where
the iteration itself does not amplify rounding. Gates of the problems below are as sharp as lambda alpha_j =
100 at most.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import subprocess
import sys
import time
import types

import numpy as np
import pytest
from oracle import relative

import redunet as rn
from redunet import _backends
from redunet._backends import contract, numpy_backend


class TestSelection:
    def test_an_argument_wins_over_the_block_and_the_block_over_the_environment(self, monkeypatch):
        for name in ("numpy", "auto"):
            monkeypatch.setenv("REDUNET_BACKEND", name)
            with rn.use_backend("numpy"):
                assert _backends.select() == ("numpy", numpy_backend)
        monkeypatch.setenv("REDUNET_BACKEND", "numpy")
        assert _backends.select() == ("numpy", numpy_backend)
        assert _backends.select("auto")[0] == "numpy"
        monkeypatch.setenv("REDUNET_BACKEND", "no such")
        with rn.use_backend("numpy"):
            assert _backends.select()[0] == "numpy"
        assert _backends.select("numpy")[0] == "numpy"

    def test_auto_takes_a_device_for_much_work_while_it_answers(self, monkeypatch):
        monkeypatch.delenv("REDUNET_BACKEND", raising=False)
        modules = {name: types.ModuleType(name) for name in _backends.MODULES}
        monkeypatch.setattr(_backends, "_load", lambda name: (modules[name], ""))
        assert _backends.select()[0] == "cpu"
        assert _backends.select(work=0.99 * _backends.LEAST_WORK)[0] == "cpu"
        assert _backends.select(work=_backends.LEAST_WORK)[0] == "cuda"
        assert _backends.select("cpu", work=math.inf)[0] == "cpu"
        assert _backends.select("cuda")[0] == "cuda"
        modules["cuda"].why_unusable = lambda: "it has failed"
        assert _backends.select(work=math.inf)[0] == "cpu"

    @pytest.mark.parametrize(
        ("shape", "dtype", "n_layers", "expected"),
        [
            ((10, 100), np.float64, 3, 10 * 100**2 * 3 * 3),
            ((10, 100), np.complex64, 3, 10 * 100**2 * 3 * 3 * 4),
            ((10, 5, 8), np.float32, 7, 10 * 5**2 * 5 * 7 * 3 * 4),
        ],
        ids=str,
    )
    def test_the_work_that_auto_goes_by(self, monkeypatch, shape, dtype, n_layers, expected):
        seen = []
        select = _backends.select
        monkeypatch.setattr(_backends, "select", lambda name, work: seen.append(work) or select(name))
        X = np.random.default_rng(0).standard_normal(shape).astype(dtype)
        net, _ = rn.build(X, np.arange(len(X)) % 2, n_layers=n_layers)
        net.transform(X)
        rn.rate_reduction(X, np.arange(len(X)) % 2)
        assert seen == [expected, expected, expected / n_layers]

    def test_auto_prefers_the_compiled_engine(self, backend, monkeypatch):
        monkeypatch.delenv("REDUNET_BACKEND", raising=False)
        usable = [name for name, reason in _backends.status().items() if reason == "available"]
        with rn.use_backend("auto"):
            assert _backends.select()[0] == next(name for name in ("cpu", "numpy") if name in usable)
        assert _backends.select()[0] == backend

    def test_the_backend_is_the_one_that_runs(self, backend):
        net, _ = rn.build(np.eye(2), [0, 1], n_layers=1)
        assert net.backend == backend
        assert rn.build(np.eye(2), [0, 1], n_layers=1, backend="numpy")[0].backend == "numpy"

    def test_blocks_nest_and_end_with_an_exception(self, monkeypatch):
        monkeypatch.setenv("REDUNET_BACKEND", "auto")
        outside = _backends.select()[0]
        with rn.use_backend("numpy"):
            with contextlib.suppress(KeyError), rn.use_backend("auto"):
                inside = _backends.select()[0]
                raise KeyError
            assert inside == outside
            assert _backends.select()[0] == "numpy"
        assert _backends.select()[0] == outside

    def test_unknown_names_are_errors(self, monkeypatch):
        expected = "expected one of 'auto', 'cuda', 'cpu', 'numpy'"
        with pytest.raises(ValueError, match=f"backend is 'gpu'; {expected}"):
            _backends.select("gpu")
        with pytest.raises(ValueError, match=f"backend is 'gpu'; {expected}"), rn.use_backend("gpu"):
            pass
        monkeypatch.setenv("REDUNET_BACKEND", "gpu")
        with pytest.raises(ValueError, match=f"REDUNET_BACKEND is 'gpu'; {expected}"):
            rn.build(np.eye(2), [0, 1], n_layers=1)


@pytest.fixture
def without_engine(monkeypatch):
    """As on a machine where nothing was built; returns a function that sets the reason of the build."""
    monkeypatch.delenv("REDUNET_BACKEND", raising=False)
    monkeypatch.setitem(sys.modules, "redunet._cuda", None)
    monkeypatch.delattr(rn, "_cuda", raising=False)
    monkeypatch.setitem(sys.modules, "redunet._cpu", None)
    monkeypatch.setitem(sys.modules, "redunet._build_info", None)
    monkeypatch.delattr(rn, "_cpu", raising=False)
    _backends._load.cache_clear()

    def reason(text):
        info = types.ModuleType("redunet._build_info")
        info.cpu_missing = text
        monkeypatch.setitem(sys.modules, "redunet._build_info", info)
        _backends._load.cache_clear()

    yield reason
    _backends._load.cache_clear()


class TestWithoutTheEngine:
    def test_auto_falls_back_to_numpy(self, without_engine):
        assert _backends.select()[0] == "numpy"
        assert rn.build(np.eye(2), [0, 1], n_layers=1)[0].backend == "numpy"

    def test_asking_for_it_says_why_it_is_missing(self, without_engine):
        with pytest.raises(
            RuntimeError, match="backend 'cpu' cannot be used: the compiled extension could not be import"
        ):
            rn.build(np.eye(2), [0, 1], n_layers=1, backend="cpu")
        without_engine("no C++ compiler was found")
        with pytest.raises(RuntimeError, match="backend 'cpu' cannot be used: no C\\+\\+ compiler was found"):
            _backends.select("cpu")
        with pytest.raises(RuntimeError, match="no C\\+\\+ compiler"), rn.use_backend("cpu"):
            pass
        without_engine(None)  # built, but it does not load
        with pytest.raises(RuntimeError, match="the compiled extension could not be imported: "):
            _backends.select("cpu")

    def test_the_configuration_says_why(self, without_engine, capsys):
        without_engine("no C++ compiler was found")
        rn.show_config()
        lines = dict(line.split(maxsplit=2)[1:] for line in capsys.readouterr().out.splitlines() if "backend " in line)
        assert "REDUNET_CUDA=ON" in lines.pop("cuda")
        assert lines == {"backend": "numpy", "cpu": "no C++ compiler was found", "numpy": "available"}


class TestConfiguration:
    def test_shows_versions_backends_and_threads(self, backend, capsys, monkeypatch):
        monkeypatch.setenv("REDUNET_NUM_THREADS", "3")
        rn.show_config()
        out = capsys.readouterr().out
        lines = {line[:17].strip(): line[18:] for line in out.splitlines()}
        assert lines["redunet"] == rn.__version__
        assert lines["numpy"] == np.__version__
        assert lines["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")
        assert lines["selected backend"] == backend
        assert lines["threads"] == "3"
        assert lines["backend numpy"] == "available"
        if backend == "cpu":
            from redunet import _cpu

            assert lines["backend cpu"] == "available"
            levels = ", ".join(_cpu.simd_levels())
            assert lines["SIMD level"] == f"{_cpu.simd_level()} (usable: {levels})"
            assert lines["compiler"]

    def test_every_line_is_aligned(self, capsys):
        rn.show_config()
        for line in capsys.readouterr().out.splitlines():
            assert line[17] == " "
            assert line[18] != " "


def medium(shape, complex_valued=False):
    """Classes around three directions each, so that gates and labels have something to tell apart."""
    rng = np.random.default_rng(sum(shape))
    y = rng.integers(0, 4, shape[0])
    y[:4] = range(4)
    centres = rng.standard_normal((4, *shape[1:]))
    X = centres[y] + 0.7 * rng.standard_normal(shape)
    if complex_valued:
        X = X + 1j * (centres[::-1][y] + 0.7 * rng.standard_normal(shape))
    return X, y


SHAPES = [
    (300, 20),
    (60, 50),
    (400, 3),
    (200, 7, 16),
    (90, 24, 15),
    (30, 40, 5),
    (150, 3, 9, 8),
    (40, 18, 4, 5),
]
SHARPNESS = 100.0  # lambda alpha_j of the smallest class
PROMISED = {np.float32: (1e-4, 1e-3), np.float64: (1e-10, 1e-8)}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("complex_valued", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
class TestAgreement:
    def prepare(self, shape, complex_valued, dtype):
        X, y = medium(shape, complex_valued)
        spectral = np.result_type(dtype, np.complex64) if complex_valued else dtype
        return X, X.astype(spectral), y

    def test_of_networks(self, backend, shape, complex_valued, dtype):
        X, given, y = self.prepare(shape, complex_valued, dtype)
        m_j = np.bincount(y).min()
        options = {"epsilon_sq": 0.5, "lam": SHARPNESS * m_j * 0.5 / shape[1]}
        one, several = PROMISED[dtype]
        for n_layers, tolerance in ((1, one), (5, several)):
            reference, Z = rn.build(X, y, n_layers=n_layers, backend="numpy", **options)
            net, W = rn.build(given, y, n_layers=n_layers, **options)
            np.testing.assert_allclose(net.etas, reference.etas, rtol=1e-12)
            assert relative(W, Z) < tolerance
            assert relative(net.rates.per_class, reference.rates.per_class) < tolerance
            assert relative(net.rates.rate, reference.rates.rate) < tolerance
            for a, b in zip(net.layers, reference.layers, strict=True):
                assert relative(a.E, b.E) < tolerance
                assert relative(a.Cs, b.Cs) < tolerance
            new = X[::-1] + 0.3 * X
            narrow = new.astype(given.dtype)
            assert relative(net.transform(narrow), reference.transform(new, backend="numpy")) < tolerance
            pi, expected = net.assign(narrow), reference.assign(new, backend="numpy")
            # d pi = pi (1 - pi) lambda d rho, and rho <= alpha_j.
            slack = SHARPNESS / 4 * tolerance
            assert np.abs(pi - expected).max() < slack
            highest, second = np.sort(expected, axis=1)[:, [-1, -2]].T
            clear = highest - second > 2 * slack
            assert clear.mean() > 0.6
            np.testing.assert_array_equal(pi.argmax(axis=1)[clear], expected.argmax(axis=1)[clear])

    def test_of_rates_and_gradient(self, backend, shape, complex_valued, dtype):
        X, given, y = self.prepare(shape, complex_valued, dtype)
        weights = np.random.default_rng(0).uniform(0.5, 2, len(X))
        one, _ = PROMISED[dtype]
        for labels in (y, np.random.default_rng(1).dirichlet(np.ones(3), len(X))):
            options = {"sample_weight": weights, "epsilon_sq": 0.5 * X[0].size}
            expected = rn.rate_reduction(X, labels, backend="numpy", **options)
            np.testing.assert_allclose(
                rn.rate_reduction(given, labels, **options), expected, rtol=0, atol=one * expected.rate
            )
            gradient = rn.rate_reduction_gradient(X, labels, backend="numpy", **options)
            assert relative(rn.rate_reduction_gradient(given, labels, **options), gradient) < one

    def test_of_one_layer_of_the_contract(self, backend, shape, complex_valued, dtype):
        """`layer_operators` and a network of one layer hold the same."""
        from redunet._inputs import prepare

        _, given, y = self.prepare(shape, complex_valued, dtype)
        entered = prepare.samples(given)
        problem, _ = prepare.problem(entered, y, sample_weight=None, epsilon_sq=0.5, dft_norm="ortho")
        V = entered.spectra(normalize=True)
        before = np.array(V)
        dense, factors, row = entered.module.layer_operators(V, problem, n_threads=2)
        np.testing.assert_array_equal(np.asarray(V), before)
        net, _ = rn.build(given, y, n_layers=1, epsilon_sq=0.5, lam=20.0)
        assert relative(dense, net.operators.dense[0]) < PROMISED[dtype][0]
        assert relative(factors, net.operators.factors[0]) < PROMISED[dtype][0]
        np.testing.assert_allclose(row[0], net.rates.rate[0], rtol=PROMISED[dtype][0])
        np.testing.assert_allclose(row[1:] * problem.gammas, net.rates.per_class[0], rtol=PROMISED[dtype][0])


@pytest.mark.parametrize(
    ("dtype", "lam"),
    [(np.float32, 50.0), (np.float32, 500.0), (np.float64, 50.0), (np.float64, 500.0), (np.float64, 5000.0)],
)
@pytest.mark.parametrize("shape", [(70, 60), (90, 24, 15), (40, 70, 3), (64, 12, 9, 8), (48, 80)], ids=str)
def test_sharp_gates_leave_out_only_what_is_zero_to_rounding(backend, shape, dtype, lam):
    """A backend may stop summing ||C^j v|| when pi_j is zero for a whole group of samples, not for some of them.

    The problems are large enough for it to stop early, samples of all classes lie side by side, and two classes are
    close, so that their gates are open while others are shut. An error of 1e-5 alpha_j (single) or 1e-13 alpha_j of a
    norm is one of lambda times as much in an open gate, and none in a shut one.
    """
    X, y = medium(shape)
    X[y == 1] = X[y == 0].mean(axis=0) + 0.7 * X[y == 1]
    reference, Z = rn.build(X, y, n_layers=1, lam=lam, backend="numpy")
    pi = reference.assign(X, backend="numpy")
    net, W = rn.build(X.astype(dtype), y, n_layers=1, lam=lam)
    error = np.abs(net.assign(X.astype(dtype)) - pi)
    slack = (1e-5 if dtype == np.float32 else 1e-13) * lam * reference.operators.alphas.max()
    assert slack < 0.6
    assert error.max() < slack
    shut = np.sort(pi, axis=1)[:, -2] < 1e-12
    assert shut.any()
    assert error[shut].max() < 4 * np.finfo(dtype).eps
    assert relative(W[shut], Z[shut]) < PROMISED[dtype][0]


class TestShortcuts:
    """Each way of doing less leaves the result the same to rounding, on problems where it is taken."""

    @pytest.fixture
    def cpu(self, engine):
        from redunet import _cpu

        yield _cpu
        _cpu.set_shortcuts()

    @staticmethod
    def networks(cpu, X, y, **options):
        """Built and applied with all shortcuts, and without one of them or any."""
        found = {}
        for off in ({}, {"fused": False}, {"sketches": False}, {"early_stop": False, "fused": False}):
            cpu.set_shortcuts(**off)
            net, Z = rn.build(X, y, n_layers=3, epsilon_sq=0.5, **options)
            found[tuple(off)] = net, Z, net.transform(X), net.assign(X)
        return found

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("labels", ["equal", "unequal", "soft", "weighted", "given"])
    @pytest.mark.parametrize(
        ("shape", "k", "lam"),
        [
            ((70, 1), 2, 20.0),  # few channels: one sweep
            ((90, 2, 7), 3, 20.0),
            ((65, 5, 12), 2, 20.0),
            ((130, 8, 5, 6), 6, 500.0),  # and classes that are left
            ((33, 6, 9), 1, 20.0),
            ((14, 7, 8), 4, 20.0),  # small classes, whose operators are factors
            ((150, 40, 3), 4, 500.0),  # sketches
            ((300, 48), 5, 500.0),
            ((130, 10, 40), 6, 500.0),  # the rest of a sum bounded from below
        ],
        ids=str,
    )
    def test_none_changes_more_than_rounding(self, cpu, shape, k, lam, labels, dtype):
        rng = np.random.default_rng(sum(shape))
        y = np.arange(shape[0]) % k
        if labels == "unequal":
            y = np.where(np.arange(shape[0]) < 3 * k, y, 0)
        centres = rng.standard_normal((k, *shape[1:]))
        X = (centres[y] + 0.7 * rng.standard_normal(shape)).astype(dtype)
        options = {"lam": lam, "eta": 0.3}
        if labels == "weighted":
            options["sample_weight"] = rng.uniform(0.5, 2, shape[0])
        if labels == "given":
            options["assignment"] = "given"
        target = rng.dirichlet(np.ones(k), shape[0]) if labels == "soft" else y
        found = self.networks(cpu, X, target, **options)
        net, Z, transformed, pi = found.pop(())
        one, several = PROMISED[dtype]
        for other, W, moved, rho in found.values():
            assert relative(other.operators.dense, net.operators.dense) < several
            assert relative(W, Z) < several
            assert relative(moved, transformed) < several
            np.testing.assert_allclose(other.rates.delta, net.rates.delta, rtol=0, atol=one * net.rates.rate[0])
            assert np.abs(rho - pi).max() < several * lam

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("lam", [20.0, 500.0])
    @pytest.mark.parametrize("noise", [0.2, 0.7, 3.0])
    @pytest.mark.parametrize("eta", [0.3, "auto"])
    def test_a_class_that_is_left_by_its_remainder_would_have_been_out(self, cpu, dtype, lam, noise, eta):
        """Not a bit changes where every sum is made to its end: in the same order, of all classes."""
        rng = np.random.default_rng(0)
        y = np.arange(210) % 5
        decay = np.exp(-0.2 * np.arange(31))  # energy in few frequencies, as in images
        X = np.fft.irfft((rng.standard_normal((5, 12, 31))[y] + noise * rng.standard_normal((210, 12, 31))) * decay)
        found = []
        for early_stop in (True, False):
            cpu.set_shortcuts(early_stop=early_stop)
            net, Z = rn.build(X.astype(dtype), y, n_layers=5, lam=lam, eta=eta, epsilon_sq=0.2)
            found.append((Z, net.operators.dense, net.transform(X.astype(dtype)), net.rates.rate))
        for one, other in zip(*found, strict=True):
            np.testing.assert_array_equal(one, other)

    def test_sharp_gates_are_left_and_open_ones_are_not(self, cpu):
        """Leaving classes is what makes these builds fast: without it they take several times as long."""
        rng = np.random.default_rng(0)
        y = np.repeat(np.arange(10), 120)
        X = (rng.standard_normal((10, 120))[y] + 0.3 * rng.standard_normal((1200, 120))).astype(np.float32)

        def seconds(**off):
            cpu.set_shortcuts(**off)
            started = time.perf_counter()
            net, _ = rn.build(X, y, n_layers=5, lam=500.0, n_threads=1)
            assert np.isin(net.assign(X), (0, 1)).all()
            return time.perf_counter() - started

        rounds = [(seconds(), seconds(early_stop=False)) for _ in range(7)]
        with_them, without = (min(times) for times in zip(*rounds, strict=True))
        assert with_them < 0.8 * without


def test_engines_have_the_step_rule_of_the_contract(compiled):
    """C++ and Python each have the constants, for loops of their own; in Python backends read the contract's."""
    constants = _backends.select(compiled)[1].constants
    assert constants == {name: value for name, value in vars(contract).items() if name.isupper()}


def test_every_backend_has_the_functions_of_the_contract(backend):
    module = _backends.select()[1]
    for name, value in vars(contract.Backend).items():
        if not name.startswith("_"):
            assert callable(value)
            assert callable(getattr(module, name)), name


class Asked:
    """A request, and which of its fields were read."""

    def __init__(self, request):
        self.request, self.read = request, set()

    def __getattr__(self, name):
        self.read.add(name)
        return getattr(self.request, name)


def test_every_backend_reads_all_of_a_request(backend):
    """A field that one does not know would be an option without effect."""
    from redunet._inputs import prepare

    given = prepare.samples(np.eye(4))
    problem, _ = prepare.problem(given, [0, 0, 1, 1], sample_weight=None, epsilon_sq=0.5, dft_norm="ortho")
    V = given.spectra(normalize=True)
    result = contract.BuildResult.room(problem, 1, given.n_channels, V.dtype, lam=1.0, keep=True)
    asked = Asked(contract.BuildRequest(n_layers=1, etas=None, lam=1.0))
    given.module.build(V, problem, asked, result, n_threads=1)
    unread = {field.name for field in dataclasses.fields(contract.BuildRequest)} - asked.read
    if isinstance(given.module.build, types.FunctionType):
        unread.discard("every")  # its results are where they belong at any time
    assert not unread, f"BuildRequest has {unread}, which backend {backend} does not read"


class TestSimd:
    @pytest.fixture
    def cpu(self):
        return pytest.importorskip("redunet._cpu")

    def test_levels_are_usable_and_unknown_ones_are_errors(self, cpu):
        before = cpu.simd_level()
        assert before in cpu.simd_levels()
        assert cpu.simd_levels()[0] == "baseline"
        with pytest.raises(ValueError, match="sse9"):
            cpu.set_simd("sse9")
        assert cpu.simd_level() == before

    def test_the_environment_forces_one(self, cpu):
        code = "import redunet._cpu as cpu; print(cpu.simd_level())"
        path = os.pathsep.join(entry for entry in sys.path if entry)
        for level in (*cpu.simd_levels(), "sse9"):
            environment = {**os.environ, "PYTHONPATH": path, "REDUNET_SIMD": level}
            done = subprocess.run(
                [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300
            )
            if level == "sse9":
                assert done.returncode != 0
                assert "sse9" in done.stderr
            else:
                assert (done.stdout, done.stderr) == (f"{level}\n", "")

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    def test_levels_differ_by_rounding_only(self, cpu, shape, dtype):
        X, y = medium(shape)
        before = cpu.simd_level()
        features = []
        try:
            for level in cpu.simd_levels():
                cpu.set_simd(level)
                features.append(rn.build(X.astype(dtype), y, n_layers=1, epsilon_sq=0.5, lam=20.0, backend="cpu")[1])
        finally:
            cpu.set_simd(before)
        for Z in features[1:]:
            assert relative(Z, features[0]) < PROMISED[dtype][0]
