"""Pictures: what is drawn is what was given, labelled; nothing global is touched; errors name the argument."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

from matplotlib import pyplot  # noqa: E402
from matplotlib.colors import to_rgba  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

import redunet as rn  # noqa: E402
from redunet import plot  # noqa: E402


@pytest.fixture(autouse=True)
def _no_trace() -> Iterator[None]:
    before = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == before
    pyplot.close("all")


@pytest.fixture
def net() -> rn.ReduNet:
    random = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 7)
    return rn.build(np.eye(5)[y] + 0.2 * random.standard_normal((21, 5)), y, n_layers=4)[0]


def features(m: int = 12, shape: tuple[int, ...] = (5,), k: int = 3) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    return random.standard_normal((m, *shape)), random.permutation(np.arange(m) % k)


def test_rates_draws_the_three_rates(net: rn.ReduNet) -> None:
    ax = plot.rates(net)
    rate, class_rate, delta = ax.lines
    for line, values in (
        (rate, net.rates.rate),
        (class_rate, net.rates.class_rate),
        (delta, net.rates.delta),
    ):
        np.testing.assert_array_equal(line.get_xdata(), np.arange(net.n_layers + 1))
        np.testing.assert_array_equal(line.get_ydata(), values)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["$R$", "$R_c$", r"$\Delta R$"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("layer", "coding rate (nats)")
    assert ax.get_ylim()[0] == 0
    assert len({line.get_color() for line in ax.lines}) == 3


def test_rates_takes_the_rates_alone(net: rn.ReduNet) -> None:
    np.testing.assert_array_equal(plot.rates(net.rates).lines[2].get_ydata(), net.rates.delta)


def test_rates_refuses_other_things() -> None:
    with pytest.raises(TypeError, match="net is a list; expected a ReduNet or its rates"):
        plot.rates([1.0])  # type: ignore[arg-type]


@pytest.mark.parametrize("draw", ["rates", "cosines", "singular_values", "scatter", "accuracies"])
def test_the_ax_given_is_drawn_on_and_returned(draw: str, net: rn.ReduNet) -> None:
    ax = Figure().add_subplot()
    Z, y = features(shape=(2,))
    arguments = {"rates": (net,), "accuracies": ({"a": {"t": 0.5}},)}.get(draw, (Z, y))
    assert getattr(plot, draw)(*arguments, ax=ax) is ax
    assert ax.has_data()
    assert pyplot.get_fignums() == []  # no figure beside the one given
    ax.figure.savefig(os.devnull, format="png")


def test_cosines_sorts_by_class() -> None:
    Z, y = features()
    ax = plot.cosines(Z, y)
    order = np.argsort(y, kind="stable")
    unit = Z / np.linalg.norm(Z, axis=1, keepdims=True)
    np.testing.assert_allclose(ax.images[0].get_array(), np.abs(unit @ unit.T)[np.ix_(order, order)], atol=1e-14)
    assert ax.images[0].get_clim() == (0, 1)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0", "1", "2"]
    np.testing.assert_allclose(ax.get_xticks(), [2, 6, 10])  # the middles of classes of four
    assert sorted(line.get_xdata()[0] for line in ax.lines[1::2]) == [4, 8]  # the lines between them
    assert len(ax.figure.axes) == 2  # with the scale
    assert ax.figure.axes[1].get_ylabel().startswith(r"$|\cos")


def test_cosines_of_complex_features_and_of_zeros() -> None:
    ax = plot.cosines([[1j, 0], [1, 0], [0, 0], [1e-200, 1e-200]], [0, 0, 1, 1], colorbar=False)
    half = np.sqrt(0.5)
    expected = [[1, 1, 0, half], [1, 1, 0, half], [0, 0, 0, 0], [half, half, 0, 1]]
    np.testing.assert_allclose(ax.images[0].get_array(), expected, atol=1e-15)
    assert len(ax.figure.axes) == 1


@pytest.mark.parametrize("shape", [(2, 5), (2, 4), (3, 4, 3), (1, 1, 6)])
@pytest.mark.parametrize("kind", [float, complex])
def test_cosines_over_all_shifts(shape: tuple[int, ...], kind: type) -> None:
    Z, y = features(6, shape)
    if kind is complex:
        Z = Z + 1j * features(6, (*shape, 2))[0][..., 1]
    drawn = plot.cosines(Z, y, shifts=True).images[0].get_array()
    axes = tuple(range(1, len(shape)))
    Z = Z[np.argsort(y, kind="stable")]
    unit = Z / np.linalg.norm(Z.reshape(6, -1), axis=1).reshape(-1, *[1] * len(shape))
    moved = [np.roll(unit, by, axis=[a + 1 for a in axes]) for by in np.ndindex(*shape[1:])]
    expected = np.max([np.abs(unit.reshape(6, -1).conj() @ W.reshape(6, -1).T) for W in moved], axis=0)
    # Sums of at most 36 products of numbers below 1, and an FFT of as many: well below 36 * 8 units.
    np.testing.assert_allclose(drawn, expected, atol=300 * np.finfo(float).eps)


def test_singular_values_of_each_class() -> None:
    Z, y = features(11, (2, 3))
    ax = plot.singular_values(Z, y, n_values=2)
    assert len(ax.lines) == 3
    for j, line in enumerate(ax.lines):
        expected = np.linalg.svd(Z[y == j].reshape(-1, 6), compute_uv=False)[:2]
        np.testing.assert_array_equal(line.get_xdata(), [1, 2])
        np.testing.assert_allclose(line.get_ydata(), expected)
        assert line.get_label() == str(j)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("component", "singular value")


def test_styles_tell_35_classes_apart() -> None:
    Z, _ = features(35, (2,))
    ax = plot.singular_values(Z, np.arange(35))
    assert len({(line.get_color(), line.get_marker(), str(line.get_linestyle())) for line in ax.lines}) == 35
    assert len(ax.get_legend().get_texts()) == 35
    assert plot.singular_values(features(36, (2,))[0], np.arange(36)).get_legend() is None


@pytest.mark.parametrize("d", [2, 3])
def test_scatter_puts_points_where_they_are(d: int) -> None:
    Z, y = features(shape=(d,))
    ax = plot.scatter(Z, np.array(["a", "b", "c"])[y], title="here")
    assert ax.name == ("rectilinear" if d == 2 else "3d")
    points = [c for c in ax.collections if c.get_label() in ("a", "b", "c")]
    assert [c.get_label() for c in points] == ["a", "b", "c"]
    for j, c in enumerate(points):
        drawn = c.get_offsets() if d == 2 else np.stack(c._offsets3d, axis=1)
        np.testing.assert_array_equal(np.sort(drawn, axis=0), np.sort(Z[y == j], axis=0))
        assert to_rgba(c.get_facecolor()[0], 1) == to_rgba(plot.COLORS[j])
    assert ax.get_title() == "here"
    assert ax.get_ylabel() == "$z_2$"
    ax.figure.savefig(os.devnull, format="png")


def test_accuracies_in_per_cent() -> None:
    results = {
        "plain": {"test": 0.984, "all shifts": 0.169},
        "equivariant": {"test": 0.967, "all shifts": 0.966},
    }
    ax = plot.accuracies(results)
    assert [bar.get_height() for bar in ax.patches] == pytest.approx([98.4, 16.9, 96.7, 96.6])
    assert [text.get_text() for text in ax.texts] == ["98.4", "16.9", "96.7", "96.6"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["test", "all shifts"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["plain", "equivariant"]
    assert ax.get_ylabel() == "accuracy (%)"
    first, second = (bar.get_facecolor() for bar in ax.patches[::2])
    assert first != second
    assert plot.accuracies(results, title=None).get_title() == ""


@pytest.mark.parametrize("draw", [plot.cosines, plot.singular_values, plot.scatter])
def test_features_are_checked(draw: object) -> None:
    with pytest.raises(ValueError, match=r"y has shape \(3,\); expected labels \(4,\)"):
        draw(np.ones((4, 2)), [0, 1, 2])  # type: ignore[operator]
    with pytest.raises(ValueError, match="Z holds NaN or infinity; expected finite numbers"):
        draw([[np.nan, 1.0]], [0])  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"Z has shape \(3,\); expected"):
        draw(np.ones(3), [0])  # type: ignore[operator]


def test_other_errors() -> None:
    with pytest.raises(ValueError, match=r"Z has shape \(2, 4\) and is real; expected real vectors"):
        plot.scatter(np.ones((2, 4)), [0, 1])
    with pytest.raises(ValueError, match=r"Z has shape \(2, 2\) and is complex; expected real vectors"):
        plot.scatter(np.ones((2, 2), complex), [0, 1])
    with pytest.raises(ValueError, match="ax has the projection 'rectilinear'; expected '3d' for d = 3"):
        plot.scatter(np.ones((2, 3)), [0, 1], ax=Figure().add_subplot())
    with pytest.raises(ValueError, match=r"Z has shape \(2, 3\); expected signals \(m, C, T\)"):
        plot.cosines(np.ones((2, 3)), [0, 1], shifts=True)
    with pytest.raises(ValueError, match="n_values is 0; expected an integer >= 1"):
        plot.singular_values(np.ones((2, 3)), [0, 1], n_values=0)
    for wrong in ({}, {"a": {}}, {"a": 0.5}):
        with pytest.raises(ValueError, match=r"results is .*expected {method: {test: accuracy}}"):
            plot.accuracies(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"results\['b'\] has the tests \['u'\]; expected \['t'\]"):
        plot.accuracies({"a": {"t": 0.5}, "b": {"u": 0.5}})
    with pytest.raises(ValueError, match=r"results\['a'\]\['t'\] is 98.4; expected an accuracy in \[0, 1\]"):
        plot.accuracies({"a": {"t": 98.4}})


def test_without_matplotlib_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"redunet.plot needs matplotlib: pip install 'redunet\[plot\]'"):
        plot.accuracies({"a": {"t": 0.5}})


def test_importing_redunet_does_not_import_matplotlib() -> None:
    script = "import sys, redunet, redunet.plot; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.strip() == "False"


# --- Histograms of cosines, operators ---


def test_histogram_of_cosines_counts_pairs_of_one_class_and_of_two():
    Z = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 3.0]])
    ax = rn.plot.cosine_histogram(Z, [0, 0, 1, 1], n_bins=2)
    two, one = ax.patches
    assert (two.get_label(), one.get_label()) == ("two classes", "one class")
    # |cos| of two classes: 0, 0, 0.707, 0.707; of one: 0.707 and 1. Densities over bins of 0.5.
    np.testing.assert_allclose(two.get_data().values, [1.0, 1.0])
    np.testing.assert_allclose(one.get_data().values, [0.0, 2.0])
    with pytest.raises(ValueError, match=r"Z has shape \(4, 2\); expected signals"):
        rn.plot.cosine_histogram(Z, [0, 0, 1, 1], shifts=True)


def test_histogram_of_cosines_with_shifts():
    Z = np.zeros((2, 1, 5))
    Z[0, 0, 1] = Z[1, 0, 3] = 1.0  # shifts of each other
    assert rn.plot.cosine_histogram(Z, [0, 1], shifts=True, n_bins=4).patches[0].get_data().values[-1] == 4
    assert rn.plot.cosine_histogram(Z, [0, 1], n_bins=4).patches[0].get_data().values[0] == 4


@pytest.mark.parametrize("complex_valued", [False, True])
@pytest.mark.parametrize("signal", [(7,), (3, 4)])
def test_an_operator_is_the_convolution_it_shows(signal, complex_valued):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((12, 2, *signal))
    net, _ = rn.build(X + 1j * rng.standard_normal(X.shape) if complex_valued else X, np.arange(12) % 2, n_layers=1)
    if complex_valued:  # what is shown is the real part
        assert rn.plot.operator(net).images[0].get_array().shape == (
            2 * (signal[0] if len(signal) == 2 else 1),
            2 * signal[-1],
        )
        return
    picture = rn.plot.operator(net, -1, 1, complement=True).images[0].get_array()
    height = signal[0] if len(signal) == 2 else 1
    blocks = picture.reshape(2, height, 2, signal[-1]).transpose(0, 2, 1, 3).reshape(2, 2, *signal)
    axes = tuple(range(2, blocks.ndim))
    kernels = np.fft.rfftn(np.fft.ifftshift(blocks, axes=axes), axes=axes)
    expected = np.eye(2).reshape(2, 2, *[1] * len(signal)) - net.layers[0].Cs[0] / net.operators.alphas[1]
    np.testing.assert_allclose(kernels, expected, atol=1e-12)


def test_an_operator_of_vectors_is_its_matrix():
    X, y = rn.datasets.gaussian_mixture(10, n_features=3, random_state=0)
    net, _ = rn.build(X, y, n_layers=2)
    ax = rn.plot.operator(net, 1, 2)
    np.testing.assert_array_equal(ax.images[0].get_array(), net.layers[1].Cs[1])
    assert ax.get_title() == "$C^{1}$ of layer 1"
    with pytest.raises(ValueError, match="number is 4; expected 0 for E, or 1 to 3 for a class"):
        rn.plot.operator(net, 0, 4)


def test_operators_of_a_layer_on_one_scale():
    X, y = rn.datasets.gaussian_mixture(10, n_features=3, random_state=0)
    net, _ = rn.build(X, y, n_layers=1)
    largest = max(float(np.abs(operator).max()) for operator in (net.layers[0].E, *net.layers[0].Cs))
    alone = [rn.plot.operator(net, 0, number).images[0].get_clim() for number in range(4)]
    assert len(set(alone)) > 1
    for number in range(4):
        ax = rn.plot.operator(net, 0, number, shared_scale=True, colorbar=number == 3)
        assert ax.images[0].get_clim() == (-largest, largest)
        assert len(ax.figure.axes) == 1 + (number == 3)


@pytest.fixture(scope="module")
def path() -> rn.clustering.MergePath:
    X, _ = rn.datasets.lines_and_plane(60, noise=0.02, random_state=0)
    return rn.clustering.merge_path(X, epsilon_sq=0.001, mean="zero")


def test_the_merge_tree_draws_the_last_merges(path: rn.clustering.MergePath) -> None:
    ax = plot.merge_tree(path, n_merges=12)
    assert len(ax.lines) == 12
    heights = path.linkage()[-12:, 2]
    for line, height in zip(ax.lines, heights, strict=True):
        assert line.get_ydata()[1] == line.get_ydata()[2] == height
        left, right = line.get_xdata()[0], line.get_xdata()[-1]
        assert left < right
    sizes = [int(label.get_text()) for label in ax.get_xticklabels()]
    assert len(sizes) == 13
    assert sorted(sizes) == sorted(np.bincount(path.labels(13)))
    colours = [line.get_color() for line in ax.lines]
    assert path.n_best == 3
    assert colours[-2:] == ["0.5", "0.5"]  # the merges that make the code longer
    assert set(colours[:-2]) <= set(plot.COLORS[:3])
    assert len(plot.merge_tree(path, n_merges=1000).lines) == 59
    alone = rn.clustering.merge_path([[1.0, 2.0]], epsilon_sq=0.1)
    assert len(plot.merge_tree(alone).lines) == 0
    apart = rn.clustering.merge_path(np.eye(6), epsilon_sq=1.0, connectivity=np.kron(np.eye(2), np.ones((3, 3))))
    assert len(plot.merge_tree(apart).lines) == 4


def test_lines_of_the_merge_tree_do_not_cross(path: rn.clustering.MergePath) -> None:
    """All that is below the left end of a merge lies left of all that is below its right end."""
    lines = [line.get_xdata() for line in plot.merge_tree(path, n_merges=59).lines]
    below = {}  # the leaves of every cluster
    for t, (i, j) in enumerate(path.children.tolist()):
        left, right = below.get(i, {lines[t][0]}), below.get(j, {lines[t][-1]})
        assert max(left) < min(right)
        below[60 + t] = left | right
    assert below[118] == set(range(60))


def test_code_lengths_draws_the_path_and_both_stops(path: rn.clustering.MergePath) -> None:
    ax = plot.code_lengths(path)
    line, best, first = ax.lines
    np.testing.assert_array_equal(line.get_xdata(), np.arange(60, 0, -1))
    np.testing.assert_allclose(line.get_ydata(), path.code_lengths / 60 / np.log(2), rtol=1e-14)
    assert (best.get_xdata()[0], first.get_xdata()[0]) == (path.n_best, path.n_first)
    assert best.get_ydata()[0] == line.get_ydata().min()


def test_phase_transition_draws_clusters_against_distortions() -> None:
    transition = rn.clustering.PhaseTransition(
        np.array([1.0, 0.1]), np.array([1, 9]), np.array([1, 3]), np.array([0.5, 2.0])
    )
    first, best = plot.phase_transition(transition).lines
    np.testing.assert_array_equal(first.get_xdata(), [0.1, 1.0])
    np.testing.assert_array_equal(first.get_ydata(), [9, 1])
    np.testing.assert_array_equal(best.get_ydata(), [3, 1])


def test_segments_draws_the_image_and_its_boundaries() -> None:
    random = np.random.default_rng(3)
    labels = np.array([[0, 0, 1], [0, 0, 1], [-1, -1, -1]])
    for image in (random.random((3, 3)), random.integers(0, 256, (3, 3, 3), np.uint8), random.random((3, 3, 1)) > 0.5):
        ax = plot.segments(image, labels)
        drawn, lines = ax.images
        np.testing.assert_array_equal(np.squeeze(drawn.get_array()), np.squeeze(image))
        marked = np.asarray(lines.get_array())[:, :, 3] == 1
        np.testing.assert_array_equal(marked, rn.segmentation.boundaries(labels))
        assert ax.get_title() == "2 segments"
        assert not ax.axison
    assert plot.segments(np.zeros((1, 1)), [[4]], title=None).get_title() == "1 segment"
    assert plot.segments(np.zeros((1, 1)), [[4]], title="here").get_title() == "here"


@pytest.mark.parametrize(
    ("image", "labels", "message"),
    [
        (np.zeros((3, 3, 2)), np.zeros((3, 3), int), r"image has shape \(3, 3, 2\); expected \(H, W\), \(H, W, 1\) or"),
        (
            np.full((3, 3), 2.0),
            np.zeros((3, 3), int),
            "image has dtype float64 and holds no colours; expected uint8",
        ),
        (np.zeros((3, 3), int), np.zeros((3, 3), int), "image has dtype int64 and holds no colours"),
        (np.zeros((3, 3)), np.zeros((3, 2), int), r"labels has shape \(3, 2\); expected \(3, 3\), as image has"),
    ],
)
def test_errors_of_segments(image: np.ndarray, labels: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plot.segments(image, labels)
