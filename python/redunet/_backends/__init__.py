"""Choosing the backend: `select` is the one place that does.

``auto`` takes ``_cuda`` for what lies on a device, and where it pays to go there; else the compiled ``_cpu`` engine
when it is there, else NumPy, and never fails. A backend that is asked for by name and can't run is an error that says
why.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, Literal, cast

import numpy as np

from redunet._backends.contract import Backend
from redunet._backends.host_contract import HostBackend

#: In order of preference, with the module that holds each.
MODULES = {"cuda": "redunet._cuda", "cpu": "redunet._cpu", "numpy": "redunet._backends.numpy_backend"}
NAMES = ("auto", *MODULES)

#: Multiply-adds on arrays of the host from which ``auto`` takes a device: one core of the CPU engine does as many in a
#: second or two. The first call that goes there starts the driver and opens cuBLAS and cuFFT, about a second and half a
#: GB of the device in every process; one that comes later costs milliseconds. A model: it was not measured on a device.
LEAST_WORK = 2e10

_default: ContextVar[str | None] = ContextVar("redunet_backend", default=None)


@cache
def _load(name: str) -> tuple[Backend | None, str]:
    """The backend module, or None and the reason why it can't be used."""
    try:
        module = importlib.import_module(MODULES[name])
        if name == "cuda" and (reason := _cuda_unusable(module)):
            return None, reason
        return cast(Backend, module), ""
    except ImportError as error:
        if name == "cuda":
            if importlib.util.find_spec(MODULES[name]) is None:
                return None, "it is not in this installation: pip install . -C cmake.define.REDUNET_CUDA=ON builds it"
            return None, f"the compiled extension could not be imported: {error}"
        if name == "cpu":
            try:
                from redunet._build_info import cpu_missing
            except ImportError:
                cpu_missing = None
            return None, cpu_missing or f"the compiled extension could not be imported: {error}"
        raise


def _cuda_unusable(module: Any) -> str:
    """Why CUDA can't be used, or "". Asking starts the driver, which does not survive a fork."""
    if _forked_after_cuda:
        return 'CUDA was started before this process was forked; use multiprocessing\'s "spawn" or "forkserver"'
    reason: str = module.why_unusable()
    if reason:
        return reason
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forget_cuda)
    wheels = importlib.util.find_spec("nvidia")
    homes = wheels.submodule_search_locations or () if wheels else ()
    found = (os.path.join(home, *place) for home in homes for place in _OF_WHEELS)
    module.set_library_folders([folder for folder in found if os.path.isdir(folder)])
    return ""


_forked_after_cuda = False

#: Where NVIDIA's packages have cuBLAS and cuFFT: those of CUDA 13, then those of CUDA 12.
_OF_WHEELS = ("cu13", "lib"), ("cublas", "lib"), ("cufft", "lib")


def _forget_cuda() -> None:
    global _forked_after_cuda
    _forked_after_cuda = True
    _load.cache_clear()


def _checked(name: Any, origin: str) -> str:
    if not isinstance(name, str) or name not in NAMES:
        raise ValueError(f"{origin} is {name!r}; expected one of {', '.join(map(repr, NAMES))}")
    return str(name)


# `os.environ.get` of a variable that isn't set raises and catches an error inside, which takes as long as the Cholesky
# factor of a small matrix; the mapping below it, where there is one, doesn't.
_ENVIRONMENT = getattr(os.environ, "_data", os.environ)
_KEY = getattr(os.environ, "encodekey", str)("REDUNET_BACKEND")


def _from_environment() -> str:
    if _ENVIRONMENT.get(_KEY) is None:
        return "auto"
    return _checked(os.environ["REDUNET_BACKEND"], "REDUNET_BACKEND")


def select(name: str = "auto", *, work: float = 0.0) -> tuple[str, Backend]:
    """The name and the module of the backend to use.

    An explicit ``name`` wins over `use_backend`, which wins over the environment variable ``REDUNET_BACKEND``. For so
    many multiply-adds, ``work``, ``auto`` takes a device if they are `LEAST_WORK`; else one whose memory is the host's.

    Raises
    ------
    ValueError
        If the name is unknown.
    RuntimeError
        If the backend that was asked for can't run; the message says why.
    """
    _checked(name, "backend")
    if name == "auto":
        name = _default.get() or _from_environment()
    if name != "auto":
        return name, require(name)
    for candidate in MODULES if work >= LEAST_WORK else list(MODULES)[1:]:
        backend, _ = _load(candidate)
        if backend is not None and _is_for_auto(backend):
            return candidate, backend
    raise AssertionError("the NumPy backend is always there")


def _is_for_auto(backend: Any) -> bool:
    """Not an emulation, which is for tests, and no device that has failed since it was loaded."""
    return not getattr(backend, "emulated", False) and not getattr(backend, "why_unusable", str)()


def select_for(array: Any, name: str = "auto", work: float = 0.0) -> tuple[str, Backend]:
    """`select` for samples that may lie on a CUDA device, where no other backend reaches them."""
    if isinstance(array, np.ndarray):
        return select(name, work=work)
    chosen = _default.get() or _from_environment() if _checked(name, "backend") == "auto" else name
    if chosen not in ("auto", "cuda"):
        raise RuntimeError(f"backend {chosen!r} cannot be used: the samples lie on a CUDA device")
    return select("cuda")


def select_with(function: str, name: str = "auto") -> HostBackend:
    """The module that has a function for a backend: itself, or while it lacks it, the fastest on the host that can."""
    module: Any = select(name)[1]
    if not hasattr(module, function):
        candidates = (_load(other)[0] for other in list(MODULES)[1:])
        module = next(candidate for candidate in candidates if hasattr(candidate, function))
    return cast(HostBackend, module)


def require(name: str, why: str = "") -> Any:
    """The module of a backend, or an error that says why it can't be used."""
    backend, reason = _load(name)
    if backend is None:
        raise RuntimeError(f"{why + ', and ' if why else ''}backend {name!r} cannot be used: {reason}")
    return backend


def instead_of_engine(name: str = "auto") -> str:
    """Where NumPy is what computes and nobody asked for it: why, and what to do, in one line; else ""."""
    chosen = _default.get() or _from_environment() if _checked(name, "backend") == "auto" else name
    if chosen != "auto" or select()[0] != "numpy":
        return ""
    return (
        f"the compiled engine is missing, so that NumPy computes the same, many times more slowly: {_load('cpu')[1]}. "
        "Install it again with a C++20 compiler and Python's headers (Debian and Ubuntu: apt install g++ python3-dev): "
        "pip install --force-reinstall --no-deps --no-cache-dir redunet, or . in a clone"
    )


def status() -> dict[str, str]:
    """Every backend with "available" or the reason why it can't be used."""
    return {name: _load(name)[1] or "available" for name in MODULES}


def empty_cache() -> int:
    """Give memory that the CUDA engine holds idle back to its devices, for other libraries.

    What a call no longer needs stays with the engine, up to a quarter of a device, so that the next call finds it. What
    networks and arrays live in is kept. Nothing is done, and no driver started, where CUDA has not been used.

    Returns
    -------
    int
        How many bytes that was.

    Examples
    --------
    >>> import redunet as rn
    >>> rn.empty_cache() >= 0
    True
    """
    module: Any = sys.modules.get(MODULES["cuda"])
    return 0 if module is None or _forked_after_cuda else int(module.release_idle())


@contextmanager
def use_backend(name: Literal["auto", "cuda", "cpu", "numpy"]) -> Iterator[None]:
    """Use a backend for every call in the block that does not name one itself.

    Parameters
    ----------
    name : {"auto", "cuda", "cpu", "numpy"}
        ``auto`` takes what ``REDUNET_BACKEND`` names, or else a CUDA device where samples or the network lie on one, or
        there is much to do; else the fastest on the host that can run.

    Raises
    ------
    ValueError
        If the name is unknown.
    RuntimeError
        If that backend can't run here; the message says why.

    Examples
    --------
    >>> import redunet as rn
    >>> with rn.use_backend("numpy"):
    ...     net, Z = rn.build([[1.0, 0.0], [0.0, 1.0]], [0, 1], n_layers=1)
    >>> net.backend
    'numpy'
    """
    select(_checked(name, "backend"))
    token = _default.set(None if name == "auto" else name)
    try:
        yield
    finally:
        _default.reset(token)
