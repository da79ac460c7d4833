"""The way in and out, once: samples that were given become spectra on a backend, and spectra samples again.

`samples` checks what was given and chooses precision, transform, backend and threads; `problem` adds labels and
hyperparameters. Networks, rates and experiments all enter here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet._backends import select_for
from redunet._backends.contract import Backend, Problem
from redunet._inputs import axes, checks
from redunet._inputs.axes import Channels
from redunet._inputs.problem import largest_square_root, make_problem
from redunet.transforms import groups
from redunet.transforms.cyclic import Fourier

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples, checked, and what takes them through a computation.

    Attributes
    ----------
    array : array or array of the CUDA engine, (m, C, *signal_shape)
        The samples, whose channels are first however they came.
    given : array-like
        What they came as: what is made of them goes back like it.
    name : str
        What messages call them.
    dtype : numpy dtype
        To compute in.
    fourier : Fourier
        Their transform.
    backend, module
        The backend's name, and itself.
    n_threads : int
        At least 1.
    channels : {"first", "last", None}
        Where they had their channels: what is made of them has them there too.
    """

    array: Array
    given: Any
    name: str
    dtype: np.dtype[Any]
    fourier: Fourier
    backend: str
    module: Backend
    n_threads: int
    channels: Channels | None

    def __len__(self) -> int:
        return len(self.array)

    @property
    def n_channels(self) -> int:
        return int(self.array.shape[1])

    @property
    def on_host(self) -> bool:
        return isinstance(self.array, np.ndarray)

    def spectra(self, *, normalize: bool) -> Array:
        """V, (m, C, F d), where the backend works; of samples scaled to unit norm if asked."""
        return self.fourier.forward(
            self.array, self.dtype, self.module, name=self.name, normalize=normalize, n_threads=self.n_threads
        )

    def nowhere(self) -> Array:
        """NaN in the place of features, which have the samples' shape."""
        shape = (len(self), *axes.shape_as_given(self.array.shape[1:], self.channels))
        self.spectra(normalize=True)  # samples that are not finite are an error all the same
        return np.full(shape, np.nan, self.dtype)

    def from_spectra(self, V: Array, dtype: np.dtype[Any] | None = None) -> Array:
        """Samples of spectra, which are lost, of ``dtype`` (default: the one computed in); like those given."""
        Z = self.fourier.inverse(V, dtype or self.dtype, self.module, like=self.given, n_threads=self.n_threads)
        return axes.as_given(Z, self.channels)


def samples(
    X: npt.ArrayLike,
    name: str = "X",
    *,
    group: str = "cyclic",
    dtype: npt.DTypeLike | None = None,
    backend: str = "auto",
    n_threads: int | None = None,
    channels: Channels | None = "first",
    n_layers: int = 1,
    there: bool = False,
) -> Samples:
    """Samples on their way in; errors name the argument ``name``. For ``channels`` see `redunet._inputs.axes`.

    The backend "auto" goes by the work of so many layers; to a device if their operators are ``there``.
    """
    array = axes.channels_first(checks.samples(X, name, on_device=True), channels, name)
    kind = checks.floating(dtype, array)
    cores = checks.threads(n_threads)
    fourier = groups.transform(array.shape[2:], kind.kind == "f", checks.group(group, array.shape, name))
    if not (fourier.on_device or isinstance(array, np.ndarray)):
        raise TypeError(f"{name} lies on a CUDA device; expected an array of the host with group={group!r}")
    work = math.inf if there else n_layers * _multiply_adds(array.shape, fourier)
    chosen, module = select_for(array, backend, work)
    return Samples(array, X, name, kind, fourier, chosen, module, cores, channels)


def _multiply_adds(shape: tuple[int, ...], fourier: Fourier) -> float:
    """Of a layer, at least: a Gram matrix, E and the class of a sample, m C^2 at F d frequencies each."""
    m, C = shape[:2]
    complex_valued = bool(fourier.signal_shape) or not fourier.real
    return (4.0 if complex_valued else 1.0) * 3 * m * C**2 * fourier.n_freqs * fourier.n_columns


def problem(
    given: Samples, y: npt.ArrayLike, *, sample_weight: npt.ArrayLike | None, epsilon_sq: float, dft_norm: str
) -> tuple[Problem, Array]:
    """The constants of a construction on these samples, and the classes."""
    return make_problem(
        y,
        sample_weight,
        n_samples=len(given),
        n_channels=given.n_channels,
        n_points=given.fourier.n_points,
        freq_weights=given.fourier.freq_weights,
        n_columns=given.fourier.n_columns,
        epsilon_sq=epsilon_sq,
        dft_norm=dft_norm,
        dtype=given.dtype,
    )


def check_memory(given: Samples, of: Problem, *, n_layers: int, keep: bool, n_spectra: int) -> None:
    """An error where kept operators, rates and so many copies of the spectra have no room."""
    m, C, F = len(given), given.n_channels, given.fourier.n_freqs
    item = given.fourier.spectral_dtype(given.dtype).itemsize
    n_dense = int(np.count_nonzero(of.ranks == 0))
    operators = (n_layers if keep else 1) * F * C * (n_dense * C + int(of.ranks.sum())) * item
    rows = n_layers * (3 + of.n_classes) * 8  # step sizes, momentum and rates
    spectra = m * C * F * of.n_columns * item
    checks.memory(operators + rows + n_spectra * spectra, f"{n_layers} layers and the features of {m} samples")


def check_range(
    of: Problem, kind: np.dtype[Any], *, lam: float, etas: npt.NDArray[np.float64] | None, largest_gram: float
) -> None:
    """Residual norms and steps may neither overflow nor vanish when squared; alpha_j G_j is at most ``largest_gram``.

    ||C^j v|| lies between alpha_j / (1 + alpha_j G_j) and alpha_j, a step is at most eta alpha_j long.
    """
    alpha = float(of.alphas.max())
    largest = largest_square_root(kind)
    if lam * alpha > largest:
        raise ValueError(f"lam is {lam!r}: lam C / (m_j epsilon_sq) overflows {kind}; expected a smaller number")
    longest = 0.0 if etas is None else float(etas.max())
    if longest * alpha > largest:
        raise ValueError(f"eta reaches {longest!r}: eta C / (m_j epsilon_sq) overflows {kind}; expected smaller steps")
    if (1 + largest_gram) / largest > float(of.alphas.min()):
        raise ValueError(
            f"sample_weight makes alpha_j = C / (m_j epsilon_sq) as small as {of.alphas.min():.3g}: residual "
            f"norms vanish in {kind}; expected smaller weights"
        )
