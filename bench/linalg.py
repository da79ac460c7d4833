"""`python -m bench.linalg`: batched Hermitian linear algebra of `redunet.linalg` against its rivals, interleaved.

NumPy, PyTorch by the function of that name and through its Cholesky factor, and MKL's compact batched routines, packing
included and, for those who keep their matrices packed, without. Matrices are I + A A^*/n: well conditioned. Nanoseconds
per matrix on one thread (processor time), the least of several turns; marked where `redunet` misses its bar.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import redunet as rn
from bench.environment import clock, describe, pin_cores, restart_clean
from bench.tables import as_markdown, as_text

Call = Callable[[], object]

SIZES = (2, 3, 5, 8, 16, 32, 64)
BATCHES = (1, 100, 10_000)
DTYPES = ("float32", "float64", "complex64", "complex128")
OPERATIONS = ("cholesky", "inv", "solve", "logdet")
OURS, COMPACT, COMPACT_KERNEL = "redunet cpu", "MKL compact", "MKL compact, packed"
# The bars: so many times the better of NumPy and PyTorch, for batches of 100 or more up to a size; single matrices.
BARS = ((16, 5.0), (64, 2.0))
SINGLE_BAR = 0.9
_TURNS = 5
_SECONDS = 0.01  # of a turn at least
_MOST_NUMBERS = 1 << 24


def positive_definite(n: int, batch: int, dtype: str) -> NDArray[Any]:
    """(batch, n, n) Hermitian positive definite matrices with condition numbers of a few."""
    rng = np.random.default_rng(n)
    A = rng.standard_normal((min(batch, 64), n, n))
    if dtype.startswith("complex"):
        A = A + 1j * rng.standard_normal(A.shape)
    M = np.eye(n) + A @ A.conj().swapaxes(1, 2) / n
    repeated = np.tile(M, (-(-batch // len(M)), 1, 1))[:batch]
    return np.ascontiguousarray(repeated, dtype=dtype)


def package(operation: str, A: NDArray[Any], B: NDArray[Any], backend: str, n_threads: int) -> Call:
    function = getattr(rn.linalg, operation)
    if operation == "solve":
        return lambda: function(A, B, backend=backend, n_threads=n_threads)
    return lambda: function(A, backend=backend, n_threads=n_threads)


def by_numpy(operation: str, A: NDArray[Any], B: NDArray[Any]) -> Call:
    return {
        "cholesky": lambda: np.linalg.cholesky(A),
        "inv": lambda: np.linalg.inv(A),
        "solve": lambda: np.linalg.solve(A, B),
        "logdet": lambda: np.linalg.slogdet(A),
    }[operation]


def by_torch(operation: str, A: NDArray[Any], B: NDArray[Any], n_threads: int, factor: bool) -> Call:
    import torch

    torch.set_num_threads(n_threads)
    tA, tB = torch.from_numpy(A), torch.from_numpy(B)
    if not factor:
        return {
            "cholesky": lambda: torch.linalg.cholesky(tA),
            "inv": lambda: torch.linalg.inv(tA),
            "solve": lambda: torch.linalg.solve(tA, tB),
            "logdet": lambda: torch.linalg.slogdet(tA),
        }[operation]
    return {
        "cholesky": lambda: torch.linalg.cholesky(tA),
        "inv": lambda: torch.cholesky_inverse(torch.linalg.cholesky(tA)),
        "solve": lambda: torch.cholesky_solve(tB, torch.linalg.cholesky(tA)),
        "logdet": lambda: 2 * torch.linalg.cholesky(tA).diagonal(dim1=-2, dim2=-1).real.log().sum(-1),
    }[operation]


def by_compact(operation: str, A: NDArray[Any], *, packed: bool) -> Call | None:
    """One thread; None for what the compact routines do not do, or where there is no MKL.

    With `packed` the matrices are packed already, and stay so; as the routines work in place, they are copied first.
    """
    from bench.baselines import mkl

    if mkl.library() is None or operation not in ("cholesky", "inv"):
        return None
    compact = mkl.Compact(A)
    run = compact.cholesky if operation == "cholesky" else compact.invert
    out = np.empty_like(A)
    compact.keep()

    def kernel() -> None:
        compact.restore()
        run()

    def whole() -> NDArray[Any]:
        compact.pack(A)
        run()
        return compact.unpack(out)

    return kernel if packed else whole


def calls(operation: str, A: NDArray[Any], n_threads: int) -> dict[str, Call]:
    """Ours and every rival that can run here."""
    B = np.ones((*A.shape[:2], 1), A.dtype)
    found: dict[str, Call | None] = {
        OURS: package(operation, A, B, "cpu", n_threads),
        "numpy": by_numpy(operation, A, B),
    }
    if find_spec("torch"):
        found["torch"] = by_torch(operation, A, B, n_threads, factor=False)
        found["torch by Cholesky"] = by_torch(operation, A, B, n_threads, factor=True)
    if n_threads == 1:
        found[COMPACT] = by_compact(operation, A, packed=False)
        found[COMPACT_KERNEL] = by_compact(operation, A, packed=True)
    return {name: call for name, call in found.items() if call is not None}


def measure_case(operation: str, n: int, batch: int, dtype: str, n_threads: int) -> dict[str, float]:
    """Nanoseconds per matrix of each, the least of its turns."""
    now = clock(n_threads)

    def seconds(call: Call, repeats: int) -> float:
        start = now()
        for _ in range(repeats):
            call()
        return (now() - start) / repeats

    run = calls(operation, positive_definite(n, batch, dtype), n_threads)
    repeats = {}
    for name, call in run.items():
        call()
        repeats[name] = max(1, int(_SECONDS / max(seconds(call, 3), 1e-9)))
    turns = [{name: seconds(call, repeats[name]) for name, call in run.items()} for _ in range(_TURNS)]
    return {name: min(turn[name] for turn in turns) / batch * 1e9 for name in run}


def bar(n: int, batch: int) -> float | None:
    """How many times the better of NumPy and PyTorch is asked for."""
    if batch == 1:
        return SINGLE_BAR
    return next((times for size, times in BARS if n <= size), None) if batch >= 100 else None


def row(operation: str, n: int, batch: int, dtype: str, took: dict[str, float]) -> list[str]:
    """Nanoseconds, the ratio to the better library, and to MKL's compact routines."""
    libraries = min(ns for name, ns in took.items() if name.startswith(("numpy", "torch")))
    ratio, wanted = libraries / took[OURS], bar(n, batch)
    missed = wanted is not None and ratio < wanted
    compact = [f"{took[name] / took[OURS]:.2f}" if name in took else "-" for name in (COMPACT, COMPACT_KERNEL)]
    return [
        f"{operation} {dtype} {batch} x {n}",
        f"{took[OURS]:.1f}",
        f"{libraries:.1f}",
        f"{ratio:.2f}" + (f" < {wanted:g}" if missed else ""),
        *compact,
    ]


HEAD = ["case", "redunet, ns", "NumPy or PyTorch, ns", "ratio", "MKL compact / redunet", "the same, packed already"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.linalg", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--operations", nargs="+", choices=OPERATIONS, default=OPERATIONS)
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, metavar="N")
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES, metavar="N")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=DTYPES)
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="default 1, timed in processor seconds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save everything measured")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    options = parser.parse_args(arguments)
    restart_clean()
    if options.threads == 1:
        pin_cores(1)
    table, saved = [HEAD], []
    cases = [
        (operation, n, batch, dtype)
        for operation in options.operations
        for dtype in options.dtypes
        for n in options.sizes
        for batch in options.batches
        if batch * n * n <= _MOST_NUMBERS
    ]
    for case in cases:
        took = measure_case(*case, options.threads)
        table.append(row(*case, took))
        saved.append([*case, took])
    print((as_markdown if options.markdown else as_text)(table))
    if options.json:
        options.json.write_text(json.dumps({"machine": describe(), "cases": saved}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
