"""A short run of the randomised differential test, always the same; `python -m bench.fuzz` goes on from there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import redunet as rn
from redunet._backends import status


@pytest.mark.skipif(status()["cpu"] != "available", reason="there is no engine to compare")
def test_the_engine_agrees_with_numpy(monkeypatch, capsys):
    assert rn.__version__
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    from bench import fuzz

    try:
        code = fuzz.main(["--seed", "1", "--cases", "240", "--seconds", "60"])
    finally:
        sys.modules.pop("bench", None)
    assert code == 0, capsys.readouterr().out
