"""Checks at the public boundary, done once, before any work.

Every message names the argument, what came, and what was expected. NaN and infinity are found where the samples are
read anyway (`redunet.fourier`), so that a memory-mapped input is read once.
"""

from __future__ import annotations

import math
import numbers
import operator
import os
from functools import cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from redunet import device

Array = npt.NDArray[Any]
#: The dtypes that are computed in, by their character codes.
FLOATS: dict[str, np.dtype[Any]] = {code: np.dtype(code) for code in "fdFD"}
SHAPES = "(m, d), (m, C, T) or (m, C, H, W)"


def samples(X: npt.ArrayLike, name: str = "X", *, on_device: bool = False) -> Array:
    """X as an array of 2 to 4 axes with numbers in it; not copied, not converted.

    With ``on_device`` it may be an array on a CUDA device, which then comes as one of the CUDA engine.
    """
    array: Any
    if on_device and device.holds(X):
        array = device.view(X, name)
    else:
        array = np.asanyarray(X) if isinstance(X, np.memmap) else np.asarray(X)
    if array.dtype.kind not in "fciub":
        raise TypeError(f"{name} has dtype {array.dtype}; expected real or complex numbers")
    if array.dtype.kind in "fc" and array.dtype.itemsize > (8 if array.dtype.kind == "f" else 16):
        raise TypeError(f"{name} has dtype {array.dtype}; expected at most double precision")
    if array.ndim not in (2, 3, 4):
        raise ValueError(f"{name} has shape {array.shape}; expected {SHAPES}")
    if 0 in array.shape:
        raise ValueError(f"{name} has shape {array.shape}; expected at least one sample, channel and point")
    return cast(Array, array)


def floating(dtype: npt.DTypeLike | None, array: Array, name: str = "dtype") -> np.dtype[Any]:
    """The dtype to compute in: as asked for, else the array's own (half: single; integers: double)."""
    if dtype is None:
        if array.dtype.kind in "iub":
            return FLOATS["d"]
        return FLOATS.get(array.dtype.char, FLOATS["f"])
    asked = np.dtype(dtype)
    if asked.char not in FLOATS:
        raise TypeError(f"{name} is {asked}; expected float32, float64, complex64 or complex128")
    if array.dtype.kind == "c" and asked.kind != "c":
        asked = np.dtype(np.complex64 if asked == np.float32 else np.complex128)
    return asked


def positive(value: Any, name: str) -> float:
    """A finite number > 0."""
    number = _number(value, name)
    if not number > 0:
        raise ValueError(f"{name} is {value!r}; expected a finite number > 0")
    return number


def non_negative(value: Any, name: str) -> float:
    """A finite number >= 0."""
    number = _number(value, name)
    if not number >= 0:
        raise ValueError(f"{name} is {value!r}; expected a finite number >= 0")
    return number


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} is {value!r} of type {type(value).__name__}; expected a number")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{name} is {value!r}; expected a finite number")
    return number


def integer(value: Any, name: str, least: int) -> int:
    """An integer >= least."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r} of type {type(value).__name__}; expected an integer") from None
    if isinstance(value, bool) or number < least:
        raise ValueError(f"{name} is {value!r}; expected an integer >= {least}")
    return number


def choice(value: Any, name: str, options: tuple[str, ...]) -> str:
    """One of a few words."""
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name} is {value!r}; expected one of {', '.join(map(repr, options))}")
    return value


def step_sizes(eta: Any, n_layers: int) -> npt.NDArray[np.float64] | None:
    """One step size per layer, or None for ``"auto"`` and ``"search"``."""
    if isinstance(eta, str):
        choice(eta, "eta", ("auto", "search"))
        return None
    etas = np.asarray(eta)
    if etas.dtype.kind not in "iuf":
        raise TypeError(f"eta is {eta!r}; expected a number, one number per layer, 'auto' or 'search'")
    if etas.ndim > 1 or (etas.ndim == 1 and len(etas) != n_layers):
        raise ValueError(f"eta has shape {etas.shape}; expected a number, or ({n_layers},): one per layer")
    if not (np.isfinite(etas).all() and (etas >= 0).all()):
        raise ValueError("eta holds a negative or non-finite step size; expected finite numbers >= 0")
    return np.broadcast_to(etas, n_layers).astype(np.float64)


def sample_weights(weights: npt.ArrayLike | None, m: int) -> npt.NDArray[np.float64] | None:
    """Weights of shape (m,), finite and >= 0."""
    if weights is None:
        return None
    array = np.asarray(weights)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"sample_weight has dtype {array.dtype}; expected real numbers")
    if array.shape != (m,):
        raise ValueError(f"sample_weight has shape {array.shape}; expected ({m},): one weight per sample")
    if not np.isfinite(array).all() or (array < 0).any():
        raise ValueError("sample_weight holds a negative or non-finite weight; expected finite weights >= 0")
    return np.ascontiguousarray(array, dtype=np.float64)


def membership(y: npt.ArrayLike, m: int) -> tuple[npt.NDArray[np.int64] | None, npt.NDArray[np.float64] | None, Array]:
    """Hard labels or soft membership, and the classes.

    Returns ``(labels, None, classes)`` with labels 0..k-1 for labels of any dtype and for a one-hot membership, else
    ``(None, Pi, classes)`` with Pi of shape (m, k), rows summing to 1 exactly.
    """
    array = np.asarray(y)
    if array.ndim not in (1, 2) or len(array) != m:
        raise ValueError(f"y has shape {array.shape}; expected labels ({m},) or a membership ({m}, k)")
    if array.ndim == 1:
        if array.dtype.kind in "fc" and not np.isfinite(array).all():
            raise ValueError("y holds a NaN or infinite label; expected a label for every sample")
        try:
            classes, labels = np.unique(array, return_inverse=True)
        except TypeError:
            raise TypeError("y holds labels that cannot be compared with one another; expected one type") from None
        return labels.astype(np.int64), None, classes
    if array.dtype.kind not in "fiub":
        raise TypeError(f"y is a membership of dtype {array.dtype}; expected real numbers")
    if array.shape[1] == 0:
        raise ValueError(f"y has shape {array.shape}; expected at least one class")
    Pi = array.astype(np.float64)
    if not np.isfinite(Pi).all() or (Pi < 0).any():
        raise ValueError("y is a membership with negative or non-finite entries; expected entries in [0, 1]")
    sums = Pi.sum(axis=1)
    # A row of k entries rounded to the array's precision sums to 1 within k/2 units; softmax adds a few more.
    unit = float(np.finfo(array.dtype).eps) if array.dtype.kind == "f" else 0.0
    allowed = (4 + array.shape[1]) * unit
    worst = int(np.argmax(np.abs(sums - 1)))
    if abs(sums[worst] - 1) > allowed:
        raise ValueError(f"y is a membership whose row {worst} sums to {sums[worst]:.9g}; expected rows that sum to 1")
    classes = np.arange(Pi.shape[1])
    if np.isin(Pi, (0.0, 1.0)).all():
        labels = Pi.argmax(axis=1).astype(np.int64)
        missing = np.setdiff1d(classes, labels)
        if len(missing):
            raise ValueError(f"y is a membership whose class {missing[0]} has no sample; expected no empty class")
        return labels, None, classes
    return None, Pi / sums[:, None], classes


def available_memory() -> int | None:
    """Bytes that can be had without swapping, where the system says (Linux)."""
    try:
        with open("/proc/meminfo") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def memory(needed: int, what: str) -> None:
    """A clear error before allocating what can't be had."""
    free = available_memory()
    if free is not None and needed > free:
        raise MemoryError(f"{what} need {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB of memory are available")


def threads(n_threads: Any) -> int:
    """The number of threads: as asked for, else ``REDUNET_NUM_THREADS``, else the cores this process may use."""
    if n_threads is not None:
        return integer(n_threads, "n_threads", 1)
    variable = os.environ.get("REDUNET_NUM_THREADS")
    if variable is not None:
        if not variable.isdigit() or int(variable) < 1:
            raise ValueError(f"REDUNET_NUM_THREADS is {variable!r}; expected an integer >= 1")
        return int(variable)
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return max(1, min(cores, _cgroup_cores()))


@cache
def _cgroup_cores() -> int:
    """Whole cores that the control group (containers) grants; a large number where there is no limit."""
    try:
        with open("/sys/fs/cgroup/cpu.max") as lines:
            quota, period = lines.read().split()
        return math.ceil(int(quota) / int(period))
    except (OSError, ValueError):
        return 1 << 20
