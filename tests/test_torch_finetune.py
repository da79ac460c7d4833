"""The experiment on fine-tuning, small: it says what it did, repeats, and trains what it says."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from strokes import check_report, write_strokes
from torch_support import import_torch

torch = import_torch()
pytest.importorskip("matplotlib")
from redunet import experiments  # noqa: E402
from redunet.experiments import digits, finetune  # noqa: E402

SMALL = {"n_layers": 2, "n_train": 6, "n_test": 3, "epochs": 1}


@pytest.fixture(autouse=True)
def _few_channels(monkeypatch):
    monkeypatch.setattr(finetune, "C", 4)


@pytest.fixture(scope="module")
def strokes(tmp_path_factory):
    return write_strokes(tmp_path_factory.mktemp("strokes"))


def test_report(strokes, tmp_path):
    made = experiments.run("finetune", experiments.Options(**SMALL, data=strokes))
    check_report(made, tmp_path)
    rows = made.tables["Accuracy on test digits"]
    names = [row["network"] for row in rows]
    assert names[:2] == ["construction", "construction, head trained"]
    assert names[-4] == "no network, head trained"
    assert [row["head"] for row in rows[-3:]] == ["0.8980", "0.9320", "0.9780"]
    assert {row["layers"] for row in rows[:-3]} == {2, None}
    assert len(made.series["one-hot gates, 0.5, before training"]) == 2


def test_ways_train_what_they_say(strokes):
    options = experiments.Options(data=strokes)
    data = digits.mnist(options)
    built, _ = finetune.construct(data, 0, "auto", 1, 5, options)
    module = finetune.torch_network()(built.net, learn=())
    train, test = (finetune.spectra(module, *some, 0) for some in finetune.digits_of(data, 6, 3, 0))
    before = torch.from_numpy(np.concatenate([built.net.layers[0].E[None], built.net.layers[0].Cs]))
    change, lam = {}, {}
    for way in finetune.WAYS:
        trained, accuracy, near, _ = finetune.train_network(built, way, train, test, 1, 0)
        again, other, _, _ = finetune.train_network(built, way, train, test, 1, 0)
        assert torch.equal(trained.layers[0].operators, again.layers[0].operators), way.name
        assert accuracy == other, way.name
        assert 0 <= near <= 1, way.name
        now = torch.from_numpy(trained.to_network().operators.dense[0].copy()).permute(0, 2, 3, 1)
        change[way.name] = float((now - before.reshape(now.shape)).norm() / before.norm())
        lam[way.name] = trained.to_network().lam
    for way in finetune.WAYS:  # a step of Adam is a rate long: little beside operators that are other ones
        assert (change[way.name] > 0.5) == way.random, change
        assert (lam[way.name] not in (finetune.LAM, finetune.SOFT_LAM)) == ("lam" in way.learn), lam
    assert len({round(value, 9) for value in change.values()}) == len(change) - 1  # lambda moves, and they with it less


def test_a_head_alone_learns(strokes):
    data = digits.mnist(experiments.Options(data=strokes))
    found = dict(finetune.without_network(data, experiments.Options(data=strokes), 0, 5, 30))
    assert found["no network, head trained"][0] > 0.6  # of ten classes


def test_pytorch_is_asked_for_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "redunet.torch")
    with pytest.raises(ImportError, match=r"^this experiment needs PyTorch: pip install 'redunet\[torch\]'$"):
        finetune.torch_network()
