"""The examples run as they stand, without a warning, and say what they should."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

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
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_quickstart(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    out = run("quickstart.py", folder=tmp_path)
    assert out.startswith("ReduNet(30 layers, 10 classes, C=16 on 8x8, float64;")
    test, shifts, best = (float(number) for number in re.findall(r": +(0\.\d+)\n", out))
    assert test > 0.92
    assert shifts > 0.92
    assert best > shifts
    assert rn.load(tmp_path / "digits.safetensors").n_layers == 30


def test_the_readme_shows_the_quickstart() -> None:
    """What a reader of the README copies is what is tested here."""
    (shown,) = re.findall(r"```python\n(import redunet.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    code = (EXAMPLES / "quickstart.py").read_text(encoding="utf-8")
    assert shown == code[code.index("import redunet") :]


def test_what_the_documentation_shows_of_stopping_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (EXAMPLES.parent / "docs" / "howto.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) == 5
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)
    assert names["longer"].n_layers == 50
    assert rn.load(names["file"]).n_layers == 300
    assert names["short"].n_layers < 20
    assert len(names["scores"]) == 20


def test_what_the_documentation_shows_of_sparse_codes() -> None:
    page = (EXAMPLES.parent / "docs" / "sparse.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    first, second = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    exec(first, names)
    assert 0 < (names["codes"] != 0).mean() < 0.3
    exec(second, names)
    assert names["codes"].shape == (3, 8, 28, 28)
