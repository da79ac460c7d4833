"""Random samples, labels and options: the problems that networks and rates are tried on."""

from __future__ import annotations

from typing import Any

import numpy as np

MOST_THREADS = 5


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
