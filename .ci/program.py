"""A user's program, for type checkers: everything in it is right, but for the lines that say that they are wrong.

`.ci/run` gives it to mypy and pyright, which must find these errors and no others; nobody runs it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import redunet as rn
from redunet import linalg

X, y = rn.datasets.gaussian_mixture(50, n_features=3, random_state=0)
net, Z = rn.build(X, y, n_layers=5, eta="search", group="cyclic", channels="last", backend="numpy")
features: npt.NDArray[Any] = net.transform(X, channels="first")
lists, _ = rn.build([[1.0, 0.0], [0.0, 1.0]], ["a", "b"], n_layers=2, eta=[0.1, 0.2], keep="operators")
short: rn.ReduNet = net.truncate(3)
delta: npt.NDArray[np.float64] = short.rates.delta
for stage in net.staged_transform(X, every=2):
    print(stage.shape)

net.save(Path("net"))
again: rn.ReduNet = rn.load("net", mmap=False)
moved = rn.shifts(Z[:, None], group=again.group)
rate: rn.RateReduction = rn.rate_reduction(Z, y, unit="bits", dft_norm=net.dft_norm)

lift = rn.RandomLift(4, (3, 3), activation="soft", threshold=0.1)
lifted: npt.NDArray[Any] = lift.fit(np.ones((2, 8, 8, 1)), channels="last").transform(np.ones((2, 8, 8, 1)))
nearest = rn.NearestSubspace(n_components=2).fit(Z, y)
score: float = nearest.score(Z, y, shifts=None)

L = linalg.cholesky(np.eye(3), backend="cpu")
forms, logdet = linalg.quadratic_forms(np.eye(3), np.ones(3))
with rn.use_backend("numpy"):
    path = rn.clustering.merge_path(X, epsilon_sq=0.1, mean="zero", length="rate")
labels: npt.NDArray[np.int64] = path.labels("first")


def on_layer(index: int, rates: rn.RateReduction) -> bool:
    """Stop when it is good enough."""
    return rates.delta > 1.0 and index > 2


rn.build(X, y, n_layers=3, on_layer=on_layer)

rn.build(X, y, n_layers=3, group="dihedrall")  # wrong
rn.build(X, y, n_layers=3, backend="gpu")  # wrong
rn.build(X, y, n_layers=3, eta="fast")  # wrong
rn.build(X, y, n_layers="3")  # wrong
rn.build(X, y, 3)  # wrong
net.transform(X, channels="second")  # wrong
rn.RandomLift(4, 3, activation="tanh")  # wrong
rn.coding_rate(Z, unit="nat")  # wrong
nearest.score(Z, y, shifts="all")  # wrong
linalg.inv(np.eye(3), n_threads="two")  # wrong
