"""Vertex steps, against the definitions: determinants by slogdet, inverses by inv, float64, a cluster at a time.

With z = x or x - mu_j and A_j = I + D/(n_j eps^2) sum z z^T the objective is
sum_j n_j/(2N) log det A_j - n_j/N log(n_j/N).
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import redunet as rn
from redunet import clustering

SHARED = os.environ.get("REDUNET_SHARED")


class Problem:
    """Samples and a start, with repeated samples, zeros, single dimensions and small clusters among them."""

    def __init__(self, X, start, epsilon_sq, mean):
        self.X, self.start, self.epsilon_sq, self.mean = X, start, epsilon_sq, mean

    def steps(self, **changes):
        given = {"labels": self.start, "epsilon_sq": self.epsilon_sq, "mean": self.mean, **changes}
        return clustering.vertex_steps(given.pop("X", self.X), **given)

    def clusters(self, labels):
        """Label, size, mean and A of every cluster."""
        D = self.X.shape[1]
        for label in np.unique(labels):
            W = self.X[labels == label].astype(np.float64)
            mu = W.mean(axis=0) if self.mean == "estimate" else np.zeros(D)
            yield label, len(W), mu, np.eye(D) + D / (len(W) * self.epsilon_sq) * (W - mu).T @ (W - mu)

    def objective(self, labels):
        N = len(self.X)
        return sum(
            n / (2 * N) * np.linalg.slogdet(A)[1] - n / N * np.log(n / N) for _, n, _, A in self.clusters(labels)
        )

    def scores(self, labels):
        """Labels (k,), and the criterion of every sample and cluster (N, k)."""
        N, D = self.X.shape
        names, columns = [], []
        for name, n, mu, A in self.clusters(labels):
            inverse, Z = np.linalg.inv(A), self.X - mu
            forms = D / self.epsilon_sq * np.einsum("id,de,ie->i", Z, inverse, Z)
            columns.append(np.linalg.slogdet(A)[1] + forms + np.trace(inverse) - 2 * np.log(n / N))
            names.append(name)
        return np.array(names), np.stack(columns, axis=1)

    @property
    def largest(self):
        """A bound of |A| and of every form, with means twice as far as samples."""
        return 1 + 4 * self.X.shape[1] / self.epsilon_sq * float(np.square(self.X, dtype=np.float64).sum(axis=1).max())

    @property
    def of_objective(self):
        """Of the objective: entries of A carry rounding of |A|, which pivots of at least 1 make as much of a log."""
        return 8 * self.X.shape[1] * np.finfo(np.float64).eps * self.largest

    @property
    def of_scores(self):
        """Of a score: forms up to `largest` carry the condition of A, which is no more."""
        return 8 * self.X.shape[1] * np.finfo(np.float64).eps * self.largest**2


@st.composite
def problems(draw):
    N, D, k = draw(st.integers(1, 40)), draw(st.integers(1, 5)), draw(st.integers(1, 6))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    X = random.standard_normal((N, D)) * random.uniform(0.1, 2, D)
    kind = draw(st.sampled_from(["plain", "repeated", "zeros", "lines"]))
    if kind == "repeated":
        X = X[random.integers(0, max(1, N // 2), N)]
    elif kind == "zeros":
        X[random.random(N) < 0.5] = 0
    elif kind == "lines":
        X = random.standard_normal((N, 1)) * random.standard_normal((3, D))[random.integers(0, 3, N)]
    X = X.astype(draw(st.sampled_from([np.float64, np.float32])))
    epsilon_sq = draw(st.sampled_from([1e-3, 0.01, 0.3, 1.0, 30.0]))
    return Problem(X, random.integers(0, k, N), epsilon_sq, draw(st.sampled_from(["zero", "estimate"])))


# --- Properties ---


@given(problem=problems())
def test_a_step_takes_every_sample_to_the_least_score(problem):
    steps = problem.steps(max_iter=1)
    names, scores = problem.scores(problem.start)
    chosen = scores[np.arange(len(scores)), np.searchsorted(names, steps.labels if steps.n_steps else problem.start)]
    if steps.n_steps:
        assert (chosen <= scores.min(axis=1) + problem.of_scores).all()
    else:  # the step by definition gains nothing either
        moved = names[scores.argmin(axis=1)]
        gain = problem.objective(problem.start) - problem.objective(moved)
        assert gain <= problem.of_scores


@given(problem=problems())
def test_a_step_by_definition_never_makes_the_objective_rise(problem):
    """The concavity itself, without the package's own stop."""
    labels = problem.start
    for _ in range(5):
        names, scores = problem.scores(labels)
        moved = names[scores.argmin(axis=1)]
        assert problem.objective(moved) <= problem.objective(labels) + problem.of_scores
        labels = moved


@given(problem=problems())
def test_objectives_fall_and_are_those_of_the_partitions(problem):
    steps = problem.steps()
    assert (np.diff(steps.objectives) < 0).all()
    assert steps.n_steps == len(steps.objectives) - 1
    N = len(problem.X)
    for t in range(steps.n_steps + 1):
        labels = problem.steps(max_iter=t).labels if t else problem.start
        assert abs(steps.objectives[t] - problem.objective(labels)) <= problem.of_objective
        rate = {"epsilon_sq": problem.epsilon_sq, "mean": problem.mean, "length": "rate"}
        of_code = clustering.code_length(problem.X, labels, **rate) / N
        assert steps.objectives[t] == pytest.approx(of_code, rel=1e-9, abs=problem.of_objective)
    assert set(steps.labels.tolist()) <= set(problem.start.tolist())


@given(problem=problems())
def test_steps_end_where_no_step_gains(problem):
    steps = problem.steps(max_iter=10_000)
    names, scores = problem.scores(steps.labels)
    moved = names[scores.argmin(axis=1)]
    assert problem.objective(moved) >= steps.objectives[-1] - problem.of_scores
    again = problem.steps(labels=steps.labels)
    assert again.n_steps == 0
    np.testing.assert_array_equal(again.labels, steps.labels)


@given(problem=problems(), exponent=st.integers(-300, 300))
def test_powers_of_two_as_units_change_no_bit(problem, exponent):
    problem.X = problem.X.astype(np.float64)
    unit = 2.0**exponent
    steps = problem.steps()
    scaled = problem.steps(X=problem.X * unit, epsilon_sq=problem.epsilon_sq * unit**2)
    np.testing.assert_array_equal(scaled.labels, steps.labels)
    np.testing.assert_array_equal(scaled.objectives, steps.objectives)


# --- Fixture, edges ---


@pytest.mark.skipif(not SHARED, reason="REDUNET_SHARED names no folder")
def test_the_shared_fixture():
    with np.load(Path(SHARED or "") / "fixtures" / "compress" / "vertex_steps_d4_n60.npz") as ref:
        Z, labels, objective, epsilon_sq = (ref[name] for name in ("Z", "labels", "objective", "epsilon_sq"))
    settings = {"epsilon_sq": float(epsilon_sq), "mean": "zero"}
    steps = clustering.vertex_steps(Z, labels[0], **settings)
    np.testing.assert_allclose(steps.objectives, objective, rtol=0, atol=1e-10)
    for t in range(1, len(labels)):
        np.testing.assert_array_equal(clustering.vertex_steps(Z, labels[0], max_iter=t, **settings).labels, labels[t])


def test_empty_clusters_drop_out_and_the_others_keep_their_labels():
    """Samples of one line, with a second cluster of one of them that costs more than it saves."""
    X = np.outer(np.linspace(1, 2, 20), [3.0, 4.0])
    start = np.array(["z"] * 19 + ["a"])
    steps = clustering.vertex_steps(X, start, epsilon_sq=0.1, mean="zero")
    assert steps.n_steps >= 1
    assert steps.labels.tolist() == ["z"] * 20
    assert steps.labels.dtype == start.dtype


def test_max_iter_ends_the_steps():
    X, _ = rn.datasets.lines_and_plane(200, noise=0.05, random_state=0)
    start = np.arange(200) % 3
    full = clustering.vertex_steps(X, start, epsilon_sq=0.01)
    assert full.n_steps > 3
    short = clustering.vertex_steps(X, start, epsilon_sq=0.01, max_iter=3)
    np.testing.assert_array_equal(short.objectives, full.objectives[:4])


@pytest.mark.parametrize("mean", ["zero", "estimate"])
@pytest.mark.parametrize("epsilon_sq", [1e-14, 1e-20, 1e-26, 1e-200])
def test_distortions_far_below_the_rounding_of_second_moments(mean, epsilon_sq):
    """Two coordinate planes of R^5: 1 is nothing beside D/eps^2 S in their directions, and all there is in the others.

    Singular values round at u, so three directions that are none count as D/eps^2 u^2 at most: of 1e-26, little.
    """
    random = np.random.default_rng(2)
    planes = random.standard_normal((2, 30, 2))
    X = np.zeros((60, 5))
    X[:30, :2], X[30:, 2:4] = planes
    truth = np.repeat([0, 1], 30)
    steps = clustering.vertex_steps(X, truth, epsilon_sq=epsilon_sq, mean=mean)
    np.testing.assert_array_equal(steps.labels, truth)
    assert np.isfinite(steps.objectives).all()
    if epsilon_sq > 1e-30:
        covariances = [W.T @ W / 30 if mean == "zero" else np.cov(W.T, bias=True) for W in planes]
        expected = np.log(2) + np.log(5 / epsilon_sq) + np.linalg.slogdet(covariances)[1].sum() / 4
        counted = 3 * 5 / epsilon_sq * (np.finfo(np.float64).eps * np.square(X).sum() ** 0.5) ** 2
        assert steps.objectives[0] == pytest.approx(expected, rel=1e-13, abs=counted)


def test_zeros_and_single_samples():
    zeros = clustering.vertex_steps(np.zeros((4, 2)), [0, 0, 1, 1], epsilon_sq=0.1)
    assert zeros.objectives[-1] <= np.log(2)
    one = clustering.vertex_steps([[1.0, 2.0]], ["only"], epsilon_sq=0.1, mean="zero")
    assert one.labels.tolist() == ["only"]
    assert one.objectives.tolist() == [pytest.approx(np.log1p(2 / 0.1 * 5) / 2, rel=1e-14)]


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"X": np.eye(3) * 1j}, ValueError, r"X has shape \(3, 3\) and dtype complex128; expected real vectors"),
        ({"X": [[1.0], [np.nan], [0.0]]}, ValueError, "X holds NaN or infinity in sample 1; expected finite float64"),
        ({"labels": [0, 1]}, ValueError, r"labels has shape \(2,\); expected labels \(3,\)"),
        ({"epsilon_sq": 0.0}, ValueError, r"epsilon_sq is 0\.0; expected a finite number > 0"),
        ({"epsilon_sq": 5e-324}, ValueError, "epsilon_sq is 5e-324: the squares of X beside it overflow; expected"),
        ({"mean": "none"}, ValueError, "mean is 'none'; expected one of 'estimate', 'zero'"),
        ({"max_iter": 0}, ValueError, "max_iter is 0; expected an integer >= 1"),
    ],
)
def test_errors(changes, kind, message):
    with pytest.raises(kind, match=message):
        clustering.vertex_steps(**{"X": np.eye(3), "labels": [0, 1, 1], "epsilon_sq": 0.1, **changes})
