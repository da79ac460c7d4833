"""Rates and their gradients, against double precision of the same features."""

from __future__ import annotations

from typing import Any

import numpy as np

import redunet as rn
from bench.fuzz.comparisons import (
    ROUNDING,
    Measures,
    changed,
    compare,
    double,
    engine,
    least_rounding,
    levels,
    real_char,
    require,
    roundings,
    same_bits,
)
from bench.fuzz.problems import common_options, samples, target


def reduction(Z: Any, y: Any, **options: Any) -> Any:
    return rn.rate_reduction(Z, y, **options, backend="numpy")


def check_rates(found: Any, Z: Any, y: Any, options: dict[str, Any], what: str) -> None:
    """(Delta R, R) against double precision *of the same features*: 1e-4 of Delta R or 1e-6 of R."""
    expected = reduction(double(Z), y, **options)
    char = real_char(Z.dtype)
    relative_error, of_rate = (1e-4, 1e-6) if char == "f" else (1e-10, 1e-12)
    moved = 0.0
    if char == "d" or Z.ndim > 2:  # double precision is its own reference; features of signals are rounded by the DFT
        others = [reduction(other, y, **options) for other in changed(Z, roundings(Z, Z.dtype), 0)]
        moved = ROUNDING * max(float(np.abs(np.subtract(other[:2], expected[:2])).max()) for other in others)
    for name, value, right in zip(("Delta R", "R"), found, expected, strict=False):
        allowed = max(relative_error * abs(expected.delta), of_rate * expected.rate, moved)
        if name == "R":
            allowed = max(allowed, relative_error * expected.rate)
        require(abs(value - right) <= allowed, f"{what}: {name} is {value}, expected {right} +- {allowed:.3g}")


def rates_case(rng: np.random.Generator) -> dict[str, Any]:
    dtype = rng.choice(["f", "d", "F", "D"])
    Z = samples(rng, dtype, scaled=False)
    if rng.random() < 0.8:
        norms = np.linalg.norm(Z.reshape(len(Z), -1), axis=1)
        Z = (Z / np.where(norms > 0, norms, 1).reshape(-1, *[1] * (Z.ndim - 1))).astype(dtype)
    return {
        "Z": Z,
        "y": target(rng, len(Z)),
        "options": common_options(rng, Z),
        "threads": int(rng.integers(2, 6)),
    }


def run_rates(case: dict[str, Any]) -> None:
    Z, y, options = case["Z"], case["y"], case["options"]

    def gradient(Z: Any, **engine: Any) -> Measures:
        return {"gradient": rn.rate_reduction_gradient(Z, y, **options, **engine)}

    def to_membership(Z: Any, **engine: Any) -> Measures:
        slopes = rn.rate_reduction_gradient(Z, y, **options, with_respect_to="membership", **engine)
        return {"gradient to the membership": slopes}

    expected = gradient(double(Z), backend="numpy")
    probes = [gradient(other, backend="numpy") for other in changed(Z, roundings(Z, Z.dtype), 0)]
    # A difference: E v and the sum of the C^j v are each as long as alpha v, times its factor.
    m, C = Z.shape[:2]
    weights = np.asarray(options.get("sample_weight", np.ones(m)))
    alpha = C / (weights.sum() * options["epsilon_sq"]) / (1 if options.get("dft_norm") else np.prod(Z.shape[2:]))
    longest = alpha * np.linalg.norm(double(Z) * weights.reshape(-1, *[1] * (Z.ndim - 1)))
    floor = roundings(Z, Z.dtype) * longest / (float(np.linalg.norm(expected["gradient"])) or 1.0)
    slopes = to_membership(double(Z), backend="numpy")
    moved = [to_membership(other, backend="numpy") for other in changed(Z, roundings(Z, Z.dtype), 0)]
    # z* A^-1 z by the inverses loses u cond(A), and terms of -omega/2m (log det A + ... - d + tr A^-1) may cancel.
    largest = max(1.0, float(np.square(np.abs(double(Z))).reshape(m, -1).sum(axis=1).max()))
    terms = float(np.linalg.norm(weights)) / (2 * weights.sum()) * C
    size = float(np.linalg.norm(*slopes.values())) or 1.0
    least = max(least_rounding(Z, Z.dtype, options, 0.0) * largest, roundings(Z, Z.dtype) * terms / size)
    for level in levels():
        with engine(level), rn.use_backend("cpu"):
            found = rn.rate_reduction(Z, y, **options, n_threads=1)
            check_rates(found, Z, y, options, level)
            n_threads = case["threads"]
            same_bits("rates", found, rn.rate_reduction(Z, y, **options, n_threads=n_threads))
            for slopes_of, right, others, lost in (
                (gradient, expected, probes, floor),
                (to_membership, slopes, moved, least),
            ):
                one, other = slopes_of(Z, n_threads=1), slopes_of(Z, n_threads=n_threads)
                compare(one, right, others, Z.dtype, 1, level, lost)
                for name in one:
                    same_bits(name, one[name], other[name])
