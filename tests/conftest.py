"""What all tests share: the backends that can run here, and Hypothesis' settings.

The fixture `backend` runs a test once for each backend of `MODULES`: numpy, cpu at every SIMD level of this processor,
and cuda where a device answers or the module is built to be run on the host. REDUNET_TEST_BACKENDS=cuda runs that only.
A backend that REDUNET_REQUIRE_BACKENDS names ("cpu", "cuda" or "cpu,cuda") must be usable: its tests fail, not skip.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType

import pytest
from hypothesis import HealthCheck, settings

# The matrices of the tests are tiny: threads of NumPy's BLAS would only wait for one another on a busy machine.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import redunet as rn
from redunet._backends import MODULES, select, status
from redunet._backends.contract import DeviceBackend

sys.path.insert(0, str(Path(__file__).parent))  # for `oracle`, whatever the import mode

REQUIRED = os.environ.get("REDUNET_REQUIRE_BACKENDS", "").split(",")

# The backend is chosen once per test, not once per example: that is what the suppressed check is about.
settings.register_profile(
    "redunet",
    max_examples=25,
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("redunet")


def _backends() -> list[str]:
    if os.environ.get("REDUNET_TEST_BACKENDS") == "cuda":
        return ["cuda"]
    return [backend for name in reversed(MODULES) for backend in _kinds(name)]


def _kinds(name: str) -> list[str]:
    if name == "cuda" and "cuda" not in REQUIRED and status()["cuda"] != "available":
        return []
    if name != "cpu" or importlib.util.find_spec("redunet._cpu") is None:
        return [name]  # what is not there fails or skips below, and says why
    from redunet import _cpu

    return [f"cpu-{level}" for level in _cpu.simd_levels()]


@pytest.fixture(params=_backends())
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a backend, which is also the default while the test runs."""
    with _default(request.param) as name:
        yield name


@pytest.fixture
def compiled(backend: str) -> str:
    """`backend` for what engines have that are not written in Python."""
    if isinstance(select()[1].build, FunctionType):
        pytest.skip("not compiled")
    return backend


@pytest.fixture
def host(backend: str) -> str:
    """`backend` for what reads the host's memory alone."""
    if isinstance(select()[1], DeviceBackend):
        pytest.skip("its memory is a device's")
    return backend


@pytest.fixture(params=[name for name in _backends() if name.startswith("cpu")])
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """`backend` for what the CPU engine alone has."""
    with _default(request.param) as name:
        yield name


@contextmanager
def _default(backend: str) -> Iterator[str]:
    name, _, level = backend.partition("-")
    if name == "cpu" and not level:
        (pytest.fail if "cpu" in REQUIRED else pytest.skip)("redunet._cpu is not built")
    if name == "cuda" and status()["cuda"] != "available":
        pytest.fail(f"CUDA was asked for and cannot be used: {status()['cuda']}")
    with rn.use_backend(name):
        if not level:
            yield name
            return
        from redunet import _cpu

        before = _cpu.simd_level()
        _cpu.set_simd(level)
        yield name
        _cpu.set_simd(before)
