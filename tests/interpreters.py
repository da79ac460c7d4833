"""Fresh interpreters for tests of what happens to a whole process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import Any

#: Ctrl-C is heard also where the tests run in the background of a shell, which ignores it; and a deadline.
PREAMBLE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
getattr(signal, "alarm", int)(300)
"""


def python(code: str, **options: Any) -> subprocess.Popen[str]:
    """An interpreter that runs ``code`` for at most five minutes; warnings are errors, the SIMD level is this one's."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    if "redunet._cpu" in sys.modules:
        environment["REDUNET_SIMD"] = sys.modules["redunet._cpu"].simd_level()
    environment.update(options.pop("env", {}))
    command = [sys.executable, "-W", "error", "-c", PREAMBLE + textwrap.dedent(code)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def output(code: str, **options: Any) -> str:
    """What ``code`` prints; it must end by itself, in time and without an error."""
    process = python(code, **options)
    try:
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, err) == (0, ""), f"it ended with {process.returncode}: {err}"
    return out
