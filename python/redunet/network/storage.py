"""Networks on disk: one safetensors file with a checksum for each tensor, read by memory-mapping.

Tensors: ``dense``, ``factors``, ``ranks``, ``alphas``, ``gammas``, ``etas``, ``betas``, ``freq_weights``, ``rate``,
``per_class`` and ``classes``. Complex operators are stored as real arrays with a last axis (real, imaginary). The rest
is JSON in the header's metadata: "redunet", and "checksum", the CRC-32 of that text.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet import files
from redunet._backends import MODULES
from redunet._backends.contract import LONGEST_STEP, NATURAL_STEP, Operators
from redunet._inputs import checks
from redunet._inputs.problem import ASSIGNMENTS, DFT_NORMS, largest_square_root
from redunet.network import label_codec
from redunet.network.container import UNSOUND, Container, checksum
from redunet.network.container import write as write_container
from redunet.network.layers import Rates
from redunet.transforms import groups
from redunet.transforms.cyclic import Fourier

Array = npt.NDArray[Any]
FORMAT_VERSION = 1
#: Numbers of a layer or a class that `ReduNet` and `Operators` hold beside the operators.
TABLES = ("ranks", "alphas", "gammas", "etas", "betas", "freq_weights", "rate", "per_class")
TENSORS = ("dense", "factors", *TABLES, "classes")
FIELDS = (
    "n_channels", "signal_shape", "group", "epsilon_sq", "lam", "assignment", "dft_norm", "dtype", "backend", "classes",
    "checksums",
)  # fmt: skip
#: A reason that quotes a damaged file is cut to this length.
LONGEST_REASON = 400


def write(path: str, fields: Mapping[str, Any]) -> None:
    """Write the fields of a network, as `read` gives them."""
    operators, rates = fields["operators"], fields["rates"]
    classes, words = label_codec.encode(fields["classes_"])
    given = {
        "dense": real_view(operators.dense),
        "factors": real_view(operators.factors),
        "ranks": operators.ranks,
        "alphas": operators.alphas,
        "gammas": operators.gammas,
        "etas": operators.etas,
        "betas": operators.betas,
        "freq_weights": operators.freq_weights,
        "rate": rates.rate,
        "per_class": rates.per_class,
        "classes": classes,
    }
    tensors = {key: np.ascontiguousarray(array, array.dtype.newbyteorder("<")) for key, array in given.items()}
    header = {
        "format_version": FORMAT_VERSION,
        "n_channels": fields["n_channels"],
        "signal_shape": list(fields["signal_shape"]),
        **{key: fields[key] for key in ("group", "epsilon_sq", "lam", "assignment", "dft_norm")},
        "dtype": fields["dtype"].name,
        "backend": fields["backend"],
        "classes": words,
    }
    write_sealed(path, "redunet", header, tensors)


def write_sealed(path: str, key: str, header: Mapping[str, Any], tensors: Mapping[str, Array]) -> None:
    """Tensors with a header of our own, the metadata's entry ``key``, and checksums of both."""
    text = json.dumps({**header, "checksums": {name: checksum(tensor) for name, tensor in tensors.items()}})
    write_container(path, tensors, {key: text, "checksum": f"{zlib.crc32(text.encode()):08x}"})


def read(path: str, *, mmap: bool, verify: bool) -> dict[str, Any]:
    """The fields of a network: those of `ReduNet`, its operators as ``operators``."""
    return read_sealed(path, lambda container: _fields(container, verify), mmap=mmap)


def read_sealed(path: str, fields: Callable[[Container], dict[str, Any]], *, mmap: bool) -> dict[str, Any]:
    """The fields of a file; what can't be right is one `ValueError` with its path."""
    try:
        with files.open_regular(path) as file:
            return fields(Container(file, mmap=mmap))
    except UNSOUND as error:
        reason = str(error) if isinstance(error, (TypeError, ValueError)) else f"it is damaged: {error!r}"
        cut = reason if len(reason) <= LONGEST_REASON else f"{reason[:LONGEST_REASON]}..."
        raise ValueError(f"{path!r} cannot be loaded: {cut}") from error


def _fields(container: Container, verify: bool) -> dict[str, Any]:
    text, header = header_of(container, "redunet", FORMAT_VERSION, FIELDS, "network")
    dtype = _dtype(header["dtype"])
    C = checks.integer(header["n_channels"], "n_channels", 1)
    signal_shape = tuple(checks.integer(n, "signal_shape", 1) for n in header["signal_shape"])
    if len(signal_shape) > 2:
        raise ValueError(f"signal_shape is {signal_shape}; expected at most two axes")
    lam = checks.non_negative(header["lam"], "lam")
    epsilon_sq = checks.positive(header["epsilon_sq"], "epsilon_sq")
    if header["assignment"] not in ASSIGNMENTS or header["dft_norm"] not in DFT_NORMS:
        raise ValueError(f"assignment is {header['assignment']!r} and dft_norm {header['dft_norm']!r}")
    checks.choice(header["backend"], "backend", tuple(MODULES))
    group = checks.group(header["group"], (1, C, *signal_shape), "a sample")
    fourier = groups.transform(signal_shape, dtype.kind == "f", group)
    _check_shapes(container, C, fourier, dtype)
    k = container.entries["gammas"].shape[0]
    _check_values(container, C, fourier, dtype, lam)
    classes = labels_of(container, header["classes"], k)
    container.check_layout()
    tables = {key: container.tensor(key) for key in TABLES}
    if verify:
        check_sums(container, text, header["checksums"])
        largest = 2 * largest_square_root(dtype)
        for key in ("dense", "factors"):
            require(container, key, lambda part: np.abs(part) <= largest, "finite numbers in the dtype's range")
    is_complex = fourier.spectral_dtype(dtype).kind == "c"
    operators = Operators(
        dense=complex_view(container.tensor("dense"), is_complex),
        factors=complex_view(container.tensor("factors"), is_complex),
        lam=lam,
        **{key: tables[key] for key in ("ranks", "alphas", "gammas", "etas", "betas", "freq_weights")},
        n_columns=fourier.n_columns,
    )
    return {
        "classes_": classes,
        "n_channels": C,
        "signal_shape": signal_shape,
        "group": group,
        "rates": Rates(tables["rate"], tables["per_class"]),
        "etas": tables["etas"],
        "betas": tables["betas"],
        "epsilon_sq": epsilon_sq,
        "lam": lam,
        "assignment": header["assignment"],
        "dft_norm": header["dft_norm"],
        "dtype": dtype,
        "backend": header["backend"],
        "operators": operators.known_finite() if verify else operators,
    }


def header_of(
    container: Container, key: str, known: int, fields: Iterable[str], what: str
) -> tuple[str, dict[str, Any]]:
    """Our own part of the header, of a version that is known, with every field."""
    try:
        text = container.metadata[key]
        header = json.loads(text)
        version = header["format_version"]
    except UNSOUND:
        raise ValueError(f"it holds no redunet {what}") from None
    if type(version) is not int or version != known:
        raise ValueError(f"it has format version {version!r}; this redunet reads version {known}")
    missing = [field for field in fields if field not in header]
    if missing:
        raise ValueError(f"its header lacks {missing[0]!r}")
    return text, header


def _dtype(name: Any) -> np.dtype[Any]:
    known = {dtype.name: dtype for dtype in checks.FLOATS.values()}
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"dtype is {name}; expected a floating dtype: {', '.join(known)}")
    return known[name]


def _check_shapes(container: Container, C: int, fourier: Fourier, dtype: np.dtype[Any]) -> None:
    """Tensors must have the dtypes and shapes that belong together; those that are small are read for that."""
    for name in TENSORS:
        if name not in container.entries:
            raise ValueError(f"tensor {name!r} is missing")
    for name in container.entries:
        if name not in TENSORS:
            raise ValueError(f"tensor {name!r} belongs to no network")
    shapes = {name: entry.shape for name, entry in container.entries.items()}
    for name, axes in (("etas", 1), ("gammas", 1), ("ranks", 1), ("classes", 1)):
        if len(shapes[name]) != axes:
            raise ValueError(f"tensor {name!r} has shape {shapes[name]}; expected {axes} axis")
    L, k, F = shapes["etas"][0], shapes["gammas"][0], fourier.n_freqs
    if L < 1 or k < 1:
        raise ValueError(f"it holds {L} layers and {k} classes")
    n_dense = total = 0
    highest = C // 2 if fourier.n_columns == 1 else 0
    for part in container.pieces("ranks"):
        if part.dtype != np.int64 or ((part < 0) | (part > highest)).any():
            raise ValueError(f"'ranks' is out of range: expected integers from 0 to {highest}, C = {C}")
        n_dense += int((part == 0).sum())
        total += int(part.sum(dtype=object))
    pair = (2,) if fourier.spectral_dtype(dtype).kind == "c" else ()
    number = np.dtype("<f4" if dtype in (np.float32, np.complex64) else "<f8")
    expected: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {
        "dense": ((L, n_dense, F, C, C, *pair), number),
        "factors": ((L, F, C, total, *pair), number),
        "ranks": ((k + 1,), np.dtype("<i8")),
        **{name: ((n,), np.dtype("<f8")) for name, n in (("alphas", k + 1), ("gammas", k), ("freq_weights", F))},
        **{name: ((n,), np.dtype("<f8")) for name, n in (("etas", L), ("betas", L), ("rate", L + 1))},
        "per_class": ((L + 1, k), np.dtype("<f8")),
    }
    for name, (shape, kind) in expected.items():
        entry = container.entries[name]
        if entry.shape != shape or entry.dtype != kind:
            raise ValueError(f"tensor {name!r} is {entry.dtype} {entry.shape}; expected {kind} {shape}")


def _check_values(container: Container, C: int, fourier: Fourier, dtype: np.dtype[Any], lam: float) -> None:
    """Numbers of layers and classes must be such as `build` makes; of tensors of the right shapes."""
    for name in ("alphas", "gammas", "etas", "betas", "freq_weights"):
        require(container, name, np.isfinite, "finite numbers: a hyperparameter is not finite")
    for name in ("rate", "per_class"):
        require(container, name, np.isfinite, "finite rates")
    largest = largest_square_root(dtype)
    low, high = 1 / largest, largest / fourier.n_points
    require(container, "alphas", lambda part: (part > low) & (part < high), f"numbers in ({low:.3g}, {high:.3g})")
    require(container, "gammas", lambda part: (part > 0) & (part <= 1), "numbers in (0, 1]")
    alphas, gammas = container.numbers("alphas"), container.numbers("gammas")
    eps = float(np.finfo(np.float64).eps)
    if not abs(float(gammas.sum()) - 1) <= (4 + len(gammas)) * eps:
        raise ValueError(f"tensor 'gammas' sums to {gammas.sum()!r}; expected 1")
    # gamma_j = m_j / m and alpha / alpha_j are the same number, each rounded a few times.
    if not (np.abs(gammas * alphas[1:] - alphas[0]) <= 16 * eps * alphas[0]).all():
        raise ValueError("tensor 'alphas' does not belong to 'gammas': expected alpha_j = alpha / gamma_j")
    alpha = float(alphas.max())
    if lam * alpha > largest:
        raise ValueError(f"lam is {lam!r}: lam C / (m_j epsilon_sq) overflows {dtype}; expected a smaller number")
    # Steps that are given are limited by the precision, those that are searched for by the natural step.
    longest = max(largest / alpha, LONGEST_STEP * NATURAL_STEP / float(alphas[0]))
    require(container, "etas", lambda part: (part >= 0) & (part <= longest), f"steps in [0, {longest:.3g}]")
    require(container, "betas", lambda part: (part >= 0) & (part < 1), "numbers in [0, 1)")
    if next(iter(container.pieces("betas")))[:1].any():
        raise ValueError("tensor 'betas' begins with another number than 0: there is no layer before the first")
    require(container, "freq_weights", lambda part: part > 0, "positive numbers")
    if not np.array_equal(container.numbers("freq_weights"), fourier.freq_weights):
        raise ValueError("tensor 'freq_weights' does not belong to this signal shape")


def labels_of(container: Container, words: Any, k: int) -> Array:
    """The labels, after a look at how much memory they take: a sparse file may claim any size."""
    if words in label_codec.JSON:
        require(container, "classes", lambda part: part != 0, "JSON")
    elif container.entries["classes"].nbytes > k * checks.LONGEST_LABEL:
        raise ValueError(f"tensor 'classes' has more than {checks.LONGEST_LABEL} bytes for each of {k} labels")
    return label_codec.decode(container.numbers("classes"), str(words), k)


def require(container: Container, name: str, holds: Callable[[Array], Array], expected: str) -> None:
    """An error that names the tensor and the first number of it that is not as expected."""
    start = 0
    for part in container.pieces(name):
        good = holds(part)
        if not good.all():
            bad = int(np.argmin(good))
            raise ValueError(f"tensor {name!r} holds {part[bad]!r} at {start + bad}; expected {expected}")
        start += len(part)


def check_sums(container: Container, text: str, sums: Any) -> None:
    """An error where the header, or a tensor of those in the container, has another checksum."""
    if container.metadata.get("checksum") != f"{zlib.crc32(text.encode()):08x}":
        raise ValueError("its header is damaged: the checksum differs")
    for name in container.entries:
        if container.checksum(name) != sums[name]:
            raise ValueError(f"tensor {name!r} is damaged: its checksum differs")


def real_view(array: Array) -> Array:
    """Complex (...) as real (..., 2)."""
    if array.dtype.kind != "c":
        return array
    real: Array = np.ascontiguousarray(array).view(array.real.dtype).reshape(*array.shape, 2)
    return real


def complex_view(array: Array, is_complex: bool) -> Array:
    """The inverse of `real_view`."""
    if not is_complex:
        return array
    kind = np.complex64 if array.dtype == np.float32 else np.complex128
    result: Array = array.view(kind).reshape(array.shape[:-1])
    return result
