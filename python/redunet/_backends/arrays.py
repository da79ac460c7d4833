"""Arrays as backends read them; and samples that lie on a CUDA device, which come in and go back without leaving it.

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


def give_back(Z: Any, X: Any) -> Any:
    """Z, an array of the CUDA engine, as an array of X's library; as it is where that has no ``from_dlpack``."""
    from_dlpack = getattr(sys.modules.get(type(X).__module__.partition(".")[0]), "from_dlpack", None)
    return Z if from_dlpack is None else from_dlpack(Z)
