"""The problems of `distributed_problems` for tests of `redunet.distributed.build_chunks`, in pieces."""

from __future__ import annotations

from typing import Any

import numpy as np

from redunet import distributed


def room(given: dict[str, Any], rows: int) -> int:
    """Bytes for chunks of so many samples in NumPy, and of a few times as many in an engine."""
    X = given["X"]
    points = np.prod(X.shape[2:], dtype=int) if X.ndim > 2 else 1
    columns = 2 ** (X.ndim - 2) if given.get("group") == "dihedral" else 1
    one = X.shape[1] * points * columns * np.result_type(X, np.complex64 if X.ndim > 2 else X).itemsize
    return int(rows * one * 6)


def pieces(given: dict[str, Any], *bounds: int) -> Any:
    """Of uneven sizes."""
    names = ("X", "y", "sample_weight") if "sample_weight" in given else ("X", "y")
    ends = [*bounds, len(given["X"])]
    for start, end in zip([0, *bounds], ends, strict=True):
        yield tuple(given[name][start:end] for name in names)


def options_of(given: dict[str, Any]) -> dict[str, Any]:
    """All but the samples."""
    return {name: value for name, value in given.items() if name not in ("X", "y", "sample_weight")}


def build(given: dict[str, Any], *bounds: int, rows: int = 3, **options: Any) -> Any:
    """Of pieces with these bounds, in chunks of about so many samples."""
    return distributed.build_chunks(
        pieces(given, *bounds), **{"chunk_bytes": room(given, rows), **options_of(given), **options}
    )
