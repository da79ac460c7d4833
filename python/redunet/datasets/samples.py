"""Samples with labels: a split of them into training and test, and the first of each class."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from redunet._inputs import checks

Array = npt.NDArray[Any]
Labels = npt.NDArray[np.int64]


class Split(NamedTuple):
    """Samples and labels to train on and to test with."""

    X_train: Array
    y_train: Labels
    X_test: Array
    y_test: Labels


def first_per_class(
    X: npt.ArrayLike, y: npt.ArrayLike, n: int, *, classes: npt.ArrayLike | None = None, skip: int = 0
) -> tuple[Array, Array]:
    """The first n samples of every class, after some that are skipped.

    Parameters
    ----------
    X : array_like, (m, ...)
        Samples.
    y : array_like, (m,)
        Labels of any type.
    n : int
        Samples of each class.
    classes : sequence of labels, optional
        Which classes, in the order wanted; by default all, sorted.
    skip : int
        Samples of each class to pass over first, for a second part that does not overlap.

    Returns
    -------
    X : ndarray, (n * len(classes), ...)
        The samples, class by class; a copy.
    y : ndarray
        Their labels, unchanged.

    Raises
    ------
    ValueError, TypeError
        If X and y differ in length, a class has too few samples, or an argument is out of range.

    Examples
    --------
    >>> X, y = first_per_class([10, 11, 12, 13, 14], [0, 1, 0, 1, 2], 1, classes=[1, 0], skip=1)
    >>> X.tolist(), y.tolist()
    ([13, 12], [1, 0])
    """
    samples, labels = checks.array(X, "X"), checks.array(y, "y")
    if labels.ndim != 1 or samples.ndim == 0 or len(samples) != len(labels):
        raise ValueError(f"X has shape {samples.shape} and y {labels.shape}; expected (m, ...) and labels (m,)")
    checks.complete(labels)
    n = checks.integer(n, "n", 1)
    skip = checks.integer(skip, "skip", 0)
    wanted = np.unique(labels) if classes is None else checks.array(classes, "classes")
    if wanted.ndim != 1 or len(wanted) == 0:
        raise ValueError(f"classes has shape {wanted.shape}; expected a sequence of labels")
    chosen = []
    for label in wanted.tolist():
        found = np.flatnonzero(labels == label)
        if len(found) < skip + n:
            raise ValueError(
                f"class {label!r} has {len(found)} samples; expected at least {skip + n}: {n} after {skip} skipped"
            )
        chosen.append(found[skip : skip + n])
    index = np.concatenate(chosen)
    return samples[index], labels[index]
