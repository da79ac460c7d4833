"""The comparison on small data: its parts, alone, and with images that are made here."""

from __future__ import annotations

import numpy as np
import pytest
from strokes import check_report, write_strokes

from redunet import experiments
from redunet.experiments import small_data

pytest.importorskip("sklearn")


def little(monkeypatch):
    """One setting to choose, or two."""
    monkeypatch.setattr(small_data, "CHANNELS", 4)
    monkeypatch.setattr(small_data, "FEW", (4,))
    monkeypatch.setattr(small_data, "KERNELS", [5])
    monkeypatch.setattr(small_data, "SIGNALS", {"n_layers": [2], "n_components": [2]})
    monkeypatch.setattr(small_data, "VECTORS", {"n_layers": [1], "n_components": [1, 2], "epsilon_sq": [1.0]})
    grids = {"logistic regression": {"C": [1.0]}, "nearest neighbours": {"n_neighbors": [1]}}
    monkeypatch.setattr(small_data, "RIVALS", {**grids, "SVM": {"C": [10.0], "gamma": [1.0]}})


def test_tables_alone(tmp_path, monkeypatch):
    """Where MNIST is not here, the rest is made, and what is missing is said."""
    little(monkeypatch)
    monkeypatch.setattr(small_data, "SETS", ("iris",))
    monkeypatch.setattr(small_data, "_images", lambda *_: None)
    monkeypatch.delenv("REDUNET_MNIST", raising=False)
    made = experiments.run("small", experiments.Options(n_layers=3, n_train=12, seeds=2))
    check_report(made, tmp_path)
    assert list(made.tables) == ["Tables: accuracy", "Tables: probabilities, with defaults"]
    (row,) = made.tables["Tables: accuracy"]
    assert (row["set"], row["samples"], row["columns"], row["classes"]) == ("iris", 36, 4, 3)
    assert any("--data names no folder" in remark for remark in made.remarks)


def test_calibration_in_bins():
    """Four samples of which three are right, sure by 0.95 and 0.55: gaps of 0.05 + 0.05 and of |0.45 - 0.55|."""
    P = np.array([[0.95, 0.05], [0.05, 0.95], [0.55, 0.45], [0.45, 0.55]])
    loss, error = small_data._calibration(P, np.array([0, 1, 0, 0]))
    assert loss == pytest.approx(-np.log([0.95, 0.95, 0.55, 0.45]).mean())
    assert error == pytest.approx((0.1 + 0.1) / 4)
    assert small_data._calibration(np.eye(2), np.array([0, 1]))[1] == 0.0


def test_images_are_moved_by_what_is_said():
    X = np.zeros((50, 1, 28, 28))
    X[:, 0, 14, 14] = 1
    found = np.argwhere(small_data._moved(X, np.random.default_rng(0))[:, 0])[:, 1:] - 14
    assert np.abs(found).max() == small_data.MOVED
    assert len(np.unique(found, axis=0)) > 30
    small = np.argwhere(small_data._moved(X[..., 10:18, 10:18], np.random.default_rng(0))[:, 0])
    assert len(small) == 50
    np.testing.assert_array_equal(np.unique(small[:, 1]), np.arange(8))


def test_a_method_sees_training_samples_alone():
    """What is searched is scored by folds of them, and every method knows three blobs better than chance."""
    random = np.random.default_rng(0)
    y = np.arange(36) % 3
    X = random.standard_normal((3, 5))[y] + 0.5 * random.standard_normal((36, 5))
    methods = {**small_data.rivals(), **small_data.networks_of_vectors(experiments.Options(n_layers=2))}
    assert list(methods) == [
        "logistic regression",
        "nearest neighbours",
        "SVM",
        "no network",
        "ReduNet, defaults",
        "ReduNet",
    ]
    for fit in methods.values():
        model = fit(X[:24], y[:24])
        assert (model.predict(X[24:]) == y[24:]).mean() > 0.5
        assert model.n_features_in_ == 5
        assert getattr(model, "n_splits_", small_data.INNER) == small_data.INNER


def test_images(tmp_path, monkeypatch):
    """Strokes, and digits of scikit-learn: moved, they are harder for a classifier of pixels."""
    monkeypatch.setattr(small_data, "SETS", ())
    little(monkeypatch)
    options = experiments.Options(n_layers=3, n_test=5, data=write_strokes(tmp_path))
    report = small_data.small_data(options)
    for title in ("Digits of 8 x 8 pixels: accuracy", "Digits of 28 x 28 pixels: accuracy"):
        upright, moved = report.tables[title]
        assert (upright["images"], moved["images"]) == ("as they stand", "moved")
        drop = [float(row["nearest neighbours"].split()[0]) for row in (upright, moved)]
        assert drop[0] > drop[1]
    assert report.settings["images"] == tmp_path.name
