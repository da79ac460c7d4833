"""eta="search": the steps that a line search finds make a network like any other."""

from __future__ import annotations

import numpy as np
import pytest
from oracle import relative

import redunet as rn


def problem(shape=(60, 3, 7), k=2, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(shape[0]) % k
    return rng.standard_normal((k, *shape[1:]))[y] + 0.7 * rng.standard_normal(shape), y


@pytest.mark.parametrize("assignment", ["estimated", "given"])
@pytest.mark.parametrize("shape", [(60, 3), (60, 3, 7), (24, 12, 4, 5)], ids=str)
def test_every_step_raises_the_rate_reduction_more_than_its_neighbours(backend, shape, assignment):
    X, y = problem(shape)
    options = {"epsilon_sq": 0.5, "lam": 20.0, "assignment": assignment}
    net, Z = rn.build(X, y, n_layers=6, eta="search", **options)
    delta = net.rates.delta
    assert np.diff(delta).min() >= -1e-12 * delta.max()
    again, W = rn.build(X, y, n_layers=6, eta=net.etas, **options)
    np.testing.assert_array_equal(W, Z)
    np.testing.assert_array_equal(again.rates.rate, net.rates.rate)
    if assignment == "estimated":
        assert relative(net.transform(X), Z) < 1e-8
    for layer in range(2):  # one step longer or shorter, after the same layers before
        for factor in (1.5, 1 / 1.5):
            etas = [*net.etas[:layer], factor * net.etas[layer]]
            other, _ = rn.build(X, y, n_layers=layer + 1, eta=etas, **options)
            assert other.rates.delta[-1] <= delta[layer + 1]


def test_fewer_layers_than_natural_steps():
    X, y = rn.datasets.sinusoids(40, length=20, random_state=0)
    lifted = rn.RandomLift(5, 3, random_state=0)(X)
    natural, _ = rn.build(lifted, y, n_layers=20)
    searched, _ = rn.build(lifted, y, n_layers=20, eta="search")
    goal = 0.99 * natural.rates.delta[-1]
    assert np.argmax(searched.rates.delta >= goal) < np.argmax(natural.rates.delta >= goal)


def test_where_nothing_rises_steps_are_zero():
    """One class alone has no rate reduction."""
    X, _ = problem((20, 3))
    net, Z = rn.build(X, np.zeros(20), n_layers=3, eta="search", epsilon_sq=0.5)
    np.testing.assert_array_equal(net.etas, 0)
    np.testing.assert_allclose(Z, X / np.linalg.norm(X, axis=1, keepdims=True), rtol=1e-14)


def test_it_ends_where_the_rate_reduction_no_longer_rises(tmp_path):
    X, y = problem((60, 3))
    net, Z = rn.build(X, y, n_layers=200, eta="search", epsilon_sq=0.5, tol=1e-3, patience=3)
    assert 3 <= net.n_layers < 50
    net.save(tmp_path / "net.safetensors")
    read = rn.load(tmp_path / "net.safetensors")
    np.testing.assert_array_equal(read.etas, net.etas)
    assert relative(read.transform(X), Z) < 1e-8


def test_progress_is_shown(capsys):
    X, y = problem((20, 3))
    rn.build(X, y, n_layers=3, eta="search", progress=True)
    assert "R_c=" in capsys.readouterr().err
