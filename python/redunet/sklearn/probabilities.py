"""Probabilities from squared distances: a softmax of -d_j / T, with the temperature T that held-out samples want.

T minimises the cross-entropy of samples that the distances were not learned from. It changes no prediction, and one
number is learned from few samples. So that T stays above zero where all of them are right, labels are smoothed as
J. Platt did (*Probabilistic outputs for support vector machines*, 1999): of m samples, each is of another class with
1 / (m + 2).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

# Between which temperatures are looked for, and by how many halvings of the interval of their logarithms: to 1e-8 of T.
# Distances of unit-norm features are at most 1.
LOWEST, HIGHEST = 1e-6, 1e3
HALVINGS = 32


def softmax(distances: Array, temperature: float) -> Floats:
    """Probabilities of the classes, (m, k), from squared distances (m, k)."""
    exponents = (distances.min(axis=1, keepdims=True) - distances) / temperature
    powers: Floats = np.exp(exponents)
    powers /= powers.sum(axis=1, keepdims=True)
    return powers


def temperature(distances: Array, labels: npt.NDArray[np.intp], weights: Array | None) -> float:
    """The T of least weighted cross-entropy of smoothed labels.

    Parameters
    ----------
    distances : (m, k) array
        Squared distances to the classes.
    labels : (m,) integers
        0, ..., k - 1.
    weights : (m,) array, optional
        Weights > 0.
    """
    m, k = distances.shape
    if k == 1:
        return 1.0
    shares = np.full(m, 1 / m) if weights is None else weights / weights.sum()
    wanted = np.full((m, k), 1 / ((m + 2) * (k - 1)))
    wanted[np.arange(m), labels] = 1 - 1 / (m + 2)

    def slope(log_temperature: float) -> float:
        """Of the cross-entropy in 1 / T, in which it is convex."""
        excess = (wanted - softmax(distances, float(np.exp(log_temperature)))) * distances
        return float(shares @ excess.sum(axis=1))

    low, high = np.log([LOWEST, HIGHEST])
    if slope(high) >= 0:  # distances say nothing of the classes, or the wrong thing
        return HIGHEST
    if slope(low) <= 0:
        return LOWEST
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return float(np.exp((low + high) / 2))
