"""Scikit-learn's handwritten digits, 8 x 8 pixels, split class by class."""

from __future__ import annotations

import numpy as np

from redunet._inputs import checks
from redunet._inputs.randomness import Seed, generator
from redunet.datasets.samples import Split


def digits(*, n_train_per_class: int | None = None, random_state: Seed = 0) -> Split:
    """Scikit-learn's 1797 handwritten digits of 8 x 8 pixels, split class by class. Needs scikit-learn.

    Parameters
    ----------
    n_train_per_class : int, optional
        Training samples of every digit, 1 to 173; all others are for testing. By default half of each digit's.
    random_state : int, numpy.random.Generator, numpy.random.RandomState or None
        Which samples are for training. The default always gives the same split.

    Returns
    -------
    Split
        X_train, y_train, X_test, y_test: images (m, 1, 8, 8) of float64 in [0, 1], and labels 0 to 9 of int64; in
        scikit-learn's order, which mixes the digits.

    Raises
    ------
    ImportError
        If scikit-learn is not installed.
    ValueError, TypeError
        If an argument is out of range or of another type.

    Examples
    --------
    >>> data = digits(n_train_per_class=50)
    >>> data.X_train.shape, data.X_test.shape
    ((500, 1, 8, 8), (1297, 1, 8, 8))
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("redunet.datasets.digits needs scikit-learn: pip install 'redunet[sklearn]'") from error
    random = generator(random_state)
    values, labels = load_digits(return_X_y=True)
    X, y = values.reshape(-1, 1, 8, 8) / 16.0, labels.astype(np.int64)
    counts = np.bincount(y)
    if n_train_per_class is not None:
        asked = checks.integer(n_train_per_class, "n_train_per_class", 1)
        if asked >= counts.min():
            raise ValueError(
                f"n_train_per_class is {asked}; expected at most {counts.min() - 1}, "
                "to leave test samples of every digit"
            )
    train = np.zeros(len(y), dtype=bool)
    for digit, count in enumerate(counts):
        n = count // 2 if n_train_per_class is None else n_train_per_class
        train[random.permutation(np.flatnonzero(y == digit))[:n]] = True
    return Split(X[train], y[train], X[~train], y[~train])
