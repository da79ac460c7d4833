"""Linear algebra, of matrices Q diag(s) Q* with s from 1 down to 1 / condition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import redunet as rn
from bench.fuzz.comparisons import double, engine, levels, require, same_bits
from bench.fuzz.problems import MOST_THREADS, size


def linalg_case(rng: np.random.Generator) -> dict[str, Any]:
    dtype = np.dtype(rng.choice(["f", "d", "F", "D"]))
    n = size(rng, 90)
    batch = tuple(size(rng, 20) for _ in range(int(rng.integers(0, 3))))
    unit = float(np.finfo(dtype).eps)
    condition = float(10 ** rng.uniform(0, np.log10(1 / (n * unit))))

    def normal(*shape: int) -> Any:
        x = rng.standard_normal(shape)
        return x + 1j * rng.standard_normal(shape) if dtype.kind == "c" else x

    Q = np.linalg.qr(normal(*batch, n, n))[0]
    spectrum = np.geomspace(1, 1 / condition, n) if rng.random() < 0.7 else np.r_[np.ones(n - 1), 1 / condition]
    A = (Q * spectrum) @ Q.conj().swapaxes(-1, -2) * 10.0 ** rng.integers(-6, 7)
    A = ((A + A.conj().swapaxes(-1, -2)) / 2).astype(dtype)
    bad = int(rng.integers(np.prod(batch, dtype=int))) if rng.random() < 0.2 else None
    if bad is not None:
        A.reshape(-1, n, n)[bad, -1, -1] = -1
    B = normal(*batch, n, size(rng, 9)).astype(dtype)
    return {"A": A, "B": B, "condition": condition, "bad": bad, "threads": int(rng.integers(2, MOST_THREADS + 1))}


def pairs_of(A: Any) -> Any:
    """All pairs of the first matrices of a batch."""
    return np.triu_indices(min(12, A.size // A.shape[-1] ** 2))


def sizes_of(A: Any) -> Any:
    return np.linalg.norm(double(A), axis=(-2, -1))


def run_linalg(case: dict[str, Any]) -> None:
    A, B, condition = case["A"], case["B"], case["condition"]
    n = A.shape[-1]
    unit = (8 if A.dtype.kind == "c" else 4) * (n + 1) * float(np.finfo(A.dtype).eps)
    pairs = pairs_of(A)
    functions: dict[str, Callable[..., Any]] = {
        "cholesky": rn.linalg.cholesky,
        "inv": rn.linalg.inv,
        "logdet": rn.linalg.logdet,
        "solve": lambda A, **options: rn.linalg.solve(A, B, **options),
        "quadratic_forms": lambda A, **options: rn.linalg.quadratic_forms(A, B.swapaxes(-1, -2), **options).forms,
        "logdet_of_sums": lambda A, **options: rn.linalg.logdet_of_sums(A.reshape(-1, n, n), *pairs, **options),
    }
    for name, function in functions.items():
        try:
            right, refusal = function(A, backend="numpy"), ""
        except np.linalg.LinAlgError as error:
            right, refusal = None, str(error)
        for level in levels():
            with engine(level):
                try:
                    found = function(A, backend="cpu", n_threads=1)
                except np.linalg.LinAlgError as error:
                    # Next to singular in this precision, either may meet a pivot that is not positive.
                    close = case["bad"] is None and condition * unit > 0.1
                    require(close or str(error) == refusal, f"{level}: {name} refuses: {error}; NumPy: {refusal!r}")
                    continue
                if right is None:
                    require(
                        case["bad"] is None and condition * unit > 0.1, f"{level}: {name} accepts; NumPy: {refusal}"
                    )
                    continue
                same_bits(name, found, function(A, backend="cpu", n_threads=case["threads"]))
            check_linalg(name, found, right, case, unit, level)


def check_linalg(name: str, found: Any, right: Any, case: dict[str, Any], unit: float, level: str) -> None:
    """Residuals by the bounds of Cholesky's factorisation; ``unit`` is c (n + 1) u."""
    A, B = double(case["A"]), double(case["B"])
    n = A.shape[-1]
    lower = np.tril(A, -1)
    A = lower + lower.conj().swapaxes(-1, -2) + np.eye(n) * A.diagonal(axis1=-2, axis2=-1).real[..., None, :]
    X = double(found)
    if name == "cholesky":
        error, allowed = sizes_of(X @ X.conj().swapaxes(-1, -2) - A), unit * sizes_of(A)
    elif name == "solve":
        error, allowed = sizes_of(A @ X - B), unit * (sizes_of(A) * sizes_of(X) + sizes_of(B))
    elif name == "inv":
        require(bool(np.array_equal(X.conj().swapaxes(-1, -2), X)), f"{level}: inv is not Hermitian")
        error = sizes_of(A @ X - np.eye(n))
        least = n * float(np.finfo(case["A"].dtype).eps) * max(1.0, case["condition"] / 2)  # NumPy: single in double
        allowed = np.maximum(10 * sizes_of(A @ double(right) - np.eye(n)), least)
    elif name == "quadratic_forms":
        rows = B.swapaxes(-1, -2)
        exact = (rows.conj() * np.linalg.solve(A, B).swapaxes(-1, -2)).sum(axis=-1).real
        error, allowed = np.abs(X - exact), 2 * unit * case["condition"] * np.abs(exact)
    else:
        if name == "logdet_of_sums":
            i, j = pairs_of(A)
            A = A.reshape(-1, n, n)
            A = A[i] + A[j]
        logs = np.abs(np.log(np.abs(np.linalg.eigvalsh(A)))).sum(axis=-1)
        error, allowed = np.abs(X - np.linalg.slogdet(A)[1]), 2 * unit * (n * case["condition"] + logs)
    worst = float(np.max(error / allowed))
    require(worst <= 1, f"{level}: {name} errs by {worst:.3g} times what is allowed")
