"""Probabilities from cosines: softmax(-b_j / T), b_j = 1 - c_j / max_l c_l, c_j the cosine of a sample to a subspace.

Cosines are relative to the largest, since new samples may lie far from all subspaces, some farther than others: on
small tables log loss and calibration are better than of distances. T minimises the cross-entropy of samples that the
subspaces were not learned from. It changes no prediction, and one number is learned from few samples. So that T stays
above zero where all of them are right, labels are smoothed as J. Platt did (*Probabilistic outputs for support vector
machines*, 1999): of m samples, each is of another class with 1 / (m + 2).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

# Between which temperatures are looked for, and by how many halvings of the interval of their logarithms: to 1e-8 of T.
LOWEST, HIGHEST = 1e-6, 1e3
HALVINGS = 32


def excess(distances: Array) -> Floats:
    """1 - c_j^2 / max_l c_l^2 in [0, 1], from squared distances 1 - c_j^2 of unit-norm features, (m, k)."""
    squares = np.maximum(1 - distances, 0)
    largest = squares.max(axis=1, keepdims=True)
    result: Floats = 1 - squares / np.where(largest > 0, largest, 1)
    return result


def behind(distances: Array) -> Floats:
    """How far each class is behind the nearest, b_j in [0, 1], from squared distances of unit-norm features, (m, k)."""
    result: Floats = 1 - np.sqrt(1 - excess(distances))
    return result


def softmax(b: Array, temperature: float) -> Floats:
    """Probabilities of the classes, (m, k), from how far they are behind, (m, k)."""
    exponents = (b.min(axis=1, keepdims=True) - b) / temperature
    powers: Floats = np.exp(exponents)
    powers /= powers.sum(axis=1, keepdims=True)
    return powers


def temperature(b: Array, labels: npt.NDArray[np.intp], weights: Array | None) -> float:
    """The T of least weighted cross-entropy of smoothed labels.

    Parameters
    ----------
    b : (m, k) array
        How far classes are behind.
    labels : (m,) integers
        0, ..., k - 1.
    weights : (m,) array, optional
        Weights > 0.
    """
    m, k = b.shape
    if k == 1:
        return 1.0
    shares = np.full(m, 1 / m) if weights is None else weights / weights.sum()
    wanted = np.full((m, k), 1 / ((m + 2) * (k - 1)))
    wanted[np.arange(m), labels] = 1 - 1 / (m + 2)

    def slope(log_temperature: float) -> float:
        """Of the cross-entropy in 1 / T, in which it is convex."""
        excess = (wanted - softmax(b, float(np.exp(log_temperature)))) * b
        return float(shares @ excess.sum(axis=1))

    low, high = np.log([LOWEST, HIGHEST])
    if slope(high) >= 0:  # they say nothing of the classes, or the wrong thing
        return HIGHEST
    if slope(low) <= 0:
        return LOWEST
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return float(np.exp((low + high) / 2))
