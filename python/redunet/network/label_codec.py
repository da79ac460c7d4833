"""Labels of classes as a tensor and a few words, so that dtype and values come back exactly.

====================  ========================================  ==========================
words                 labels                                    tensor
====================  ========================================  ==========================
``integer:DTYPE``     integers                                  I64 (unsigned ones wrapped)
``float:DTYPE``       half, single and double precision         F64
``raw:DTYPE``         text, bytes, booleans, complex, dates...  U8: the array's own bytes
``json:object``       Python's own and NumPy's scalars          U8: a JSON list
``json:StringDType``  text of any length                        U8: a JSON list
====================  ========================================  ==========================
"""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet._inputs import checks

Array = npt.NDArray[Any]
NUMBERS = {"integer": "iu", "float": "f"}
JSON = ("json:object", "json:StringDType")
#: Dtypes whose labels are a fixed number of bytes, as NumPy spells them.
RAW = re.compile(r"[|<>](b1|[iu][1248]|f\d{1,2}|c\d{1,2}|[US]\d{1,9}|[mM]8(\[\w{1,20}\])?)")
LARGEST_CODE_POINT = 0x10FFFF


def encode(classes: Array) -> tuple[Array, str]:
    """The tensor and the words of labels that `checks.membership` took."""
    kind = classes.dtype.kind
    if kind in "iu":
        return classes.astype(np.int64), f"integer:{classes.dtype.name}"
    if kind == "f" and classes.dtype.itemsize <= 8:
        return classes.astype(np.float64), f"float:{classes.dtype.name}"
    if kind == "O":
        words, text = JSON[0], json.dumps([_plain(label) for label in classes.tolist()])
    elif kind == "T":
        words, text = JSON[1], json.dumps(classes.tolist())
    else:
        return np.frombuffer(classes.tobytes(), np.uint8), f"raw:{classes.dtype.str}"
    return np.frombuffer(text.encode(), np.uint8), words


def decode(tensor: Array, words: str, k: int) -> Array:
    """The labels of k classes, (k,).

    Raises
    ------
    ValueError, TypeError, KeyError, OverflowError, RecursionError
        If the tensor, flat, holds none that `encode` writes.
    """
    form, _, name = words.partition(":")
    if form in NUMBERS and re.fullmatch(r"[a-z]+\d{1,2}", name) and np.dtype(name).kind in NUMBERS[form]:
        with np.errstate(all="ignore"):
            classes = tensor.astype(name)
            again, same = encode(classes)
        if same != words or again.dtype != tensor.dtype or not np.array_equal(again, tensor):
            raise ValueError(f"tensor 'classes' is {tensor.dtype} and holds other labels than {words!r} says")
    elif tensor.dtype != np.uint8:
        raise ValueError(f"classes are stored as {words!r} in {tensor.dtype}")
    elif form == "raw":
        classes = _array(tensor.tobytes(), name, k)
    elif words in JSON:
        labels = json.loads(tensor.tobytes())
        if not isinstance(labels, list):
            raise ValueError("tensor 'classes' is no list of labels")
        classes = np.empty(len(labels), object)
        classes[:] = [_label(label) for label in labels]
        if words == JSON[1]:
            if not all(isinstance(label, str) for label in labels):
                raise ValueError("tensor 'classes' is no list of text")
            classes = classes.astype(np.dtypes.StringDType())
    else:
        raise ValueError(f"classes are stored as {words!r}")
    if classes.shape != (k,):
        raise ValueError(f"tensor 'classes' has shape {classes.shape}; expected ({k},)")
    if not np.array_equal(checks.labels(classes, k)[1], np.arange(k)):
        raise ValueError("tensor 'classes' holds labels that are not sorted, or one of them twice")
    return classes


def _array(data: bytes, name: str, k: int) -> Array:
    """k labels of a dtype of fixed size, after checking that they are what such an array can hold."""
    if not RAW.fullmatch(name) or np.dtype(name).str != name or not np.dtype(name).isnative:
        raise ValueError(f"labels are stored as {name!r}")
    dtype = np.dtype(name)
    if len(data) != k * dtype.itemsize:
        raise ValueError(f"{len(data)} bytes are no {k} labels of dtype {dtype}")
    units: Array = np.frombuffer(data, np.uint32 if dtype.kind == "U" else np.uint8)
    limit = {"U": LARGEST_CODE_POINT, "b": 1}.get(dtype.kind)
    if limit is not None and (units > limit).any():
        raise ValueError(f"tensor 'classes' holds what is no {dtype}")
    return np.ndarray((k,), dtype, data).copy()


def _plain(label: Any) -> Any:
    """A label in an array of objects as JSON, as `checks.SCALARS` has them."""
    if isinstance(label, np.generic) and not isinstance(label, (str, bytes)):
        return {"raw": label.dtype.str, "hex": label.tobytes().hex()}
    return {"bytes": label.hex()} if isinstance(label, bytes) else label


def _label(plain: Any) -> Any:
    """The inverse of `_plain`."""
    if isinstance(plain, dict):
        if "bytes" in plain:
            return bytes.fromhex(plain["bytes"])
        return _array(bytes.fromhex(plain["hex"]), plain["raw"], 1)[0]
    if not isinstance(plain, (str, bool, int, float)):
        raise ValueError("tensor 'classes' is no list of labels")
    return plain
