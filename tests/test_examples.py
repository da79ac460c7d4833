"""The examples run as they stand, without a warning, and say what they should."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import redunet as rn

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
README = EXAMPLES.parent / "README.md"


def run(name: str, *arguments: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_quickstart(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    out = run("quickstart.py", folder=tmp_path)
    assert out.startswith("ReduNet(30 layers, 10 classes, C=16 on 8×8, float64;")
    test, shifts = (float(number) for number in re.findall(r": +(0\.\d+)\n", out))
    assert test > 0.92
    assert shifts > 0.92
    assert rn.load(tmp_path / "digits.safetensors").n_layers == 30


def test_the_readme_shows_the_quickstart() -> None:
    """What a reader of the README copies is what is tested here."""
    (shown,) = re.findall(r"```python\n(import redunet.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    code = (EXAMPLES / "quickstart.py").read_text(encoding="utf-8")
    assert shown == code[code.index("import redunet") :]


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
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
        for name, values in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
            head = bytes([0, 0, 8, values.ndim]) + b"".join(n.to_bytes(4, "big") for n in values.shape)
            (folder / name).write_bytes(head + values.tobytes())
    return folder


SMALL = ("--layers", "12", "--auto-layers", "5", "--angles", "24", "--n-train", "15", "--components", "3")


@pytest.mark.parametrize("sampling", ["compat", "clean"])
def test_mnist_rotation(sampling: str, mnist: Path, tmp_path: Path) -> None:
    if sampling == "compat":
        pytest.importorskip("scipy")
    extra = ("--clean",) if sampling == "clean" else ("--markdown", "table.md", "--plain-stride", "6")
    out = run("mnist_rotation.py", "--data", str(mnist), *SMALL, "--json", "r.json", *extra, folder=tmp_path)
    assert out.startswith("30 training digits, 30 test digits, C = 5, T = 24\n")
    content = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    results = content["results"]
    kinds = [(r["network"], r["eta"], r["n_layers"]) for r in results]
    assert kinds == [
        ("none", "", 0),
        ("plain", "auto", 5),
        ("invariant", "auto", 5),
        ("plain", "0.5", 12),
        ("invariant", "0.5", 12),
    ]
    n_plain = 3 if sampling == "clean" else 4
    assert [r["n_shifts"] for r in results] == [24, n_plain, 24, n_plain, 24]
    for r in results:
        assert 0 <= r["shifts"] <= 1
        if r["network"] == "invariant":
            assert r["test"] == 1
            assert r["shifts"] == 1
            assert r["delta"] > 0
    assert content["settings"]["clean"] == (sampling == "clean")
    assert content["machine"]["redunet"] == rn.__version__
    assert out.count("\n|") == 2 + 5 + 2
    assert "| invariant, in the lecture | 0.5 | 3500 | 0.996 | 0.993 | all | | |" in out
    if sampling == "compat":
        assert out.endswith((tmp_path / "table.md").read_text(encoding="utf-8"))


def test_mnist_rotation_without_the_plain_network(mnist: Path, tmp_path: Path) -> None:
    arguments = ("--data", str(mnist), *SMALL, "--clean", "--skip-plain", "--backend", "numpy")
    out = run("mnist_rotation.py", *arguments, folder=tmp_path)
    assert "| plain |" not in out
    assert out.count("| invariant |") == 2
