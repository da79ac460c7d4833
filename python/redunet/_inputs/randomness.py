"""Random numbers from whatever the caller gives: a seed, a NumPy generator of either kind, or nothing."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

Random: TypeAlias = np.random.Generator | np.random.RandomState
Seed: TypeAlias = int | Random | None


def generator(random_state: Seed, seeded: Callable[[int], Random] = np.random.default_rng) -> Random:
    """The generator to draw from; a generator that is given is used itself, and moves on.

    Parameters
    ----------
    random_state : int, numpy.random.Generator, numpy.random.RandomState or None
        A seed in [0, 2**32), a generator, or None for fresh entropy.
    seeded : callable
        What makes a generator of a seed.

    Raises
    ------
    TypeError, ValueError
        For anything else, or a seed outside [0, 2**32).

    Examples
    --------
    >>> float(generator(0).normal()) == float(generator(0).normal())
    True
    """
    if random_state is None:
        return np.random.default_rng()
    if isinstance(random_state, (np.random.Generator, np.random.RandomState)):
        return random_state
    try:
        seed = operator.index(random_state)
    except TypeError:
        seed = None
    if seed is None or isinstance(random_state, bool):
        raise TypeError(
            f"random_state is {random_state!r} of type {type(random_state).__name__}; "
            "expected an integer, a numpy Generator or RandomState, or None"
        )
    if not 0 <= seed < 1 << 32:
        raise ValueError(f"random_state is {seed}; expected a seed in [0, 2**32)")
    return seeded(seed)
