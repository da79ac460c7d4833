"""`ReduNet`: a constructed network, which maps new samples through its layers, and its file.

One layer, for unit-norm features Z and membership Pi (Chan et al., *ReduNet*, JMLR 2022)::

    z <- normalise(z + eta (E z - sum_j gamma_j pi_j(z) C^j z)),   pi(z) = softmax_j(-lambda ||C^j z||)

with E = alpha (I + alpha Z Z*)^-1 and C^j = alpha_j (I + alpha_j Z Pi^j Z*)^-1: a gradient step on the coding-rate
reduction. Signals and images run one such problem per frequency, coupled only by the two norms.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet._backends.ascent import stages
from redunet._backends.contract import Operators, ReadOnlyCopies
from redunet._inputs import axes, checks, prepare, words
from redunet._inputs.axes import Channels
from redunet.network.layers import Layers, Rates
from redunet.transforms import groups
from redunet.transforms.cyclic import Fourier

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False, repr=False)
class ReduNet(ReadOnlyCopies):
    """A constructed network. Immutable, as its copies are; made by `build`, read back by `load`.

    Attributes
    ----------
    classes_ : (k,) array
        The labels, in the order of the classes.
    n_channels : int
        C (for vectors d).
    signal_shape : tuple of int
        () for vectors, (T,) for signals, (H, W) for images.
    group : {"cyclic", "dihedral"}
        What it is equivariant to: shifts, or shifts and mirror images.
    rates : Rates
        Coding rates along the layers.
    etas : (n_layers,) float64 array
        Step size of every layer.
    betas : (n_layers,) float64 array
        Momentum before every layer; zeros without.
    epsilon_sq, lam, assignment, dft_norm
        As given to `build`.
    dtype : numpy dtype
        Of the features: what `build` computed in and `transform` computes in.
    backend : str
        The backend that built it; `transform` uses the one selected when it is called.
    """

    classes_: Array
    n_channels: int
    signal_shape: tuple[int, ...]
    group: words.Group
    rates: Rates
    etas: npt.NDArray[np.float64]
    betas: npt.NDArray[np.float64]
    epsilon_sq: float
    lam: float
    assignment: words.Assignment
    dft_norm: words.DftNorm
    dtype: np.dtype[Any]
    backend: str
    _operators: Operators | None

    def __post_init__(self) -> None:
        """Immutable down to the numbers: operators are handed out as views where that costs nothing."""
        arrays = [self.classes_, self.etas, self.betas, self.rates.rate, self.rates.per_class]
        if self._operators is not None:
            arrays += [value for value in vars(self._operators).values() if isinstance(value, np.ndarray)]
        for array in arrays:
            array.flags.writeable = False

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return len(self.etas)

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.classes_)

    @property
    def fourier(self) -> Fourier:
        """The transform between samples and spectra."""
        return groups.transform(self.signal_shape, self.dtype.kind == "f", self.group)

    @property
    def operators(self) -> Operators:
        """The operators as they are kept: dense, or factors of small classes.

        Raises
        ------
        ValueError
            If the network was built with ``keep="features"``.
        """
        if self._operators is None:
            raise ValueError('this network was built with keep="features"; build it with keep="operators" to apply it')
        return self._operators

    @property
    def layers(self) -> Layers:
        """The layers, each with E, Cs, gammas, eta and lam."""
        return Layers(self.operators, self.fourier.freq_shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the kept operators."""
        return 0 if self._operators is None else self._operators.nbytes

    def transform(
        self,
        X: npt.ArrayLike,
        *,
        channels: Channels = "first",
        backend: words.Backend = "auto",
        n_threads: int | None = None,
    ) -> Array:
        """Features of new samples.

        Parameters
        ----------
        X : (m, d), (m, C, T) or (m, C, H, W) array
            Samples like those that the network was built from; scaled to unit norm first.
        channels : {"first", "last"}, default "first"
            Where X has its channels: ``"last"`` for (m, T, C) and (m, H, W, C).
        backend : str, default "auto"
            See `use_backend`.
        n_threads : int, optional
            Default: the cores that this process may use.

        Returns
        -------
        Z : array, X's shape, ``net.dtype``
            Unit-norm features; of NumPy, or of X's library where X lies on a CUDA device.

        Raises
        ------
        ValueError, TypeError
            If X does not fit the network, or holds NaN or infinity.

        Notes
        -----
        NaN or infinity in an operator, of a file that was loaded unverified, makes every feature NaN.
        """
        return self._forward(X, channels, backend, n_threads)[0]

    def assign(
        self,
        X: npt.ArrayLike,
        *,
        channels: Channels = "first",
        backend: words.Backend = "auto",
        n_threads: int | None = None,
    ) -> Array:
        """Soft assignment of new samples to the classes by the last layer: softmax_j(-lambda ||C^j z||).

        Parameters are those of `transform`; the result has shape (m, k) and rows that sum to 1.
        """
        return self._forward(X, channels, backend, n_threads)[1]

    def staged_transform(
        self,
        X: npt.ArrayLike,
        *,
        every: int = 1,
        channels: Channels = "first",
        backend: words.Backend = "auto",
        n_threads: int | None = None,
    ) -> Iterator[Array]:
        """Features of new samples along the layers, each of which is applied once.

        Parameters
        ----------
        X, channels, backend, n_threads
            As in `transform`.
        every : int, default 1
            Features are given after every so many layers, and after the last.

        Yields
        ------
        Z : array, X's shape, ``net.dtype``
            Unit-norm features after ``every``, ``2 * every``, ... and `n_layers` layers: those of
            ``net.truncate(n).transform(X)``, to rounding.

        Raises
        ------
        ValueError, TypeError
            As `transform`, when it is called and not when the first features are asked for.

        Examples
        --------
        >>> import redunet as rn
        >>> X, y = rn.datasets.gaussian_mixture(50, n_features=3, random_state=0)
        >>> net, _ = rn.build(X, y, n_layers=5)
        >>> [Z.shape for Z in net.staged_transform(X, every=2)]  # after 2, 4 and 5 layers
        [(150, 3), (150, 3), (150, 3)]
        """
        every = checks.integer(every, "every", 1)
        wanted = {*range(every, self.n_layers + 1, every), self.n_layers}
        return self._staged(self._entering(X, channels, backend, n_threads), wanted)

    def _staged(self, given: prepare.Samples, wanted: Container[int]) -> Iterator[Array]:
        """Features after those numbers of layers that are wanted."""
        operators = self.operators
        if given.on_host and not operators.finite:
            nowhere = given.nowhere()
            return (nowhere.copy() for n in range(1, self.n_layers + 1) if n in wanted)
        state = given.module.state(given.spectra(normalize=True), operators, n_threads=given.n_threads)
        after = enumerate(stages(state, operators), start=1)
        return (given.from_spectra(stage.features()) for n, (stage, _) in after if n in wanted)

    def truncate(self, n_layers: int) -> ReduNet:
        """The network of the first layers, which shares their operators.

        Parameters
        ----------
        n_layers : int
            How many, from 1 to all.

        Returns
        -------
        ReduNet
            As if it had been built with so many layers: it can be applied, saved and gone on with. Of a network with
            momentum the last of its rates are those ahead of the features, where the next layer was built.

        Raises
        ------
        ValueError, TypeError
            If there are not so many layers.

        Examples
        --------
        >>> import redunet as rn
        >>> X, y = rn.datasets.gaussian_mixture(50, n_features=3, random_state=0)
        >>> net, _ = rn.build(X, y, n_layers=5)
        >>> net.truncate(2).n_layers, net.truncate(2).rates.delta.shape
        (2, (3,))
        """
        n = checks.integer(n_layers, "n_layers", 1)
        if n > self.n_layers:
            raise ValueError(f"n_layers is {n}; expected at most {self.n_layers}, the layers of this network")
        operators = self._operators and self._operators.layers(0, n)
        if operators is not None and vars(self._operators).get("finite"):
            operators = operators.known_finite()
        rates = Rates(self.rates.rate[: n + 1], self.rates.per_class[: n + 1])
        return replace(self, rates=rates, etas=self.etas[:n], betas=self.betas[:n], _operators=operators)

    def _forward(
        self, X: npt.ArrayLike, channels: Channels, backend: str, n_threads: int | None
    ) -> tuple[Array, Array]:
        given = self._entering(X, channels, backend, n_threads)
        if given.on_host and not self.operators.finite:
            # An engine leaves a class, and what may be NaN in the rest of its operator, as soon as it is out.
            return given.nowhere(), np.full((len(given), self.n_classes), np.nan)
        V = given.spectra(normalize=True)
        pi = given.module.apply(V, self.operators, n_threads=given.n_threads)
        return given.from_spectra(V), pi

    def _entering(self, X: npt.ArrayLike, channels: Channels, backend: str, n_threads: int | None) -> prepare.Samples:
        """Samples like those of the network, on their way in."""
        checks.choice(channels, "channels", ("first", "last"))
        given = prepare.samples(
            X,
            group=self.group,
            dtype=self.dtype,
            backend=backend,
            n_threads=n_threads,
            channels=channels,
            n_layers=self.n_layers,
            there=self._operators is not None and self._operators.there is not None,
        )
        expected = (self.n_channels, *self.signal_shape)
        if given.array.shape[1:] != expected:
            raise ValueError(
                self._misfit((len(given), *axes.shape_as_given(given.array.shape[1:], channels)), channels)
            )
        if given.dtype != self.dtype:
            raise TypeError(f"X has dtype {given.array.dtype}; this network was built from real samples")
        return given

    def _misfit(self, shape: tuple[int, ...], channels: Channels) -> str:
        """What is wrong with samples of this shape, whose channels are where it says."""
        expected = (self.n_channels, *self.signal_shape)
        wanted = ", ".join(map(str, ("m", *axes.shape_as_given(expected, channels))))
        cure = ""
        if channels == "first" and shape[1:] == axes.shape_as_given(expected, "last"):
            cure = ": pass channels='last'"
        elif expected == (1, *shape[1:]):
            cure = ": pass X[:, None]"
        return f"X has shape {shape}; this network expects ({wanted}){cure}"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network to a safetensors file, with a checksum for each tensor.

        The file appears whole or not at all: it is written beside its place, synced and renamed. Of a file that is
        replaced mode, owner (where permitted) and symbolic links are kept.

        Parameters
        ----------
        path : path-like
            The file; its folder must exist.

        Raises
        ------
        OSError
            If it can't be written: no folder, no permission, no space; or the path names what is no regular file.
        ValueError
            If the network was built with ``keep="features"``, or is a layer of `ClassGrams`: these have a `save`.
        """
        from redunet.network import storage

        if not np.isfinite(self.rates.rate).all():
            raise ValueError("this network has no rates after its layer, which was made of ClassGrams: save these")
        storage.write(checks.path(path, "path"), {**vars(self), "operators": self.operators})

    @staticmethod
    def load(path: str | os.PathLike[str], *, mmap: bool = True, verify: bool = True) -> ReduNet:
        """Read a network that `save` wrote; see `redunet.load`."""
        return load(path, mmap=mmap, verify=verify)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.signal_shape))
        size = f"d={self.n_channels}" if not shape else f"C={self.n_channels} on {shape}"
        size += "" if self.group == "cyclic" else f", {self.group}"
        delta = self.rates.delta
        if self._operators is None:
            kept = "operators not kept"
        else:
            small = int(np.count_nonzero(self._operators.ranks))
            kept = _bytes(self.nbytes) + (f", {small} of {self.n_classes + 1} operators factored" if small else "")
        return (
            f"ReduNet({self.n_layers} layers, {self.n_classes} classes, {size}, {self.dtype}; "
            f"{kept}; Delta R {delta[0]:.4g} -> {delta[-1]:.4g})"
        )


def _bytes(n: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if n < 1024:
            return f"{n:.4g} {unit}"
        n /= 1024
    return f"{n:.4g} GiB"


def load(path: str | os.PathLike[str], *, mmap: bool = True, verify: bool = True) -> ReduNet:
    """Read a network that `ReduNet.save` wrote.

    Parameters
    ----------
    path : path-like
        A regular file written by `ReduNet.save`.
    mmap : bool, default True
        Map the file: operators are read where they lie when they are used, and processes share them. False reads all
        of it into memory, after which the file may change or go.
    verify : bool, default True
        Read the whole file once and compare every checksum. Without, what a header and the numbers of layers and
        classes say is checked all the same, and operators are not looked at.

    Returns
    -------
    ReduNet

    Raises
    ------
    ValueError
        If the file is not such a file or no regular file, is truncated, damaged or inconsistent, holds numbers that no
        `build` makes, or has an unknown format version: "'<path>' cannot be loaded: ...".
    TypeError
        If an argument is of another type.
    OSError
        If there is no such file, or it can't be read.

    Warnings
    --------
    A mapped file must stay as it is while the network is in use. If it is truncated or written in place (``cp`` onto
    it, ``rsync --inplace``, a download that is resumed), or the network file system that it lies on loses it, the
    system ends the process with SIGBUS where memory is no longer there, or operators change in silence. `ReduNet.save`,
    ``mv`` and ``rm`` are harmless: they leave the mapped file alone. Use ``mmap=False`` where others write.

    Notes
    -----
    Checksums are CRC-32: they find what disks and transfers do, and are no protection against somebody who means it.
    They are compared at about 2 GB/s where the system has the file in memory; resident memory stays as it is meanwhile.

    Examples
    --------
    >>> import os, tempfile
    >>> import redunet as rn
    >>> net, _ = rn.build([[1.0, 0.0], [0.0, 1.0]], ["a", "b"], n_layers=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     net.save(os.path.join(folder, "net"))
    ...     rn.load(os.path.join(folder, "net"), mmap=False).classes_.tolist()
    ['a', 'b']
    """
    from redunet.network import storage

    mmap, verify = checks.flag(mmap, "mmap"), checks.flag(verify, "verify")
    fields = storage.read(checks.path(path, "path"), mmap=mmap, verify=verify)
    return ReduNet(_operators=fields.pop("operators"), **fields)
