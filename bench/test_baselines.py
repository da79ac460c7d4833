"""The baselines compute the same layers as one another and as the package.

In float64 a relative perturbation u of a norm rho_j <= alpha_j moves the exponent of the gate by lam alpha_j
u and the assignment by as much; operators move by u times their condition, at most 1 + C/eps^2. Sums have R F
terms. The bound is u (lam max alpha_j + 1 + C/eps^2) sqrt(R F), once per layer.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import redunet as rn
from bench.baselines.builder import Builder
from bench.baselines.numpy_expert import NumpyExpert
from bench.implementations import start_builder
from bench.workloads import Workload

N_LAYERS = 3
SHAPES = {
    "vectors": ((5,), (9, 20, 6)),
    "signals of odd length": ((4, 9), (9, 20, 6)),
    "images": ((3, 5, 6), (20, 15, 10)),
    "images, odd width": ((3, 6, 5), (20, 15, 10)),
    "small classes": ((9, 8), (5, 8, 3)),
    "equal vectors": ((3,), (10, 10, 10)),
}


def synthetic(shape: tuple[int, ...], sizes: tuple[int, ...], lam: float) -> Workload:
    """Classes around random centres, in a mixed order; new samples of their own."""
    rng = np.random.default_rng(3)
    y = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    base = rng.standard_normal((len(sizes), *shape))
    X, X_new = (base[y] + 0.5 * rng.standard_normal((len(y), *shape)) for _ in range(2))
    return Workload("synthetic", X, y, X_new, len(sizes), N_LAYERS, lam=lam)


def bound(data: Workload) -> float:
    u = np.finfo(np.float64).eps
    condition = 1 + data.n_channels / data.epsilon_sq
    alpha = data.n_channels / (data.class_sizes.min() * data.epsilon_sq)
    terms = 2 * data.n_channels * data.n_freqs
    return float(N_LAYERS * u * (data.lam * alpha + condition) * np.sqrt(terms))


def run(builder: Builder, data: Workload) -> tuple[NDArray[Any], NDArray[Any]]:
    start_builder(builder, data)
    assert builder.build_layers(N_LAYERS) == N_LAYERS
    builder.start_new(data.X_new)
    for i in range(N_LAYERS):
        builder.apply_layer(i)
    return builder.features(), builder.new_features()


def authors() -> Builder:
    torch = pytest.importorskip("torch")
    from bench.baselines.authors import AuthorsTorch

    return AuthorsTorch(1, torch.float64)


def torch_expert(low_rank: bool = False) -> Builder:
    torch = pytest.importorskip("torch")
    from bench.baselines.torch_expert import TorchExpert

    return TorchExpert(2, low_rank=low_rank, dtype=torch.float64)


def stacked(n_threads: int = 2) -> Builder:
    pytest.importorskip("numba")
    from bench.baselines import stacked

    return stacked.StackedExpert(n_threads, dtype=np.float64)


def stacked_mkl() -> Builder:
    pytest.importorskip("numba")
    from bench.baselines import mkl, stacked_mkl

    if mkl.library() is None:
        pytest.skip("MKL is not installed")
    return stacked_mkl.StackedMkl(2, dtype=np.float64)


def jax_scan() -> Builder:
    pytest.importorskip("jax")
    from bench.baselines.jax_scan import JaxScan

    return JaxScan(2, dtype=np.float64)


EXPERTS: dict[str, Callable[[], Builder]] = {
    "torch": torch_expert,
    "numpy": lambda: NumpyExpert(2, dtype=np.float64),
    "torch factored": lambda: torch_expert(low_rank=True),
    "numpy factored": lambda: NumpyExpert(2, low_rank=True, dtype=np.float64),
    "stacked": stacked,
    "stacked, one thread": lambda: stacked(1),
    "stacked, MKL": stacked_mkl,
    "jax": jax_scan,
}


# Factored forms need every class smaller than C.
PAIRS = [(case, name) for case in SHAPES for name in EXPERTS if case == "small classes" or "factored" not in name]


@pytest.mark.parametrize("lam", [500.0, 3.0])
@pytest.mark.parametrize(("case", "name"), PAIRS)
def test_expert_builds_the_authors_layers(case: str, name: str, lam: float) -> None:
    data = synthetic(*SHAPES[case], lam)
    expert = EXPERTS[name]()
    for ours, theirs in zip(run(expert, data), run(authors(), data), strict=True):
        assert ours.shape == theirs.shape
        assert np.linalg.norm(ours - theirs) <= bound(data) * np.linalg.norm(theirs)


def builds_what_the_package_builds(expert: Builder, data: Workload) -> None:
    Z, Z_new = run(expert, data)
    net, features = rn.build(
        data.X, data.y, n_layers=N_LAYERS, eta=data.eta, epsilon_sq=data.epsilon_sq, lam=data.lam, backend="numpy"
    )
    transformed = net.transform(data.X_new, backend="numpy")
    assert np.linalg.norm(Z - features) <= bound(data) * np.linalg.norm(Z)
    assert np.linalg.norm(Z_new - transformed) <= bound(data) * np.linalg.norm(Z_new)
    rates = np.column_stack([net.rates.delta, net.rates.rate, net.rates.class_rate])[:N_LAYERS]
    np.testing.assert_allclose(expert.rates, rates, rtol=0, atol=bound(data) * rates[:, 1].max())


@pytest.mark.parametrize("lam", [500.0, 3.0])
@pytest.mark.parametrize(("case", "name"), PAIRS)
def test_expert_builds_the_packages_layers_and_rates(case: str, name: str, lam: float) -> None:
    builds_what_the_package_builds(EXPERTS[name](), synthetic(*SHAPES[case], lam))


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # its own compiler calls what it deprecates
@pytest.mark.parametrize("case", ["vectors", "signals of odd length"])
def test_compiled_torch_builds_the_packages_layers_and_rates(case: str) -> None:
    torch = pytest.importorskip("torch")
    if not any(map(shutil.which, ("c++", "g++", "clang++"))):
        pytest.skip("torch.compile needs a C++ compiler")
    from bench.baselines.torch_compiled import TorchCompiled

    builds_what_the_package_builds(TorchCompiled(2, dtype=torch.float64), synthetic(*SHAPES[case], 3.0))


@pytest.mark.parametrize("name", ["stacked", "stacked, MKL"])
@pytest.mark.parametrize("shape", [(30,), (26, 4)])
def test_stacked_expert_beyond_its_small_sizes(name: str, shape: tuple[int, ...]) -> None:
    """Cholesky by LAPACK, samples of a single frequency split among threads."""
    builds_what_the_package_builds(EXPERTS[name](), synthetic(shape, (300, 200, 100), 3.0))


def test_factored_form_needs_small_classes() -> None:
    data = synthetic(*SHAPES["images"], 500.0)
    for name in ("numpy factored", "torch factored"):
        with pytest.raises(ValueError, match="every class smaller than the number of channels"):
            start_builder(EXPERTS[name](), data)
