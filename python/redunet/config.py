"""What this installation is and can do: `show_config`."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from redunet import __version__
from redunet._backends import select, status
from redunet._inputs import checks
from redunet.terminal import show


def configuration() -> dict[str, Any]:
    """Version, backends with the reason why one is unusable, SIMD level, threads and libraries.

    An environment variable that says something impossible is reported in the place of what it is about.

    Returns
    -------
    dict
        What `show_config` prints.
    """
    info: dict[str, Any] = {
        "redunet": __version__,
        "python": f"{platform.python_version()} ({sys.platform}, {platform.machine()})",
        "numpy": np.__version__,
        "selected backend": _or_why_not(lambda: select()[0]),
        "threads": _or_why_not(lambda: checks.threads(None)),
    }
    for name, state in status().items():
        info[f"backend {name}"] = state
    if info["backend cpu"] == "available":
        from redunet import _cpu
        from redunet._build_info import compiler

        levels = ", ".join(_cpu.simd_levels())
        info["SIMD level"] = _or_why_not(lambda: f"{_cpu.simd_level()} (usable: {levels})")
        info["compiler"] = str(compiler)
    if folder := os.environ.get("REDUNET_MNIST"):
        info["MNIST"] = folder if os.path.isdir(folder) else f"none: REDUNET_MNIST is {folder!r}, which is no folder"
    return info


def _or_why_not(value: Callable[[], Any]) -> Any:
    try:
        return value()
    except (RuntimeError, ValueError) as error:
        return f"none: {error}"


def show_config() -> None:
    """Print the configuration: version, backends with the reason why one can't be used, SIMD level, threads.

    Examples
    --------
    >>> import redunet as rn
    >>> rn.show_config()  # doctest: +ELLIPSIS
    redunet           ...
    """
    show("\n".join(f"{key:<17} {value}" for key, value in configuration().items()))
