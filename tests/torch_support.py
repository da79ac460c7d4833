"""PyTorch for the tests of `redunet.torch`: where it is missing they skip, unless REDUNET_REQUIRE_TORCH is set."""

from __future__ import annotations

import importlib
import os
import shutil
from types import ModuleType

import pytest

#: Of what PyTorch's own compiler makes code for, in about ten seconds.
makes_code = pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="no C++ compiler")


def import_torch() -> ModuleType:
    """The module, on one thread: tests are small; or the module that calls is skipped."""
    if not os.environ.get("REDUNET_REQUIRE_TORCH"):
        pytest.importorskip("torch", reason="PyTorch is not installed")
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)
    return torch
