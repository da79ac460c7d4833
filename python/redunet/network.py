"""The network: `build` constructs it layer by layer, `ReduNet` holds it and maps new samples through it.

One layer of a ReduNet, for unit-norm features Z and membership Pi (Chan et al., *ReduNet*, JMLR 2022)::

    z <- normalise(z + eta (E z - sum_j gamma_j pi_j(z) C^j z)),   pi(z) = softmax_j(-lambda ||C^j z||)

with E = alpha (I + alpha Z Z*)^-1 and C^j = alpha_j (I + alpha_j Z Pi^j Z*)^-1: a gradient step on the coding-rate
reduction. Signals and images run one such problem per frequency, coupled only by the two norms.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet import checks
from redunet._backends import select_for
from redunet._backends.contract import BuildRequest, Operators, Problem, RateReduction, ReadOnlyCopies
from redunet.fourier import Fourier
from redunet.layers import Layers, Rates
from redunet.problem import largest_square_root, make_problem
from redunet.progress import RateProgress

Array = npt.NDArray[Any]
ASSIGNMENTS = ("estimated", "given")
KEEPS = ("operators", "features")


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
    rates: Rates
    etas: npt.NDArray[np.float64]
    betas: npt.NDArray[np.float64]
    epsilon_sq: float
    lam: float
    assignment: str
    dft_norm: str
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
        """The DFT between samples and spectra."""
        return Fourier(self.signal_shape, self.dtype.kind == "f")

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
        return 0 if self._operators is None else self._operators.dense.nbytes + self._operators.factors.nbytes

    def transform(self, X: npt.ArrayLike, *, backend: str = "auto", n_threads: int | None = None) -> Array:
        """Features of new samples.

        Parameters
        ----------
        X : (m, d), (m, C, T) or (m, C, H, W) array
            Samples like those that the network was built from; scaled to unit norm first.
        backend : str, default "auto"
            See `use_backend`.
        n_threads : int, optional
            Default: the cores that this process may use.

        Returns
        -------
        Z : array, X's shape, ``net.dtype``
            Unit-norm features.

        Raises
        ------
        ValueError, TypeError
            If X does not fit the network, or holds NaN or infinity.

        Notes
        -----
        NaN or infinity in an operator, of a file that was loaded unverified, makes every feature NaN.
        """
        return self._forward(X, backend, n_threads)[0]

    def assign(self, X: npt.ArrayLike, *, backend: str = "auto", n_threads: int | None = None) -> Array:
        """Soft assignment of new samples to the classes by the last layer: softmax_j(-lambda ||C^j z||).

        Parameters are those of `transform`; the result has shape (m, k) and rows that sum to 1.
        """
        return self._forward(X, backend, n_threads)[1]

    def _forward(self, X: npt.ArrayLike, backend: str, n_threads: int | None) -> tuple[Array, Array]:
        array = checks.samples(X, on_device=True)
        expected = (self.n_channels, *self.signal_shape)
        if array.shape[1:] != expected:
            wanted = ", ".join(map(str, ("m", *expected)))
            raise ValueError(f"X has shape {array.shape}; this network expects ({wanted})")
        if array.dtype.kind == "c" and self.dtype.kind != "c":
            raise TypeError(f"X has dtype {array.dtype}; this network was built from real samples")
        _, module = select_for(array, backend)
        cores = checks.threads(n_threads)
        V = self.fourier.forward(array, self.dtype, module, name="X", normalize=True, n_threads=cores)
        if not self.operators.finite and isinstance(array, np.ndarray):
            # An engine leaves a class, and what may be NaN in the rest of its operator, as soon as it is out.
            return np.full(array.shape, np.nan, self.dtype), np.full((len(array), self.n_classes), np.nan)
        if self.betas.any():
            from redunet.momentum import apply_with_momentum

            V, pi = apply_with_momentum(V, self.operators, self.betas, module, n_threads=cores)
        else:
            pi = module.apply(V, self.operators, n_threads=cores)
        return self.fourier.inverse(V, self.dtype, module, like=X, n_threads=cores), pi

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
            If the network was built with ``keep="features"``.
        """
        from redunet.storage import save

        save(self, path)

    @staticmethod
    def load(path: str | os.PathLike[str], *, mmap: bool = True, verify: bool = True) -> ReduNet:
        """Read a network that `save` wrote; see `redunet.load`."""
        from redunet.storage import load

        return load(path, mmap=mmap, verify=verify)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.signal_shape))
        size = f"d={self.n_channels}" if not shape else f"C={self.n_channels} on {shape}"
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


def build(
    X: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    n_layers: int,
    eta: float | Sequence[float] | npt.NDArray[Any] | str = "auto",
    momentum: bool = False,
    epsilon_sq: float = 0.1,
    lam: float = 500.0,
    sample_weight: npt.ArrayLike | None = None,
    assignment: str = "estimated",
    dft_norm: str = "ortho",
    keep: str = "operators",
    tol: float | None = None,
    patience: int = 10,
    backend: str = "auto",
    n_threads: int | None = None,
    dtype: npt.DTypeLike | None = None,
    progress: bool = False,
    on_layer: Callable[[int, RateReduction], bool | None] | None = None,
) -> tuple[ReduNet, Array]:
    """Construct a ReduNet by projected gradient ascent of the coding-rate reduction.

    Parameters
    ----------
    X : (m, d), (m, C, T) or (m, C, H, W) array, real or complex
        Samples; the number of axes chooses vectors, signals or images. Networks of signals and images are equivariant
        to cyclic shifts: features of a shifted sample are the shifted features. Samples are scaled to unit norm first,
        whatever their norm: the unit of measurement doesn't matter, and only zeros stay zero. A memory-mapped array is
        read in pieces. Data frames and tensors are taken as the arrays that they are; masked entries, sparse matrices
        and tensors that require gradients are refused.
    y : (m,) array of labels, or (m, k) membership
        Labels, none of them missing, that are numbers, text, bytes, booleans or NumPy's dates (objects too); or a
        non-negative membership whose rows sum to 1.
    n_layers : int
        Number of layers (at most, with `tol` or `on_layer`).
    eta : float, (n_layers,) array, "auto" or "search", default "auto"
        Step size. ``"auto"`` is the natural step eta = 2 / alpha, halved for a layer whose rate reduction would fall:
        it needs about a hundred times fewer layers than the 0.5 of the lecture's experiments. ``"search"`` looks for
        the step of every layer that raises the rate reduction most: half the layers again, each about ten times as
        long to build, and as long as any to apply. The steps taken are the network's ``etas``.
    momentum : bool, default False
        Nesterov's momentum on the sphere with restart, with any `eta`: a third to a half fewer layers. Layers are then
        built and applied one by one, and each needs the features of two before it; see `redunet.momentum`.
    epsilon_sq : float, default 0.1
        Squared distortion eps^2 > 0. The authors' code calls this number ``eps``.
    lam : float, default 500
        Sharpness lambda >= 0 of the soft assignment.
    sample_weight : (m,) array, optional
        Weights >= 0; an integer weight w is the sample repeated w times.
    assignment : {"estimated", "given"}, default "estimated"
        Move the training features by the estimated assignment, as new samples are, or by `y` itself (ablation).
    dft_norm : {"ortho", "backward"}, default "ortho"
        Scale of the Fourier transform in the rates: "ortho" is what the authors' code runs, "backward" the circulant
        formula on paper; ortho at eps^2 equals backward at eps^2 times the number of signal points.
    keep : {"operators", "features"}, default "operators"
        "features" builds without keeping the operators: rates and features only.
    tol : float, optional
        Stop when the rate reduction has not risen by more than ``tol`` times itself for `patience` layers.
    patience : int, default 10
        See `tol`.
    backend : {"auto", "cuda", "cpu", "numpy"}, default "auto"
        See `use_backend`.
    n_threads : int, optional
        Default: ``REDUNET_NUM_THREADS``, else the cores that this process may use. More than the machine has, and more
        than 16, are left out.
    dtype : dtype, optional
        float32 or float64 (or their complex partners): the precision of everything. Default: X's own.
    progress : bool, default False
        Show a bar with R, R_c and the rate reduction.
    on_layer : callable, optional
        Called as ``on_layer(index, rates)`` with a `RateReduction` at the input of layer ``index``, and once after the
        last; a true result ends the network before that layer (never before the first).

    Returns
    -------
    net : ReduNet
        The network.
    Z : array, X's shape
        Features of the samples after the last layer, in X's order, of X's floating dtype (integers: float64).

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or does not fit; the message names it.
    MemoryError
        If what is needed exceeds what is available; said in GiB before anything is allocated.
    numpy.linalg.LinAlgError
        If a matrix is not positive definite.

    Notes
    -----
    Layers are built from E = alpha (I + alpha Z Z*)^-1 and C^j = alpha_j (I + alpha_j Z Pi^j Z*)^-1 with
    alpha = C/(m eps^2), alpha_j = C/(m_j eps^2); see the head of this module. Reference: Chan, Yu, You, Qi, Wright, Ma,
    *ReduNet: A White-box Deep Network from the Principle of Maximizing Rate Reduction*, JMLR 2022.

    Examples
    --------
    >>> import redunet as rn
    >>> X, y = rn.datasets.gaussian_mixture(100, n_features=3, random_state=0)
    >>> net, Z = rn.build(X, y, n_layers=20)
    >>> bool(net.rates.delta[-1] > net.rates.delta[0])
    True
    >>> net.transform(X).shape
    (300, 3)
    """
    array = checks.samples(X, on_device=True)
    kind = checks.floating(dtype, array)
    n_layers = checks.integer(n_layers, "n_layers", 1)
    lam = checks.non_negative(lam, "lam")
    checks.choice(assignment, "assignment", ASSIGNMENTS)
    checks.choice(keep, "keep", KEEPS)
    momentum, progress = checks.flag(momentum, "momentum"), checks.flag(progress, "progress")
    checks.function(on_layer, "on_layer")
    cores = checks.threads(n_threads)
    m, C = array.shape[:2]
    fourier = Fourier(array.shape[2:], kind.kind == "f")
    problem, classes = make_problem(
        y,
        sample_weight,
        n_samples=m,
        n_channels=C,
        fourier=fourier,
        epsilon_sq=epsilon_sq,
        dft_norm=dft_norm,
        dtype=kind,
    )
    name, module = select_for(array, backend)
    _check_memory(problem, m, C, kind, n_layers, keep)
    etas = checks.step_sizes(eta, n_layers)
    _check_range(problem, kind, lam, etas, problem.inner * C / float(epsilon_sq))

    V = fourier.forward(array, kind, module, name="X", normalize=True, n_threads=cores)
    search = isinstance(eta, str) and eta == "search"
    if search and not momentum:
        from redunet.line_search import search_steps

        etas = search_steps(
            V, problem, module, n_layers=n_layers, lam=lam, given=assignment == "given", n_threads=cores,
            progress=progress, stop=_plateau(tol, patience),
        )  # fmt: skip
        n_layers = len(etas)
    with RateProgress(n_layers, progress) as bar:
        watchers = [watch for watch in (_plateau(tol, patience), on_layer, bar.update) if watch is not None]
        watched = progress or tol is not None or on_layer is not None

        def report(index: int, row: npt.NDArray[np.float64]) -> bool:
            rates = RateReduction.of(row, problem.gammas)
            return any([bool(watch(index, rates)) for watch in watchers])

        request = BuildRequest(
            n_layers=n_layers,
            etas=etas,
            lam=lam,
            given=assignment == "given",
            keep=keep == "operators",
            on_layer=report if watched else None,
        )
        if momentum:
            from redunet.momentum import build_with_momentum

            V, result, betas = build_with_momentum(V, problem, module, request, search=search, n_threads=cores)
        else:
            result = module.build(V, problem, request, n_threads=cores)
            betas = np.zeros(len(result.etas))
    Z = fourier.inverse(V, kind, module, like=X, n_threads=cores)
    net = ReduNet(
        classes_=classes,
        n_channels=C,
        signal_shape=fourier.signal_shape,
        rates=Rates(result.rates[:, 0].copy(), result.rates[:, 1:] * problem.gammas),
        etas=result.etas,
        betas=betas,
        epsilon_sq=float(epsilon_sq),
        lam=lam,
        assignment=assignment,
        dft_norm=dft_norm,
        dtype=kind,
        backend=name,
        _operators=result.operators and result.operators.known_finite(),
    )
    return net, Z


def _plateau(tol: float | None, patience: int) -> Callable[[int, RateReduction], bool] | None:
    """A watcher that stops when the rate reduction has not risen by ``tol`` of itself for ``patience`` layers."""
    patience = checks.integer(patience, "patience", 1)
    if tol is None:
        return None
    least = checks.non_negative(tol, "tol")
    best = -np.inf
    last_rise = 0

    def watch(index: int, rates: RateReduction) -> bool:
        nonlocal best, last_rise
        if rates.delta > best + least * abs(best) or not np.isfinite(best):
            best, last_rise = rates.delta, index
        return index - last_rise >= patience

    return watch


def _check_memory(problem: Problem, m: int, C: int, kind: np.dtype[Any], n_layers: int, keep: str) -> None:
    F = len(problem.freq_weights)
    item = kind.itemsize * (2 if kind.kind == "f" and problem.n_points > 1 else 1)
    n_dense = int(np.count_nonzero(problem.ranks == 0))
    n_kept = n_layers if keep == "operators" else 1
    operators = n_kept * F * C * (n_dense * C + int(problem.ranks.sum())) * item
    rows = n_layers * (2 + problem.n_classes) * 8  # step sizes and rates
    checks.memory(operators + rows + 2 * m * C * F * item, f"{n_layers} layers and the features of {m} samples")


def _check_range(
    problem: Problem, kind: np.dtype[Any], lam: float, etas: npt.NDArray[np.float64] | None, largest_gram: float
) -> None:
    """Residual norms and steps may neither overflow nor vanish when squared; alpha_j G_j is at most ``largest_gram``.

    ||C^j v|| lies between alpha_j / (1 + alpha_j G_j) and alpha_j, a step is at most eta alpha_j long.
    """
    alpha = float(problem.alphas.max())
    largest = largest_square_root(kind)
    if lam * alpha > largest:
        raise ValueError(f"lam is {lam!r}: lam C / (m_j epsilon_sq) overflows {kind}; expected a smaller number")
    longest = 0.0 if etas is None else float(etas.max())
    if longest * alpha > largest:
        raise ValueError(f"eta reaches {longest!r}: eta C / (m_j epsilon_sq) overflows {kind}; expected smaller steps")
    if (1 + largest_gram) / largest > float(problem.alphas.min()):
        raise ValueError(
            f"sample_weight makes alpha_j = C / (m_j epsilon_sq) as small as {problem.alphas.min():.3g}: residual "
            f"norms vanish in {kind}; expected smaller weights"
        )
