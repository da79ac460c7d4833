"""Coding lengths: clusters that merge, regions of an image, and the nearest neighbours of local MICL.

Trees may part where two gains are as equal as rounding makes them: paths are compared up to there, and what is true of
any tree beyond.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import redunet as rn
from bench.fuzz.comparisons import MEANINGLESS, counts, double, engine, levels, real_char, require, same_bits
from bench.fuzz.problems import MOST_THREADS, size
from redunet._backends import select_with
from redunet._backends.host_contract import LocalRequest

UNIT = float(np.finfo(np.float64).eps)


def coding_options(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "epsilon_sq": float(10 ** rng.uniform(-4, 2)),
        "mean": str(rng.choice(["estimate", "zero"])),
        "length": str(rng.choice(["full", "rate"])),
    }


def real_samples(rng: np.random.Generator, N: int, D: int) -> Any:
    """In clusters, in subspaces, whole numbers with ties, or without structure; of any unit."""
    X = rng.standard_normal((N, D)) * rng.uniform(0.05, 2, D)
    family = rng.choice(["clusters", "subspaces", "integers", "repeated", "plain"])
    if family == "clusters":
        X = 0.2 * X + 2 * rng.standard_normal((4, D))[rng.integers(0, 4, N)]
    elif family == "subspaces":
        X = rng.standard_normal((N, 1)) * rng.standard_normal((3, D))[rng.integers(0, 3, N)] + 0.05 * X
    elif family == "integers":
        X = np.round(X)
    elif family == "repeated":
        X = X[rng.integers(0, max(1, N // 3), N)]
    return X


def gain_rounding(X: Any, options: dict[str, Any], samples: float) -> float:
    """How far two computations of a gain in double precision may be apart, of at most this many samples.

    Entries of I + a S carry a few units of 1 + a |S|, and a pivot of at least 1 as much of its logarithm, D pivots;
    (m + D)/2 times that, for the three lengths of a gain, which have m log m too.
    """
    D = X.shape[-1]
    largest = 1 + D / options["epsilon_sq"] * float(np.square(double(X)).sum(axis=-1).max())
    return 4 * (samples + D) * D * UNIT * largest + 8 * UNIT * samples * np.log1p(samples)


def compare_paths(found: Any, right: Any, allowed: float, what: str) -> None:
    """Two paths of steepest descent of one problem."""
    require(found.n_start == right.n_start, f"{what}: {found.n_start} clusters at first, expected {right.n_start}")
    require(len(found.gains) == len(right.gains), f"{what}: {len(found.gains)} merges, expected {len(right.gains)}")
    scale = 1 + float(np.abs(right.code_lengths).max())
    if not allowed < MEANINGLESS * scale / max(1, len(right.gains)):
        counts["beyond the precision"] += 1
        return
    other = (found.children != right.children).any(axis=1)
    part = int(np.argmax(other)) if other.any() else len(other)
    upto = slice(0, part + 1)
    error = float(np.abs(found.gains[upto] - right.gains[upto]).max(initial=0))
    require(
        error <= 2 * allowed, f"{what}: gains up to merge {part} differ by {error:.3g}, {2 * allowed:.3g} is allowed"
    )
    counts["trees that part at a tie" if part < len(other) else "the same trees"] += 1
    first = abs(float(found.code_lengths[0] - right.code_lengths[0]))
    require(first <= found.n_start * allowed, f"{what}: the first code length differs by {first:.3g}")
    if other.any() and found.n_start - len(found.gains) > 1:
        return  # which clusters remain may depend on the tree
    last = abs(float(found.code_lengths[-1] - right.code_lengths[-1]))
    require(last <= 2 * found.n_start * allowed, f"{what}: the last code length differs by {last:.3g}")


# --- Samples that merge ---


def merging_case(rng: np.random.Generator) -> dict[str, Any]:
    N, D = size(rng, 300), size(rng, 40)
    X = real_samples(rng, N, D)
    options = coding_options(rng)
    if rng.random() < 0.3:
        options["init"] = rng.integers(0, max(1, N // 2), N)
    if rng.random() < 0.3:
        near = rng.random((N, N)) < rng.uniform(0.5, 5) / N
        options["connectivity"] = near | near.T
    return {
        "X": X.astype(rng.choice(["f", "d"])),
        "options": options,
        "threads": int(rng.integers(2, MOST_THREADS + 1)),
    }


def run_merging(case: dict[str, Any]) -> None:
    X, options = case["X"], case["options"]
    right = rn.clustering.merge_path(X, **options, backend="numpy")
    allowed = gain_rounding(X, options, len(X))
    for level in levels():
        with engine(level):
            found = rn.clustering.merge_path(X, **options, backend="cpu", n_threads=1)
            other = rn.clustering.merge_path(X, **options, backend="cpu", n_threads=case["threads"])
        compare_paths(found, right, allowed, level)
        for name in ("children", "gains", "code_lengths"):
            same_bits(name, getattr(found, name), getattr(other, name))


# --- Regions that merge ---


def regions_case(rng: np.random.Generator) -> dict[str, Any]:
    H, W, D = size(rng, 40), size(rng, 60), size(rng, 12)
    features = real_samples(rng, H * W, D).reshape(H, W, D)
    side = int(rng.integers(1, 6))
    labels = np.arange(H)[:, None] // side * W + np.arange(W) // side
    if rng.random() < 0.3:
        labels = rng.integers(0, 1 + H * W // 4, (H, W))
    options = coding_options(rng)
    options["overlap"] = float(rng.choice([1.0, 9.0]))
    options["boundary_bits"] = float(rng.choice([0.0, 1.0, 5.0]))
    return {
        "features": features.astype(rng.choice(["f", "d"])),
        "labels": labels,
        "options": options,
        "threads": int(rng.integers(2, MOST_THREADS + 1)),
    }


def run_regions(case: dict[str, Any]) -> None:
    features, labels, options = case["features"], case["labels"], case["options"]

    def path(backend: str, n_threads: int = 1) -> Any:
        return rn.segmentation.merge_regions(features, labels, **options, backend=backend, n_threads=n_threads)

    right = path("numpy")
    n_pixels = labels.size
    # Sums of n pixels, about their own means: n units more than those of a gain.
    allowed = gain_rounding(features, options, n_pixels) * (1 + np.log2(n_pixels)) + UNIT * n_pixels * (
        4 * options["boundary_bits"]
    )
    for level in levels():
        with engine(level):
            found, other = path("cpu"), path("cpu", case["threads"])
        compare_paths(found, right, allowed, level)
        for name in ("children", "gains", "code_lengths"):
            same_bits(name, getattr(found, name), getattr(other, name))


# --- Neighbours ---


def local_case(rng: np.random.Generator) -> dict[str, Any]:
    D, dtype = size(rng, 60), rng.choice(["f", "d"])
    sizes = [size(rng, 120) for _ in range(int(rng.integers(1, 6)))]
    everything = real_samples(rng, sum(sizes) + size(rng, 200), D).astype(dtype)
    Z, X = np.split(everything, [sum(sizes)])
    return {
        "Z": Z,
        "X": X if len(X) else Z[:1].copy(),
        "request": LocalRequest(
            offsets=np.concatenate([[0], np.cumsum(sizes)]),
            origin=Z.mean(axis=0, dtype=np.float64).astype(dtype),
            n_neighbors=size(rng, 30),
            centred=bool(rng.random() < 0.5),
            epsilons=10 ** rng.uniform(-3, 2, int(rng.integers(1, 4))),
        ),
        "threads": int(rng.integers(2, MOST_THREADS + 1)),
    }


def no_near_tie(X: Any, Z: Any, request: LocalRequest, unit: float) -> Any:
    """Of which samples the nearest of every class are the same however distances are rounded: (m,) bool."""
    X, Z = double(X), double(Z)
    clear = np.ones(len(X), bool)
    for begin, end in zip(request.offsets[:-1], request.offsets[1:], strict=True):
        n = min(request.n_neighbors, end - begin)
        if n == end - begin:
            continue
        squares = np.sort(np.square(X[:, None] - Z[begin:end]).sum(axis=2), axis=1)
        about = np.square(X - request.origin).sum(axis=1) + np.square(Z - request.origin).sum(axis=1).max()
        clear &= squares[:, n] - squares[:, n - 1] > 8 * (X.shape[1] + 4) * unit * about
    return clear


def run_local(case: dict[str, Any]) -> None:
    X, Z, request = case["X"], case["Z"], case["request"]
    char = real_char(X.dtype)
    unit = float(np.finfo(char).eps)
    right = select_with("local_increments", "numpy").local_increments(double(X), double(Z), request, n_threads=1)
    clear = no_near_tie(X, Z, request, unit)
    counts["ties of neighbours"] += int((~clear).sum())
    # With n members, a = D/(n eps^2) and a Gram matrix K about x: I + a K is off by 4 (n + D) u (1 + a tr K), a log det
    # by n times that, a score by (n + D)/2 of it, for each of its log dets.
    n, D = min(request.n_neighbors, int(np.diff(request.offsets).max())) + 1, X.shape[1]
    origin = double(request.origin) * request.centred  # of what is coded about zero, lengths are those about zero
    squares = np.square(double(np.concatenate([X, Z])) - origin).sum(axis=1).max()
    for level in levels():
        with engine(level):
            module = select_with("local_increments", "cpu")
            found = module.local_increments(X, Z, request, n_threads=1)
            same_bits("increments", found, module.local_increments(X, Z, request, n_threads=case["threads"]))
        for e, epsilon_sq in enumerate(request.epsilons.tolist()):
            trace = 4 * squares * D / epsilon_sq
            allowed = 2 * (n + D) * n * 4 * (n + D) * unit * (1 + trace)
            if not allowed < MEANINGLESS * (n + D):
                counts["beyond the precision"] += 1
                continue
            error = float(np.abs(found[e] - right[e])[clear].max(initial=0))
            require(error <= allowed, f"{level}: increments differ by {error:.3g}, {allowed:.3g} is allowed")
