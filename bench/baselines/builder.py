"""What every baseline can do: take the data, build layers, map new samples, give features back.

Features are X's shape, in X's order, of unit norm per sample. `rates` holds one (delta, rate, class_rate) per
layer.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


class Builder(ABC):
    """One way to build a ReduNet layer by layer. Keeps every layer's operators, as `transform` needs them."""

    name: str
    rates: list[tuple[float, float, float]]

    @abstractmethod
    def start(
        self, X: Floats, y: NDArray[np.int64], *, n_classes: int, eta: float, epsilon_sq: float, lam: float
    ) -> None:
        """Normalise, transform and arrange the training samples; forget any earlier network."""

    @abstractmethod
    def build_layer(self) -> None:
        """Operators and rates of one layer from the features, then the features through it."""

    def build_layers(self, n_layers: int, limit_s: float = float("inf")) -> int:
        """So many layers, none begun after `limit_s` seconds: how many were built, at least one."""
        start = time.perf_counter()
        for done in range(n_layers):
            if done and time.perf_counter() - start > limit_s:
                return done
            self.build_layer()
        return n_layers

    @abstractmethod
    def features(self) -> Floats:
        """Training features after the layers built so far."""

    @abstractmethod
    def start_new(self, X: Floats) -> None:
        """Normalise and transform new samples."""

    @abstractmethod
    def apply_layer(self, index: int) -> None:
        """New samples through layer `index`."""

    @abstractmethod
    def new_features(self) -> Floats:
        """Features of the new samples after the layers applied so far."""
