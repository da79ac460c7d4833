"""The engine against a reference: at what level it runs, what is the same to the bit, and what rounding may change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

PROMISED = {"f": 1e-4, "d": 1e-10}
ROUNDING = 8.0  # c of the error bounds of Cholesky in complex arithmetic
MEANINGLESS = 0.1

counts: Counter[str] = Counter()


class Disagreement(AssertionError):
    """The engine and the reference differ by more than rounding."""


def require(holds: bool, message: str) -> None:
    counts["comparisons"] += 1
    if not holds:
        raise Disagreement(message)


def relative(a: Any, b: Any) -> float:
    """||a - b|| / ||b||, absolute where b is zero."""
    scale = float(np.linalg.norm(np.ravel(b)))
    return float(np.linalg.norm(np.ravel(a) - np.ravel(b))) / (scale or 1.0)


def same_bits(name: str, one: Any, other: Any, on: str = "the number of threads") -> None:
    one, other = np.ascontiguousarray(one), np.ascontiguousarray(other)
    equal = one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    require(equal, f"{name} depends on {on}")


def double(x: Any) -> Any:
    return np.asarray(x).astype(np.result_type(x, np.float64))


def real_char(dtype: Any) -> str:
    return np.empty(0, dtype).real.dtype.char


@contextmanager
def engine(level: str, **shortcuts: bool) -> Iterator[None]:
    """The engine at this SIMD level and with these shortcuts."""
    from redunet import _cpu

    before = _cpu.simd_level()
    _cpu.set_simd(level)
    _cpu.set_shortcuts(**shortcuts)
    try:
        yield
    finally:
        _cpu.set_simd(before)
        _cpu.set_shortcuts()


def levels() -> list[str]:
    from redunet import _cpu

    return _cpu.simd_levels()


def changed(X: Any, unit: float, seed: int) -> Iterator[Any]:
    """X in double precision, changed by a relative ``unit``: entry by entry, and channel by channel."""
    rng = np.random.default_rng(seed)
    for shape in (X.shape, (1, X.shape[1], *[1] * (X.ndim - 2)), X.shape):
        yield double(X) * (1 + unit * rng.choice([-1.0, 1.0], shape))


def roundings(X: Any, dtype: Any) -> float:
    """(C + log2 N + 4) u."""
    return float((X.shape[1] + np.log2(np.prod(X.shape[2:])) + 4) * np.finfo(dtype).eps)


def least_rounding(X: Any, dtype: Any, options: dict[str, Any], etas: Any) -> float:
    """u cond(I + alpha G) at most, for samples of unit norm: alpha_j tr G_j(p) <= C / epsilon_sq; or u eta alpha.

    The second where the two terms of a long step nearly cancel.
    """
    inner = np.prod(X.shape[2:]) if options.get("dft_norm") == "backward" else 1
    weight = float(np.sum(options.get("sample_weight", np.ones(len(X)))))
    ratio = X.shape[1] / options["epsilon_sq"]
    return float(max(1 + inner * ratio, np.max(etas) * ratio / weight) * np.finfo(dtype).eps / 2)


Measures = dict[str, Any]


def compare(
    found: Measures,
    expected: Measures,
    probes: list[Measures],
    dtype: Any,
    n_layers: int,
    what: str,
    floor: float = 0.0,
) -> None:
    """Every measure against the reference, by what the changes of the samples did to it, and at least ``floor``."""
    for name, right in expected.items():
        cost = max(floor, *(relative(probe[name], right) for probe in probes))
        allowed = n_layers * max(PROMISED[real_char(dtype)], ROUNDING * cost)
        if not allowed < MEANINGLESS:
            counts["beyond the precision"] += 1
            continue
        error = relative(found[name], right)
        require(error <= allowed, f"{what}: {name} differs by {error:.3g}, {allowed:.3g} is allowed")
