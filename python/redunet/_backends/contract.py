"""What passes between the public functions and a backend: one problem, its operators, its result.

A layer is F Hermitian problems of size C with d columns a sample, coupled by two weighted norms per sample. A backend
sees spectra ``V`` of shape (m, C, F d), C-contiguous (vectors are F = 1, real), and the classes below; it knows
nothing of signals, labels of other dtypes, groups, or Fourier transforms. Every array is C-contiguous and aligned.

A problem has d = 1 column a sample, but for groups larger than the cyclic one (`redunet.transforms.groups`): there
column c of problem p is V[:, :, p d + c]. Operators of p act on each of them, Gram matrices and norms sum over all.

Operators are numbered 0..k: number 0 is E, number j is C^j of class j - 1. Each is kept either dense or,
when few samples made it, as a factor: alpha (I - Q Q*) with Q of shape (C, r).
"""

from __future__ import annotations

import typing
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
#: ``eta="search"``: neighbouring steps differ by this factor, and lie between these parts of the natural step.
SEARCH_FACTOR = 1.5
SHORTEST_STEP, LONGEST_STEP = 1e-4, 1e4
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
        How many times a kept frequency counts: in rates; in norms a d-th of it for each of its columns.
    n_points : int
        N, the number of signal points: 1, T or H * W.
    inner : float
        Factor of alpha inside inverses and log dets: 1 (``dft_norm="ortho"``) or N (``"backward"``).
    alphas : (k + 1,) float64 array
        alpha = C / (d m eps^2), then alpha_j = C / (d m_j eps^2).
    gammas : (k,) float64 array
        m_j / m.
    counts : (k + 1,) int64 array
        Columns that take part in each operator's Gram matrix: an upper bound of its rank.
    ranks : (k + 1,) int64 array
        Columns of the kept factor, or 0 for an operator that is kept dense; all are where d > 1.
    n_columns : int
        d, the columns of a sample at each frequency.
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
    n_columns: int = 1

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
    ranks, alphas, gammas, freq_weights, n_columns
        As in `Problem`.
    etas : (L,) float64 array
        Step size of every layer.
    betas : (L,) float64 array
        Momentum before every layer, which is applied to normalise(z_l + beta_l (z_l - z_{l-1})); zeros without.
    lam : float
        Sharpness of the soft assignment.

    Where ``dense`` and ``factors`` are given as arrays of a device, they stay there, as `there`: what is on the host is
    a copy, made when it is first asked for.
    """

    dense: Array
    factors: Array
    ranks: npt.NDArray[np.int64]
    alphas: npt.NDArray[np.float64]
    gammas: npt.NDArray[np.float64]
    etas: npt.NDArray[np.float64]
    betas: npt.NDArray[np.float64]
    lam: float
    freq_weights: npt.NDArray[np.float64]
    n_columns: int = 1

    @classmethod
    def single(cls, problem: Problem, dense: Array, factors: Array, *, eta: float = 0.0, lam: float = 0.0) -> Operators:
        """Of one layer, as `Backend.layer_operators` returns it."""
        return cls(
            dense=dense[None],
            factors=factors[None],
            ranks=problem.ranks,
            alphas=problem.alphas,
            gammas=problem.gammas,
            etas=np.array([eta]),
            betas=np.zeros(1),
            lam=lam,
            freq_weights=problem.freq_weights,
            n_columns=problem.n_columns,
        )

    def __post_init__(self) -> None:
        dense: Any = self.dense
        if not isinstance(dense, np.ndarray):
            fields = vars(self)
            fields["there"] = fields.pop("dense"), fields.pop("factors")

    if not typing.TYPE_CHECKING:  # who names another attribute is to be told

        def __getattr__(self, name: str) -> Array:
            """The host's copy of what lies on a device, when it is first asked for."""
            if name not in ("dense", "factors") or self.there is None:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            copy = np.asarray(self.there[name == "factors"])
            copy.flags.writeable = False
            return vars(self).setdefault(name, copy)

    def __getstate__(self) -> dict[str, Any]:
        """Of copies and pickles, which lie on the host."""
        return {**vars(self), "dense": self.dense, "factors": self.factors, "there": None}

    @cached_property
    def there(self) -> Any:
        """``dense`` and ``factors`` on a device, or None: they lie on the host alone."""
        return None

    @property
    def nbytes(self) -> int:
        """Bytes of all operators."""
        dense, factors = self.there or (self.dense, self.factors)
        return int(dense.nbytes + factors.nbytes)

    @property
    def n_layers(self) -> int:
        return len(self.etas)

    def layers(self, first: int, last: int) -> Operators:
        """Of layers first..last - 1: views."""
        at = slice(first, last)
        dense, factors = self.there or (self.dense, self.factors)
        some = replace(self, dense=dense[at], factors=factors[at], etas=self.etas[at], betas=self.betas[at])
        vars(some).update({name: vars(self)[name][at] for name in ("dense", "factors") if name in vars(self)})
        return some

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
        Step size of every layer; None means the natural step, or `search`.
    lam : float
        Sharpness of the soft assignment.
    search : bool
        Whether a step is searched for in every layer; then ``etas`` is None.
    momentum : bool
        Whether layers are built ahead of the features, in the direction that they came from.
    given : bool
        Whether samples move by the given labels or membership, not by the estimated assignment.
    on_layer : callable, or None
        Called as ``on_layer(l, rates)`` with a row of `BuildResult.rates` before layer l is applied and once after the
        last; when it returns true for l >= 1, the network ends with l layers. An exception in it ends the build.
    every : int
        When ``on_layer(l)`` is called and ``every`` divides l, `BuildResult` holds the l layers before; 0: no need to.
    """

    n_layers: int
    etas: npt.NDArray[np.float64] | None
    lam: float
    search: bool = False
    momentum: bool = False
    given: bool = False
    on_layer: OnLayer | None = None
    every: int = 0


@dataclass(frozen=True)
class BuildResult:
    """Room for what `Backend.build` makes, beside the features, which replace ``V``; filled layer by layer.

    However the build ends, the first `n_done` layers are there: their operators and steps, and rates up to row n_done.

    Attributes
    ----------
    operators : Operators, or None
        Of all layers, if they are kept.
    etas, betas : (L,) float64 arrays
        The steps taken, and the momentum before every layer.
    rates : (L + 1, 1 + k) float64 array
        R, then R_j = 1/(2N) sum_p w_p log det(I + alpha_j G_j(p)) of every class (without gamma_j), at the point where
        each layer is built and after the last.
    done : (1,) int64 array
        `n_done`. Where it is not 0 at first, that many layers are there already, without their rates, and ``V`` is
        taken through them.
    """

    operators: Operators | None
    etas: npt.NDArray[np.float64]
    betas: npt.NDArray[np.float64]
    rates: npt.NDArray[np.float64]
    done: npt.NDArray[np.int64]

    @classmethod
    def room(
        cls,
        problem: Problem,
        n_layers: int,
        n_channels: int,
        dtype: np.dtype[Any],
        *,
        lam: float,
        keep: bool,
        device: DeviceBackend | None = None,
        near: Any = None,
        beside: int = 0,
    ) -> BuildResult:
        """For layers of C = ``n_channels``; memory of the host is taken when it is written to.

        Operators lie on a ``device`` where it has room for them, and so many bytes ``beside``; of several on that of
        ``near``.
        """
        C, F = n_channels, len(problem.freq_weights)
        etas, betas = np.zeros(n_layers), np.zeros(n_layers)
        operators = None
        if keep:
            n_dense = int(np.count_nonzero(problem.ranks == 0))
            shapes = (n_layers, n_dense, F, C, C), (n_layers, F, C, int(problem.ranks.sum()))
            there = None if device is None else device.room_to_keep(shapes, dtype, near, beside)
            dense, factors = there or (np.empty(shape, dtype) for shape in shapes)
            operators = Operators(
                dense=dense,
                factors=factors,
                ranks=problem.ranks,
                alphas=problem.alphas,
                gammas=problem.gammas,
                etas=etas,
                betas=betas,
                lam=lam,
                freq_weights=problem.freq_weights,
                n_columns=problem.n_columns,
            )
        return cls(operators, etas, betas, np.zeros((n_layers + 1, 1 + problem.n_classes)), np.zeros(1, np.int64))

    @property
    def n_done(self) -> int:
        return int(self.done[0])


class State(Protocol):
    """The features of some samples in a backend's own layout, and what a layer does with them.

    Made by `Backend.state`, of a `Problem` (samples that a network is built from) or of `Operators` (which are applied
    to them); verbs take `Operators` of one layer, of the same ranks and alphas. Sums of `grams` over shares of the
    samples are those of all samples; sums of the squares that `response_norms` and `step` return over shares of the
    frequencies are those of all frequencies. Verbs change the features in place.
    """

    @property
    def n_samples(self) -> int:
        """m."""

    def copy(self) -> State:
        """The same features once more."""

    def features(self) -> Array:
        """Them as V, (m, C, F d)."""

    def grams(self) -> Array:
        """Sums of omega_i pi_ij v_i v_i*, v_i (C, d), over the samples: (k + 1, F, C, C) in double precision."""

    def operators(self, layer: int | None = None) -> tuple[Array, Array, npt.NDArray[np.float64]]:
        """``dense``, ``factors`` and rates of one layer built here; its number is for the error message."""

    def response_norms(self, operators: Operators) -> npt.NDArray[np.float64]:
        """rho_j^2 = sum_p w_p / d ||C^j(p) v(p)||^2 of every sample and class, (m, k); v(p) is (C, d)."""

    def step(self, operators: Operators, pi: npt.NDArray[np.float64], eta: float) -> npt.NDArray[np.float64]:
        """v <- v + eta (E v - sum_j gamma_j pi_j C^j v); returns sum_p w_p / d ||v(p)||^2 of every sample, (m,)."""

    def scale(self, by: npt.NDArray[np.float64]) -> None:
        """v <- by v, one number (m,) for every sample."""

    def advance(self, operators: Operators, eta: float, pi: npt.NDArray[np.float64] | None = None) -> Taken:
        """One layer; returns what it did, of which ``pi`` is the assignment.

        As `response_norms`, the soft assignment (unless ``pi`` is given), `step` and `scale` to the sphere one after
        the other make it (`redunet._backends.ascent.advance`).
        """

    def extrapolate(self, before: State, beta: float) -> None:
        """v <- normalise(v + beta (v - v_before))."""

    def pullback(self, operators: Operators, eta: float, taken: Taken, after: Array, upstream: Array) -> Pullback:
        """The adjoint of `advance` at these features, which took them to ``after``, (m, C, F d).

        Gradients of <upstream, after>, <a, b> = Re sum a* b. All operators are dense, and of no symmetry.
        """


class Taken(NamedTuple):
    """What a layer did, which `State.pullback` needs again.

    Attributes
    ----------
    pi : (m, k) float64 array
        Assignments.
    squares : (m, k) float64 array, or None
        rho_j^2, of which pi was estimated; where pi is zero, perhaps less or infinite. None: pi was given.
    scale : (m,) float64 array
        1 / max(||u||, SMALLEST_NORM) of the features u after the step.
    """

    pi: npt.NDArray[np.float64]
    squares: npt.NDArray[np.float64] | None
    scale: npt.NDArray[np.float64]


class Pullback(NamedTuple):
    """Gradients to everything that `State.advance` is made from; through the gates where it estimated them.

    With g what the projection leaves of the gradient, s_ij that to the score -lam rho_ij and P_ij = C^j v_i::

        s_ij = -eta pi_ij (gamma_j Re <g_i, P_ij> - sum_l gamma_l pi_il Re <g_i, P_il>)
        g_ij = -eta gamma_j pi_ij g_i - lam s_ij w / (d rho_ij) P_ij

    Attributes
    ----------
    features : (m, C, F d) array
        To the features: g_i + eta E* g_i + sum_j C^j* g_ij.
    E : (F, C, C) array
        To E: eta sum_i g_i v_i*, neither symmetric nor Hermitian.
    Cs : (k, F, C, C) array
        To the C^j: sum_i g_ij v_i*.
    eta, lam : float
        To these.
    """

    features: Array
    E: Array
    Cs: Array
    eta: float
    lam: float


class RatesAndGradient(NamedTuple):
    """The rates at some features, and the gradient of R - R_c there.

    Attributes
    ----------
    rates : (k + 1,) float64 array
        One row of `BuildResult.rates`.
    features : array like V
        omega_i (E v_i - sum_j gamma_j pi_ij C^j v_i) d inner / N.
    membership : (m, k) float64 array, or None
        With G_j and m_j made of any pi >= 0, and m held:
        -omega_i gamma_j ((R_j - sum_p w_p (C - tr A_j^-1) / (2N)) / m_j + inner / (2N) sum_p w_p Re <v_i, C^j v_i>),
        A_j = I + alpha_j inner G_j.
    """

    rates: npt.NDArray[np.float64]
    features: Array
    membership: npt.NDArray[np.float64] | None


class Backend(Protocol):
    """The functions that every backend module has. ``n_threads`` is at least 1.

    A pivot that is not a positive finite number raises `numpy.linalg.LinAlgError`: "matrix 4 of 6 is not positive
    definite" from linear algebra; "layer 2, class 1, frequency 5: I + alpha G is not positive definite; ..." from
    `build` ("all classes" for E), and without the layer from `layer_operators`, `rates` and
    `rates_and_gradient`.
    """

    def build(self, V: Array, problem: Problem, request: BuildRequest, result: BuildResult, *, n_threads: int) -> None:
        """Construct the layers; ``V`` is overwritten by the features."""

    def state(
        self, V: Array, of: Problem | Operators, *, nearest: npt.NDArray[np.int64] | None = None, n_threads: int
    ) -> State:
        """The features V as a `State`, which has a copy of them.

        ``nearest``, (m,), is for speed alone: the class of Operators that each sample will probably gate to.
        """

    def operators_of_grams(
        self, grams: Array, problem: Problem, *, n_threads: int
    ) -> tuple[Array, npt.NDArray[np.float64]]:
        """``dense[0]`` and the row of rates of one layer from `State.grams`, or sums of them, in double precision.

        All operators are dense; the labels of ``problem`` are not looked at.
        """

    def apply(self, V: Array, operators: Operators, *, n_threads: int) -> npt.NDArray[np.float64]:
        """Map samples through all layers; ``V`` is overwritten. Returns the (m, k) assignments of the last layer."""

    def layer_operators(
        self, V: Array, problem: Problem, *, n_threads: int
    ) -> tuple[Array, Array, npt.NDArray[np.float64]]:
        """``dense[0]``, ``factors[0]`` and the row of rates of one layer with input ``V``."""

    def rates(self, V: Array, problem: Problem, *, n_threads: int) -> npt.NDArray[np.float64]:
        """One row of `BuildResult.rates`."""

    def rates_and_gradient(self, V: Array, problem: Problem, *, membership: bool, n_threads: int) -> RatesAndGradient:
        """The rates, and the gradient of R - sum_j gamma_j R_j to the features and, if asked, to the membership."""

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

    def room_to_keep(
        self, shapes: tuple[tuple[int, ...], ...], dtype: np.dtype[Any], near: Any, beside: int
    ) -> tuple[Any, ...] | None:
        """Arrays that stay on a device, of several on that of ``near``.

        None: they would take more than their share, or leave no room for so many bytes ``beside``.
        """
