"""The demo: its numbers against shifting every digit, its table, its picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import redunet as rn
from redunet._backends import select

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from redunet import demo


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    """Fewer digits to test with, fewer channels: a demo of seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "N_TRAIN_PER_CLASS", 140)
        patch.setattr(demo, "N_CHANNELS", 12)
        yield


@pytest.fixture(scope="module")
def comparison(_small: None) -> demo.Comparison:
    return demo.compare(n_layers=20, n_threads=1)


def test_the_equivariant_network_knows_translated_digits_and_the_plain_one_does_not(
    comparison: demo.Comparison,
) -> None:
    plain, equivariant = comparison.plain, comparison.equivariant
    assert plain.test > 0.95
    assert plain.shifts < 0.3
    assert equivariant.test > 0.88
    assert equivariant.shifts > 0.88
    invariant = comparison.invariant
    assert invariant.net is equivariant.net
    assert invariant.test == invariant.shifts > 0.88
    assert plain.net.signal_shape == ()
    assert equivariant.net.signal_shape == (8, 8)
    assert (comparison.n_train, comparison.n_test) == (1400, 397)
    assert plain.layers_per_second == pytest.approx(20 / plain.seconds)


def test_accuracies_are_those_of_translated_digits() -> None:
    """Every translation lifted, passed through the network and classified, one by one."""
    comparison = demo.compare(n_layers=4)
    data = rn.datasets.digits(n_train_per_class=140, random_state=demo.SEED)
    X, X_test = data.X_train.astype(np.float32), data.X_test.astype(np.float32)
    lift = rn.RandomLift(12, demo.KERNEL_SIZE, random_state=demo.SEED).fit(X)
    net = comparison.equivariant.net
    Z = net.transform(lift(X))
    classifier = rn.NearestSubspace(demo.N_COMPONENTS).fit(Z, data.y_train)
    copies = [net.transform(lift(np.roll(X_test, (down, right), (2, 3)))) for down in range(8) for right in range(8)]
    hits = [classifier.score(Z_test, data.y_test) for Z_test in copies]
    nearest = np.min([classifier.scores(Z_test) for Z_test in copies], axis=0).argmin(axis=1)
    # Features of shifts agree to single precision: a digit on the border of two classes may fall on either side.
    assert comparison.equivariant.test == pytest.approx(hits[0], abs=1 / 397)
    assert comparison.equivariant.shifts == pytest.approx(np.mean(hits), abs=1 / 397)
    assert comparison.invariant.test == pytest.approx(np.mean(nearest == data.y_test), abs=1 / 397)


@pytest.mark.parametrize("name", ["numpy", "auto"])
def test_backend(name: str) -> None:
    result = demo.compare(n_layers=2, backend=name)
    assert result.plain.net.backend == result.equivariant.net.backend != "auto"
    if name == "numpy":
        assert result.plain.net.backend == "numpy"


def test_table(comparison: demo.Comparison) -> None:
    given = dataclasses.replace(
        comparison,
        plain=dataclasses.replace(comparison.plain, test=0.984, shifts=0.169, seconds=0.1),
        equivariant=dataclasses.replace(comparison.equivariant, test=0.97, shifts=0.9695, seconds=2.0),
        invariant=dataclasses.replace(comparison.invariant, test=0.975, shifts=0.975, seconds=2.0),
    )
    head, rule, plain, equivariant, invariant, _, data, how, where = demo.table(given, threads=2).split("\n")
    assert head.split("  ")[0] == "network"
    assert set(rule) == {"-"}
    assert " ".join(plain.split()) == "plain vectors of 64 98.4% 16.9% 0.10 s 200 layers/s"
    assert " ".join(equivariant.split()) == "equivariant 12 x 8 x 8 images 97.0% 97.0% 2.00 s 10 layers/s"
    assert " ".join(invariant.split()) == "invariant 12 x 8 x 8 images 97.5% 97.5% 2.00 s 10 layers/s"
    assert how == "invariant: the equivariant network, and of each digit the translation that is nearest to a class"
    assert data == "20 layers from 1400 digits; 397 test digits, 25408 translated ones"
    assert where == f"backend {comparison.plain.net.backend}, 2 threads"
    assert demo.table(given, threads=1).endswith(", 1 thread")


def test_picture(comparison: demo.Comparison) -> None:
    figure = demo.draw(comparison)
    rates, accuracies, before, after = figure.axes[:4]
    np.testing.assert_array_equal(rates.lines[2].get_ydata(), comparison.equivariant.net.rates.delta)
    heights = [bar.get_height() for bar in accuracies.patches]
    assert heights == pytest.approx([100 * value for o in comparison.outcomes for value in (o.test, o.shifts)])
    n = 10 * demo.N_SHOWN_PER_CLASS
    for ax in (before, after):
        assert ax.images[0].get_array().shape == (n, n)
    same = np.kron(np.eye(10), np.ones((demo.N_SHOWN_PER_CLASS,) * 2)).astype(bool)
    contrast = [ax.images[0].get_array()[~same].mean() for ax in (before, after)]
    assert contrast[1] < 0.3 < 0.6 < contrast[0]  # digits of two classes: alike before, nearly orthogonal after
    assert "lifted digits" in before.get_title()
    assert "features" in after.get_title()


def test_main_prints_the_table_and_writes_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REDUNET_BACKEND", select()[0])  # by name: nobody is told that the engine is missing
    result = demo.main(tmp_path / "made" / "here", n_layers=2, n_threads=1)
    out, err = capsys.readouterr()
    picture = tmp_path / "made" / "here" / "redunet-demo.png"
    assert out == f"{demo.table(result, threads=1)}\n\npicture: {picture}\n"
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert "plain network: 1400 samples of 64" in err
    assert "translation-equivariant network: 1400 samples of 12 x 8 x 8" in err
    assert "Delta R=" in err  # the progress bar
    assert "2/2" in err
    demo.main(tmp_path, n_layers=1, progress=False)
    assert capsys.readouterr().err == ""
