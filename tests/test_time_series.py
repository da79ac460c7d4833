"""The comparison on time series, with sets and a MiniRocket that are made here."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest
from strokes import check_report

from redunet import experiments
from redunet.experiments import needs, small_data, time_series

pytest.importorskip("sklearn")
pytest.importorskip("scipy")


def waves(m, random, classes=2, T=24):
    """Waves of one frequency for each class at any phase, above zero: (m, 1, T)."""
    y = np.arange(m) % classes
    phases = random.uniform(0, 6, (m, 1))
    X = np.sin(2 * np.pi * (1 + y[:, None]) * np.arange(T) / T + phases) + 5
    return (X + 0.3 * random.standard_normal(X.shape))[:, None], np.array(["one", "two", "three"])[y]


@pytest.fixture
def sets(monkeypatch):
    """Two sets, and in place of MiniRocket a classifier that says the first label, always."""
    from sklearn.dummy import DummyClassifier

    def load(name, split):
        return waves(30, np.random.default_rng({"train": 0, "test": 1}[split]), 3 if name == "three" else 2)

    def constant(*, random_state, n_jobs):
        return DummyClassifier(strategy="prior")

    fakes = {name: ModuleType(name) for name in ("aeon", "aeon.datasets", "aeon.classification.convolution_based")}
    fakes["aeon.datasets"].load_classification = load
    fakes["aeon.classification.convolution_based"].MiniRocketClassifier = constant
    for name, module in fakes.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(needs, "is_here", lambda package: package != "tslearn")
    monkeypatch.setattr(time_series, "SETS", {"two": "aeon", "three": "aeon", "Trace": "tslearn"})
    monkeypatch.setattr(time_series, "DEVELOPED", ("two",))
    monkeypatch.setattr(small_data, "CHANNELS", 4)
    monkeypatch.setattr(small_data, "KERNELS", [5])
    monkeypatch.setattr(small_data, "SIGNALS", {"n_layers": [2], "n_components": [2]})
    monkeypatch.setitem(small_data.RIVALS, "SVM", {"C": [10.0], "gamma": [1.0]})


def test_series(sets, tmp_path):
    """Waves at any phase are known by all shifts, and MiniRocket is the one to which methods are compared."""
    report = time_series.time_series(experiments.Options(n_layers=3, n_test=5, seeds=2))
    check_report(report, tmp_path)
    titles = ["Published sizes", "5 cases of each class", "10 cases of each class"]
    assert list(report.tables)[:3] == titles
    sizes: list[dict[str, int]] = [{"two": 30, "three": 30}, {"two": 10, "three": 15}, {"two": 20, "three": 30}]
    for title, trained in zip(titles, sizes, strict=True):
        for row in report.tables[title]:
            assert (row["train"], row["test"]) == (trained[row["set"]], 5 * row["classes"])
            assert float(row["ReduNet, all shifts"].split()[0]) > 0.8
            assert float(row["pooled lift, ReduNet"].split()[0]) > 0.8
        for which in ("designed on", "others"):
            found = {row["method"]: row for row in report.tables[f"{title}: 1 sets, {which}"]}
            counts = [list(row.values())[-3:] for row in found.values()]
            assert all(sum(some) == 1 for some in counts)
            assert counts[0] == [0, 1, 0]  # MiniRocket against itself
            assert list(found["ReduNet, all shifts"].values())[-3:] == [1, 0, 0]
    assert any("pip install tslearn" in remark for remark in report.remarks)


def test_few_cases_are_no_test_cases(sets):
    """n of each class are drawn, others are tested, and a set whose classes have no others is left out."""
    options = experiments.Options(seeds=2)
    X, y = waves(60, np.random.default_rng(0))
    first, second = time_series._draws(X, y, 5, options)
    assert not np.array_equal(first.X, second.X)
    for held in (first, second):
        assert np.unique(held.y, return_counts=True)[1].tolist() == [5, 5]
        assert np.unique(held.t, return_counts=True)[1].tolist() == [25, 25]
        assert len(np.unique(np.concatenate([held.X, held.T]), axis=0)) == 60
    assert [title for title, _ in time_series._settings("three", options)][1:] == [
        "5 cases of each class",
        "10 cases of each class",
    ]
    few = [title for title, _ in time_series._settings("three", experiments.Options(n_train=3))]
    assert few == ["Published sizes", "3 cases of each class"]


def test_what_is_shortened_are_means():
    X = np.arange(2 * 515.0).reshape(2, 1, 515)
    short = time_series._shortened(X)
    assert short.shape == (2, 1, 171)  # of three points each
    np.testing.assert_allclose(short[:, 0, :2], [[1, 4], [516, 519]])
    np.testing.assert_array_equal(time_series._shortened(X[..., :256]), X[..., :256])
