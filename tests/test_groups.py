"""The dihedral network against the cyclic one of all samples and their mirror images, and its equivariance.

The copies are made here by index, t to -t mod n, and the cyclic network is `oracle.construct`'s or the NumPy backend's.
"""

from __future__ import annotations

import itertools
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import construct, one_hot, relative, rounding

import redunet as rn
from redunet import _backends
from redunet._backends.contract import Operators
from redunet._inputs import prepare
from redunet.transforms.groups import GROUPS, mirrored, n_mirrored

SHAPES = [(1,), (2,), (7,), (8,), (1, 4), (2, 2), (4, 5), (3, 6), (5, 3), (4, 4)]
SETTINGS = {"epsilon_sq": 0.5, "lam": 3.0}


def mirrors(X):
    """X and its mirror images, in the order that is documented: of images columns flipped, rows flipped, both."""
    shape = X.shape[2:]
    places = [(np.arange(n), -np.arange(n) % n) for n in shape]
    return [X[(..., *np.ix_(*chosen))] for chosen in itertools.product(*places)]


def augmented(X, y, weights=None):
    """The samples with their mirror images, labels or membership, and weights."""
    every = mirrors(X)
    h = len(every)
    labels = np.tile(y, h) if np.ndim(y) == 1 else np.tile(y, (h, 1))
    return np.concatenate(every), labels, None if weights is None else np.tile(weights, h)


def samples(shape, *, complex_valued=False, m=6, C=3, k=2, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((m, C, *shape))
    if complex_valued:
        X = X + 1j * rng.standard_normal(X.shape)
    return X, np.arange(m) % k


def agrees(X, y, *, etas=(0.4, 0.4), dft_norm="ortho", weights=None, given=False, dtype=np.float64, **settings):
    """Build with the group, and the cyclic network of all copies by the oracle; compare everything."""
    settings = SETTINGS | settings
    copies, labels, more = augmented(X, y, weights)
    expected = construct(
        copies,
        one_hot(labels) if np.ndim(labels) == 1 else labels,
        etas=etas,
        weights=more,
        dft_norm=dft_norm,
        given=given,
        **settings,
    )
    net, Z = rn.build(
        X,
        y,
        n_layers=len(etas),
        group="dihedral",
        eta=etas,
        sample_weight=weights,
        dft_norm=dft_norm,
        assignment="given" if given else "estimated",
        dtype=dtype,
        **settings,
    )
    bounds = {
        "C": X.shape[1],
        "N": int(np.prod(X.shape[2:])),
        "epsilon_sq": settings["epsilon_sq"],
        "lam": settings["lam"],
        "alpha_max": expected.alphas.max(),
        "s": max(etas) * expected.alphas.max(),
        "dft_norm": dft_norm,
    }
    kept = (..., *(slice(n // 2 + 1) for n in X.shape[2:]))
    assert not net.operators.ranks.any()
    for index, (layer, ref) in enumerate(zip(net.layers, expected.layers, strict=True)):
        tolerance = rounding(dtype, **bounds, n_layers=index + 1)
        assert tolerance < 0.1  # or nothing is compared
        assert layer.E.dtype.kind == X.dtype.kind
        assert relative(layer.E, ref.E[kept]) < tolerance
        assert relative(layer.Cs, ref.Cs[kept]) < tolerance
    assert relative(Z, expected.Z[: len(X)]) < tolerance
    np.testing.assert_allclose(net.rates.rate, expected.rates[:, 0], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(net.rates.per_class, expected.rates[:, 1:], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(net.operators.alphas, expected.alphas, rtol=1e-14)
    if not given:
        assert relative(net.transform(X), Z) < tolerance
        assert relative(net.assign(X), expected.layers[-1].pi[: len(X)]) < tolerance


@pytest.mark.parametrize("complex_valued", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_is_the_cyclic_network_of_all_mirror_images(backend, shape, complex_valued):
    agrees(*samples(shape, complex_valued=complex_valued))


@pytest.mark.parametrize("complex_valued", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("shape", [(7,), (8,), (4, 5), (3, 6)], ids=str)
@pytest.mark.parametrize("group", GROUPS)
def test_every_group_is_the_cyclic_network_of_all_that_it_makes(backend, group, shape, complex_valued):
    """With the same kernels."""
    X, y = samples(shape, complex_valued=complex_valued)
    every = list(mirrored(X, group))
    assert len(every) == n_mirrored(len(shape), group)
    options = {"n_layers": 2, "eta": 0.4, **SETTINGS}
    expected, W = rn.build(np.concatenate(every), np.tile(y, len(every)), **options)
    net, Z = rn.build(X, y, group=group, **options)
    np.testing.assert_allclose(Z, W[: len(X)], atol=1e-12)
    np.testing.assert_allclose(net.rates.delta, expected.rates.delta, atol=1e-12)
    found, kernels = (one.fourier.kernels(one.layers[0].E) for one in (net, expected))
    np.testing.assert_allclose(found, kernels, atol=1e-12)


@given(
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=2).map(tuple),
    m=st.integers(1, 9),
    C=st.integers(1, 5),
    k=st.integers(1, 3),
    complex_valued=st.booleans(),
    weighted=st.booleans(),
    soft=st.booleans(),
    assigned=st.booleans(),
    dft_norm=st.sampled_from(["ortho", "backward"]),
)
def test_random_problems(backend, shape, m, C, k, complex_valued, weighted, soft, assigned, dft_norm):
    X, y = samples(shape, complex_valued=complex_valued, m=m, C=C, k=min(k, m))
    rng = np.random.default_rng(m)
    if soft:
        y = rng.dirichlet(np.ones(k), m)
    weights = rng.uniform(0.5, 2, m) if weighted else None
    agrees(X, y, etas=(0.4,), weights=weights, given=assigned, dft_norm=dft_norm)


@pytest.mark.parametrize("shape", [(7,), (8,), (4, 5)], ids=str)
def test_single_precision(backend, shape):
    X, y = samples(shape)
    agrees(X, y, etas=(0.4,), dtype=np.float32)
    agrees(X + 1j * samples(shape, seed=1)[0], y, etas=(0.4,), dtype=np.complex64)


@pytest.mark.parametrize("shape", [(9,), (4, 5)], ids=str)
@pytest.mark.parametrize(
    "options",
    [{}, {"eta": "search"}, {"momentum": True}, {"eta": "search", "momentum": True}, {"eta": 2.0, "momentum": True}],
    ids=str,
)
def test_takes_the_same_path(backend, shape, options):
    """Steps, momentum and rates are decided by rates, and these are the same."""
    X, y = samples(shape, m=12)
    X = X[y] + 0.3 * X  # two classes: noise around the first sample of each
    copies, labels, _ = augmented(X, y)
    options = {"n_layers": 5, "epsilon_sq": 0.1, "lam": 20.0, **options}
    expected, Z_all = rn.build(copies, labels, backend="numpy", **options)
    net, Z = rn.build(X, y, group="dihedral", **options)
    assert (expected.etas > 0).all()
    assert expected.rates.delta[-1] > 1.05 * expected.rates.delta[0]
    np.testing.assert_allclose(net.etas, expected.etas, rtol=1e-12)
    np.testing.assert_array_equal(net.betas, expected.betas)
    np.testing.assert_allclose(net.rates.delta, expected.rates.delta, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(Z, Z_all[: len(X)], atol=1e-9)
    new, _ = samples(shape, seed=5)
    np.testing.assert_allclose(net.transform(new), expected.transform(new, backend="numpy"), atol=1e-9)


@pytest.mark.parametrize("complex_valued", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("shape", [(7,), (8,), (4, 5), (3, 6)], ids=str)
def test_is_equivariant(backend, shape, complex_valued):
    X, y = samples(shape, complex_valued=complex_valued, m=10)
    net, _ = rn.build(X, y, n_layers=4, group="dihedral", **SETTINGS)
    cyclic, _ = rn.build(X, y, n_layers=4, **SETTINGS)
    Z, axes = net.transform(X), tuple(range(2, X.ndim))
    moved = tuple(range(1, 1 + len(shape)))
    differences = []
    for image, features, plain in zip(mirrors(X), mirrors(Z), mirrors(cyclic.transform(X)), strict=True):
        found = net.transform(np.roll(image, moved, axes))
        np.testing.assert_allclose(found, np.roll(features, moved, axes), atol=1e-12)
        differences.append(np.abs(cyclic.transform(image) - plain).max())
    assert max(differences) > 1e-3  # the cyclic network is not


@pytest.mark.parametrize("complex_valued", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("dft_norm", ["ortho", "backward"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rates_and_gradient(backend, shape, dft_norm, complex_valued):
    """The gradient moves a sample and all its mirror images together: theirs, mirrored back, add up."""
    X, y = samples(shape, complex_valued=complex_valued)
    weights = np.linspace(0.5, 2, len(X))
    copies, labels, more = augmented(X, y, weights)
    settings = {"epsilon_sq": 0.5, "dft_norm": dft_norm}
    expected = rn.rate_reduction(copies, labels, sample_weight=more, per_class=True, backend="numpy", **settings)
    found = rn.rate_reduction(X, y, sample_weight=weights, per_class=True, group="dihedral", **settings)
    np.testing.assert_allclose(found.rate, expected.rate, rtol=1e-12)
    np.testing.assert_allclose(found.class_rate, expected.class_rate, rtol=1e-12)
    assert rn.coding_rate(X, sample_weight=weights, group="dihedral", **settings) == pytest.approx(found.rate)
    gradients = rn.rate_reduction_gradient(copies, labels, sample_weight=more, backend="numpy", **settings)
    parts = np.split(gradients, len(mirrors(X)))
    back = sum(mirrors(part)[h] for h, part in enumerate(parts))  # a mirror is its own inverse
    gradient = rn.rate_reduction_gradient(X, y, sample_weight=weights, group="dihedral", **settings)
    np.testing.assert_allclose(gradient, back, atol=1e-12 * np.abs(back).max())


@pytest.mark.parametrize("complex_valued", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize(
    ("m", "C", "shape"), [(70, 20, (9,)), (40, 33, (4,)), (150, 9, (3, 4)), (300, 2, (5,)), (7, 60, (2, 2))], ids=str
)
def test_backends_agree(backend, m, C, shape, complex_valued):
    """Many samples, channels and classes, and gates that leave classes out."""
    X, y = samples(shape, complex_valued=complex_valued, m=m, C=C, k=5)
    X = X[y] + 0.5 * X
    options = {"n_layers": 3, "lam": 500.0, "group": "dihedral"}
    expected, W = rn.build(X, y, backend="numpy", **options)
    net, Z = rn.build(X, y, **options)
    assert np.median(net.assign(X).max(axis=1)) > 0.99
    np.testing.assert_allclose(Z, W, atol=1e-9)
    np.testing.assert_allclose(net.rates.delta, expected.rates.delta, rtol=1e-9)
    np.testing.assert_allclose(net.operators.dense, expected.operators.dense, atol=1e-9 * net.operators.alphas.max())
    new, _ = samples(shape, complex_valued=complex_valued, m=m // 2, C=C, seed=1)
    np.testing.assert_allclose(net.transform(new), expected.transform(new, backend="numpy"), atol=1e-7)


@pytest.mark.parametrize("epsilon_sq", [10.0, 0.1, 1e-4], ids=str)
@pytest.mark.parametrize("shape", [(40, 5, 12), (25, 20, 9), (12, 40, 6), (30, 3, 5, 4)], ids=str)
def test_rates_of_single_precision(backend, shape, epsilon_sq):
    """Positive samples are alike at frequency 0: as exact as `test_rate_precision.py` promises of the cyclic group."""
    X = (5 + np.random.default_rng(0).standard_normal(shape)).astype(np.float32)
    X /= np.sqrt((X**2).sum(axis=tuple(range(1, X.ndim)), keepdims=True))
    y = np.arange(len(X)) % 2
    options = {"epsilon_sq": epsilon_sq, "group": "dihedral"}
    delta, rate, _ = rn.rate_reduction(X, y, **options)
    expected = rn.rate_reduction(X.astype(np.float64), y, backend="numpy", **options)
    assert abs(delta - expected.delta) <= max(1e-4 * expected.delta, 1e-6 * expected.rate)
    assert abs(rate - expected.rate) <= 1e-4 * expected.rate


class TestTransform:
    """Of samples to spectra: the norms and Gram matrices of all mirror images, at one frequency of each orbit."""

    @pytest.mark.parametrize("complex_valued", [False, True], ids=["real", "complex"])
    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    def test_columns(self, shape, complex_valued):
        X, _ = samples(shape, complex_valued=complex_valued)
        given_ = prepare.samples(X, group="dihedral", backend="numpy")
        fourier, V = given_.fourier, given_.spectra(normalize=False)
        m, C, F, d = *X.shape[:2], fourier.n_freqs, fourier.n_columns
        assert V.shape == (m, C, F * d)
        assert V.dtype == X.dtype
        assert fourier.freq_weights.sum() == fourier.n_points
        norms = np.einsum("mcpd,p->m", np.abs(V.reshape(m, C, F, d)) ** 2, fourier.freq_weights / d)
        np.testing.assert_allclose(norms, (np.abs(X) ** 2).reshape(m, -1).sum(axis=1))
        spectra = np.fft.fftn(np.stack(mirrors(X)), axes=tuple(range(3, X.ndim + 1)), norm="ortho")
        kept = spectra[(..., *(slice(n // 2 + 1) for n in shape))].reshape(d, m, C, F)
        found, columns = V.reshape(m, C, F, d), kept.transpose(1, 2, 3, 0)
        grams = [np.einsum("mcpd,mepd->mpce", W, W.conj()) for W in (found, columns)]
        np.testing.assert_allclose(*grams, atol=1e-12)
        np.testing.assert_allclose(given_.from_spectra(V), X, atol=1e-14)

    def test_kernels_are_symmetric_convolutions(self):
        for shape in [(7,), (8,), (4, 5)]:
            X, y = samples(shape)
            net, _ = rn.build(X, y, n_layers=1, eta=0.4, group="dihedral", **SETTINGS)
            kernels = net.fourier.kernels(net.layers[0].E)
            for image in mirrors(kernels):
                np.testing.assert_allclose(image, kernels, atol=1e-14)
            spectrum = np.fft.fftn(kernels, axes=tuple(range(2, kernels.ndim)))
            kept = (..., *(slice(n // 2 + 1) for n in shape))
            np.testing.assert_allclose(spectrum[kept], net.layers[0].E, atol=1e-13)


@pytest.mark.parametrize("complex_valued", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("shape", [(5,), (6,), (3, 4)], ids=str)
class TestState:
    """The verbs with several columns a sample."""

    @pytest.fixture
    def made(self, backend, shape, complex_valued):
        X, y = samples(shape, complex_valued=complex_valued, m=19)
        given_ = prepare.samples(X, group="dihedral")
        problem, _ = prepare.problem(given_, y, sample_weight=None, epsilon_sq=0.5, dft_norm="ortho")
        V = given_.spectra(normalize=True)
        dense, factors, row = given_.module.layer_operators(V, problem, n_threads=1)
        return V, problem, Operators.single(problem, dense, factors, eta=0.3, lam=3.0), row

    def state(self, V, of):
        return _backends.select()[1].state(np.ascontiguousarray(V), of, n_threads=1)

    def test_features_and_grams(self, made):
        V, problem, operators, row = made
        state = self.state(V, problem)
        assert state.n_samples == len(V)
        np.testing.assert_array_equal(state.features(), V)
        dense, rates = _backends.select()[1].operators_of_grams(state.grams(), problem, n_threads=1)
        np.testing.assert_allclose(dense, operators.dense[0], atol=1e-12)
        np.testing.assert_allclose(rates, row, rtol=1e-12)
        parts = [  # Gram matrices of shares of the samples add up
            self.state(V[rows], replace(problem, labels=np.ascontiguousarray(problem.labels[rows]))).grams()
            for rows in (slice(0, 3), slice(3, None))
        ]
        np.testing.assert_allclose(sum(parts), state.grams(), atol=1e-13)

    def test_step_by_step_is_advance(self, made):
        V, _, operators, _ = made
        once, slowly = self.state(V, operators), self.state(V, operators)
        pi = once.advance(operators, 0.3).pi
        rho = np.sqrt(slowly.response_norms(operators))
        expected = np.exp(-3.0 * (rho - rho.min(axis=1, keepdims=True)))
        np.testing.assert_allclose(pi, expected / expected.sum(axis=1, keepdims=True), rtol=1e-12)
        squares = slowly.step(operators, pi, 0.3)
        slowly.scale(1 / np.sqrt(squares))
        np.testing.assert_allclose(slowly.features(), once.features(), atol=1e-14)


class TestNetwork:
    @pytest.mark.parametrize("complex_valued", [False, True], ids=["real", "complex"])
    @pytest.mark.parametrize("shape", [(7,), (4, 5)], ids=str)
    def test_goes_through_files_and_pickles(self, backend, tmp_path, shape, complex_valued):
        X, y = samples(shape, complex_valued=complex_valued)
        net, _ = rn.build(X, y, n_layers=3, group="dihedral", **SETTINGS)
        net.save(tmp_path / "net")
        loaded = [rn.load(tmp_path / "net", verify=verify) for verify in (True, False)]
        for other in [*loaded, pickle.loads(pickle.dumps(net))]:
            assert other.group == "dihedral"
            assert other.fourier == net.fourier
            assert other.operators.n_columns == net.operators.n_columns == 2 ** len(shape)
            np.testing.assert_array_equal(other.transform(X), net.transform(X))

    def test_says_so(self, backend):
        X, y = samples((4, 5))
        net, _ = rn.build(X, y, n_layers=1, group="dihedral")
        assert "C=3 on 4x5, dihedral, float64" in repr(net)
        assert "cyclic" not in repr(rn.build(X, y, n_layers=1)[0])
        assert net.layers[0].E.shape == (3, 3, 3, 3)  # (C, C, H // 2 + 1, W // 2 + 1)

    def test_goes_on(self, backend, tmp_path):
        X, y = samples((6,), m=10)
        options = {"group": "dihedral", "momentum": True, **SETTINGS}
        whole, Z = rn.build(X, y, n_layers=6, **options)
        half, _ = rn.build(X, y, n_layers=3, checkpoint=tmp_path / "half", **options)
        for start in (half, tmp_path / "half"):
            net, features = rn.build(X, y, n_layers=6, resume=start, **options)
            np.testing.assert_array_equal(features, Z)
            np.testing.assert_array_equal(net.rates.delta, whole.rates.delta)
        with pytest.raises(ValueError, match="resume was built with group 'dihedral'; expected 'cyclic'"):
            rn.build(X, y, n_layers=6, resume=half, **(options | {"group": "cyclic"}))

    def test_memory_counts_columns(self, monkeypatch):
        from redunet._inputs import checks

        asked = []
        monkeypatch.setattr(checks, "memory", lambda needed, what: asked.append(needed))
        X, y = samples((4, 5))
        net, _ = rn.build(X, y, n_layers=3, group="dihedral")
        spectra = 2 * 6 * 3 * net.fourier.n_freqs * 4 * 8
        assert asked == [net.nbytes + 3 * 5 * 8 + spectra]


class TestClassifier:
    """`NearestSubspace` and `shifts` with mirror images."""

    @pytest.mark.parametrize("shape", [(5,), (6,), (3, 4)], ids=str)
    @pytest.mark.parametrize("stride", [1, 2])
    def test_shifts(self, shape, stride):
        X, _ = samples(shape)
        found = rn.shifts(X, stride=stride, group="dihedral")
        expected = np.concatenate([rn.shifts(image, stride=stride) for image in mirrors(X)], axis=1)
        np.testing.assert_array_equal(found, expected)

    @pytest.mark.parametrize("complex_valued", [False, True], ids=["real", "complex"])
    @pytest.mark.parametrize("shape", [(5,), (6,), (3, 4)], ids=str)
    @pytest.mark.parametrize("stride", [1, 2])
    def test_scores(self, shape, stride, complex_valued):
        X, y = samples(shape, complex_valued=complex_valued)
        nearest = rn.NearestSubspace(2, group="dihedral").fit(X, y)
        copies = rn.shifts(X, stride=stride, group="dihedral")
        flat = copies.reshape(-1, *X.shape[1:])
        expected = nearest.scores(flat).reshape(*copies.shape[:2], -1)
        np.testing.assert_allclose(nearest.scores_all_shifts(X, stride=stride), expected, atol=1e-12)
        labels = nearest.predict_all_shifts(X, stride=stride)
        np.testing.assert_array_equal(labels, nearest.classes_[expected.argmin(axis=2)])
        share = nearest.score_all_shifts(X, y, stride=stride)
        assert share == np.mean(labels == y[:, None])
        if stride == 1:
            np.testing.assert_allclose(nearest.scores(X, shifts="best"), expected.min(axis=1), atol=1e-12)

    def test_best_is_invariant(self, backend):
        X, y = samples((4, 5), m=20)
        net, Z = rn.build(X, y, n_layers=3, group="dihedral", **SETTINGS)
        nearest = rn.NearestSubspace(2, group=net.group).fit(Z, y)
        new, _ = samples((4, 5), seed=3, m=15)
        label = nearest.predict(net.transform(new), shifts="best")
        assert len(set(label)) == 2
        for image in mirrors(new):
            np.testing.assert_array_equal(nearest.predict(net.transform(image), shifts="best"), label)

    def test_repr(self):
        assert repr(rn.NearestSubspace(3)) == "NearestSubspace(n_components=3)"
        assert repr(rn.NearestSubspace(3, group="dihedral")) == "NearestSubspace(n_components=3, group='dihedral')"

    def test_estimators(self, backend):
        sklearn = pytest.importorskip("redunet.sklearn")
        X, y = samples((7,), m=20)
        table, options = X.reshape(20, -1), {"group": "dihedral", "signal_shape": 7, **SETTINGS}
        net, Z = rn.build(X, y, n_layers=2, group="dihedral", **SETTINGS)
        transformer = sklearn.ReduNetTransformer(2, **options).fit(table, y)
        np.testing.assert_array_equal(transformer.transform(table), net.transform(X).reshape(20, -1))
        classifier = sklearn.ReduNetClassifier(2, n_components=2, shifts="best", **options).fit(table, y)
        nearest = rn.NearestSubspace(2, group="dihedral").fit(Z, y)
        label = nearest.predict(net.transform(X), shifts="best")
        for image in mirrors(X):
            np.testing.assert_array_equal(classifier.predict(image.reshape(20, -1)), label)


class TestErrors:
    def test_no_group_of_vectors(self, backend):
        X, y = np.eye(4), [0, 0, 1, 1]
        message = r"group is 'dihedral' and {} has shape \(4, 4\); expected signals \(m, C, T\) or images"
        for call in (
            lambda: rn.build(X, y, n_layers=1, group="dihedral"),
            lambda: rn.rate_reduction(X, y, group="dihedral"),
            lambda: rn.coding_rate(X, group="dihedral"),
            lambda: rn.rate_reduction_gradient(X, y, group="dihedral"),
            lambda: rn.NearestSubspace(group="dihedral").fit(X, y),
        ):
            with pytest.raises(ValueError, match=message.format("[XZ]")):
                call()

    def test_unknown(self):
        for call in (
            lambda: rn.build(*samples((4,)), n_layers=1, group="octahedral"),
            lambda: rn.NearestSubspace(group="octahedral"),
            lambda: rn.shifts(samples((4,))[0], group="octahedral"),
        ):
            with pytest.raises(ValueError, match="group is 'octahedral'; expected one of 'cyclic', 'dihedral'"):
                call()
