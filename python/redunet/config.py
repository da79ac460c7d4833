"""What this installation is and can do: `show_config`."""

from __future__ import annotations

import platform
import sys
from typing import Any

import numpy as np

from redunet import __version__, checks
from redunet._backends import select, status


def configuration() -> dict[str, Any]:
    """Version, backends with the reason why one is unusable, SIMD level, threads and libraries.

    Returns
    -------
    dict
        What `show_config` prints.
    """
    info: dict[str, Any] = {
        "redunet": __version__,
        "python": f"{platform.python_version()} ({sys.platform}, {platform.machine()})",
        "numpy": np.__version__,
        "selected backend": select()[0],
        "threads": checks.threads(None),
    }
    for name, state in status().items():
        info[f"backend {name}"] = state
    if info["backend cpu"] == "available":
        from redunet import _cpu
        from redunet._build_info import compiler

        info["SIMD level"] = f"{_cpu.simd_level()} (usable: {', '.join(_cpu.simd_levels())})"
        info["compiler"] = str(compiler)
    return info


def show_config() -> None:
    """Print the configuration: version, backends with the reason why one can't be used, SIMD level, threads.

    Examples
    --------
    >>> import redunet as rn
    >>> rn.show_config()  # doctest: +ELLIPSIS
    redunet           ...
    """
    for key, value in configuration().items():
        print(f"{key:<17} {value}")
