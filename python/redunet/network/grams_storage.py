"""`ClassGrams` on disk: the container of networks, with the tensors ``grams``, ``sizes``, ``errors`` and ``classes``.

Complex matrices are stored as real arrays with a last axis (real, imaginary). The rest is JSON in the header's
metadata: "redunet grams", and "checksum", the CRC-32 of that text. All of it is read into memory, and not mapped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from redunet._inputs import checks
from redunet.network import label_codec, storage
from redunet.network.class_gram import ClassGram, narrow
from redunet.network.container import Container
from redunet.transforms import groups

if TYPE_CHECKING:
    from redunet.network.grams import ClassGrams

Array = npt.NDArray[Any]
FORMAT_VERSION = 1
KEY = "redunet grams"
TENSORS = ("grams", "sizes", "errors", "classes")
FIELDS = ("n_channels", "signal_shape", "group", "real", "classes", "checksums")
#: Traces may exceed sizes by a part of them; matrices of all samples of norm 1 have the trace m_j, to rounding.
SLACK = 1e-6


def write(path: str, grams: ClassGrams) -> None:
    """Write them."""
    ones = grams._classes
    classes, words = label_codec.encode(grams.classes_)
    given = {
        "grams": storage.real_view(np.stack([one.gram for one in ones])),
        "sizes": grams.sizes,
        "errors": np.array([one.error for one in ones]),
        "classes": classes,
    }
    header = {
        "format_version": FORMAT_VERSION,
        "n_channels": grams.n_channels,
        "signal_shape": list(grams.signal_shape),
        "group": grams.group,
        "real": grams.real,
        "classes": words,
    }
    tensors = {name: np.ascontiguousarray(array, array.dtype.newbyteorder("<")) for name, array in given.items()}
    storage.write_sealed(path, KEY, header, tensors)


def read(path: str) -> dict[str, Any]:
    """The fields of `ClassGrams`."""
    return storage.read_sealed(path, _fields, mmap=False)


def _fields(container: Container) -> dict[str, Any]:
    text, header = storage.header_of(container, KEY, FORMAT_VERSION, FIELDS, "ClassGrams")
    C = checks.integer(header["n_channels"], "n_channels", 1)
    signal_shape = tuple(checks.integer(n, "signal_shape", 1) for n in header["signal_shape"])
    if len(signal_shape) > 2:
        raise ValueError(f"signal_shape is {signal_shape}; expected at most two axes")
    real = checks.flag(header["real"], "real")
    group = checks.group(header["group"], (1, C, *signal_shape), "a sample")
    fourier = groups.transform(signal_shape, real, group)
    dtype = fourier.spectral_dtype(np.dtype(np.float64 if real else np.complex128))
    k = _check_shapes(container, (fourier.n_freqs, C, C, *((2,) if dtype.kind == "c" else ())))
    storage.require(container, "sizes", lambda part: part > 0, "sizes of at least 1")
    storage.require(container, "errors", lambda part: np.isfinite(part) & (part >= 0), "finite errors >= 0")
    storage.require(container, "grams", np.isfinite, "finite numbers")
    labels = storage.labels_of(container, header["classes"], k)
    container.check_layout()
    storage.check_sums(container, text, header["checksums"])
    grams = storage.complex_view(container.tensor("grams"), dtype.kind == "c")
    sizes, errors = container.numbers("sizes").tolist(), container.numbers("errors").tolist()
    ones = tuple(  # with memory of their own: that of a class that is forgotten is given back
        ClassGram(label=narrow(labels[j : j + 1]), size=sizes[j], gram=grams[j].copy(), error=errors[j])
        for j in range(k)
    )
    for one in ones:
        diagonals = np.einsum("pcc->pc", one.gram).real
        trace = float(fourier.freq_weights @ diagonals.sum(axis=1)) / fourier.n_columns
        if not np.array_equal(one.gram, one.gram.conj().swapaxes(-1, -2)) or (diagonals < -SLACK * one.size).any():
            raise ValueError(f"the Gram matrix of class {one.name!r} is not one: expected Hermitian matrices")
        if trace > (1 + SLACK) * one.size:
            raise ValueError(f"the Gram matrix of class {one.name!r} has the trace {trace:.6g} of {one.size} samples")
    return {"n_channels": C, "signal_shape": signal_shape, "group": group, "real": real, "_classes": ones}


def _check_shapes(container: Container, matrix: tuple[int, ...]) -> int:
    """The number of classes; tensors must have the dtypes and shapes that belong together."""
    if set(container.entries) != set(TENSORS):
        raise ValueError(f"it has the tensors {', '.join(sorted(container.entries))}; expected {', '.join(TENSORS)}")
    sizes = container.entries["sizes"].shape
    if len(sizes) != 1 or sizes[0] < 1:
        raise ValueError(f"tensor 'sizes' has shape {sizes}; expected (k,), one class at least")
    k = sizes[0]
    expected = {"grams": ((k, *matrix), "<f8"), "sizes": ((k,), "<i8"), "errors": ((k,), "<f8")}
    for name, (shape, kind) in expected.items():
        entry = container.entries[name]
        if entry.shape != shape or entry.dtype != np.dtype(kind):
            raise ValueError(f"tensor {name!r} is {entry.dtype} {entry.shape}; expected {kind} {shape}")
    if len(container.entries["classes"].shape) != 1:
        raise ValueError(f"tensor 'classes' has shape {container.entries['classes'].shape}; expected 1 axis")
    return k
