"""What ranks must know of each other's samples: options that are the same, the classes, their sizes, and who has what.

A rank may lack a class, have one sample, or none. One without samples works with a sample of zeros that weighs nothing:
zeros stay zeros in every layer.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet._backends.contract import Problem
from redunet._inputs import checks, prepare
from redunet._inputs.problem import check_sizes, class_sizes, problem_of
from redunet.distributed.communicator import Communicator, in_order

Array = npt.NDArray[Any]
#: Kinds of labels by the letters of their dtypes: those of one kind can be compared.
KINDS = {letter: kind for kind in ("biufc", "S", "UT", "m", "M", "O") for letter in kind}


@dataclass(frozen=True, eq=False)
class Share:
    """A rank's own samples and classes, in the numbers of all ranks.

    Attributes
    ----------
    given : Samples
        The rank's samples, or one of zeros where there are none.
    n : int
        How many there are.
    labels : (n,) int64 array, or None
    membership : (n, k) array, or None
        One of them is there.
    weights : (n,) array, or None
    classes : (k,) array
        Of all ranks.
    sizes : (k,) array
        What the classes weigh, of all ranks.
    counts : (1 + k,) array
        Samples of all ranks, and how many take part in each class.
    """

    given: prepare.Samples
    n: int
    labels: npt.NDArray[np.int64] | None
    membership: npt.NDArray[np.float64] | None
    weights: npt.NDArray[np.float64] | None
    classes: Array
    sizes: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]

    def by_samples(self) -> tuple[Any, Any, Any]:
        """Labels, membership and weights of the own samples, of which there is at least one."""
        if self.n:
            return self.labels, self.membership, self.weights
        first = None if self.membership is None else np.eye(1, len(self.classes))
        return (None if self.labels is None else np.zeros(1, np.int64)), first, np.zeros(1)

    def of_all(self, comm: Communicator) -> tuple[Any, Any, Any]:
        """Labels, membership and weights of the samples of all ranks, in the order of these."""
        labels = None if self.labels is None else np.concatenate(comm.share(self.labels))
        Pi = None if self.membership is None else np.concatenate(comm.share(self.membership))
        weights = None
        if any(comm.gather(self.weights is not None)):
            weights = np.concatenate(comm.share(np.ones(self.n) if self.weights is None else self.weights))
        return labels, None if Pi is None else Pi.reshape(-1, len(self.classes)), weights

    def problem(self, labels: Any, membership: Any, weights: Any, *, epsilon_sq: float, dft_norm: str) -> Problem:
        """The constants of all ranks' samples."""
        fourier = self.given.fourier
        return problem_of(
            labels,
            membership,
            weights,
            sizes=self.sizes,
            total=float(self.sizes.sum()),
            counts=self.counts,
            n_channels=self.given.n_channels,
            n_points=fourier.n_points,
            freq_weights=fourier.freq_weights,
            n_columns=fourier.n_columns,
            epsilon_sq=epsilon_sq,
            dft_norm=dft_norm,
            dtype=self.given.dtype,
        )


def own_samples(X: npt.ArrayLike, **options: Any) -> tuple[prepare.Samples, int]:
    """Samples on their way in, one of zeros where there are none; and how many there are."""
    array: Any = X if hasattr(X, "shape") else checks.array(X, "X")
    none = len(array.shape) > 1 and array.shape[0] == 0
    given = prepare.samples(np.zeros((1, *array.shape[1:]), array.dtype) if none else array, **options)
    if not given.on_host:
        raise TypeError("X lies on a CUDA device; expected an array of the host")
    return given, 0 if none else len(given)


def agree(
    comm: Communicator,
    given: prepare.Samples,
    n: int,
    y: npt.ArrayLike,
    sample_weight: npt.ArrayLike | None,
    options: Mapping[str, str],
) -> Share:
    """The classes and their sizes; an error where ranks differ in what must be the same."""
    labels, Pi, classes = _own_classes(y, n)
    weights = checks.sample_weights(sample_weight, n)
    alike = {"X.shape[1:]": given.array.shape[1:], "dtype": given.dtype.name, **options}
    told = comm.gather((alike, (n, np.ndim(y), Pi is not None, classes)))
    _expect_the_same([mine for mine, _ in told])
    there = [mine for _, mine in told]
    if not any(n for n, *_ in there):
        raise ValueError("X has no samples on any rank; expected at least one")
    labels, Pi, classes = _in_numbers_of_all(comm.rank, there, labels, Pi)
    sizes, counts = class_sizes(labels, Pi, weights, len(classes))
    sizes, counts = in_order(comm.share(sizes)), in_order(comm.share(np.concatenate([[n], counts])))
    check_sizes(sizes, classes)
    return Share(given, n, labels, Pi, weights, classes, sizes, counts)


def threads_among_neighbours(comm: Communicator, given: prepare.Samples) -> prepare.Samples:
    """The threads of a machine's cores, which may be used by all ranks there, are shared by them."""
    affinity = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    place = socket.gethostname(), affinity
    return replace(given, n_threads=max(1, given.n_threads // comm.gather(place).count(place)))


def _expect_the_same(told: list[dict[str, Any]]) -> None:
    for name, value in told[0].items():
        for rank, others in enumerate(told):
            if others[name] != value:
                raise ValueError(
                    f"{name} is {others[name]} on rank {rank} and {value} on rank 0; expected the same on all ranks"
                )


def _own_classes(y: npt.ArrayLike, n: int) -> tuple[npt.NDArray[np.int64] | None, Any, Array]:
    """As `checks.membership` gives them, of a part of the samples."""
    if n:
        return checks.membership(y, n, whole=False)
    checks.readable(y, "y")
    values = checks.array(y, "y")
    if values.ndim not in (1, 2) or len(values):
        raise ValueError(f"y has shape {values.shape}; expected no labels (0,), as X has no samples")
    return np.empty(0, np.int64), None, np.arange(values.shape[1] if values.ndim == 2 else 0)


def _in_numbers_of_all(
    rank: int, told: list[tuple[int, int, bool, Array]], labels: npt.NDArray[np.int64] | None, Pi: Any
) -> tuple[npt.NDArray[np.int64] | None, Any, Array]:
    """Labels or membership in the classes of all ranks, of what these told: samples, axes of y, if soft, classes."""
    some = [(other, axes, soft, classes) for other, (n, axes, soft, classes) in enumerate(told) if n]
    first, axes, _, classes = some[0]
    for other, others_axes, _, others in some:
        if others_axes != axes:
            raise ValueError(f"y has {others_axes} axes on rank {other} and {axes} on rank {first}; expected the same")
        if axes == 2 and len(others) != len(classes):
            raise ValueError(
                f"y has {len(others)} classes on rank {other} and {len(classes)} on rank {first}; expected the same"
            )
        if axes == 1 and KINDS[others.dtype.kind] != KINDS[classes.dtype.kind]:
            raise TypeError(
                f"y has dtype {others.dtype} on rank {other} and {classes.dtype} on rank {first}; expected one type"
            )
    if axes == 2:
        if not any(soft for *_, soft, _ in some):
            return labels, None, classes
        return None, np.eye(len(classes))[labels] if Pi is None else Pi, classes
    everywhere = np.concatenate([others for *_, others in some])
    classes, codes = checks.labels(everywhere, len(everywhere))
    assert labels is not None
    before = sum(len(others) for other, _, _, others in some if other < rank)
    return codes[before:][labels], None, classes
