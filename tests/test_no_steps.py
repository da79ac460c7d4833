"""A network whose steps were all found to be 0 does nothing: a warning says so, and why."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
from ranks import on_threads, successes

import redunet as rn
from redunet import distributed

UNEQUAL = (
    r"^no step raises the rate reduction: all 3 steps are 0, and the features are the samples at unit norm\. "
    r"Classes weigh from 0\.333 to 0\.667 of all, and the heaviest wins the gates of all samples: "
    r"give them equal weights \(sample_weight; class_weight='balanced' of estimators\)\.$"
)
#: That and a lambda at which gates are equal.
BOTH = UNEQUAL[:-1] + r" lam is 5, at which gates are nearly equal: expected 50 or more\.$"
RULES = ({"eta": "auto"}, {"eta": "auto", "momentum": True}, {"eta": "search"})


def waves(sizes=(40, 80)):
    """Sinusoids of a frequency for each class, at any phase, in two channels and noise."""
    random, t = np.random.default_rng(0), np.arange(16)
    y = np.repeat(np.arange(len(sizes)), sizes)
    phases = random.uniform(0, 2 * np.pi, (len(y), 1))
    X = np.sin(2 * np.pi * (1 + y[:, None]) * t / 16 + phases)[:, None] * [[1.0], [0.7]]
    return X + 0.5 * random.standard_normal(X.shape), y


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_steps_that_are_all_zero_are_a_warning(backend, rule):
    X, y = waves()
    cases = [({"lam": 5.0}, BOTH), ({"lam": 5.0, "keep": "features"}, BOTH)]
    if rule["eta"] == "auto":  # a search finds steps of four times the natural one
        cases.append(({}, UNEQUAL))
    for options, said in cases:
        with pytest.warns(UserWarning, match=said) as caught:
            net, Z = rn.build(X, y, n_layers=3, **rule, **options)
        assert [warning.filename for warning in caught] == [__file__]
        assert not net.etas.any()
        np.testing.assert_allclose(Z, X / np.linalg.norm(X, axis=(1, 2), keepdims=True), atol=1e-14)


def test_equal_weights_mend_it_and_nothing_is_said(backend):
    X, y = waves()
    for rule in RULES:
        net, _ = rn.build(X, y, n_layers=3, sample_weight=np.where(y == 0, 2.0, 1.0), **rule)
        assert net.etas.any()
        assert net.rates.delta[-1] > net.rates.delta[0]


def test_a_small_lambda_alone_is_named_and_a_large_one_mends_it(backend):
    X, y = waves((30, 30))
    with pytest.warns(UserWarning, match=r"norm\. lam is 0, at which gates are nearly equal: expected 50 or more\.$"):
        rn.build(X, y, n_layers=3, lam=0.0)
    assert rn.build(X, y, n_layers=3, lam=50.0)[0].etas.any()


def test_classes_of_equal_weight_that_overlap_are_named(backend):
    """Two Gaussians in the plane, of which one has its mean near zero: at unit norm it is all around the circle."""
    random = np.random.default_rng(7)
    y, means = np.repeat([0, 1], 60), random.standard_normal((2, 2))
    X = means[y] + 0.5 * random.standard_normal((120, 2))
    said = r"norm\. Classes differ too little in direction, which is all that unit norm leaves, or all they can\.$"
    with pytest.warns(UserWarning, match=said):
        rn.build(X, y, n_layers=2)


def test_of_steps_that_were_given_and_of_one_class_nothing_is_said(backend):
    X, y = waves()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not rn.build(X, y, n_layers=2, eta=0.0)[0].etas.any()
        assert not rn.build(X, np.zeros(len(X)), n_layers=2, eta="search")[0].etas.any()


def test_a_network_that_went_on_has_the_steps_of_all_its_layers():
    """Given steps first, then none that raise the rate reduction: it does something."""
    X, y = waves()
    before, _ = rn.build(X, y, n_layers=1, eta=0.5)
    net, _ = rn.build(X, y, n_layers=2, resume=before)
    assert net.etas.tolist() == [0.5, 0.0]


def test_of_several_ranks_the_first_says_it():
    X, y = waves()
    where = np.arange(len(X)) % 2

    def one(comm):
        mine = where == comm.rank
        return distributed.build(X[mine], y[mine], n_layers=3, comm=comm)

    with pytest.warns(UserWarning, match=UNEQUAL) as caught:
        networks = successes(on_threads(2, one))
    assert len(caught) == 1
    assert not any(net.etas.any() for net, _ in networks)


def test_of_chunks_it_is_said_too():
    with pytest.warns(UserWarning, match=UNEQUAL):
        _, chunks = distributed.build_chunks(waves(), n_layers=3)
    chunks.close()


def test_estimators_say_it_of_the_users_line():
    sklearn = pytest.importorskip("redunet.sklearn", reason="scikit-learn is not installed")
    X, y = waves()
    with pytest.warns(UserWarning, match=re.escape("no step raises the rate reduction")) as caught:
        sklearn.ReduNetTransformer(3, class_weight=None).fit(X, y)
    assert [warning.filename for warning in caught] == [__file__]
    assert sklearn.ReduNetTransformer(3).fit(X, y).net_.etas.any()  # whose classes weigh the same
