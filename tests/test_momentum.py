"""momentum=True: a layer is built and applied beyond the features, and new samples go the same way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from oracle import relative

import redunet as rn
from redunet._inputs import prepare

SHAPES = [(60, 3), (60, 3, 7), (24, 12, 4, 5)]


def problem(shape=(60, 3, 7), k=2, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(shape[0]) % k
    return rng.standard_normal((k, *shape[1:]))[y] + 0.7 * rng.standard_normal(shape), y


def unit(X):
    return X / np.linalg.norm(X.reshape(len(X), -1), axis=1).reshape(-1, *[1] * (X.ndim - 1))


@pytest.mark.parametrize("eta", [0.3, "auto", "search"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_new_samples_take_the_path_of_the_training_samples(backend, shape, eta, tmp_path):
    X, y = problem(shape)
    net, Z = rn.build(X, y, n_layers=6, eta=eta, momentum=True, epsilon_sq=0.5, lam=20.0)
    assert net.n_layers == 6
    assert (net.betas[1:] > 0).any()
    assert relative(net.transform(X), Z) < 1e-8
    assert net.assign(X).shape == (shape[0], 2)
    net.save(tmp_path / "net.safetensors")
    read = rn.load(tmp_path / "net.safetensors")
    np.testing.assert_array_equal(read.betas, net.betas)
    np.testing.assert_array_equal(read.transform(X), net.transform(X))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_is_networks_of_one_layer_from_extrapolated_features(backend, shape):
    """In the signal domain, where the extrapolation is the same: the DFT is linear and unitary."""
    X, y = problem(shape)
    options = {"eta": 0.3, "epsilon_sq": 0.5, "lam": 20.0}
    net, Z = rn.build(X, y, n_layers=4, momentum=True, **options)
    now = before = unit(X)
    for layer, beta in enumerate(net.betas):
        one, moved = rn.build(now + beta * (now - before), y, n_layers=1, **options)
        assert one.rates.delta[0] == pytest.approx(net.rates.delta[layer], rel=1e-9)
        now, before = moved, now
    assert relative(Z, now) < 1e-9
    assert rn.rate_reduction(Z, y, epsilon_sq=0.5).delta == pytest.approx(net.rates.delta[-1], rel=1e-9)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_before_the_first_layer_there_is_nothing_to_go_away_from(backend, shape):
    """No network has momentum there; engines that are handed it stay at the samples, and read nothing else."""
    X, y = problem(shape)
    given = prepare.samples(X, dtype=None, backend=backend, n_threads=1)
    net, _ = rn.build(X, y, n_layers=3, momentum=True)
    results = []
    for first in (0.0, 0.5):
        V = np.array(prepare.samples(X, dtype=None, backend="numpy", n_threads=1).spectra(normalize=True))
        betas = np.concatenate([[first], net.betas[1:]])
        given.module.apply(V, replace(net.operators, betas=betas), n_threads=1)
        results.append(V)
    assert relative(results[1], results[0]) < 1e-9


def test_it_restarts_rather_than_fall():
    X, y = problem((60, 3))
    settings = {"momentum": True, "epsilon_sq": 0.5, "lam": 20.0}
    net, _ = rn.build(X, y, n_layers=40, **settings)
    restarts = np.flatnonzero(net.betas[1:-1] == 0) + 1
    following = net.betas[restarts + 1]
    assert (following > 0).any()
    np.testing.assert_allclose(following[following > 0], net.betas[1])  # the sequence starts again
    deltas = [rn.build(X, y, n_layers=n, **settings)[0].rates.delta[-1] for n in range(1, restarts[0] + 1)]
    assert np.diff(deltas).min() >= 0


def test_fewer_layers():
    X, y = rn.datasets.sinusoids(40, length=20, random_state=0)
    lifted = rn.RandomLift(5, 3, random_state=0)(X)
    alpha = 5 / (80 * 0.1)
    plain, _ = rn.build(lifted, y, n_layers=40, eta=0.1 / alpha)
    fast, _ = rn.build(lifted, y, n_layers=40, eta=0.1 / alpha, momentum=True)
    goal = 0.9 * plain.rates.delta[-1]
    assert np.argmax(fast.rates.delta >= goal) < 0.7 * np.argmax(plain.rates.delta >= goal)


def test_watchers_and_features_only():
    X, y = problem((60, 3))
    seen = []
    net, Z = rn.build(
        X, y, n_layers=9, momentum=True, keep="features", on_layer=lambda index, rates: seen.append(index) or index == 4
    )
    assert seen == [0, 1, 2, 3, 4]
    assert net.n_layers == len(net.betas) == 4
    assert len(net.rates.delta) == 5
    np.testing.assert_allclose(np.linalg.norm(Z, axis=1), 1)
    stopped, _ = rn.build(X, y, n_layers=300, momentum=True, tol=1e-3, patience=3)
    assert stopped.n_layers < 100


def test_zero_samples_stay_zero(backend):
    X, y = problem()
    X[7] = 0
    net, Z = rn.build(X, y, n_layers=5, momentum=True, epsilon_sq=0.5, lam=20.0)
    assert net.betas[-1] > 0
    np.testing.assert_array_equal(Z[7], 0)
    np.testing.assert_array_equal(net.transform(X)[7], 0)


def test_without_momentum_there_is_none():
    X, y = problem((20, 3))
    np.testing.assert_array_equal(rn.build(X, y, n_layers=3)[0].betas, np.zeros(3))
