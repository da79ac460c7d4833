"""What a network is made of: its layers, and the coding rates along them."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from redunet._backends.contract import Operators, ReadOnlyCopies

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Rates(ReadOnlyCopies):
    """Coding rates along the layers, in nats: at the input of every layer and after the last.

    Attributes
    ----------
    rate : (n_layers + 1,) float64 array
        R of all features.
    per_class : (n_layers + 1, k) float64 array
        gamma_j R_j: what each class contributes to R_c.
    """

    rate: npt.NDArray[np.float64]
    per_class: npt.NDArray[np.float64]

    @property
    def class_rate(self) -> npt.NDArray[np.float64]:
        """R_c = sum_j gamma_j R_j, (n_layers + 1,)."""
        result: npt.NDArray[np.float64] = self.per_class.sum(axis=1)
        return result

    @property
    def delta(self) -> npt.NDArray[np.float64]:
        """The rate reduction R - R_c, (n_layers + 1,)."""
        return self.rate - self.class_rate


class Layer:
    """One layer of a network; its operators are made dense when they are asked for.

    Attributes
    ----------
    E : (C, C, *freqs) array
        Expansion operator, Hermitian at every frequency kept (real signals: half of the spectrum).
    Cs : (k, C, C, *freqs) array
        Compression operators, one per class.
    gammas : (k,) float64 array
        Share of each class.
    eta, lam : float
        Step size, and sharpness of the soft assignment.
    """

    def __init__(self, operators: Operators, index: int, freq_shape: tuple[int, ...]) -> None:
        self._operators = operators
        self._index = index
        self._freq_shape = freq_shape

    def _dense(self, number: int) -> Array:
        operator = self._operators.to_dense(self._index, number)  # (F, C, C)
        return np.moveaxis(operator, 0, -1).reshape(*operator.shape[1:], *self._freq_shape)

    @property
    def E(self) -> Array:
        """Expansion operator, (C, C, *freqs)."""
        return self._dense(0)

    @property
    def Cs(self) -> Array:
        """Compression operators, (k, C, C, *freqs)."""
        return np.stack([self._dense(j + 1) for j in range(len(self.gammas))])

    @property
    def gammas(self) -> npt.NDArray[np.float64]:
        """Share of each class, (k,)."""
        return self._operators.gammas

    @property
    def eta(self) -> float:
        """Step size."""
        return float(self._operators.etas[self._index])

    @property
    def lam(self) -> float:
        """Sharpness of the soft assignment."""
        return self._operators.lam

    def __repr__(self) -> str:
        return f"Layer(eta={self.eta:.6g}, lam={self.lam:.6g}, n_classes={len(self.gammas)})"


class Layers(Sequence[Layer]):
    """The layers of a network, in order."""

    def __init__(self, operators: Operators, freq_shape: tuple[int, ...]) -> None:
        self._operators = operators
        self._freq_shape = freq_shape

    def __len__(self) -> int:
        return self._operators.n_layers

    @overload
    def __getitem__(self, index: int) -> Layer: ...
    @overload
    def __getitem__(self, index: slice) -> list[Layer]: ...
    def __getitem__(self, index: int | slice) -> Layer | list[Layer]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        try:
            index = operator.index(index)
        except TypeError:
            raise TypeError(f"layer is {index!r} of type {type(index).__name__}; expected an integer") from None
        if not -len(self) <= index < len(self):
            raise IndexError(f"layer {index} of a network of {len(self)} layers")
        return Layer(self._operators, index % len(self), self._freq_shape)

    def __iter__(self) -> Iterator[Layer]:
        return (self[i] for i in range(len(self)))
