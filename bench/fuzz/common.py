"""What all cases share: random problems, comparisons, and what rounding may do to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

PROMISED = {"f": 1e-4, "d": 1e-10}
ROUNDING = 8.0  # c of the error bounds of Cholesky in complex arithmetic
MEANINGLESS = 0.1
MOST_THREADS = 5

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


# --- Random problems ---


def size(rng: np.random.Generator, most: int) -> int:
    """1 to ``most``, small ones more often."""
    return int(np.clip(np.exp(rng.uniform(-0.3, np.log(most + 1))), 1, most))


def samples(rng: np.random.Generator, dtype: Any, *, scaled: bool) -> Any:
    """Vectors, signals or images in classes, of low rank, with fading channels, repeated or without structure."""
    axes = int(rng.integers(0, 3))
    m, C = size(rng, 150), size(rng, (70, 40, 24)[axes])
    shape = (m, C, *(size(rng, (0, 17, 7)[axes]) for _ in range(axes)))
    family = rng.choice(["classes", "low rank", "fading", "repeated", "plain"])
    complex_valued = np.dtype(dtype).kind == "c"

    def normal(*shape: int) -> Any:
        x = rng.standard_normal(shape)
        return x + 1j * rng.standard_normal(shape) if complex_valued else x

    X = normal(*shape)
    if family == "classes":
        X = 0.5 * X + normal(3, *shape[1:])[np.arange(m) % 3]
    elif family == "low rank":
        rank = int(rng.integers(1, 4))
        X = np.einsum("mr...,rc->mc...", normal(m, rank, *shape[2:]), normal(rank, C))
    elif family == "fading":
        X = X * np.logspace(0, -float(rng.uniform(1, 6)), C).reshape(C, *[1] * axes)
    elif family == "repeated":
        X = X[rng.integers(0, min(m, 3), m)]
    if rng.random() < 0.1:
        X[rng.integers(m)] = 0
    if scaled and rng.random() < 0.4:
        X = X * 10.0 ** rng.integers(-25, 26)
    return X.astype(dtype)


def target(rng: np.random.Generator, m: int) -> Any:
    """Labels, equal or unequal in number, or membership."""
    k = int(rng.integers(1, min(m, 6) + 1))
    if rng.random() < 0.25:
        Pi = rng.dirichlet(np.full(k, 0.5), m)
        return Pi / Pi.sum(axis=1, keepdims=True)
    rest = np.zeros(m - k, int) if rng.random() < 0.2 else rng.integers(0, k, m - k)
    return rng.permutation(np.concatenate([np.arange(k), rest]))


def common_options(rng: np.random.Generator, X: Any) -> dict[str, Any]:
    options: dict[str, Any] = {"epsilon_sq": float(10 ** rng.uniform(-5, 2))}
    if rng.random() < 0.3:
        options["sample_weight"] = rng.uniform(0.3, 3, len(X))
    if rng.random() < 0.4:
        options["dft_norm"] = "backward"
    if X.ndim > 2 and rng.random() < 0.3:
        options["group"] = "dihedral"
    return options


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
