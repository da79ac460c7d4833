"""Arrays as backends read them, and as other libraries have them; those of a CUDA device need not leave it.

They are read through DLPack, or ``__cuda_array_interface__`` where a library has no DLPack, after all that the library
has put on its stream. What comes back is an array of the same library, whose numbers are there already.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet._backends import require

Array = npt.NDArray[Any]

# DLPack's numbers of kinds of devices: CUDA's memory, and memory that CUDA manages.
_CUDA = (2, 13)


def plain(array: Array, dtype: np.dtype[Any]) -> Array:
    """The numbers as backends read them, of this dtype, in C order and aligned; copied only where they aren't."""
    array = np.asarray(array, dtype, order="C")
    return array if array.flags.aligned else array.copy()


def holds(X: Any) -> bool:
    """Whether X is an array on a CUDA device."""
    if isinstance(X, (np.ndarray, list, tuple)):
        return False
    device = getattr(X, "__dlpack_device__", None)
    if device is None:
        return hasattr(X, "__cuda_array_interface__")
    try:
        return device()[0] in _CUDA
    except (RuntimeError, ValueError):  # a device that DLPack has no number for
        return False


def view(X: Any, name: str) -> Any:
    """X as an array of the CUDA engine: the same memory, seen with ``shape``, ``ndim``, ``dtype`` and a length.

    Raises
    ------
    RuntimeError
        If the engine can't be used.
    TypeError, ValueError
        If X is not C-contiguous numbers of single or double precision.
    """
    module = require("cuda", f"{name} lies on a CUDA device")
    return X if isinstance(X, module.Array) else module.view(X, name)


def give_back(Z: Any, *given: Any) -> Any:
    """Z, of NumPy or the CUDA engine, as an array of the first library among those given that is neither.

    It is the same memory, by DLPack; Z as it is, where all that was given is of NumPy, or has no ``from_dlpack``.
    """
    for X in given:
        if not isinstance(X, (np.ndarray, np.generic, list, tuple, int, float, complex)):
            from_dlpack = _from_dlpack(X)
            if from_dlpack is not None:
                return from_dlpack(np.asarray(Z) if isinstance(Z, np.generic) else Z)
    return Z


def _from_dlpack(X: Any) -> Any:
    """The function of X's library, which X names as the array API says, or its class's module is in; or None."""
    if hasattr(X, "__array_namespace__"):
        return getattr(X.__array_namespace__(), "from_dlpack", None)
    libraries = (sys.modules.get(kind.__module__.partition(".")[0]) for kind in type(X).__mro__)
    found = (getattr(library, "from_dlpack", None) for library in libraries)
    return next((function for function in found if function is not None), None)
