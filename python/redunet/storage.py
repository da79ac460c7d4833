"""Networks on disk: one safetensors file, written beside its place and renamed, read by memory-mapping.

Tensors: ``dense``, ``factors``, ``ranks``, ``alphas``, ``gammas``, ``etas``, ``betas``, ``freq_weights``, ``rate``,
``per_class`` and ``classes``. Complex operators are stored as real arrays with a last axis (real, imaginary). The rest
is JSON in the header's metadata under "redunet". Nothing in the file is ever executed.
"""

from __future__ import annotations

import json
import math
import os
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet import checks
from redunet._backends.contract import Operators
from redunet.fourier import Fourier
from redunet.layers import Rates
from redunet.network import ASSIGNMENTS, ReduNet
from redunet.problem import DFT_NORMS

Array = npt.NDArray[Any]
FORMAT_VERSION = 1
TENSORS = (
    "dense",
    "factors",
    "ranks",
    "alphas",
    "gammas",
    "etas",
    "betas",
    "freq_weights",
    "rate",
    "per_class",
    "classes",
)
DTYPES = {"F32": "<f4", "F64": "<f8", "I64": "<i8", "U8": "|u1"}
#: How labels are stored, and the kinds of dtype that are stored so; as JSON: strings, booleans, and objects of these.
KINDS = {"integer": "iu", "float": "f", "json": "UbO"}
PLAIN = (str, bool, int, float)
#: What reading a damaged header can end in.
UNSOUND = (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError)
FIELDS = ("n_channels", "signal_shape", "epsilon_sq", "lam", "assignment", "dft_norm", "dtype", "backend", "classes")


def save(net: ReduNet, path: str | os.PathLike[str]) -> None:
    """Write a network; the file appears whole or not at all."""
    from safetensors.numpy import save_file

    operators = net.operators
    target = Path(path)
    classes, kind = _encode_classes(net.classes_)
    header = {
        "format_version": FORMAT_VERSION,
        "n_channels": net.n_channels,
        "signal_shape": list(net.signal_shape),
        "epsilon_sq": net.epsilon_sq,
        "lam": net.lam,
        "assignment": net.assignment,
        "dft_norm": net.dft_norm,
        "dtype": net.dtype.name,
        "backend": net.backend,
        "classes": kind,
    }
    tensors = {
        "dense": _real_view(operators.dense),
        "factors": _real_view(operators.factors),
        "ranks": operators.ranks,
        "alphas": operators.alphas,
        "gammas": operators.gammas,
        "etas": operators.etas,
        "betas": net.betas,
        "freq_weights": operators.freq_weights,
        "rate": net.rates.rate,
        "per_class": net.rates.per_class,
        "classes": classes,
    }
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=target.name, suffix=".part")
    os.close(handle)
    try:
        contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
        save_file(contiguous, temporary, metadata={"redunet": json.dumps(header)})
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load(path: str | os.PathLike[str]) -> ReduNet:
    """Read a network that `ReduNet.save` wrote.

    The file is memory-mapped: operators are read when they are used. Everything is checked against the header first.

    Parameters
    ----------
    path : path-like
        A file written by `ReduNet.save`.

    Returns
    -------
    ReduNet

    Raises
    ------
    ValueError
        If the file is not such a file, is truncated or inconsistent, or has an unknown format version.
    FileNotFoundError
        If there is no such file.
    """
    tensors, metadata = _map_tensors(Path(path))
    try:
        header = json.loads(metadata["redunet"])
        version = header["format_version"]
    except UNSOUND:
        raise _broken(path, "it holds no redunet network") from None
    if version != FORMAT_VERSION:
        raise _broken(path, f"it has format version {version!r}; this redunet reads version {FORMAT_VERSION}")
    missing = [field for field in FIELDS if field not in header]
    if missing:
        raise _broken(path, f"its header lacks {missing[0]!r}")
    try:
        return _assemble(tensors, header)
    except UNSOUND as error:
        raise _broken(path, str(error)) from error


def _assemble(tensors: dict[str, Array], header: dict[str, Any]) -> ReduNet:
    dtype = np.dtype(header["dtype"])
    if dtype.char not in "fdFD":
        raise ValueError(f"dtype is {dtype}; expected a floating dtype")
    C = checks.integer(header["n_channels"], "n_channels", 1)
    signal_shape = tuple(checks.integer(n, "signal_shape", 1) for n in header["signal_shape"])
    if len(signal_shape) > 2:
        raise ValueError(f"signal_shape is {signal_shape}; expected at most two axes")
    lam = checks.non_negative(header["lam"], "lam")
    epsilon_sq = checks.positive(header["epsilon_sq"], "epsilon_sq")
    if header["assignment"] not in ASSIGNMENTS or header["dft_norm"] not in DFT_NORMS:
        raise ValueError(f"assignment is {header['assignment']!r} and dft_norm {header['dft_norm']!r}")
    fourier = Fourier(signal_shape, dtype.kind == "f")
    is_complex = bool(signal_shape) or dtype.kind == "c"
    for name in TENSORS:
        if name not in tensors:
            raise ValueError(f"tensor {name!r} is missing")
    L, k, F = len(tensors["etas"]), len(tensors["gammas"]), fourier.n_freqs
    ranks = tensors["ranks"]
    if ranks.ndim != 1 or ((ranks < 0) | (ranks > C)).any():
        raise ValueError("'ranks' is out of range")
    pair = (2,) if is_complex else ()
    single = dtype in (np.float32, np.complex64)
    expected: dict[str, tuple[tuple[int, ...], str]] = {
        "dense": ((L, int((ranks == 0).sum()), F, C, C, *pair), "<f4" if single else "<f8"),
        "factors": ((L, F, C, int(ranks.sum()), *pair), "<f4" if single else "<f8"),
        "ranks": ((k + 1,), "<i8"),
        "alphas": ((k + 1,), "<f8"),
        "gammas": ((k,), "<f8"),
        "etas": ((L,), "<f8"),
        "betas": ((L,), "<f8"),
        "freq_weights": ((F,), "<f8"),
        "rate": ((L + 1,), "<f8"),
        "per_class": ((L + 1, k), "<f8"),
    }
    if L < 1 or k < 1:
        raise ValueError(f"it holds {L} layers and {k} classes")
    for name, (shape, kind) in expected.items():
        if tensors[name].shape != shape or tensors[name].dtype != np.dtype(kind):
            found = f"{tensors[name].dtype} {tensors[name].shape}"
            raise ValueError(f"tensor {name!r} is {found}; expected {np.dtype(kind)} {shape}")
    small = {name: np.array(tensors[name]) for name in expected if name not in ("dense", "factors")}
    if not all(np.isfinite(small[name]).all() for name in ("alphas", "gammas", "etas", "betas", "freq_weights")):
        raise ValueError("a hyperparameter is not finite")
    if not np.array_equal(small["freq_weights"], fourier.freq_weights):
        raise ValueError("tensor 'freq_weights' does not belong to this signal shape")
    operators = Operators(
        _complex_view(tensors["dense"], is_complex),
        _complex_view(tensors["factors"], is_complex),
        small["ranks"],
        small["alphas"],
        small["gammas"],
        small["etas"],
        lam,
        small["freq_weights"],
    )
    classes = _decode_classes(np.array(tensors["classes"]), str(header["classes"]))
    if classes.shape != (k,):
        raise ValueError(f"tensor 'classes' has shape {classes.shape}; expected ({k},)")
    return ReduNet(
        classes_=classes,
        n_channels=C,
        signal_shape=signal_shape,
        rates=Rates(small["rate"], small["per_class"]),
        etas=small["etas"],
        betas=small["betas"],
        epsilon_sq=epsilon_sq,
        lam=lam,
        assignment=header["assignment"],
        dft_norm=header["dft_norm"],
        dtype=dtype,
        backend=str(header["backend"]),
        _operators=operators,
    )


def _map_tensors(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """Every tensor of a safetensors file as a read-only memory map, after checking the header against the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= size - 8:
            raise _broken(path, "it is truncated, or no safetensors file")
        try:
            header = json.loads(file.read(length))
            metadata = header.pop("__metadata__", {})
            entries = {name: _entry(entry) for name, entry in header.items()}
        except UNSOUND:
            raise _broken(path, "its header is damaged") from None
    body = size - 8 - length
    mapped = np.memmap(path, mode="r", offset=8 + length, shape=(body,)) if body else np.empty(0, np.uint8)
    tensors = {}
    for name, (dtype, shape, begin, end) in entries.items():
        if not 0 <= begin <= end <= body:
            raise _broken(path, f"it is truncated: tensor {name!r} ends at byte {end} of {body}")
        if end - begin != math.prod(shape) * dtype.itemsize:
            raise _broken(path, f"the size of tensor {name!r} does not fit its shape {shape}")
        tensors[name] = mapped[begin:end].view(dtype).reshape(shape)
        if not tensors[name].flags.aligned:
            raise _broken(path, f"tensor {name!r} is not aligned")
    return tensors, metadata


def _entry(entry: dict[str, Any]) -> tuple[np.dtype[Any], tuple[int, ...], int, int]:
    begin, end = entry["data_offsets"]
    shape = tuple(entry["shape"])
    if any(type(n) is not int for n in (*shape, begin, end)) or any(n < 0 for n in shape):
        raise ValueError("a shape or an offset is not a natural number")
    return np.dtype(DTYPES[entry["dtype"]]), shape, begin, end


def _broken(path: str | os.PathLike[str], reason: str) -> ValueError:
    return ValueError(f"{os.fspath(path)!r} cannot be loaded: {reason}")


def _real_view(array: Array) -> Array:
    """Complex (...) as real (..., 2)."""
    if array.dtype.kind != "c":
        return array
    real: Array = np.ascontiguousarray(array).view(array.real.dtype).reshape(*array.shape, 2)
    return real


def _complex_view(array: Array, is_complex: bool) -> Array:
    """The inverse of `_real_view`."""
    if not is_complex:
        return array
    kind = np.complex64 if array.dtype == np.float32 else np.complex128
    result: Array = array.view(kind).reshape(array.shape[:-1])
    return result


def _encode_classes(classes: Array) -> tuple[Array, str]:
    """Labels as a tensor: numbers as they are, anything else as the bytes of a JSON list."""
    if classes.dtype.kind in "iu":
        return classes.astype(np.int64), f"integer:{classes.dtype.name}"
    if classes.dtype.kind == "f" and classes.dtype.itemsize <= 8:
        return classes.astype(np.float64), f"float:{classes.dtype.name}"
    labels = classes.tolist()
    if classes.dtype.kind not in "UbO" or not all(isinstance(label, PLAIN) for label in labels):
        raise TypeError(f"labels of dtype {classes.dtype} cannot be saved; expected numbers, strings or booleans")
    kind = "object" if classes.dtype.kind == "O" else str(classes.dtype)
    return np.frombuffer(json.dumps(labels).encode(), np.uint8), f"json:{kind}"


def _decode_classes(tensor: Array, kind: str) -> Array:
    form, _, dtype = kind.partition(":")
    if form not in KINDS or np.dtype(dtype).kind not in KINDS[form]:
        raise ValueError(f"classes are stored as {kind!r}")
    if form != "json":
        return tensor.astype(dtype)
    labels = json.loads(tensor.tobytes())
    if not isinstance(labels, list) or not all(isinstance(label, PLAIN) for label in labels):
        raise ValueError("tensor 'classes' is no list of labels")
    return np.array(labels, dtype=dtype)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
