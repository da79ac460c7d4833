"""The lecture's experiments, small: they run, say what they did, and know the same by one forward pass as by many."""

from __future__ import annotations

import re

import numpy as np
import pytest
from strokes import check_report, write_mnist, write_strokes

import redunet as rn
from redunet import cli, experiments
from redunet.experiments import depth, digits, incremental, lifts, networks, report
from redunet.experiments.ablations import relu_network

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")
SMALL = {"n_layers": 3, "n_train": 12, "n_test": 6}
#: Those that need PyTorch are in test_torch_experiments.py.
WITHOUT_TORCH = {name: about for name, about in experiments.EXPERIMENTS.items() if not about.needs_torch}
#: With tests of their own.
ELSEWHERE = ("small", "series")
ALONE = [name for name, about in WITHOUT_TORCH.items() if not about.needs_mnist and name not in ELSEWHERE]
ON_MNIST = [name for name, about in WITHOUT_TORCH.items() if about.needs_mnist]


@pytest.mark.parametrize("name", ALONE)
def test_without_data(name, tmp_path):
    check_report(experiments.run(name, experiments.Options(**SMALL, seeds=2)), tmp_path)


@pytest.fixture(scope="module")
def strokes(tmp_path_factory):
    return write_strokes(tmp_path_factory.mktemp("strokes"))


@pytest.mark.parametrize("name", ON_MNIST)
def test_on_digits(name, strokes, tmp_path, monkeypatch):
    monkeypatch.setattr(lifts, "SETTINGS", {"forward10": (4, 50, 100, "backward"), "trans10": (6, 10, 20, "ortho")})
    monkeypatch.setattr(depth, "TIMED", 0.0)
    monkeypatch.setattr(incremental, "ORDER", (0, 1, 2, 3))
    monkeypatch.setattr(incremental, "FORGOTTEN", 3)
    check_report(experiments.run(name, experiments.Options(**SMALL, data=strokes, plain=name == "rot01")), tmp_path)


@pytest.fixture
def rings_and_bars(tmp_path):
    """Rings and bars in the files of MNIST: 0 and 1 as a child draws them, and an 8 to leave out."""
    random = np.random.default_rng(0)
    folder = tmp_path / "mnist"
    folder.mkdir()
    rows, columns = np.mgrid[:28, :28] - 13.5
    for part, count in (("train", 60), ("t10k", 45)):
        labels = np.array([0, 1, 8], dtype=np.uint8)[np.arange(count) % 3]
        images = np.zeros((count, 28, 28), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            radius, width, lean = random.uniform([6, 1.5, -0.2], [9, 2.5, 0.2])
            ring = np.abs(np.hypot(rows, columns) - radius) < width
            bar = (np.abs(columns - lean * rows) < width) & (np.abs(rows) < radius + 3)
            image[{0: ring, 1: bar, 8: ring | bar}[int(label)]] = random.integers(200, 256)
        write_mnist(folder, part, images, labels)
    return folder


def test_rings_and_bars_are_told_apart_at_every_rotation(rings_and_bars):
    made = experiments.run("rot01", experiments.Options(data=rings_and_bars, n_layers=12, n_train=15))
    rows = made.tables["Accuracy"]
    assert [(row["network"], row["eta"]) for row in rows] == [
        ("equivariant", "0.5"),
        ("equivariant", "auto"),
        ("plain", "auto"),
        ("plain", "0.5"),
        ("none: the samples", ""),
        ("equivariant, published", "0.5"),
        ("plain, published", "0.5"),
    ]
    for row in rows[:2]:
        assert row["test digits"] == row["all rotations"] == "1.0000"
        assert float(row["ΔR"]) > 0
    assert all(row["same answers"] == 1 for row in made.tables["One forward pass against shifted copies"])


def test_gaussians_end_at_the_largest_rate_reduction():
    """Orthogonal lines: 1/2 (d log(1 + 1/eps^2) - log(1 + d/eps^2))."""
    made = experiments.run("gauss3d", experiments.Options(n_layers=500, n_train=100))
    for row in made.tables["Test samples"]:
        assert float(row["ΔR after"]) == pytest.approx((3 * np.log(11) - np.log(31)) / 2, abs=1e-3)
        assert row["nearest subspace, 1"] == "1.0000"


@pytest.mark.parametrize("name", ON_MNIST)
def test_says_that_it_needs_mnist(name, monkeypatch):
    monkeypatch.delenv("REDUNET_MNIST", raising=False)
    with pytest.raises(experiments.DataMissing, match="this experiment needs MNIST: give --data DIR"):
        experiments.run(name)


def test_unknown_experiments_and_missing_data(monkeypatch, capsys, tmp_path):
    with pytest.raises(ValueError, match="name is 'rot02'; expected one of 'gauss2d', 'gauss3d', 'rot01'"):
        experiments.run("rot02")
    monkeypatch.delenv("REDUNET_MNIST", raising=False)
    assert cli.main(["experiment", "rot01", "--out", str(tmp_path)]) == 2
    assert cli.main(["experiment", "rot01", "--out", str(tmp_path), "--data", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "redunet: this experiment needs MNIST" in error
    assert "redunet: no train-images-idx3-ubyte" in error


def test_command_line(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("REDUNET_NUM_THREADS", "1")
    assert cli.main(["experiments"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == list(experiments.EXPERIMENTS)
    command = ["experiment", "gauss2d", "--out", str(tmp_path), "--layers", "5", "--train", "20", "--quiet"]
    assert cli.main(command) == 0
    out = capsys.readouterr().out
    assert out.startswith("# gauss2d: 2 Gaussians on the circle")
    assert (tmp_path / "gauss2d" / "results.json").is_file()


def test_other_seeds_are_other_samples(strokes):
    data = digits.mnist(experiments.Options(data=strokes))
    first, y = digits.training_digits(data, 5, (0, 1), 0)
    other, z = digits.training_digits(data, 5, (0, 1), 1)
    np.testing.assert_array_equal(first, rn.datasets.first_per_class(data.X_train, data.y_train, 5, classes=[0, 1])[0])
    np.testing.assert_array_equal(y, z)
    assert not np.array_equal(first, other)


def test_shifted_copies_are_all_shifts():
    X = np.arange(2 * 1 * 3 * 4).reshape(2, 1, 3, 4)
    copies = np.stack(list(digits.shifted_copies(X, 1)), axis=1)
    np.testing.assert_array_equal(copies, rn.shifts(X).reshape(copies.shape))
    assert len(list(digits.shifted_copies(X, 2))) == 4


def task(**about):
    X, y = rn.datasets.sinusoids(15, length=9, random_state=0)
    X = np.concatenate([X, np.roll(X, 1, axis=2) ** 2], axis=1).astype(np.float32)
    return depth.Task(X, y, X[::3] + np.float32(0.1), y[::3], 2, 12, stride=1, **about)


def test_a_curve_is_that_of_networks_cut_where_it_says():
    about = task()
    curve = depth.climb(about, experiments.Options(), None, n_layers=12, multiple=1.5)
    net, Z = rn.build(about.X, about.y, n_layers=12, eta=1.5 / (2 / (30 * 0.1)))
    np.testing.assert_array_equal(curve.delta, net.rates.delta)
    assert curve.delta[curve.enough] >= 0.99 * curve.delta[-1] > curve.delta[curve.enough - 1]
    assert set(curve.accuracy) == set(curve.seconds) == {1, 2, 3, 5, 7, 10, 12, curve.enough}
    nearest = rn.NearestSubspace(2).fit(Z, about.y)
    Z_test = net.transform(about.X_test)
    assert curve.accuracy[12] == [nearest.score(Z_test, about.y_test), nearest.score_all_shifts(Z_test, about.y_test)]


def test_a_goal_that_is_not_reached_and_accuracies_that_are():
    curve = depth.climb(task(), experiments.Options(), np.inf, n_layers=3)
    assert curve.enough is None
    curve.accuracy = {1: [0.9, 0.5], 2: [0.8, 0.7], 5: [0.9, 0.7]}
    assert curve.layers_to((0.9, 0.7)) == 5
    assert curve.layers_to((0.8, 0.6)) == 2
    assert curve.layers_to((0.95, 0.1)) is curve.layers_to(()) is None


@pytest.mark.parametrize("steps", depth.SCHEMES.values(), ids=list(depth.SCHEMES))
def test_every_scheme_climbs(steps):
    curve = depth.climb(task(), experiments.Options(), None, n_layers=8, **steps)
    assert curve.delta[-1] > curve.delta[0]
    if steps.get("eta") == "search" and "momentum" not in steps:
        assert np.diff(curve.delta).min() >= 0


def test_relu_membership_keeps_the_sphere(backend):
    X, y = rn.datasets.sinusoids(10, length=8, random_state=0)
    X = X.astype(np.float32)
    Z, Z_test, _ = relu_network(X, y, X[:3], n_layers=2)
    np.testing.assert_allclose(np.linalg.norm(Z.reshape(len(Z), -1), axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(Z_test, Z[:3], atol=1e-5)


def test_relu_membership_is_equation_17(backend):
    """Of vectors, with the operators of a network's first layer."""
    X, y = rn.datasets.gaussian_mixture(20, n_features=3, noise=0.3, random_state=0)
    layer = rn.build(X, y, n_layers=1)[0].layers[0]
    alpha = 3 / (len(X) * 0.1)
    z = X.T / np.linalg.norm(X, axis=1)
    explained = sum(np.maximum(z - C @ z / (3 * alpha), 0) for C in layer.Cs)
    moved = z + 2 / alpha * (layer.E @ z - alpha * (z - explained))
    Z, _, _ = relu_network(X, y, X[:1], n_layers=1)
    np.testing.assert_allclose(Z.T, moved / np.linalg.norm(moved, axis=0), atol=1e-5)


def test_spread():
    assert report.spread([0.5]) == "0.5000"
    assert report.spread([0.25, 0.75], 2) == "0.50 ± 0.35"
    assert report.spread([0.5, np.nan]) is None


@pytest.mark.parametrize(
    ("column", "shown"),
    [
        ([0.99, 1.0, 0.98765], ["0.9900", "1.0000", "0.9877"]),
        ([231.46, None, 9.5], ["231.5", "", "9.5"]),
        ([12.345, np.nan, 0.0], ["12.35", "", "0.00"]),
        ([231.46, 0.0213], ["231.460", "0.021"]),
        ([0.25, 3e-7], ["2.50e-01", "3.00e-07"]),
        ([8.6e-4, 1.04e-3], ["0.00086", "0.00104"]),
        ([1, 20, None], ["1", "20", ""]),
        (["auto", 0.5], ["auto", "0.5000"]),
    ],
)
def test_a_column_has_one_number_of_digits(column, shown):
    made = report.Report("name", "title", {})
    for value in column:
        made.add("table", value=value)
    assert re.findall(r"^\| (\S*) \|$", made.markdown(), re.MULTILINE)[1:] == shown


def test_figures_name_the_network():
    X, y = rn.datasets.gaussian_mixture(10, n_features=2, random_state=0)
    made = report.Report("name", "title", {})
    for figure, eta in (("given", 0.5), ("searched", "search")):
        net, _ = rn.build(X, y, n_layers=3, eta=eta)
        made.axes(figure, "caption", of=net)
        least, most = (f"{step:.3g}" for step in (net.etas.min(), net.etas.max()))
        steps = "0.5" if figure == "given" else least if least == most else f"{least} to {most}"
        assert made.figures[figure].get_suptitle() == f"name: η = {steps}, 3 layers"


def test_a_network_in_sections_is_the_whole(monkeypatch):
    X, y = rn.datasets.gaussian_mixture(30, n_features=4, noise=0.3, random_state=0)
    options = experiments.Options()
    settings = {"n_layers": 205, "eta": 0.5, "epsilon_sq": 0.1}
    Z, Z_new, delta, _ = networks.build_in_sections(X, y, X[:7] + 0.1, options, **settings)
    net, W = rn.build(X, y, **settings)
    np.testing.assert_allclose(Z, W, atol=1e-10)
    np.testing.assert_allclose(Z_new, net.transform(X[:7] + 0.1), atol=1e-10)
    assert delta == pytest.approx(net.rates.delta[-1])


def test_what_came_in_pieces_is_what_was_built_at_once(strokes, monkeypatch):
    """The claims of the report, in its tables."""
    monkeypatch.setattr(incremental, "ORDER", (0, 1, 2, 3))
    monkeypatch.setattr(incremental, "FORGOTTEN", 3)
    made = experiments.run("incremental", experiments.Options(**SMALL, data=strokes))
    one, network, forgotten = list(made.tables.values())[1:]
    for row in one:
        assert row["accuracy"] == row["at once"]
        assert row["same answers"] == 1
        assert float(row["largest distance of features"]) < 1e-4
    for row in network:
        assert row["accuracy"] == row["at once"]
        assert row["largest distance of features"] == "0"
    assert [row["classes"] for row in network] == [2, 4, 2, 4]
    far = {(row["digits"], row["what"]): float(row["largest distance of features"]) for row in forgotten}
    for name in ("vectors", "translations"):
        assert far[name, "one layer: class dropped"] == far[name, "network: replayed, steps chosen again"] == 0
        assert far[name, "one layer: half of the digits subtracted"] < 1e-8
        for what in ("one layer: nothing forgotten", "network: nothing forgotten"):
            assert far[name, what] > 1e-3
    rounding = made.series["rounding"]
    assert (rounding["double"] <= 2 * rounding["bound"]).all()
    assert (rounding["single"] > 1e3 * rounding["double"]).all()


def test_subspaces_lie_in_the_largest():
    random = np.random.default_rng(0)
    Z, y = random.standard_normal((40, 3, 5)), np.arange(40) % 2
    for n, nearest in networks.subspaces(Z, y, (1, 4, 9)):
        alone = rn.NearestSubspace(n).fit(Z, y)
        assert repr(nearest) == repr(alone)
        # Squared distances of vectors of norm 15 at most, in double precision: a few hundred roundings of 200.
        assert np.abs(nearest.scores(Z) - alone.scores(Z)).max() < 1e-10
