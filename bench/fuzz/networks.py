"""Networks: built, gone on with, saved, and applied to new samples."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from typing import Any

import numpy as np

import redunet as rn
from bench.fuzz.comparisons import (
    PROMISED,
    ROUNDING,
    Disagreement,
    Measures,
    changed,
    compare,
    counts,
    double,
    engine,
    least_rounding,
    levels,
    real_char,
    require,
    roundings,
    same_bits,
)
from bench.fuzz.problems import MOST_THREADS, common_options, samples, target
from bench.fuzz.rates import check_rates
from redunet._backends.contract import FALL_ROUNDING_UNITS, NATURAL_STEP

SHORTCUTS = ("fused", "early_stop", "sketches")
Refusal = (ValueError, np.linalg.LinAlgError)


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
    options["channels"] = "first"  # samples of every shape are meant as they are
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
        net,
        dtype=np.result_type(net.dtype, np.float64),
        _operators=replace(ops, dense=double(ops.dense), factors=double(ops.factors)),
    )

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
