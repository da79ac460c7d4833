"""Sizes and constants that both expert baselines share.

Training samples are sorted by class, so that a class is a range of columns. The spectrum is kept as planes P
(F, R, m), R = 2C rows (real parts, then imaginary parts; R = C and F = 1 for vectors), scaled by sqrt(w_p),
w_p the number of times frequency p counts: plain sums over P are then sums over the full spectrum.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.baselines.builder import Floats


def half_spectrum_weights(signal_shape: tuple[int, ...]) -> NDArray[np.float64]:
    """w_p of the half spectrum, flattened: 1 where the last axis' frequency is its own conjugate, else 2."""
    if not signal_shape:
        return np.ones(1)
    n = signal_shape[-1]
    last = np.full(n // 2 + 1, 2.0)
    last[0] = 1.0
    if n % 2 == 0:
        last[-1] = 1.0
    return np.tile(last, int(np.prod(signal_shape[:-1], dtype=np.int64)))


class Problem:
    """Constants of one construction (alpha[0] is the whole data's, alpha[1 + j] class j's)."""

    def __init__(
        self, X: Floats, y: NDArray[np.int64], *, n_classes: int, eta: float, epsilon_sq: float, lam: float
    ) -> None:
        self.n_classes, self.eta, self.lam = n_classes, eta, lam
        self.m, self.C = int(X.shape[0]), int(X.shape[1])
        self.signal_shape = tuple(int(n) for n in X.shape[2:])
        self.is_complex = bool(self.signal_shape)
        self.R = 2 * self.C if self.is_complex else self.C
        self.weights = half_spectrum_weights(self.signal_shape)
        self.F = len(self.weights)
        self.order = np.argsort(y, kind="stable")
        self.sizes = np.bincount(y, minlength=n_classes)
        self.columns = [slice(int(b - q), int(b)) for b, q in zip(np.cumsum(self.sizes), self.sizes, strict=True)]
        self.alpha = np.concatenate([[self.C / (self.m * epsilon_sq)], self.C / (self.sizes * epsilon_sq)])
        self.gammas = self.sizes / self.m

    def equal_classes(self) -> bool:
        return len(set(self.sizes.tolist())) == 1

    def rates(self, logdet: NDArray[Any]) -> tuple[float, float, float]:
        """(delta, rate, class_rate) from log determinants (k + 1, F), the whole data's first."""
        n = int(np.prod(self.signal_shape, dtype=np.int64))
        means = logdet.astype(np.float64) @ self.weights / (2 * n)
        rate, class_rate = float(means[0]), float(means[1:] @ self.gammas)
        return rate - class_rate, rate, class_rate
