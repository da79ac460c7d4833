"""What passes between the public functions and a backend: one problem, its operators, its result.

A layer is F Hermitian problems of size C with m columns, coupled by two weighted norms per sample. A backend
sees spectra ``V`` of shape (m, C, F), C-contiguous (vectors are F = 1, real), and the classes below; it knows
nothing of signals, labels of other dtypes, or Fourier transforms. Every array is C-contiguous and aligned.

Operators are numbered 0..k: number 0 is E, number j is C^j of class j - 1. Each is kept either dense or,
when few samples made it, as a factor: alpha (I - Q Q*) with Q of shape (C, r).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
OnLayer = Callable[[int, npt.NDArray[np.float64]], bool]

#: ``eta="auto"``: the natural step eta = s / alpha starts at s = 2 and is halved while the rate reduction would fall.
NATURAL_STEP = 2.0
MAX_HALVINGS = 20
#: A fall of the rate reduction within this many rounding units of the rate is rounding, not a fall.
FALL_ROUNDING_UNITS = 8.0
#: A sample with a smaller norm than this stays as it is: a zero sample stays zero.
SMALLEST_NORM = 1e-8


class CudaError(RuntimeError):
    """What CUDA refused: the message names the call, the file and the line, or says what there is no room for."""


class ReadOnlyCopies:
    """Of what is immutable: arrays are read-only in copies and after unpickling too, where NumPy makes new ones."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        for value in state.values():
            if isinstance(value, np.ndarray):
                value.flags.writeable = False


@dataclass(frozen=True)
class Problem:
    """The constants of one construction (MATH: alpha, alpha_j, gamma_j, w_p).

    Attributes
    ----------
    labels : (m,) int64 array, or None
        Hard class of every sample, 0..k-1.
    membership : (m, k) float64 array, or None
        Soft membership; exactly one of ``labels`` and ``membership`` is given.
    weights : (m,) float64 array, or None
        Sample weights omega_i >= 0; None means ones.
    freq_weights : (F,) float64 array
        How many times a kept frequency counts.
    n_points : int
        N, the number of signal points: 1, T or H * W.
    inner : float
        Factor of alpha inside inverses and log dets: 1 (``dft_norm="ortho"``) or N (``"backward"``).
    alphas : (k + 1,) float64 array
        alpha = C / (m eps^2), then alpha_j = C / (m_j eps^2).
    gammas : (k,) float64 array
        m_j / m.
    counts : (k + 1,) int64 array
        Samples that take part in each operator's Gram matrix: an upper bound of its rank.
    ranks : (k + 1,) int64 array
        Columns of the kept factor, or 0 for an operator that is kept dense.
    """

    labels: npt.NDArray[np.int64] | None
    membership: npt.NDArray[np.float64] | None
    weights: npt.NDArray[np.float64] | None
    freq_weights: npt.NDArray[np.float64]
    n_points: int
    inner: float
    alphas: npt.NDArray[np.float64]
    gammas: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]
    ranks: npt.NDArray[np.int64]

    @property
    def n_classes(self) -> int:
        return len(self.gammas)


@dataclass(frozen=True)
class Operators(ReadOnlyCopies):
    """The operators of L consecutive layers, as they are kept, saved and applied.

    Attributes
    ----------
    dense : (L, n_dense, F, C, C) array
        The operators with rank 0, in the order of their numbers.
    factors : (L, F, C, sum(ranks)) array
        The factors Q of the others, side by side.
    ranks, alphas, gammas
        As in `Problem`.
    etas : (L,) float64 array
        Step size of every layer.
    lam : float
        Sharpness of the soft assignment.
    freq_weights : (F,) float64 array
        How many times a kept frequency counts.
    """

    dense: Array
    factors: Array
    ranks: npt.NDArray[np.int64]
    alphas: npt.NDArray[np.float64]
    gammas: npt.NDArray[np.float64]
    etas: npt.NDArray[np.float64]
    lam: float
    freq_weights: npt.NDArray[np.float64]

    @classmethod
    def of(cls, problem: Problem, dense: Array, factors: Array, etas: npt.NDArray[np.float64], lam: float) -> Operators:
        """Of layers that were built for this problem."""
        ranks, alphas, gammas = problem.ranks, problem.alphas, problem.gammas
        return cls(dense, factors, ranks, alphas, gammas, etas, lam, problem.freq_weights)

    @classmethod
    def single(cls, problem: Problem, dense: Array, factors: Array, *, eta: float = 0.0, lam: float = 0.0) -> Operators:
        """Of one layer, as `Backend.layer_operators` returns it."""
        return cls.of(problem, dense[None], factors[None], np.array([eta]), lam)

    @property
    def n_layers(self) -> int:
        return len(self.etas)

    def layer(self, index: int) -> Operators:
        """Of one of the layers: views."""
        at = slice(index, index + 1)
        return replace(self, dense=self.dense[at], factors=self.factors[at], etas=self.etas[at])

    @cached_property
    def finite(self) -> bool:
        """Whether no number of them is NaN or infinite; looked at once."""
        return all(bool(np.isfinite(layer).all()) for array in (self.dense, self.factors) for layer in array)

    def known_finite(self) -> Operators:
        """Themselves, not to be looked at: they come out of a factorisation, or were read and checked just now."""
        vars(self)["finite"] = True
        return self

    def columns(self, number: int) -> slice:
        """Columns of ``factors`` that belong to operator ``number``."""
        stop = int(self.ranks[: number + 1].sum())
        return slice(stop - int(self.ranks[number]), stop)

    def to_dense(self, layer: int, number: int) -> Array:
        """Operator ``number`` of a layer as an (F, C, C) array."""
        if self.ranks[number] == 0:
            dense: Array = self.dense[layer, int(np.count_nonzero(self.ranks[:number] == 0))]
            return dense
        Q = self.factors[layer, :, :, self.columns(number)]
        identity = np.eye(Q.shape[1], dtype=Q.dtype)
        operator: Array = float(self.alphas[number]) * (identity - Q @ Q.conj().swapaxes(-1, -2))
        return operator


class RateReduction(NamedTuple):
    """Delta R = R - R_c and its two terms.

    Attributes
    ----------
    delta : float
        The rate reduction R - R_c.
    rate : float
        R, the rate of all features together.
    class_rate : float, or (k,) array if asked per class
        R_c, or each class's contribution gamma_j R_j to it.
    """

    delta: float
    rate: float
    class_rate: Any

    @classmethod
    def of(cls, row: npt.NDArray[np.float64], gammas: npt.NDArray[np.float64]) -> RateReduction:
        """Of a row of `BuildResult.rates`: R, then R_j of every class."""
        rate, class_rate = float(row[0]), float((row[1:] * gammas).sum())
        return cls(rate - class_rate, rate, class_rate)


@dataclass(frozen=True)
class BuildRequest:
    """What `Backend.build` is asked for.

    Attributes
    ----------
    n_layers : int
        Layers, at most.
    etas : (n_layers,) float64 array, or None
        Step size of every layer; None means the natural step.
    lam : float
        Sharpness of the soft assignment.
    given : bool
        Whether samples move by the given labels or membership, not by the estimated assignment.
    keep : bool
        Whether the operators are kept.
    on_layer : callable, or None
        Called as ``on_layer(l, rates)`` with a row of `BuildResult.rates` before layer l is applied and once after the
        last; when it returns true for l >= 1, the network ends with l layers. An exception in it ends the build.
    """

    n_layers: int
    etas: npt.NDArray[np.float64] | None
    lam: float
    given: bool
    keep: bool
    on_layer: OnLayer | None = None


@dataclass(frozen=True)
class BuildResult:
    """What `build` returns beside the features, which replace ``V``.

    ``rates`` has shape (L + 1, 1 + k): R, then R_j = 1/(2N) sum_p w_p log det(I + alpha_j G_j(p)) of every class
    (without gamma_j), at the input of each layer and after the last. ``operators`` is None if they were not kept.
    """

    operators: Operators | None
    etas: npt.NDArray[np.float64]
    rates: npt.NDArray[np.float64]


class Backend(Protocol):
    """The functions that every backend module has. ``n_threads`` is at least 1.

    A pivot that is not a positive finite number raises `numpy.linalg.LinAlgError`: "matrix 4 of 6 is not positive
    definite" from linear algebra; "layer 2, class 1, frequency 5: I + alpha G is not positive definite; ..." from
    `build` ("all classes" for E), and without the layer from `layer_operators`, `rates` and `rate_gradient`.
    """

    def build(self, V: Array, problem: Problem, request: BuildRequest, *, n_threads: int) -> BuildResult:
        """Construct the layers; ``V`` is overwritten by the features."""

    def apply(self, V: Array, operators: Operators, *, n_threads: int) -> npt.NDArray[np.float64]:
        """Map samples through all layers; ``V`` is overwritten. Returns the (m, k) assignments of the last layer."""

    def layer_operators(
        self, V: Array, problem: Problem, *, n_threads: int
    ) -> tuple[Array, Array, npt.NDArray[np.float64]]:
        """``dense[0]``, ``factors[0]`` and the row of rates of one layer with input ``V``."""

    def rates(self, V: Array, problem: Problem, *, n_threads: int) -> npt.NDArray[np.float64]:
        """One row of `BuildResult.rates`."""

    def rate_gradient(self, V: Array, problem: Problem, *, n_threads: int) -> Array:
        """Gradient omega_i (E v_i - sum_j gamma_j pi_ij C^j v_i) * inner / N, shaped like ``V``."""

    def cholesky(self, A: Array, *, n_threads: int) -> Array: ...
    def inv(self, A: Array, *, n_threads: int) -> Array: ...
    def solve(self, A: Array, B: Array, *, n_threads: int) -> Array: ...
    def logdet(self, A: Array, *, n_threads: int) -> Array: ...


@runtime_checkable
class DeviceBackend(Backend, Protocol):
    """A backend that transforms samples itself, on a device, and takes features ``V`` that stayed there."""

    Array: type

    def view(self, object: Any, name: str) -> Any:
        """Another library's array on the device."""

    def forward(self, X: Any, *, normalize: bool) -> tuple[Any, int]:
        """V of samples of unit norm, if asked; and the first sample that holds NaN or infinity, or -1."""

    def inverse(self, V: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Any:
        """The samples of V, which is lost."""
