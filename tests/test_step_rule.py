"""The rules of steps and of momentum, alone: on rates of one variable, without features."""

from __future__ import annotations

import math

import numpy as np
import pytest

import redunet as rn
from redunet._backends.ascent import Momentum, StepRule, Verdict
from redunet._backends.contract import (
    FALL_ROUNDING_UNITS,
    LONGEST_STEP,
    MAX_HALVINGS,
    NATURAL_STEP,
    SEARCH_FACTOR,
    SHORTEST_STEP,
)

ALPHA, UNIT = 2.0, 2.0**-52
NATURAL = NATURAL_STEP / ALPHA
RATE = 1.0


def rule(search=False, etas=None):
    return StepRule(etas, search, ALPHA, UNIT)


def take(steps, rate, here=0.0, layer=0, ahead=False):
    """The step that the rule takes of ``rate(eta)``, all that it tried, and that what it keeps is what it takes."""
    steps.begin(layer, here, RATE, ahead)
    tried, kept = [], None
    while True:
        tried.append(steps.eta)
        assert len(tried) < 200
        verdict = steps.judge(rate(steps.eta))
        if verdict is not Verdict.TRY_AGAIN:
            break
        if steps.keep:
            kept = tried[-1]
    assert steps.eta == (kept if verdict is Verdict.TAKE_KEPT else tried[-1])
    return steps.eta, tried


def hill(best):
    """A rate that rises from 0 at 0 to 1 at ``best``, and falls below 0 from twice that on."""
    return lambda eta: 2 * eta / best - (eta / best) ** 2


class TestGiven:
    def test_steps_are_taken_as_they_are(self):
        steps = rule(etas=np.array([0.5, 0.0, 7.0]), search=True)
        for layer, eta in enumerate((0.5, 0.0, 7.0)):
            assert take(steps, lambda eta: -eta, layer=layer) == (eta, [eta])


class TestNatural:
    def test_is_halved_while_the_rate_reduction_falls(self):
        for halvings in range(5):
            eta, tried = take(rule(), lambda eta: 1.0 if eta <= NATURAL / 2**halvings else -1.0)  # noqa: B023
            assert eta == NATURAL / 2**halvings
            assert tried == [NATURAL / 2**i for i in range(halvings + 1)]

    def test_a_fall_within_rounding_is_none(self):
        allowed = FALL_ROUNDING_UNITS * UNIT * RATE
        assert take(rule(), lambda eta: -allowed)[0] == NATURAL
        assert take(rule(), lambda eta: -allowed * (1 + 1e-10) * (eta == NATURAL))[0] == NATURAL / 2

    def test_begins_every_layer_anew(self):
        steps = rule()
        take(steps, lambda eta: 1.0 if eta <= NATURAL / 4 else -1.0)
        assert take(steps, lambda eta: 1.0, layer=1) == (NATURAL, [NATURAL])

    def test_is_zero_where_all_fall(self):
        eta, tried = take(rule(), lambda eta: -1.0)
        assert eta == 0
        assert len(tried) == MAX_HALVINGS + 1


class TestSearch:
    @pytest.mark.parametrize("best", NATURAL * np.geomspace(SHORTEST_STEP, LONGEST_STEP, 41)[1:-1])
    def test_finds_the_best_step_within_its_factor(self, best):
        eta, tried = take(rule(search=True), hill(best))
        assert best / SEARCH_FACTOR <= eta <= best * SEARCH_FACTOR
        assert hill(best)(eta) == max(map(hill(best), tried))
        assert len(set(tried)) == len(tried)

    def test_begins_with_the_last_layers_step(self):
        """Near the best it needs one trial more than the two that show that it is one."""
        steps = rule(search=True)
        first, _ = take(steps, hill(30 * NATURAL))
        again, tried = take(steps, hill(30 * NATURAL), layer=1)
        assert again == first == tried[0]
        assert tried == [first, first * SEARCH_FACTOR, first * (1 / SEARCH_FACTOR)]

    def test_stays_between_the_shortest_and_the_longest(self):
        eta, tried = take(rule(search=True), lambda eta: eta)
        assert LONGEST_STEP / SEARCH_FACTOR <= eta / NATURAL < LONGEST_STEP
        eta, tried = take(rule(search=True), lambda eta: -eta)
        assert eta == tried[-1] == 0
        assert SHORTEST_STEP < min(tried[:-1]) / NATURAL <= SHORTEST_STEP * SEARCH_FACTOR


@pytest.mark.parametrize("search", [False, True])
class TestSettled:
    def test_where_nothing_rises_at_the_features_no_later_layer_tries(self, search):
        steps = rule(search)
        assert take(steps, lambda eta: -1.0 if eta else 0.0)[0] == 0
        assert take(steps, lambda eta: 1.0, layer=1) == (0, [0])

    def test_ahead_of_the_features_says_nothing_of_them(self, search):
        steps = rule(search)
        assert take(steps, lambda eta: -1.0 if eta else 0.0, ahead=True)[0] == 0
        assert take(steps, lambda eta: 1.0 - eta / 1e6, layer=1)[0] > 0

    def test_is_remembered_by_what_was_built(self, search):
        for etas, betas, settled in (([1.0, 0.0], [0, 0], True), ([1.0, 0.0], [0, 0.3], False), ([0.5], [0], False)):
            steps = rule(search)
            steps.resume(np.array(etas), np.array(betas, dtype=float))
            _, tried = take(steps, lambda eta: 1.0 - eta / 1e6, layer=len(etas))
            assert tried[0] == (0 if settled else etas[0] if search else NATURAL)


class TestMomentum:
    def test_is_nesterovs(self):
        momentum, t = Momentum(), 1.0
        for _ in range(30):
            following = (1 + math.sqrt(1 + 4 * t * t)) / 2
            assert momentum.next() == (t - 1) / following
            t = following
        assert Momentum().next() == 0

    def test_starts_again_with_the_layer_that_restarts(self):
        fresh, momentum = Momentum(), Momentum()
        for _ in range(7):
            momentum.next()
        momentum.restart()
        fresh.next()
        assert [momentum.next() for _ in range(5)] == [fresh.next() for _ in range(5)]

    @pytest.mark.parametrize("restarts", [(), (3,), (2, 3, 7)])
    def test_goes_on_after_layers_that_are_there(self, restarts):
        momentum, betas = Momentum(), []
        for layer in range(9):
            beta = momentum.next()
            if layer in restarts:
                momentum.restart()
                beta = 0.0
            betas.append(beta)
        for n in range(9):
            resumed = Momentum()
            resumed.resume(np.array(betas[:n]))
            if n not in restarts:
                assert resumed.next() == betas[n]


@pytest.mark.parametrize("options", [{}, {"eta": "search"}, {"momentum": True}, {"eta": "search", "momentum": True}])
def test_engines_decide_as_python_does(backend, options):
    """In double precision, where their rates agree to far less than the differences between steps."""
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    X = rng.standard_normal((3, 4, 6))[y] + 0.7 * rng.standard_normal((90, 4, 6))
    settings = {"n_layers": 12, "epsilon_sq": 0.5, "lam": 20.0, **options}
    expected, _ = rn.build(X, y, backend="numpy", **settings)
    net, _ = rn.build(X, y, **settings)
    np.testing.assert_allclose(net.etas, expected.etas, rtol=1e-14)
    np.testing.assert_allclose(net.betas, expected.betas, rtol=1e-14)
    if "momentum" in options:
        assert (net.betas[2:] > 0).any()
    if "eta" in options:
        assert len(set(net.etas)) > 1
