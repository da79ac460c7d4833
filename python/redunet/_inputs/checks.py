"""Checks at the public boundary, done once, before any work.

Every message names the argument, what came, and what was expected. NaN and infinity are found where the samples are
read anyway (`redunet.transforms.cyclic`), so that a memory-mapped input is read once. Whatever is array-like comes in
through `array`.
"""

from __future__ import annotations

import math
import numbers
import operator
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from redunet._backends import arrays
from redunet._inputs import control_groups, words
from redunet.transforms.groups import GROUPS

Array = npt.NDArray[Any]
#: The dtypes that are computed in, by their character codes.
FLOATS: dict[str, np.dtype[Any]] = {code: np.dtype(code) for code in "fdFD"}
#: What labels in an array of objects may be.
SCALARS = (str, bytes, bool, int, float, np.generic)
#: Bytes of the longest label in an array of any other dtype.
LONGEST_LABEL = 1 << 20
SHAPES = "(m, d), (m, C, T) or (m, C, H, W)"


def array(value: Any, name: str) -> Array:
    """Any array-like as an array of NumPy: the one way in, for numbers and for labels.

    Nothing is copied where there is memory to look at. Columns of pandas that may hold missing numbers become floats,
    with NaN for those. What NumPy would misread is refused, see `readable`.
    """
    if type(value) is np.ndarray or isinstance(value, np.memmap):
        return value
    readable(value, name)
    try:
        result = np.asarray(value)
        if result.dtype.kind == "O" and (dtype := _dtype_of_columns(value)) is not None:
            result = value.to_numpy(dtype=dtype, na_value=np.nan)
    except MemoryError:
        raise
    except Exception as error:  # of other libraries, for reasons of their own
        if isinstance(value, (list, tuple)) and isinstance(error, ValueError):
            raise ValueError(f"{name} has rows that differ in shape; expected an array: {error}") from None
        kind = type(value).__name__
        raise TypeError(f"{name} is a {kind} that NumPy can't read; expected an array: {error}") from error
    return result


def readable(value: Any, name: str, *, on_device: bool = False) -> None:
    """An error for what would lose something as an array: masks, zeros that are not stored, gradients.

    With ``on_device`` the memory of a CUDA device counts as readable.
    """
    if n_masked := _n_masked(value):
        raise ValueError(f"{name} has {n_masked} masked entries; expected none: fill them, or drop their samples")
    if hasattr(value, "nnz") and (hasattr(value, "toarray") or hasattr(value, "todense")):
        raise TypeError(f"{name} is a sparse {type(value).__name__}; expected a dense array: pass {name}.toarray()")
    if getattr(value, "requires_grad", False) is True:
        raise TypeError(f"{name} is a {type(value).__name__} that requires gradients: pass {name}.detach()")
    if str(getattr(value, "dtype", "")).endswith("bfloat16"):
        raise TypeError(f"{name} has dtype {value.dtype}, which NumPy doesn't know: convert it to float32")
    if not on_device and getattr(getattr(value, "device", None), "type", "cpu") != "cpu":
        raise TypeError(f"{name} lies on the device {value.device}; expected the host's memory: pass {name}.cpu()")


def _n_masked(value: Any) -> int:
    """Masked entries of an array, or of those in lists, which NumPy would read without their masks."""
    ma = sys.modules.get("numpy.ma")  # which NumPy imports at its first use: without it, nothing is masked
    if ma is None:
        return 0
    if isinstance(value, ma.MaskedArray):
        return int(np.count_nonzero(ma.getmaskarray(value)))
    nested = (list, tuple, ma.MaskedArray)
    if isinstance(value, (list, tuple)) and any(issubclass(kind, nested) for kind in set(map(type, value))):
        return sum(map(_n_masked, value))
    return 0


def _dtype_of_columns(frame: Any) -> np.dtype[Any] | None:
    """The floating dtype for columns of pandas, all of numbers but of several dtypes or nullable ones; else None."""
    if not hasattr(frame, "to_numpy"):
        return None
    columns = np.atleast_1d(np.array(getattr(frame, "dtypes", getattr(frame, "dtype", None)), dtype=object)).tolist()
    kinds = [getattr(dtype, "numpy_dtype", dtype) for dtype in columns]
    if not all(isinstance(kind, np.dtype) and kind.kind in "fciub" for kind in kinds):
        return None
    return floating(None, np.empty(0, np.result_type(*kinds)))


def samples(X: npt.ArrayLike, name: str = "X", *, on_device: bool = False) -> Array:
    """X as an array of 2 to 4 axes with numbers in it; not copied, not converted.

    With ``on_device`` it may be an array on a CUDA device, which then comes as one of the CUDA engine.
    """
    given: Any
    if on_device and arrays.holds(X):
        readable(X, name, on_device=True)
        given = arrays.view(X, name)
    else:
        given = array(X, name)
    numeric(given, name)
    if given.ndim not in (2, 3, 4):
        raise ValueError(f"{name} has shape {given.shape}; expected {SHAPES}")
    if 0 in given.shape:
        raise ValueError(f"{name} has shape {given.shape}; expected at least one sample, channel and point")
    return cast(Array, given)


def numeric(given: Array, name: str) -> None:
    """An array of real or complex numbers, of at most double precision."""
    if given.dtype.kind not in "fciub":
        cure = f": pass {name}.astype(float) if those are what it holds" if given.dtype.kind == "O" else ""
        raise TypeError(f"{name} has dtype {given.dtype}; expected real or complex numbers{cure}")
    if given.dtype.kind in "fc" and given.dtype.itemsize > (8 if given.dtype.kind == "f" else 16):
        raise TypeError(f"{name} has dtype {given.dtype}; expected at most double precision")


def floating(dtype: npt.DTypeLike | None, array: Array, name: str = "dtype") -> np.dtype[Any]:
    """The dtype to compute in: as asked for, else the array's own (half: single; integers: double)."""
    if dtype is None:
        if array.dtype.kind in "iub":
            return FLOATS["d"]
        return FLOATS.get(array.dtype.char, FLOATS["f"])
    try:
        given = np.dtype(dtype)
    except (TypeError, ValueError):
        raise TypeError(f"{name} is {dtype!r}; expected float32, float64, complex64 or complex128") from None
    asked = FLOATS.get(given.char)  # in the machine's order of bytes
    if asked is None:
        raise TypeError(f"{name} is {given}; expected float32, float64, complex64 or complex128")
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
    value = _scalar(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} is {value!r} of type {type(value).__name__}; expected a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{name} is {value!r}; expected a finite number")
    return number


def _scalar(value: Any) -> Any:
    """The scalar of an array without axes; anything else as it is."""
    return value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else value


def integer(value: Any, name: str, least: int) -> int:
    """An integer >= least."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r} of type {type(value).__name__}; expected an integer") from None
    if isinstance(value, bool) or number < least:
        raise ValueError(f"{name} is {value!r}; expected an integer >= {least}")
    return number


def flag(value: Any, name: str) -> bool:
    """True or False: of words like "no", which count as true, nobody means that."""
    value = _scalar(value)
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {value!r} of type {type(value).__name__}; expected True or False")
    return bool(value)


def function(value: Any, name: str) -> None:
    """Something to call, or None."""
    if value is not None and not callable(value):
        raise TypeError(f"{name} is {value!r} of type {type(value).__name__}; expected a function or None")


def instance(value: Any, kind: type, name: str) -> None:
    """One of the package's own objects."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} is a {type(value).__name__}; expected a {kind.__name__}")


def path(value: Any, name: str, expected: str = "a path") -> str:
    """The path of a file or a folder."""
    if not isinstance(value, (str, bytes, os.PathLike)):
        raise TypeError(f"{name} is {value!r} of type {type(value).__name__}; expected {expected}")
    result = os.fsdecode(value)
    if "\0" in result:
        raise ValueError(f"{name} is {result!r}; expected a path without null characters")
    return result


def choice(value: Any, name: str, options: tuple[str, ...]) -> str:
    """One of a few words."""
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name} is {value!r}; expected one of {', '.join(map(repr, options))}")
    return value


def group(value: Any, shape: tuple[int, ...], name: str) -> words.Group:
    """A group that can move samples of this shape, which the argument ``name`` has."""
    choice(value, "group", GROUPS)
    if value != "cyclic" and len(shape) == 2:
        raise ValueError(
            f"group is {value!r} and {name} has shape {shape}; expected signals (m, C, T) or images (m, C, H, W)"
        )
    return cast(words.Group, str(value))


def step_sizes(eta: Any, n_layers: int) -> npt.NDArray[np.float64] | None:
    """One step size per layer, or None for ``"auto"`` and ``"search"``."""
    if isinstance(eta, str):
        choice(eta, "eta", ("auto", "search"))
        return None
    etas = array(eta, "eta")
    if etas.dtype.kind not in "iuf":
        came = f"is {eta!r}" if etas.ndim == 0 else f"has dtype {etas.dtype}"
        raise TypeError(f"eta {came}; expected a number, one number per layer, 'auto' or 'search'")
    if etas.ndim > 1 or (etas.ndim == 1 and len(etas) != n_layers):
        raise ValueError(f"eta has shape {etas.shape}; expected a number, or ({n_layers},): one per layer")
    if not (np.isfinite(etas).all() and (etas >= 0).all()):
        raise ValueError("eta holds a negative or non-finite step size; expected finite numbers >= 0")
    return np.broadcast_to(etas, n_layers).astype(np.float64)


def sample_weights(weights: npt.ArrayLike | None, m: int) -> npt.NDArray[np.float64] | None:
    """Weights of shape (m,), finite and >= 0."""
    if weights is None:
        return None
    omega = array(weights, "sample_weight")
    if omega.dtype.kind not in "fiub":
        raise TypeError(f"sample_weight has dtype {omega.dtype}; expected real numbers")
    if omega.shape != (m,):
        raise ValueError(f"sample_weight has shape {omega.shape}; expected ({m},): one weight per sample")
    if not np.isfinite(omega).all() or (omega < 0).any():
        raise ValueError("sample_weight holds a negative or non-finite weight; expected finite weights >= 0")
    return arrays.plain(omega, FLOATS["d"])


def labels(y: Any, m: int, name: str = "y") -> tuple[Array, npt.NDArray[np.int64]]:
    """The classes, sorted, and the labels as numbers 0..k-1 of them, (m,), for labels of any dtype."""
    values = _label_array(y, name)
    if values.shape != (m,):
        cure = f": pass numpy.ravel({name})" if values.shape == (m, 1) else ""
        raise ValueError(f"{name} has shape {values.shape}; expected labels ({m},){cure}")
    return _coded(values, name)


def one_kind(parts: Iterable[Array], name: str) -> None:
    """An error for labels that come in parts of several kinds: NumPy would make text of numbers, or floats."""
    every = list(parts)
    kinds = {_kind(part) for part in every}
    found = {part.dtype for part in every}
    if len(kinds) > 1 or (kinds == {"i"} and np.result_type(*found).kind not in "iu"):
        raise TypeError(f"{name} has labels of the dtypes {', '.join(sorted(map(str, found)))}; expected one kind")


def _kind(labels: Array) -> str:
    """A letter for integers, for text of any dtype, and for every other kind of label."""
    kind = labels.dtype.kind
    if kind in "UT" or (kind == "O" and all(isinstance(one, str) for one in labels.flat)):
        return "U"
    return "i" if kind == "u" else kind


def place(label: Any, name: str, classes: Array) -> int:
    """Which of the classes, (k,), a label is."""
    found, names = label.item() if isinstance(label, np.generic) else label, classes.tolist()
    if classes.dtype.kind in "mM":  # of which one unit is another number
        with suppress(TypeError, ValueError):
            found = np.asarray(label, classes.dtype.kind + "8").astype(classes.dtype, casting="same_kind").item()
    if not isinstance(found, (list, tuple, dict, set, np.ndarray)):
        for index, one in enumerate(names):
            if isinstance(one, bool) == isinstance(found, bool) and one == found:
                return index
    raise ValueError(f"{name} is {label!r}; expected one of the classes {', '.join(map(repr, names))}")


def membership(
    y: npt.ArrayLike, m: int, *, whole: bool = True
) -> tuple[npt.NDArray[np.int64] | None, npt.NDArray[np.float64] | None, Array]:
    """Hard labels or soft membership, and the classes.

    Returns ``(labels, None, classes)`` with labels 0..k-1 for labels of any dtype and for a one-hot membership, else
    ``(None, Pi, classes)`` with Pi of shape (m, k), rows summing to 1 exactly. A part of the samples, not the
    ``whole``, may lack a class of a membership.
    """
    values = _label_array(y)
    if values.ndim not in (1, 2) or len(values) != m:
        raise ValueError(f"y has shape {values.shape}; expected labels ({m},) or a membership ({m}, k)")
    if values.ndim == 1:
        classes, codes = _coded(values)
        _check_scalars(classes)
        return codes, None, classes
    is_column = f"y has shape ({m}, 1); expected labels ({m},): pass numpy.ravel(y)"
    if values.dtype.kind not in "fiub":
        wrong = f"y is a membership of dtype {values.dtype}; expected real numbers"
        raise TypeError(is_column if values.shape[1] == 1 else wrong)
    if values.shape[1] == 0:
        raise ValueError(f"y has shape {values.shape}; expected at least one class")
    Pi = values.astype(np.float64)
    if not np.isfinite(Pi).all() or (Pi < 0).any():
        raise ValueError("y is a membership with negative or non-finite entries; expected entries in [0, 1]")
    sums = Pi.sum(axis=1)
    # A row of k entries rounded to the array's precision sums to 1 within k/2 units; softmax adds a few more.
    unit = float(np.finfo(values.dtype).eps) if values.dtype.kind == "f" else 0.0
    allowed = (4 + values.shape[1]) * unit
    worst = int(np.argmax(np.abs(sums - 1)))
    if abs(sums[worst] - 1) > allowed:
        if values.shape[1] == 1:
            raise ValueError(f"{is_column}, or a membership of one class, all ones")
        raise ValueError(f"y is a membership whose row {worst} sums to {sums[worst]:.9g}; expected rows that sum to 1")
    classes = np.arange(Pi.shape[1])
    if np.isin(Pi, (0.0, 1.0)).all():
        codes = Pi.argmax(axis=1).astype(np.int64)
        missing = np.setdiff1d(classes, codes)
        if whole and len(missing):
            raise ValueError(f"y is a membership whose class {missing[0]} has no sample; expected no empty class")
        return codes, None, classes
    return None, Pi / sums[:, None], classes


def complete(y: Any) -> None:
    """An error for labels that are missing."""
    values = _label_array(y)
    if values.ndim == 1 and len(missing := _missing(values)):
        raise _no_label(int(missing[0]), values[missing[0]])


def _label_array(y: Any, name: str = "y") -> Array:
    """Labels or a membership as an array in the machine's order of bytes."""
    readable(y, name)
    column = getattr(getattr(y, "dtype", None), "numpy_dtype", None)  # of a column of pandas that may lack some
    if isinstance(column, np.dtype) and column.kind in "iub" and hasattr(y, "isna"):
        missing = np.flatnonzero(y.isna())
        if len(missing):
            raise _no_label(int(missing[0]), None, name)
        return cast(Array, y.to_numpy(dtype=column))  # floats would be other labels
    values = array(y, name)
    if isinstance(y, (list, tuple)) and values.ndim == 1 and values.dtype.kind in "US":
        text = str if values.dtype.kind == "U" else bytes
        if not all(isinstance(label, text) for label in y):  # NumPy writes what is no text out as text
            return np.array(y, dtype=object)
    return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))


def _coded(values: Array, name: str = "y") -> tuple[Array, npt.NDArray[np.int64]]:
    """The classes of labels (m,), sorted, and the place of every label among them."""
    missing = _missing(values)
    try:
        classes, codes = np.unique(np.delete(values, missing) if len(missing) else values, return_inverse=True)
    except TypeError:
        raise TypeError(f"{name} holds labels that cannot be compared with one another; expected one type") from None
    if len(missing):
        raise _no_label(int(missing[0]), values[missing[0]], name)
    if classes.dtype.kind == "T":  # none is missing: whatever stood for that is no part of the labels
        classes = classes.astype(np.dtypes.StringDType())
    return classes, codes.astype(np.int64)


def _check_scalars(classes: Array) -> None:
    """An error for labels that a file of a network could not bring back as they are."""
    expected = "expected numbers, text, bytes, booleans or NumPy's dates"
    if classes.dtype.kind not in "biufcmMSUTO":
        raise TypeError(f"y holds labels of dtype {classes.dtype}; {expected}")
    if classes.dtype.itemsize > LONGEST_LABEL:
        raise ValueError(f"y has dtype {classes.dtype}; expected labels of at most {LONGEST_LABEL} bytes")
    for label in classes.tolist() if classes.dtype.kind == "O" else ():
        if not isinstance(label, SCALARS) or isinstance(label, np.void):
            raise TypeError(f"y holds the label {label!r} of type {type(label).__name__}; {expected}")


def _missing(labels: Array) -> npt.NDArray[np.intp]:
    """Which labels, (m,), are missing."""
    if labels.dtype.kind in "fc":
        return np.flatnonzero(~np.isfinite(labels))
    if labels.dtype.kind in "mM":
        return np.flatnonzero(np.isnat(labels))
    if labels.dtype.kind in "OT":
        return np.flatnonzero([_is_missing(label) for label in labels])
    return np.empty(0, np.intp)


def _is_missing(label: Any) -> bool:
    """None, NaN, NaT, pandas.NA: what isn't there, or isn't equal to itself."""
    try:
        return label is None or bool(label != label)
    except TypeError:  # pandas.NA is neither
        return True
    except ValueError:  # an array
        return False


def _no_label(sample: int, label: Any, name: str = "y") -> ValueError:
    kind = "NaN or infinite" if isinstance(label, (float, complex, np.inexact)) else "missing"
    return ValueError(f"{name} holds a {kind} label; expected a label for every sample, and sample {sample} has none")


def available_memory() -> int | None:
    """Bytes that can be had without swapping and within the limits of a container, where the system says (Linux)."""
    available = control_groups.free_memory()
    try:
        with open("/proc/meminfo") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    free = int(line.split()[1]) * 1024
                    return free if available is None else min(free, available)
    except OSError:
        pass
    return available


def memory(needed: int, what: str) -> None:
    """A clear error before allocating what can't be had."""
    free = available_memory()
    if free is not None and needed > free:
        raise MemoryError(f"{what} need {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB of memory are available")


#: So many threads can be asked for anywhere, to see that results don't depend on them.
ALWAYS_ALLOWED = 16


def threads(n_threads: Any) -> int:
    """The number of threads: as asked for, else ``REDUNET_NUM_THREADS``, else the cores this process may use.

    More than the machine has processors, and than `ALWAYS_ALLOWED`, would take memory and help nobody: they are left
    out.
    """
    if n_threads is not None:
        return _what_can_help(integer(n_threads, "n_threads", 1))
    variable = os.environ.get("REDUNET_NUM_THREADS")
    if variable is not None:
        digits = variable.lstrip("0")
        if not (digits.isascii() and digits.isdigit()):
            raise ValueError(f"REDUNET_NUM_THREADS is {variable!r}; expected an integer >= 1")
        return _what_can_help(int(digits[:9]))  # Python refuses to read thousands of digits
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return max(1, min(cores, _cgroup_cores()))


def _what_can_help(count: int) -> int:
    return count if count <= ALWAYS_ALLOWED else min(count, max(os.cpu_count() or 1, ALWAYS_ALLOWED))


@cache
def _cgroup_cores() -> int:
    """Whole cores that the control group (containers) grants; a large number where there is no limit."""
    return control_groups.cores() or 1 << 20
