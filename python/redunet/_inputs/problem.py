"""From labels, weights and hyperparameters to the constants of a construction (`_backends.contract.Problem`)."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet._backends.contract import Problem
from redunet._inputs import checks

Array = npt.NDArray[Any]
#: What the arguments of `build` may be.
ASSIGNMENTS = ("estimated", "given")
KEEPS = ("operators", "features")
DFT_NORMS = ("ortho", "backward")


@cache
def largest_square_root(dtype: np.dtype[Any]) -> float:
    """A number whose square, summed over all channels and frequencies, does not overflow."""
    return float(np.sqrt(np.finfo(dtype).max)) / 2**8


def make_problem(
    y: npt.ArrayLike,
    sample_weight: npt.ArrayLike | None,
    *,
    n_samples: int,
    n_channels: int,
    n_points: int,
    freq_weights: npt.NDArray[np.float64],
    n_columns: int,
    epsilon_sq: float,
    dft_norm: str,
    dtype: np.dtype[Any],
) -> tuple[Problem, Array]:
    """The problem and the classes."""
    labels, Pi, classes = checks.membership(y, n_samples)
    weights = checks.sample_weights(sample_weight, n_samples)
    sizes, counts = class_sizes(labels, Pi, weights, len(classes))
    check_sizes(sizes, classes)
    problem = problem_of(
        labels,
        None if Pi is None else np.ascontiguousarray(Pi),
        weights,
        sizes=sizes,
        total=float(sizes.sum()),
        counts=np.concatenate([[n_samples], counts]),
        n_channels=n_channels,
        n_points=n_points,
        freq_weights=freq_weights,
        n_columns=n_columns,
        epsilon_sq=checks.positive(epsilon_sq, "epsilon_sq"),
        dft_norm=dft_norm,
        dtype=dtype,
    )
    return problem, classes


def class_sizes(
    labels: npt.NDArray[np.int64] | None,
    membership: npt.NDArray[np.float64] | None,
    weights: npt.NDArray[np.float64] | None,
    n_classes: int,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """What the classes weigh, and how many samples take part in each: (k,)."""
    sizes: Array
    if labels is not None:
        sizes = np.bincount(labels, weights=weights, minlength=n_classes)
        counts = np.bincount(labels, minlength=n_classes)
    else:
        assert membership is not None
        sizes = (np.ones(len(membership)) if weights is None else weights) @ membership
        counts = np.count_nonzero(membership, axis=0)
    return sizes.astype(np.float64), counts.astype(np.int64)


def check_sizes(sizes: npt.NDArray[np.float64], classes: Array) -> None:
    """Every class has a sample, and all together weigh a number."""
    if not np.isfinite(sizes.sum()):
        raise ValueError("sample_weight adds up to more than a float64 holds; expected smaller weights")
    if not (sizes > 0).all():
        empty = classes.tolist()[int(np.flatnonzero(sizes <= 0)[0])]
        raise ValueError(f"class {empty!r} has no sample of positive weight; expected no empty class")


def problem_of(
    labels: npt.NDArray[np.int64] | None,
    membership: npt.NDArray[np.float64] | None,
    weights: npt.NDArray[np.float64] | None,
    *,
    sizes: npt.NDArray[np.float64],
    total: float,
    counts: Array,
    n_channels: int,
    n_points: int,
    freq_weights: npt.NDArray[np.float64],
    n_columns: int,
    epsilon_sq: float,
    dft_norm: str,
    dtype: np.dtype[Any],
) -> Problem:
    """The problem of samples that weigh ``total``, in classes that weigh ``sizes``, ``counts`` of them, all first.

    An operator is kept as a factor Q, (C, r), when r <= C/2 samples made it: from there on the two products with Q cost
    no more than the one with the dense operator, and the memory is half or less. With several columns a sample all
    operators are dense.
    """
    checks.choice(dft_norm, "dft_norm", DFT_NORMS)
    masses = np.empty(len(sizes) + 1)
    masses[0], masses[1:] = total, sizes
    with np.errstate(over="ignore", divide="ignore"):
        alphas = n_channels / (n_columns * masses * epsilon_sq)
    largest = largest_square_root(dtype)
    if not (float(alphas.max()) * n_points < largest and float(alphas.min()) > 1 / largest):
        raise ValueError(
            f"epsilon_sq is {epsilon_sq!r} and the samples weigh {total:.6g}: alpha = C / (m epsilon_sq) is out of "
            f"the range of {dtype}; expected numbers nearer to 1"
        )
    columns = n_columns * counts.astype(np.int64)
    factored = (2 * columns <= n_channels) & (n_columns == 1)
    return Problem(
        labels=labels,
        membership=membership,
        weights=weights,
        freq_weights=freq_weights,
        n_points=n_points,
        inner=float(n_points) if dft_norm == "backward" else 1.0,
        alphas=alphas,
        gammas=sizes / total,
        counts=columns,
        ranks=np.where(factored, columns, 0).astype(np.int64),
        n_columns=n_columns,
    )
