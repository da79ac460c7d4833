"""Samples that are held out: for the number of layers by accuracy, and when enough was looked at; for probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import train_test_split

from redunet._inputs import checks, randomness

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.intp]

#: Networks that are built for the temperature of probabilities.
FOLDS = 5


class Patience:
    """Scores after every layer, until none of the last ``wait`` was higher than the best before.

    Attributes
    ----------
    scores : list of float
        After 1, 2, ... layers.
    best : int
        Layers of the highest score, the fewest of several; 0 before there is one.
    """

    def __init__(self, wait: int) -> None:
        self.wait = wait
        self.scores: list[float] = []
        self.best = 0

    def look(self, score: float) -> bool:
        """Whether the score of one more layer is the best so far."""
        better = self.best == 0 or score > self.scores[self.best - 1]
        self.scores.append(score)
        if better:
            self.best = len(self.scores)
        return better

    @property
    def over(self) -> bool:
        """Whether to look no further."""
        return self.best > 0 and len(self.scores) >= self.best + self.wait


def check_options(validation_fraction: Any, n_iter_no_change: Any, random_state: Any) -> None:
    """An error where one is out of range, whether it is used or not."""
    if not checks.positive(validation_fraction, "validation_fraction") < 1:
        raise ValueError(f"validation_fraction is {validation_fraction!r}; expected a number between 0 and 1")
    randomness.generator(random_state)
    checks.integer(n_iter_no_change, "n_iter_no_change", 1)


def hold_out(y: Array, validation_fraction: float, random_state: Any) -> tuple[Indices, Indices]:
    """Indices of the samples kept and of those held out, in the proportions of the classes."""
    seed = random_state
    if isinstance(seed, np.random.Generator):  # which scikit-learn doesn't know
        seed = int(seed.integers(1 << 31))
    try:
        kept, held = train_test_split(
            np.arange(len(y)), test_size=float(validation_fraction), stratify=y, random_state=seed
        )
    except ValueError as error:
        raise ValueError(f"validation_fraction is {validation_fraction!r} and y cannot be split: {error}") from error
    lost = np.setdiff1d(y, y[kept])
    if lost.size:
        raise ValueError(
            f"validation_fraction is {validation_fraction!r} and holds out all samples of the class "
            f"{lost[:1].tolist()[0]!r}; expected that some are left of each"
        )
    return np.sort(kept), np.sort(held)


def folds_of(labels: Indices, classes: Array) -> list[tuple[Indices, Indices]]:
    """Indices of the samples kept and held out, `FOLDS` times: the i-th sample of a class is held out in the i-th fold.

    Of classes that have fewer samples there are fewer folds. ``labels`` are places in ``classes``.
    """
    counts = np.bincount(labels)
    least = int(counts.min())
    if least < 2:
        (label,) = classes[[counts.argmin()]].tolist()
        raise ValueError(f"probability is True and y has one sample of the class {label!r}; expected two of each")
    place = np.empty(len(labels), dtype=np.intp)  # of a sample in its class
    place[np.argsort(labels, kind="stable")] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    fold = place % min(FOLDS, least)
    return [(np.flatnonzero(fold != number), np.flatnonzero(fold == number)) for number in range(fold.max() + 1)]
