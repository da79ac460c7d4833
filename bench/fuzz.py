"""A randomised differential test: the compiled engine against the NumPy backend in double precision.

    python -m bench.fuzz --seconds 600                      # a seed from the clock, which is printed
    python -m bench.fuzz --seed 7 --cases 1 --only linalg   # one case again

Case i of a run has the seed SEED + i; a failure prints its arguments and the command that repeats it.

Tolerances. With u the unit of the precision and s = C + log2 N + 4, the roundings of one layer's sums, the reference
is repeated on samples changed by s u: entry by entry, and channel by channel, which moves Gram matrices coherently.
What that changes, and at least what inverses of this condition and steps of this length lose, is what rounding costs
a layer of this problem. Allowed are the package's promises for one layer (1e-4 in single, 1e-10 in double precision)
or, where that is more, `ROUNDING` times this cost per layer. Where it exceeds `MEANINGLESS` no digit is left to
compare: such comparisons are counted and left out.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

import redunet as rn
from redunet._backends.contract import FALL_ROUNDING_UNITS, NATURAL_STEP

PROMISED = {"f": 1e-4, "d": 1e-10}
ROUNDING = 8.0  # c of the error bounds of Cholesky in complex arithmetic
MEANINGLESS = 0.1
MOST_THREADS = 5
SHORTCUTS = ("fused", "early_stop", "sketches")
KINDS = ("build", "linalg", "rates", "build")
Refusal = (ValueError, np.linalg.LinAlgError)

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


# --- Rates and their gradient ---


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

    def gradient(Z: Any) -> Measures:
        return {"gradient": rn.rate_reduction_gradient(Z, y, **options, backend="numpy")}

    expected = gradient(double(Z))
    probes = [gradient(other) for other in changed(Z, roundings(Z, Z.dtype), 0)]
    # A difference: E v and the sum of the C^j v are each as long as alpha v, times its factor.
    m, C = Z.shape[:2]
    weights = np.asarray(options.get("sample_weight", np.ones(m)))
    alpha = C / (weights.sum() * options["epsilon_sq"]) / (1 if options.get("dft_norm") else np.prod(Z.shape[2:]))
    longest = alpha * np.linalg.norm(double(Z) * weights.reshape(-1, *[1] * (Z.ndim - 1)))
    floor = roundings(Z, Z.dtype) * longest / (float(np.linalg.norm(expected["gradient"])) or 1.0)
    for level in levels():
        with engine(level), rn.use_backend("cpu"):
            found = rn.rate_reduction(Z, y, **options, n_threads=1)
            check_rates(found, Z, y, options, level)
            slope = rn.rate_reduction_gradient(Z, y, **options, n_threads=1)
            require(slope.dtype == Z.dtype, f"the gradient has dtype {slope.dtype}")
            compare({"gradient": slope}, expected, probes, Z.dtype, 1, level, floor)
            n_threads = case["threads"]
            same_bits("rates", found, rn.rate_reduction(Z, y, **options, n_threads=n_threads))
            same_bits("gradient", slope, rn.rate_reduction_gradient(Z, y, **options, n_threads=n_threads))


# --- Networks ---


def build_case(rng: np.random.Generator) -> dict[str, Any]:
    dtype = rng.choice(["f", "d", "F", "D"])
    X = samples(rng, dtype, scaled=True)
    m, C = X.shape[:2]
    options = common_options(rng, X)
    n_layers = int(rng.integers(1, 5))
    natural = NATURAL_STEP * m * options["epsilon_sq"] / C
    eta = rng.choice(["auto", "search", "fixed", "each"], p=[0.4, 0.1, 0.25, 0.25])
    if eta == "fixed":
        options["eta"] = float(natural * rng.choice([0.01, 0.3, 1.0]))
    elif eta == "each":
        options["eta"] = natural * rng.uniform(0.01, 1, n_layers)
    else:
        options["eta"] = str(eta)
    options["lam"] = float(rng.choice([0.0, 1.0, 20.0, 500.0, 1e4, 1e6]))
    options["n_layers"] = n_layers
    for name, value, share in (
        ("momentum", True, 0.15),
        ("assignment", "given", 0.2),
        ("keep", "features", 0.15),
        ("dtype", rng.choice(["f", "d"]) if X.dtype.kind == "f" else rng.choice(["F", "D"]), 0.1),
    ):
        if rng.random() < share:
            options[name] = value
    stop = None
    if rng.random() < 0.15 and not isinstance(options["eta"], np.ndarray):
        options.update(n_layers=12, tol=float(rng.choice([1e-3, 1e-1])), patience=int(rng.integers(1, 4)))
    elif rng.random() < 0.2:
        stop = int(rng.integers(0, n_layers + 1))
    new = {"few": 3, "many": 70, "one": 1}[rng.choice(["one", "few", "many"])]
    return {
        "X": X,
        "y": target(rng, m),
        "options": options,
        "stop": stop,
        "cut": float(rng.random()),
        "file": bool(rng.random() < 0.3),
        "new": (X[rng.integers(0, m, new)] * rng.uniform(0.5, 1.5, (new, C, *[1] * (X.ndim - 2)))).astype(dtype),
        "threads": int(rng.integers(2, MOST_THREADS + 1)),
        "shortcuts": {name: bool(rng.random() < 0.5) for name in SHORTCUTS},
    }


def measures(net: Any, Z: Any) -> Measures:
    """What two networks are compared by: features, rates, and every operator."""
    found = {"features": Z, "rates": np.concatenate([net.rates.rate, net.rates.per_class.ravel()])}
    if net._operators is not None:
        for index, layer in enumerate(net.layers):
            found[f"E of layer {index}"] = layer.E
            for j, C in enumerate(layer.Cs):
                found[f"C^{j} of layer {index}"] = C
    return found


def check_network(net: Any, Z: Any, case: dict[str, Any]) -> None:
    """What holds of every network, however rounding was amplified."""
    X, options = case["X"], case["options"]
    kind = np.dtype(options.get("dtype", X.dtype))
    require(Z.dtype == kind and net.dtype == kind, f"dtype {Z.dtype}, expected {kind}")
    norms = np.linalg.norm(double(Z).reshape(len(Z), -1), axis=1)
    # A sample is scaled to unit norm whatever its norm, and a zero stays zero.
    zero = ~X.reshape(len(X), -1).any(axis=1)
    slack = (4 + np.log2(Z[0].size)) * np.sqrt(Z[0].size) * np.finfo(kind).eps
    require(bool((np.abs(norms - ~zero) <= slack).all()), f"norms of features reach {norms.max():.9g}")
    names = ("epsilon_sq", "sample_weight", "dft_norm", "group")
    last = (float(net.rates.delta[-1]), float(net.rates.rate[-1]))
    check_rates(last, Z, case["y"], {n: options[n] for n in names if n in options}, "rates after the last layer")
    if case["stop"] is not None:
        expected = min(max(case["stop"], 1), options["n_layers"])
        require(net.n_layers == expected, f"on_layer stopped at {case['stop']}: {net.n_layers} layers")


def fixed(net: Any, options: dict[str, Any]) -> dict[str, Any]:
    """The options of the same network without decisions: its own steps."""
    steps = {name: value for name, value in options.items() if name not in ("tol", "patience")}
    return {**steps, "eta": net.etas, "n_layers": net.n_layers}


def check_steps(net: Any, case: dict[str, Any]) -> None:
    """eta="auto": every step is natural or halved; where NumPy decides otherwise it is a close call."""
    X, y, options = case["X"], case["y"], fixed(net, case["options"])
    kind = np.dtype(options.get("dtype", X.dtype))
    other, _ = rn.build(X, y, **{**options, "eta": "auto"}, backend="numpy")
    if (other.etas == net.etas).all():
        return
    counts["close calls of the step"] += 1
    at = int(np.argmax(other.etas != net.etas))
    taken = np.append(net.etas[:at], max(net.etas[at], other.etas[at]))
    options.update(eta=taken, n_layers=len(taken), dtype=None)

    def fall(X: Any) -> float:
        delta = rn.build(X, y, **options, backend="numpy")[0].rates.delta
        return float(delta[at] - delta[at + 1])

    right = fall(double(X))
    spread = max(abs(fall(x) - right) for x in changed(X, roundings(X, kind), 1))
    rate = float(net.rates.rate[at])
    allowed = FALL_ROUNDING_UNITS * float(np.finfo(kind).eps) * rate
    slack = ROUNDING * (at + 1) * spread + PROMISED[real_char(kind)] * 1e-2 * rate
    require(
        abs(right - allowed) <= slack, f"step {at} is {net.etas[at]}, NumPy's {other.etas[at]}; it falls by {right:.3g}"
    )


def run_build(case: dict[str, Any]) -> None:
    X, y, options = case["X"], case["y"], case["options"]
    kind = np.dtype(options.get("dtype", X.dtype))
    calls: list[int] = []

    def on_layer(index: int, rates: Any) -> bool:
        calls.append(index)
        return index >= case["stop"]

    watch = {} if case["stop"] is None else {"on_layer": on_layer}
    usable = levels()
    try:
        with engine(usable[-1]):
            net, Z = rn.build(X, y, **options, **watch, backend="cpu", n_threads=1)
    except Refusal as error:
        counts["refused"] += 1
        try:
            rn.build(X, y, **options, backend="numpy")
        except type(error):
            return
        raise Disagreement(f"only the engine refuses: {error}") from error
    check_network(net, Z, case)
    if isinstance(options["eta"], str) and options["eta"] == "auto" and not options.get("momentum"):
        check_steps(net, case)

    steps = fixed(net, options)

    def reference(X: Any) -> tuple[Any, Any]:
        return rn.build(X, y, **{**steps, "dtype": None}, backend="numpy")

    floor = least_rounding(X, kind, options, net.etas)
    right, W = reference(double(X))
    others = [reference(x) for x in changed(X, roundings(X, kind), 1)]
    if any((other.betas != net.betas).any() for other, _ in [(right, W), *others]):
        counts["restarts within rounding"] += 1
    else:
        expected, probes = measures(right, W), [measures(*other) for other in others]
        compare(measures(net, Z), expected, probes, kind, net.n_layers, "as given", floor)
        for level in usable:
            for shortcuts in ({}, case["shortcuts"]):
                with engine(level, **shortcuts):
                    other = rn.build(X, y, **steps, backend="cpu", n_threads=case["threads"])
                if (other[0].betas == net.betas).all():
                    compare(measures(*other), expected, probes, kind, net.n_layers, f"{level} {shortcuts}", floor)
    with engine(usable[-1]):
        other, V = rn.build(X, y, **options, **watch, backend="cpu", n_threads=case["threads"])
        same_bits("features", Z, V)
        for name, value in measures(net, Z).items():
            same_bits(name, value, measures(other, V)[name])
    if options.get("keep") != "features":
        with engine(usable[-1]):
            check_resume(net, Z, case, watch)
        run_transform(net, case)


def check_resume(net: Any, Z: Any, case: dict[str, Any], watch: dict[str, Any]) -> None:
    """Interrupted at a layer and gone on with, from memory or a file: the same network."""
    X, y, options = case["X"], case["y"], case["options"]
    cut = round(case["cut"] * net.n_layers)

    def press(index: int, rates: Any) -> None:
        if index == cut:
            raise KeyboardInterrupt

    with tempfile.TemporaryDirectory() as folder:
        file = {"checkpoint": os.path.join(folder, "net"), "every": max(cut, 1)} if case["file"] else {}
        try:
            rn.build(X, y, **options, **file, on_layer=press, backend="cpu", n_threads=1)
            raise Disagreement(f"a build goes on after Ctrl-C at layer {cut}")
        except rn.BuildInterrupted as stop:
            before = stop.net
        require((0 if before is None else before.n_layers) == cut, f"Ctrl-C at layer {cut} leaves {before}")
        if 0 < cut < options["n_layers"] and file:
            before = rn.load(file["checkpoint"])
        other, W = rn.build(X, y, **options, **watch, resume=before, backend="cpu", n_threads=case["threads"])
    found = {**measures(other, W), "etas": other.etas, "betas": other.betas}
    for name, value in {**measures(net, Z), "etas": net.etas, "betas": net.betas}.items():
        same_bits(name, value, found[name], f"a stop at layer {cut}")


def run_transform(net: Any, case: dict[str, Any]) -> None:
    """New samples through the engine's own operators, against the same operators in double precision."""
    ops, new = net.operators, case["new"]
    wide = replace(
        net, dtype=np.result_type(net.dtype, np.float64), _operators=replace(
            ops, dense=double(ops.dense), factors=double(ops.factors)
        )
    )  # fmt: skip

    def reference(X: Any) -> Measures:
        with rn.use_backend("numpy"):
            return {"transform": wide.transform(X), "assign": wide.assign(X)}

    # Responses alpha (v - Q Q* v) cancel, up to alpha u; lambda and long steps make more of it.
    floor = float((1 + max(net.lam, net.etas.max()) * ops.alphas.max()) * np.finfo(net.dtype).eps)
    expected = reference(double(new))
    probes = [reference(x) for x in changed(new, roundings(new, net.dtype), 2)]
    for level in levels():
        for shortcuts in ({}, case["shortcuts"]):
            with engine(level, **shortcuts), rn.use_backend("cpu"):
                found = {"transform": net.transform(new, n_threads=1), "assign": net.assign(new, n_threads=1)}
                compare(found, expected, probes, net.dtype, net.n_layers, f"{level} {shortcuts}", floor)
                same_bits("transform", found["transform"], net.transform(new, n_threads=case["threads"]))
                same_bits("assign", found["assign"], net.assign(new, n_threads=case["threads"]))


# --- Linear algebra: Q diag(s) Q*, s from 1 down to 1 / condition ---


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


def sizes_of(A: Any) -> Any:
    return np.linalg.norm(double(A), axis=(-2, -1))


def run_linalg(case: dict[str, Any]) -> None:
    A, B, condition = case["A"], case["B"], case["condition"]
    n = A.shape[-1]
    unit = (8 if A.dtype.kind == "c" else 4) * (n + 1) * float(np.finfo(A.dtype).eps)
    functions: dict[str, Callable[..., Any]] = {
        "cholesky": rn.linalg.cholesky,
        "inv": rn.linalg.inv,
        "logdet": rn.linalg.logdet,
        "solve": lambda A, **options: rn.linalg.solve(A, B, **options),
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
    else:
        logs = np.abs(np.log(np.abs(np.linalg.eigvalsh(A)))).sum(axis=-1)
        error, allowed = np.abs(X - np.linalg.slogdet(A)[1]), 2 * unit * (n * case["condition"] + logs)
    worst = float(np.max(error / allowed))
    require(worst <= 1, f"{level}: {name} errs by {worst:.3g} times what is allowed")


# --- The run ---

CASES: dict[str, tuple[Callable[..., Any], Callable[..., None]]] = {
    "build": (build_case, run_build),
    "rates": (rates_case, run_rates),
    "linalg": (linalg_case, run_linalg),
}


def describe(case: dict[str, Any]) -> str:
    def word(value: Any) -> str:
        if isinstance(value, dict):
            return "{" + ", ".join(f"{name}: {word(part)}" for name, part in value.items()) + "}"
        large = isinstance(value, np.ndarray) and value.size > 6
        return f"{value.dtype}{list(value.shape)}" if large else repr(value)

    return "\n".join(f"    {name} = {word(value)}" for name, value in case.items())


def run_case(kind: str, seed: int) -> str | None:
    """None, or what to print about a disagreement."""
    make, run = CASES[kind]
    case = make(np.random.default_rng(seed))
    counts[kind] += 1
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            run(case)
    except Exception as error:  # whatever it is, it is a finding, and the run goes on
        command = f"python -m bench.fuzz --only {kind} --seed {seed} --cases 1"
        return f"{kind} {seed}: {type(error).__name__}: {error}\n{describe(case)}\n    repeat: {command}"
    return None


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.fuzz", description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="end after this time (default: 60)")
    parser.add_argument("--cases", type=int, help="end after this many cases")
    parser.add_argument("--seed", type=int, help="of the first case (default: from the clock)")
    parser.add_argument("--only", choices=sorted(CASES), help="one kind of case")
    options = parser.parse_args(arguments)
    seed = time.time_ns() // 1000 if options.seed is None else options.seed
    print(f"seed {seed}, SIMD levels {', '.join(levels())}", flush=True)
    counts.clear()
    started, done, failures = time.monotonic(), 0, 0
    while time.monotonic() - started < options.seconds and (options.cases is None or done < options.cases):
        kind = options.only or KINDS[(seed + done) % len(KINDS)]
        failure = run_case(kind, seed + done)
        done += 1
        if failure:
            failures += 1
            print(failure, flush=True)
    found = ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))
    print(f"{done} cases, {failures} failures in {time.monotonic() - started:.0f} s: {found}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
