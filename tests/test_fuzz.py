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
    from bench.fuzz.__main__ import main

    try:
        code = main(["--seed", "1", "--cases", "280", "--seconds", "60"])
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "bench"]:
            del sys.modules[name]
    assert code == 0, capsys.readouterr().out
