"""The examples in the docstrings of `redunet.torch`, which pytest doesn't collect where there is no PyTorch."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
from torch_support import import_torch

torch = import_torch()
import redunet.torch  # noqa: E402

MODULES = ["redunet.torch", *(m.name for m in pkgutil.walk_packages(redunet.torch.__path__, "redunet.torch."))]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    torch.manual_seed(0)
    module = importlib.import_module(name)
    found = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert found.failed == 0


def test_every_public_name_has_an_example():
    """But for the sizes of a model, which say what they are in a line, and tuples of results."""
    for name in (*redunet.torch.__all__, *redunet.torch.crate.__all__):
        thing = getattr(redunet.torch, name, None) or getattr(redunet.torch.crate, name)
        if not name.startswith(("crate_", "tost_")) and not hasattr(thing, "_fields"):
            assert ">>>" in (thing.__doc__ or ""), name


def names_of_page(page):
    """What the one block of code of a page of the documentation leaves."""
    text = (Path(__file__).resolve().parents[1] / "docs" / page).read_text(encoding="utf-8")
    names = {}
    (block,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    exec(block, names)
    return names


def test_the_page_of_losses():
    names = names_of_page("losses.md")
    assert (names["rate"] - names["class_rate"]).item() == pytest.approx(names["delta"].item(), abs=1e-5)
    assert names["delta"] > 0.1


def test_the_page_of_transformers():
    names = names_of_page("crate.md")
    assert names["logits"].shape == (50, 10)
    assert names["tokens"].shape == (50, 50, 96)
    assert len(names["layers"]) == 6


def test_the_package_does_not_import_pytorch():
    code = "import sys, redunet; redunet.sparse; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
