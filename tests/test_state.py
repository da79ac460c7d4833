"""The verbs of a `State`: every backend's against NumPy's in double precision, and by their algebra.

What is promised is what `test_backends` promises of a layer: 1e-4 in single and 1e-10 in double precision.
"""

from __future__ import annotations

import importlib.util
import threading
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from oracle import relative

from redunet import _backends
from redunet._backends import ascent, numpy_backend
from redunet._backends.contract import BuildRequest, BuildResult, Operators, Problem
from redunet._inputs import prepare

ETA = 0.3
#: m, C and signal shape of samples; dtype; kind of classes.
KINDS = {
    "vectors": ((40, 6), "f8", "labels"),
    "vectors, complex": ((33, 9), "c8", "weights"),
    "long vectors": ((50, 130), "f4", "labels"),
    "few channels": ((70, 3, 10), "f4", "labels"),
    "few channels, soft": ((37, 5, 9), "f8", "soft"),
    "signals": ((300, 20, 7), "f8", "labels"),
    "signals, soft": ((45, 17, 6), "f4", "soft"),
    "small classes": ((15, 12, 8), "c16", "labels"),
    "small classes, weights": ((15, 12, 8), "f4", "weights"),
    "images": ((21, 10, 4, 5), "f8", "weights"),
    "one sample": ((1, 9, 6), "f8", "one"),
    "columns": ((40, 6, 9), "f8", "labels"),
    "columns, many channels": ((70, 33, 6), "f4", "weights"),
    "columns of images": ((21, 5, 4, 3), "c16", "soft"),
}


@dataclass
class Case:
    """Features of a backend, and the same in NumPy and double precision."""

    V: Any
    problem: Problem
    module: Any
    tolerance: float

    @property
    def wide(self) -> np.dtype:
        return np.result_type(self.V.dtype, np.float64)

    def state(self):
        return self.module.state(self.V, self.problem, n_threads=2)

    def reference(self):
        return numpy_backend.state(self.V.astype(self.wide), self.problem, n_threads=1)

    def operators(self, lam: float = 20.0) -> tuple[Operators, Operators]:
        """Of one layer, in the precision of the features and in double."""
        dense, factors, _ = self.reference().operators()
        exact = Operators.single(self.problem, dense, factors, eta=ETA, lam=lam)
        given = replace(exact, dense=exact.dense.astype(self.V.dtype), factors=exact.factors.astype(self.V.dtype))
        return given, replace(exact, dense=given.dense.astype(self.wide), factors=given.factors.astype(self.wide))

    def dense_operators(self, lam: float = 20.0) -> tuple[Operators, Operators]:
        """The same without factors, and of no symmetry, as training leaves them."""
        given, exact = self.operators(lam)
        dense = np.stack([exact.to_dense(0, j) for j in range(self.problem.n_classes + 1)])
        rng = np.random.default_rng(9)
        noise = rng.standard_normal(dense.shape)
        noise = noise + 1j * rng.standard_normal(dense.shape) if np.iscomplexobj(dense) else noise
        dense = (dense + 0.1 * np.abs(dense).max() * noise)[None].astype(self.V.dtype)
        ranks = np.zeros_like(given.ranks)
        given = replace(given, dense=dense, factors=given.factors[..., :0].copy(), ranks=ranks)
        return given, replace(given, dense=dense.astype(self.wide), factors=exact.factors[..., :0].copy())

    def pi(self, seed: int = 1) -> np.ndarray:
        """Assignments that don't add up to one, some of them zero."""
        rng = np.random.default_rng(seed)
        pi = rng.uniform(-1, 1, (len(self.V), self.problem.n_classes))
        return np.where(rng.uniform(size=pi.shape) < 0.3, 0, pi)

    def upstream(self, seed: int = 2) -> np.ndarray:
        rng = np.random.default_rng(seed)
        g = rng.standard_normal(self.V.shape)
        return (g + 1j * rng.standard_normal(g.shape) if np.iscomplexobj(self.V) else g).astype(self.V.dtype)


def case_of(shape, dtype, kind, backend, group="cyclic") -> Case:
    rng = np.random.default_rng(0)
    X = rng.standard_normal(shape)
    X = (X + 1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else X).astype(dtype)
    m = shape[0]
    y = rng.dirichlet(np.ones(3), m) if kind == "soft" else np.sort(np.arange(m) % 3)[rng.permutation(m)]
    weights = rng.uniform(0.2, 3, m) if kind == "weights" else None
    given = prepare.samples(X, dtype=None, backend=backend, n_threads=2, group=group)
    problem, _ = prepare.problem(given, y, sample_weight=weights, epsilon_sq=0.2, dft_norm="ortho")
    V = np.asarray(prepare.samples(X, dtype=None, backend="numpy", n_threads=1, group=group).spectra(normalize=True))
    single = V.real.dtype == np.float32
    return Case(V, problem, _backends.select(backend)[1], 1e-4 if single else 1e-10)


@pytest.fixture(params=KINDS)
def case(request, backend):
    return case_of(*KINDS[request.param], backend, "dihedral" if request.param.startswith("columns") else "cyclic")


def _after(module, V, ops, eta):
    state = module.state(V, ops, n_threads=1)
    state.advance(ops, eta)
    return np.asarray(state.features())


def pulled(module, V, ops, upstream, pi=None, *, eta=ETA, nearest=None):
    """A layer of these features, and back."""
    before = module.state(V, ops, nearest=nearest, n_threads=2)
    state = before.copy()
    taken = state.advance(ops, eta, pi)
    return before.pullback(ops, eta, taken, np.asarray(state.features()), upstream)


def agree(got, expected, tolerance):
    """Of two pullbacks: arrays to their norm, numbers to that of the gradient to the features."""
    size = np.linalg.norm(expected.features)
    for name in ("features", "E", "Cs"):
        assert np.shape(getattr(got, name)) == np.shape(getattr(expected, name)), name
        assert relative(np.asarray(getattr(got, name)), np.asarray(getattr(expected, name))) < tolerance, name
    assert abs(got.eta - expected.eta) < tolerance * size
    assert abs(got.lam - expected.lam) < tolerance * size


def inner(a, b) -> float:
    return float((np.asarray(a).astype(complex).conj() * np.asarray(b)).real.sum())


class TestVerbsAgainstNumpy:
    def test_features_come_back(self, case):
        state = case.state()
        assert state.n_samples == len(case.V)
        np.testing.assert_array_equal(np.asarray(state.features()), case.V)

    def test_grams_in_double(self, case):
        grams = case.state().grams()
        assert grams.dtype == case.wide
        np.testing.assert_allclose(grams, case.reference().grams(), atol=1e-13 * len(case.V))
        np.testing.assert_array_equal(grams, grams.conj().swapaxes(-1, -2))

    def test_operators(self, case):
        *arrays, rates = case.state().operators()
        *expected, row = case.reference().operators()
        assert [array.shape for array in arrays] == [array.shape for array in expected]
        np.testing.assert_allclose(rates, row, rtol=case.tolerance)
        got, right = (Operators.single(case.problem, *some) for some in (arrays, expected))
        for number in range(case.problem.n_classes + 1):  # columns of a factor come in any order
            assert relative(got.to_dense(0, number), right.to_dense(0, number)) < case.tolerance

    def test_response_norms(self, case):
        given, exact = case.operators()
        assert relative(case.state().response_norms(given), case.reference().response_norms(exact)) < case.tolerance

    def test_step_with_any_assignment(self, case):
        given, exact = case.operators()
        state, reference = case.state(), case.reference()
        squares, expected = state.step(given, case.pi(), ETA), reference.step(exact, case.pi(), ETA)
        assert relative(squares, expected) < case.tolerance
        assert relative(np.asarray(state.features()), reference.features()) < case.tolerance

    def test_scale(self, case):
        state, by = case.state(), np.random.default_rng(3).uniform(-2, 2, len(case.V))
        state.scale(by)
        assert relative(np.asarray(state.features()), case.V * by[:, None, None]) < case.tolerance

    @pytest.mark.parametrize("given_pi", [False, True])
    def test_advance(self, case, given_pi):
        given, exact = case.operators()
        state, reference = case.state(), case.reference()
        pi = case.pi() if given_pi else None
        got, expected = state.advance(given, ETA, pi), reference.advance(exact, ETA, pi)
        np.testing.assert_allclose(got.pi, expected.pi, atol=20 * case.tolerance)  # lambda times the error of a norm
        assert relative(got.scale, expected.scale) < 20 * case.tolerance
        assert (got.squares is None) == given_pi
        if not given_pi:  # of classes that were left early, nothing is promised
            there = got.pi > 0
            assert relative(got.squares[there], expected.squares[there]) < case.tolerance
        assert relative(np.asarray(state.features()), reference.features()) < 20 * case.tolerance

    def test_extrapolate(self, case):
        given, exact = case.operators()
        state, reference = case.state(), case.reference()
        before, reference_before = state.copy(), reference.copy()
        state.advance(given, ETA, case.pi())
        reference.advance(exact, ETA, case.pi())
        state.extrapolate(before, 0.7)
        reference.extrapolate(reference_before, 0.7)
        assert relative(np.asarray(state.features()), reference.features()) < case.tolerance
        np.testing.assert_array_equal(np.asarray(before.features()), case.V)

    @pytest.mark.parametrize("given_pi", [False, True])
    def test_pullback(self, case, given_pi):
        ops, exact = case.dense_operators()
        pi = case.pi() if given_pi else None
        got = pulled(case.module, case.V, ops, case.upstream(), pi)
        expected = pulled(numpy_backend, case.V.astype(case.wide), exact, case.upstream().astype(case.wide), pi)
        agree(got, expected, 20 * case.tolerance)

    def test_operators_of_grams(self, case):
        problem = replace(case.problem, ranks=np.zeros_like(case.problem.ranks))
        grams = case.reference().grams()
        dense, rates = case.module.operators_of_grams(grams, problem, n_threads=2)
        expected, _, row = numpy_backend.state(case.V.astype(case.wide), problem, n_threads=1).operators()
        assert dense.dtype == case.wide
        assert relative(dense, expected) < 1e-10
        np.testing.assert_allclose(rates, row, rtol=1e-10)


class TestAlgebra:
    def test_advance_is_its_four_verbs(self, case):
        given, _ = case.operators()
        fused, verbs = case.state(), case.state()
        taken, expected = fused.advance(given, ETA), ascent.advance(verbs, given, ETA)
        np.testing.assert_allclose(taken.pi, expected.pi, atol=20 * case.tolerance)
        assert relative(taken.scale, expected.scale) < 20 * case.tolerance
        assert relative(np.asarray(fused.features()), np.asarray(verbs.features())) < 20 * case.tolerance

    def test_a_loop_of_verbs_is_build(self, case):
        if len(case.V) == 1:
            return
        n_layers = 3
        request = BuildRequest(n_layers=n_layers, etas=np.full(n_layers, ETA), lam=20.0)

        def room():
            return BuildResult.room(case.problem, n_layers, case.V.shape[1], case.V.dtype, lam=request.lam, keep=True)

        ours, theirs = room(), room()
        unit = float(np.finfo(case.V.dtype).eps)
        moved = ascent.Ascent(case.state(), case.problem, request, ours, unit).run()
        V = case.V.copy()
        case.module.build(V, case.problem, request, theirs, n_threads=2)
        assert relative(np.asarray(moved.features()), V) < 100 * case.tolerance
        np.testing.assert_allclose(ours.rates, theirs.rates, rtol=100 * case.tolerance)
        assert relative(ours.operators.dense, theirs.operators.dense) < 100 * case.tolerance

    def test_the_pullback_is_the_adjoint_of_the_layer(self, case):
        """<g, J d> = <J* g, d>, J d from five points: an error of h^4 (lam rho)^5, and of the rounding unit over h."""
        if case.V.real.dtype != np.float64:
            pytest.skip("differences need double precision; test_pullback compares with it")
        ops, _ = case.dense_operators()
        g, h = case.upstream(), 1e-4
        back = pulled(case.module, case.V, ops, g)

        def along(dV=0.0, dense=0.0, eta=0.0, lam=0.0):
            def moved(t):
                there = replace(ops, dense=ops.dense + t * dense, lam=ops.lam + t * lam)
                state = case.module.state(np.ascontiguousarray(case.V + t * dV), there, n_threads=2)
                state.advance(there, ETA + t * eta)
                return inner(g, np.asarray(state.features()))

            return (8 * (moved(h) - moved(-h)) - moved(2 * h) + moved(-2 * h)) / (12 * h)

        size = np.linalg.norm(g)
        d = case.upstream(6)
        assert abs(along(dV=d) - inner(back.features, d)) < 1e-8 * size * np.linalg.norm(d)
        for number, to in enumerate([back.E, *back.Cs]):  # of no symmetry at all
            change = np.zeros_like(ops.dense)
            change[0, number] = case.upstream(7).ravel()[0] * np.random.default_rng(8).standard_normal(to.shape)
            slope = along(dense=change)
            assert abs(slope - inner(to, change[0, number])) < 1e-8 * size * np.linalg.norm(change)
        assert abs(along(eta=1.0) - back.eta) < 1e-8 * size
        assert abs(along(lam=1.0) - back.lam) < 1e-8 * size

    @pytest.mark.parametrize("lam", [0.0, 1.0, 500.0])
    def test_pullback_of_gates_of_any_sharpness(self, backend, lam):
        case = case_of(*KINDS["signals"], backend)
        ops, exact = case.dense_operators(lam)
        taken = numpy_backend.state(case.V.astype(case.wide), exact, n_threads=1).advance(exact, ETA)
        if lam == 500:
            assert 0.1 < (taken.pi.max(axis=1) > 1 - 1e-7).mean() < 1  # one-hot gates, and others
        got, expected = (pulled(module, case.V, ops, case.upstream()) for module in (case.module, numpy_backend))
        agree(got, expected, max(1, lam) * case.tolerance)  # a gate's error is lam times a norm's

    def test_pullback_of_a_layer_that_stays(self, case):
        """eta = 0: the gradient to eta is there all the same, and those to operators and lambda vanish."""
        if len(case.V) == 1:
            return
        ops, exact = case.dense_operators()
        V, g = case.V.astype(case.wide), case.upstream()
        back = pulled(case.module, case.V, ops, g, eta=0.0)
        small = 1e-6
        slope = (
            inner(g, _after(numpy_backend, V, exact, small)) - inner(g, _after(numpy_backend, V, exact, -small))
        ) / (2 * small)
        assert abs(back.eta - slope) < max(case.tolerance, 1e-8) * np.linalg.norm(g)
        assert not any(np.any(zero) for zero in (back.lam, back.E, back.Cs))

    def test_pullback_below_the_floor_of_norms(self, backend):
        """A sample of zeros stays zero and has the gradient of u / floor, not NaN."""
        case = case_of(*KINDS["signals, soft"], backend)
        case.V[3] = 0
        ops, exact = case.dense_operators()
        got = pulled(case.module, case.V, ops, case.upstream())
        expected = pulled(numpy_backend, case.V.astype(case.wide), exact, case.upstream().astype(case.wide))
        assert np.abs(expected.features[3]).max() > 1e7
        agree(got, expected, 20 * case.tolerance)

    def test_expected_classes_change_no_layer(self, case):
        """What is said to be nearest is for speed: any classes give the same features, copies and gradients."""
        ops, _ = case.dense_operators()
        nearest = np.random.default_rng(4).integers(0, case.problem.n_classes, len(case.V))
        plain, told = (case.module.state(case.V, ops, nearest=some, n_threads=2) for some in (None, nearest))
        np.testing.assert_array_equal(np.asarray(told.copy().features()), case.V)
        taken, other = plain.advance(ops, ETA), told.advance(ops, ETA)
        np.testing.assert_allclose(taken.pi, other.pi, atol=20 * case.tolerance)
        assert relative(np.asarray(told.features()), np.asarray(plain.features())) < 20 * case.tolerance
        back = pulled(case.module, case.V, ops, case.upstream())
        same = pulled(case.module, case.V, ops, case.upstream(), nearest=nearest)
        agree(same, back, 20 * case.tolerance)

    def test_shares_of_the_samples_add_up(self, case):
        if len(case.V) == 1:
            return
        whole = case.state().grams()
        total = np.zeros_like(whole)
        for part in np.array_split(np.random.default_rng(0).permutation(len(case.V)), 3):
            share = replace(
                case.problem,
                labels=None if case.problem.labels is None else case.problem.labels[part],
                membership=None if case.problem.membership is None else case.problem.membership[part],
                weights=None if case.problem.weights is None else case.problem.weights[part],
                ranks=np.zeros_like(case.problem.ranks),
            )
            total += case.module.state(np.ascontiguousarray(case.V[part]), share, n_threads=1).grams()
        np.testing.assert_allclose(total, whole, atol=1e-13 * len(case.V))

    def test_shares_of_the_frequencies_add_up(self, case):
        F, d = len(case.problem.freq_weights), case.problem.n_columns
        if F == 1:
            return
        given, _ = case.operators()
        norms, squares = np.zeros_like(case.pi()), np.zeros(len(case.V))
        for some in (slice(0, F // 3), slice(F // 3, F)):
            ops = replace(
                given,
                dense=np.ascontiguousarray(given.dense[:, :, some]),
                factors=np.ascontiguousarray(given.factors[:, some]),
                freq_weights=given.freq_weights[some].copy(),
            )
            columns = slice(d * some.start, d * some.stop)
            state = case.module.state(np.ascontiguousarray(case.V[:, :, columns]), ops, n_threads=1)
            norms += state.response_norms(ops)
            squares += state.step(ops, case.pi(), ETA)
        whole = case.module.state(case.V, given, n_threads=1)
        assert relative(norms, whole.response_norms(given)) < case.tolerance
        assert relative(squares, whole.step(given, case.pi(), ETA)) < case.tolerance


def test_engines_live_side_by_side():
    for name in ("redunet._cpu", "redunet._cuda"):
        if importlib.util.find_spec(name) is not None:
            assert importlib.import_module(name).State.__module__ == name


class TestObject:
    @pytest.fixture
    def case(self, backend):
        return case_of(*KINDS["signals"], backend)

    def test_a_copy_is_its_own(self, case):
        state = case.state()
        other = state.copy()
        state.scale(np.full(len(case.V), 2.0))
        np.testing.assert_array_equal(np.asarray(other.features()), case.V)
        given, _ = case.operators()
        other.advance(given, ETA)
        np.testing.assert_array_equal(np.asarray(state.features()), 2 * case.V)

    def test_going_on_from_itself_is_staying(self, case):
        state = case.state()
        state.extrapolate(state, 0.5)
        assert relative(np.asarray(state.features()), case.V) < case.tolerance

    def test_applied_states_know_no_classes(self, case):
        given, _ = case.operators()
        state = case.module.state(case.V, given, n_threads=1)
        for verb in (state.grams, state.operators):
            with pytest.raises(TypeError, match="it knows no classes"):
                verb()

    def test_an_error_names_layer_class_and_frequency(self, case):
        V = case.V.copy()
        V[case.problem.labels == 1, :, 3] = np.nan
        state = case.module.state(V, case.problem, n_threads=1)
        with pytest.raises(np.linalg.LinAlgError, match=r"^layer 7, .*, frequency 3: I \+ alpha G is not positive"):
            state.operators(7)
        with pytest.raises(np.linalg.LinAlgError, match=r"^(all classes|class 1), frequency 3"):
            state.operators()
        grams = case.state().grams()
        grams[2, 1] = -100 * np.eye(V.shape[1])
        problem = replace(case.problem, ranks=np.zeros_like(case.problem.ranks))
        with pytest.raises(np.linalg.LinAlgError, match=r"^class 1, frequency 1"):
            case.module.operators_of_grams(grams, problem, n_threads=1)

    def test_survives_what_it_was_made_of(self, case):
        problem = replace(case.problem, freq_weights=case.problem.freq_weights.copy())
        expected = case.state().operators()
        state = case.module.state(case.V.copy(), problem, n_threads=1)
        del problem
        for got, right in zip(state.operators(), expected, strict=True):
            np.testing.assert_array_equal(got, right)


class TestCompiled:
    """Compiled engines read memory as it lies, without the GIL."""

    @pytest.fixture
    def case(self, compiled):
        return case_of(*KINDS["signals"], compiled)

    def test_what_does_not_fit_is_refused(self, case):
        given, _ = case.operators()
        state, m = case.state(), len(case.V)
        for wrong in (
            replace(given, ranks=given.ranks + 1),
            replace(given, alphas=2 * given.alphas),
            replace(given, dense=given.dense[:, :, ::-1]),
            replace(given, dense=given.dense.astype(np.complex64)),
            replace(given, dense=np.concatenate([given.dense] * 2)),
        ):
            with pytest.raises(ValueError, match="operators"):
                state.response_norms(wrong)
        with pytest.raises(ValueError, match="pi does not fit"):
            state.step(given, case.pi()[:-1].copy(), ETA)
        with pytest.raises(ValueError, match="pi does not fit"):
            state.advance(given, ETA, np.ones((m, 7)))
        with pytest.raises(ValueError, match="by does not fit"):
            state.scale(np.ones(m + 1))
        ops, _ = case.dense_operators()
        fresh = case.module.state(case.V, ops, n_threads=1)
        taken = fresh.copy().advance(ops, ETA)
        for change, name in (
            ({"upstream": case.upstream()[1:].copy()}, "upstream"),
            ({"after": case.V[1:].copy()}, "after"),
            ({"taken": taken._replace(pi=taken.pi[1:].copy())}, "pi"),
            ({"taken": taken._replace(squares=taken.squares[1:].copy())}, r"taken\.squares"),
            ({"taken": taken._replace(scale=taken.scale[1:].copy())}, r"taken\.scale"),
        ):
            arguments = {"taken": taken, "after": case.V, "upstream": case.upstream(), **change}
            with pytest.raises(ValueError, match=f"{name} does not fit the features"):
                fresh.pullback(ops, ETA, **arguments)
        for nearest in (np.zeros(m - 1, np.int64), np.full(m, 3), np.full(m, -1)):
            with pytest.raises(ValueError, match="nearest is not one class for every sample"):
                case.module.state(case.V, ops, nearest=nearest, n_threads=1)
        with pytest.raises(ValueError, match="before does not fit"):
            state.extrapolate(case.module.state(case.V[1:].copy(), given, n_threads=1), 0.5)
        with pytest.raises(ValueError, match="grams is not"):
            case.module.operators_of_grams(np.zeros((2, 3, 3)), case.problem, n_threads=1)
        with pytest.raises(TypeError, match="double precision"):
            case.module.operators_of_grams(state.grams().astype(np.complex64), case.problem, n_threads=1)
        np.testing.assert_array_equal(np.asarray(state.features()), case.V)

    def test_no_pullback_of_factors(self, backend):
        case = case_of(*KINDS["small classes"], backend)
        given, _ = case.operators()
        taken = case.state().advance(given, ETA)
        with pytest.raises(ValueError, match=r"^the operators have ranks \[0, 5, 5, 5\]; a pullback is of dense ones$"):
            case.state().pullback(given, ETA, taken, case.V, case.V)

    def test_threads_take_turns(self, case):
        """Scales by powers of two commute exactly, whichever thread is first."""
        state = case.state()

        def work(by):
            for _ in range(20):
                state.scale(np.full(len(case.V), by))

        threads = [threading.Thread(target=work, args=(by,)) for by in (2.0, 0.5, 4.0, 0.25)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        np.testing.assert_array_equal(np.asarray(state.features()), case.V)
