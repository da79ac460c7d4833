"""Build white-box networks (ReduNet) by maximising coding-rate reduction, layer by layer.

>>> import redunet as rn
>>> X, y = rn.datasets.gaussian_mixture(50, n_features=2, random_state=0)
>>> net, Z = rn.build(X, y, n_layers=10)
>>> net.transform(X).shape
(100, 2)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

from redunet._backends import empty_cache, use_backend
from redunet._backends.contract import CudaError, RateReduction
from redunet.network import BuildInterrupted, ClassGrams, ReduNet, build, forget_class, load
from redunet.rates import coding_length, coding_rate, rate_reduction, rate_reduction_gradient

if TYPE_CHECKING:
    from redunet import clustering, datasets, distributed, linalg, plot, segmentation, sklearn, sparse
    from redunet.classifiers import CosineNeighbors, NearestSubspace
    from redunet.config import show_config
    from redunet.frontends import PooledLift, RandomLift, SparseLift, shifts, to_polar

# Public names that are imported when they are first used, so that `import redunet` costs little more than NumPy.
_LAZY = {
    "CosineNeighbors": "redunet.classifiers",
    "NearestSubspace": "redunet.classifiers",
    "PooledLift": "redunet.frontends",
    "RandomLift": "redunet.frontends",
    "SparseLift": "redunet.frontends",
    "shifts": "redunet.frontends",
    "show_config": "redunet.config",
    "to_polar": "redunet.frontends",
}
_SUBMODULES = ("clustering", "datasets", "distributed", "linalg", "plot", "segmentation", "sklearn", "sparse")

__all__ = [
    "BuildInterrupted",
    "ClassGrams",
    "CosineNeighbors",
    "CudaError",
    "NearestSubspace",
    "PooledLift",
    "RandomLift",
    "RateReduction",
    "ReduNet",
    "SparseLift",
    "__version__",
    "build",
    "clustering",
    "coding_length",
    "coding_rate",
    "datasets",
    "distributed",
    "empty_cache",
    "forget_class",
    "linalg",
    "load",
    "plot",
    "rate_reduction",
    "rate_reduction_gradient",
    "segmentation",
    "shifts",
    "show_config",
    "sklearn",
    "sparse",
    "to_polar",
    "use_backend",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"redunet.{name}")
    raise AttributeError(f"module 'redunet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
