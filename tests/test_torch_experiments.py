"""The lecture's experiments on networks that are trained, small: they run and say what they did."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from strokes import check_report, write_strokes
from torch_support import import_torch

torch = import_torch()
pytest.importorskip("matplotlib")
from redunet import experiments, sparse  # noqa: E402
from redunet.experiments import (  # noqa: E402
    digits,
    encoders,
    label_noise,
    relu_membership,
    representations,
    training,
    unrolled,
)


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    """Small products are not worth more, and threads of PyTorch wait for each other on a busy machine."""
    monkeypatch.setenv("REDUNET_NUM_THREADS", "1")


NEEDING_TORCH = {name: about for name, about in experiments.EXPERIMENTS.items() if about.needs_torch}


@pytest.fixture(scope="module")
def strokes(tmp_path_factory):
    return write_strokes(tmp_path_factory.mktemp("strokes"))


@pytest.mark.parametrize("name", [name for name in NEEDING_TORCH if name != "finetune"])  # test_torch_finetune.py
def test_small(name, strokes, tmp_path):
    options = experiments.Options(n_layers=2, n_train=12, n_test=6, seeds=2, epochs=2, data=strokes)
    state = torch.get_rng_state(), torch.get_num_threads()
    check_report(experiments.run(name, options), tmp_path)
    assert torch.equal(torch.get_rng_state(), state[0])
    assert torch.get_num_threads() == state[1]


def test_runs_repeat(strokes):
    options = experiments.Options(n_layers=1, n_train=5, n_test=3, epochs=1, data=strokes)
    first, second = (experiments.run("crate", options).tables for _ in range(2))
    for table in (first, second):
        table["Accuracy"][0].pop("seconds")
    assert first == second


def test_fit_and_accuracy(strokes):
    """A linear classifier of the strokes: it is right more often than one in ten, and says so."""
    data = digits.mnist(experiments.Options(data=strokes))
    X, X_test = training.images(data.X_train), training.images(data.X_test)
    y, y_test = torch.from_numpy(data.y_train), torch.from_numpy(data.y_test)
    steps = []
    with training.reproducible(0):
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(28 * 28, 10))

        def optimizer(n):
            steps.append(n)
            adam = torch.optim.Adam(model.parameters(), lr=1e-2)
            return adam, torch.optim.lr_scheduler.CosineAnnealingLR(adam, n)

        trained, seconds = training.fit(model, X, y, optimizer, epochs=10)
    assert steps == [10 * 4]
    assert seconds > 0
    assert trained > 0.9
    found = training.accuracy(model, X_test, y_test)
    assert found > 0.6
    assert found == pytest.approx(float((model(X_test).argmax(1) == y_test).double().mean()))


def test_errors_along_the_steps_are_those_of_the_codes():
    A = np.random.default_rng(0).normal(size=(unrolled.D, unrolled.N))
    A /= np.linalg.norm(A, axis=0)
    Y = unrolled._signals(A, 3, np.random.default_rng(1))
    best = sparse.fista(A, Y, unrolled.LAM, n_iter=5000, tol=1e-10)
    for solve in (sparse.ista, sparse.fista):
        errors = unrolled._errors(solve, A, Y, best)
        for n in (1, 7, 100):
            codes = solve(A, Y, unrolled.LAM, n_iter=n)
            assert errors[n - 1] == pytest.approx(((codes - best) ** 2).sum() / (best**2).sum(), rel=1e-6)
    errors = unrolled._errors(sparse.ista, A, Y, best)
    codes = sparse.ista(A, Y, unrolled.LAM, n_iter=250)
    assert errors[249] == pytest.approx(((codes - best) ** 2).sum() / (best**2).sum(), rel=1e-6)
    assert unrolled._steps_to([0.5, 0.2, 0.1], 0.2) == 2
    assert unrolled._steps_to([0.5, 0.2, 0.1], 0.05) == unrolled.MOST


def test_images_have_about_unit_scale():
    X = training.images(np.full((2, 1, 3, 4), 51, np.uint8))
    assert X.shape == (2, 1, 3, 4)
    assert float(X.abs().max()) < 1e-6
    assert training.images(np.zeros((2, 3, 4, 4), np.uint8)).shape == (2, 3, 4, 4)


def test_without_pytorch_the_message_says_what_to_install():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from redunet import cli\nsys.exit(cli.main(['experiment', 'sparse', '--quiet']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.strip() == "redunet: this experiment needs PyTorch: pip install 'redunet[torch]'"


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (2, 9, 11)])
def test_without_relu_the_network_of_equation_17_is_affine(shape):
    """f(a + b) + f(0) = f(a) + f(b), in double precision; with a ReLU it isn't."""
    for of_membership, of_lift in ((False, False), (True, False), (False, True)):
        torch.manual_seed(0)
        model = relu_membership.network(shape, 2, of_membership=of_membership, of_lift=of_lift).double().eval()
        a, b = torch.randn(2, 1, *shape, dtype=torch.float64)
        with torch.no_grad():
            off = model(a + b) + model(torch.zeros_like(a)) - model(a) - model(b)
        assert (float(off.abs().max()) < 1e-12) == (not of_membership and not of_lift)


def test_a_block_is_equation_17():
    torch.manual_seed(0)
    layer = relu_membership.block(True).double().eval()
    z = torch.randn(2, 16, 4, 5, dtype=torch.float64)

    def convolve(kernels, z):
        padded = torch.nn.functional.pad(z, (1, 1, 1, 1), mode="circular")
        return torch.nn.functional.conv2d(padded, kernels)

    with torch.no_grad():
        maps = [torch.relu(convolve(layer.P.weight[16 * j : 16 * (j + 1)], z)) for j in range(10)]
        expected = layer.norm(z + convolve(layer.E.weight, z) - sum(maps))
        torch.testing.assert_close(layer(z), expected, rtol=0, atol=1e-12)


def test_equation_17_on_the_files_of_cifar(tmp_path):
    random = np.random.default_rng(0)
    for name in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
        labels = np.arange(20, dtype=np.uint8) % 10
        pixels = random.integers(0, 256, (20, 3 * 32 * 32)).astype(np.uint8)
        (tmp_path / name).write_bytes(np.concatenate([labels[:, None], pixels], axis=1).tobytes())
    made = experiments.run("relu", experiments.Options(n_layers=1, n_train=2, n_test=1, epochs=1, data=tmp_path))
    assert made.settings["data"] == tmp_path.name
    assert [row["network"] for row in made.tables["Accuracy"]] == list(relu_membership.VARIANTS)


def test_wrong_labels_are_as_many_as_asked_for():
    y = np.arange(5000) % 10
    for ratio in (0.0, 0.3, 0.5):
        wrong = label_noise.corrupted(y, ratio, np.random.default_rng(0)) != y
        drawn = int(ratio * len(y))
        assert wrong.sum() <= drawn
        # Binomial, of probability 0.9: five deviations.
        assert abs(wrong.sum() - 0.9 * drawn) <= 5 * np.sqrt(0.09 * drawn)
    assert (y == np.arange(5000) % 10).all()
    same, other = (label_noise.corrupted(y, 0.5, np.random.default_rng(seed)) for seed in (0, 1))
    np.testing.assert_array_equal(same, label_noise.corrupted(y, 0.5, np.random.default_rng(0)))
    assert (same != other).any()


def test_encoders_give_features_of_every_size():
    for shape in ((1, 28, 28), (3, 32, 32), (2, 17, 9)):
        X = torch.randn(4, *shape)
        assert encoders.convolutional(shape, 6)(X).shape == (4, 6)
        assert encoders.resnet18(shape[0], 6)(X).shape == (4, 6)
    # ResNet-18 of CIFAR-10 without its last layer has 11 168 832 parameters; the head adds 512^2 + 2 * 512 + 513 * 128.
    parameters = sum(p.numel() for p in encoders.resnet18(3, 128).parameters())
    assert parameters == 11_168_832 + 512**2 + 2 * 512 + 513 * 128


def test_augmented_images_are_shifted_and_mirrored():
    """Each is a window of the image with zeros around it, or of its mirror image, and all windows come."""
    X = 1 + torch.arange(40.0).reshape(1, 2, 4, 5)
    padded = torch.nn.functional.pad(X, (8, 8, 8, 8))
    windows = {}
    for row in range(17):
        for column in range(17):
            window = padded[:, :, row : row + 4, column : column + 5]
            windows[window.numpy().tobytes()] = False
            windows[window.flip(3).numpy().tobytes()] = True
    torch.manual_seed(0)
    seen = encoders.augmented(X.expand(2000, -1, -1, -1))
    assert seen.shape == (2000, 2, 4, 5)
    kinds = [windows[image.contiguous().numpy().tobytes()] for image in seen[:, None]]
    with_pixels = seen.flatten(1).any(1).numpy()
    assert 0.4 < np.mean(np.array(kinds)[with_pixels]) < 0.6
    assert len({image.contiguous().numpy().tobytes() for image in seen}) > 100


def test_effective_ranks():
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(9, 9)))[0]
    assert encoders.effective_rank(Q) == pytest.approx(9)
    assert encoders.effective_rank(np.outer(np.arange(1, 5), Q[0])) == pytest.approx(1)
    assert representations._components(np.diag([3.0, 4.0]), 0.63) == 1
    assert representations._components(np.diag([3.0, 4.0]), 0.65) == 2


def test_features_are_those_of_the_encoder_as_it_is_evaluated():
    X, y = torch.randn(60, 1, 8, 8), torch.arange(60) % 10
    seen = []
    with training.reproducible(0):
        for loss in ("MCR2", "CE"):
            made = encoders.trained_by(
                loss, encoders.SMALL, X, y, epochs=3, watch=lambda made: {"first": float(made.features(X)[0, 0])}
            )
            made.encoder.eval()
            with torch.no_grad():
                Z = made.encoder(X)
                np.testing.assert_allclose(made.features(X), torch.nn.functional.normalize(Z), rtol=0, atol=1e-6)
                if made.head is not None:
                    np.testing.assert_allclose(made.logits(X), made.head(Z), rtol=0, atol=1e-5)
            assert (made.head is None) == (loss == "MCR2")
            assert len(made.along["first"]) == 3
            assert made.along["first"][-1] == float(made.features(X)[0, 0])
            seen.append(made.seconds)
    assert min(seen) > 0


@pytest.mark.parametrize("name", ["mcr2", "labelnoise"])
def test_the_protocol_of_the_authors(name, strokes, tmp_path, monkeypatch):
    monkeypatch.setattr(label_noise, "RATIOS", (0.0, 0.3, 0.5))
    options = experiments.Options(n_train=2, n_test=1, epochs=1, data=strokes, full=True)
    made = experiments.run(name, options)
    check_report(made, tmp_path)
    assert made.settings["encoder"] == "ResNet-18"


def test_the_whole_protocol_takes_what_every_class_has(strokes):
    data = digits.images_of(experiments.Options(data=strokes))
    few = data._replace(y_train=np.concatenate([data.y_train, [3, 3]]))
    assert encoders.protocol_of(experiments.Options(full=True), few) == (encoders.FULL, 40, 500)
    assert encoders.protocol_of(experiments.Options(full=True, n_train=7, epochs=2), few) == (encoders.FULL, 7, 2)
    assert encoders.protocol_of(experiments.Options(), data) == (encoders.SMALL, 300, 20)
