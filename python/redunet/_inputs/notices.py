"""Warnings, said of the user's own line: the first one outside the package that led to them."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

_PACKAGE = str(Path(__file__).resolve().parents[1]) + os.sep


def warn(message: str) -> None:
    """A `UserWarning` whose place is the line that called the package."""
    warnings.warn(message, UserWarning, stacklevel=_of_the_user())


def _of_the_user() -> int:
    """The ``stacklevel``, for the caller, of the first line that is not the package's."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    return level
