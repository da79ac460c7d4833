"""Problems for tests of `redunet.distributed`, on ranks that are threads, and what is asked of their networks.

A network of several ranks is that of one process for the samples of all, in the order of the ranks. Features are
compared with the NumPy backend in double precision, as MATH promises them: to 1e-3 in single and 1e-8 in double.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from oracle import relative
from ranks import on_threads, successes

import redunet as rn
from redunet import distributed

#: Shape of all samples; dtype; kind of classes; options.
PROBLEMS: dict[str, tuple[tuple[int, ...], str, str, dict[str, Any]]] = {
    "vectors": ((41, 6), "f8", "labels", {}),
    "vectors, many classes": ((60, 5), "f4", "seven", {}),
    "vectors, complex": ((33, 9), "c8", "weights", {}),
    "signals": ((50, 3, 10), "f4", "labels", {}),
    "signals, many channels": ((45, 20, 7), "f8", "weights", {}),
    "signals, soft": ((37, 5, 9), "f8", "soft", {}),
    "signals, soft, weights": ((37, 17, 6), "f4", "soft, weights", {}),
    "signals, complex": ((30, 4, 7), "c16", "labels", {}),
    "few samples": ((15, 12, 8), "f8", "labels", {}),
    "images": ((21, 10, 4, 5), "f8", "weights", {}),
    "images, backward": ((21, 3, 4, 4), "f4", "labels", {"dft_norm": "backward"}),
    "dihedral": ((40, 6, 9), "f8", "labels", {"group": "dihedral"}),
    "dihedral, images": ((21, 5, 4, 3), "c16", "soft", {"group": "dihedral"}),
}
SCHEMES: dict[str, dict[str, Any]] = {
    "fixed": {"eta": 0.3},
    "each step": {"eta": [0.3, 0.2, 0.1, 0.3]},
    "auto": {},
    "search": {"eta": "search"},
    "momentum": {"momentum": True},
    "momentum, search": {"momentum": True, "eta": "search"},
    "given": {"assignment": "given"},
    "rates": {"keep": "features"},
}
LAYOUTS = ("samples", "frequencies")


def problem(name: str) -> dict[str, Any]:
    """Arguments of `build`: samples about a few centres, so that steps are decided by more than rounding."""
    shape, dtype, kind, options = PROBLEMS[name]
    rng = np.random.default_rng(sum(shape))
    m, k = shape[0], 7 if kind == "seven" else 3
    y = np.arange(m) % k
    centres = rng.standard_normal((k, *shape[1:]))
    X = centres[y] + 0.7 * rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        X = X + 1j * (centres[y][::-1] + 0.7 * rng.standard_normal(shape))
    given = {"X": X.astype(dtype), "y": y, "n_layers": 4, "epsilon_sq": 0.5, "lam": 20.0, **options}
    if "soft" in kind:
        given["y"] = 0.8 * np.eye(k)[y] + 0.2 * rng.dirichlet(np.ones(k), m)
    if "weights" in kind:
        given["sample_weight"] = rng.uniform(0.2, 3, m)
    return given


def share(given: dict[str, Any], rows: Any) -> dict[str, Any]:
    """Some of the samples."""
    return {name: value[rows] if name in ("X", "y", "sample_weight") else value for name, value in given.items()}


def uneven(m: int, size: int) -> list[slice]:
    """Shares of samples of which each is smaller than the one before."""
    bounds = [round(m * (1 - (1 - rank / size) ** 2)) for rank in range(size + 1)]
    return [slice(first, last) for first, last in pairwise(bounds)]


def build_on(rows: list[Any], given: dict[str, Any], **options: Any) -> list[Any]:
    """What each rank gets of its samples."""
    return on_threads(
        len(rows), lambda comm: distributed.build(**share(given, rows[comm.rank]), comm=comm, n_threads=1, **options)
    )


def reference(given: dict[str, Any]) -> tuple[rn.ReduNet, np.ndarray]:
    wide = np.result_type(given["X"].dtype, np.float64)
    return rn.build(**{**given, "X": given["X"].astype(wide), "backend": "numpy"})


def agree(results: list[Any], given: dict[str, Any], rows: list[Any]) -> None:
    """Networks of all ranks are one, and that of one process; features are those of the ranks' samples."""
    results = successes(results)
    expected, W = reference(given)
    tolerance = 1e-3 if given["X"].dtype in (np.float32, np.complex64) else 1e-8
    for (net, Z), some in zip(results, rows, strict=True):
        same_networks(net, results[0][0])
        assert Z.dtype == given["X"].dtype
        assert Z.shape == W[some].shape
        if len(Z):
            assert relative(Z, W[some]) < tolerance
    net = results[0][0]
    assert net.n_layers == expected.n_layers
    np.testing.assert_array_equal(net.classes_, expected.classes_)
    np.testing.assert_allclose(net.etas, expected.etas, rtol=tolerance)
    np.testing.assert_allclose(net.betas, expected.betas)
    np.testing.assert_allclose(net.rates.rate, expected.rates.rate, rtol=tolerance)
    np.testing.assert_allclose(net.rates.per_class, expected.rates.per_class, rtol=tolerance)
    if given.get("keep") != "features":
        new = given["X"][:3]
        assert relative(net.transform(new), expected.transform(new)) < tolerance


def same_networks(net: rn.ReduNet, other: rn.ReduNet) -> None:
    """To the last bit."""
    assert net.n_layers == other.n_layers
    for name in ("etas", "betas", "classes_"):
        np.testing.assert_array_equal(getattr(net, name), getattr(other, name))
    for name in ("rate", "per_class"):
        np.testing.assert_array_equal(getattr(net.rates, name), getattr(other.rates, name))
    assert (net._operators is None) == (other._operators is None)
    if net._operators is not None:
        for name in ("dense", "factors", "ranks", "alphas", "gammas"):
            np.testing.assert_array_equal(getattr(net.operators, name), getattr(other.operators, name), err_msg=name)


def layouts_of(name: str, size: int) -> list[str]:
    """Vectors have one frequency."""
    return ["samples"] if len(PROBLEMS[name][0]) == 2 and size > 1 else list(LAYOUTS)


def errors(results: list[Any]) -> list[BaseException]:
    assert all(isinstance(result, BaseException) for result in results), results
    return results
