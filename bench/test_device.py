"""The PyTorch rival of the CUDA engine builds the same networks, and its table can be made, on the CPU."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bench import device  # noqa: E402
from bench.baselines.torch_device import TorchDevice  # noqa: E402
from bench.workloads import NAMES, Workload  # noqa: E402

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", NAMES)
def test_the_rival_builds_the_same_network(workload: Callable[[str], Workload], name: str) -> None:
    """To the rounding of single precision in two layers, which lam = 500 makes larger."""
    assert device.difference(workload(name), CPU, "auto") < 1e-3


def test_the_rival_has_both_kinds_of_operators() -> None:
    """Small classes as factors, unequal ones one by one."""
    rng = np.random.default_rng(0)
    for sizes, factored in (((3, 3), True), ((20, 13), False), ((9, 9), False)):
        y = np.repeat(np.arange(2), sizes)
        X = rng.standard_normal((len(y), 7, 6)).astype(np.float32)
        few = Workload("few", X, y, X, n_classes=2, n_layers=2, lam=5.0)
        assert TorchDevice(X, few, CPU).factored == factored
        assert device.difference(few, CPU, "auto") < 1e-5


def test_the_table(capsys: pytest.CaptureFixture[str], tmp_path: object) -> None:
    path = f"{tmp_path}/times.json"
    device.main(["--device", "cpu", "--small", "--only", "gauss2d", "wide1d", "--rounds", "1", "--json", path])
    printed = capsys.readouterr().out
    assert "copy TB/s" in printed
    assert "wide1d " in printed
    with open(path) as file:
        found = json.load(file)
    assert set(found["gauss2d"]["us"]) == {"kept", "features", "watched", "auto", "PyTorch"}
    assert found["wide1d"]["difference"] < 1e-3
