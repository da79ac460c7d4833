"""Errors and likelihood of held-out labels for many distortions in one pass: an eigendecomposition a class and fold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet.classifiers.increments import Code
from redunet.classifiers.members import Classes

Array = npt.NDArray[Any]
Labels = npt.NDArray[np.int64]


def held_out(
    code: Code, epsilons: Array, X: Array, references: Array, labels: Labels, n_folds: int,
    classes_of: Callable[[Array, Array, Labels], Classes], prior_lengths: Callable[[Classes, Labels], Array],
) -> tuple[Array, Array]:  # fmt: skip
    """Share of errors, and mean of -log p of the labels under softmax_j(-length), for every eps^2: (E,) each.

    The i-th sample of a class is held out in fold i mod n_folds. A class whose only sample that is has no code there:
    the sample is an error, and its likelihood, zero for every distortion, is left out.
    """
    k = int(labels.max()) + 1
    folds = np.empty(len(labels), np.int64)
    for j in range(k):
        folds[labels == j] = np.arange(np.count_nonzero(labels == j)) % n_folds
    errors, losses = np.zeros(len(epsilons)), np.zeros(len(epsilons))
    for fold in range(int(folds.max()) + 1):
        train, test = folds != fold, folds == fold
        classes, codes = np.unique(labels[train], return_inverse=True)
        truth = labels[test]
        lengths = np.full((len(epsilons), len(truth), k), np.inf)
        trained = classes_of(X[train], references[train], codes)
        lengths[:, :, classes] = trained.lengths(code, epsilons, X[test]) + prior_lengths(trained, classes)
        errors += (lengths.argmin(axis=2) != truth).sum(axis=1)
        lengths -= lengths.min(axis=2, keepdims=True)
        surprise = lengths[:, np.arange(len(truth)), truth] + np.log(np.exp(-lengths).sum(axis=2))
        losses += surprise[:, np.isin(truth, classes)].sum(axis=1)
    return errors / len(labels), losses / len(labels)
