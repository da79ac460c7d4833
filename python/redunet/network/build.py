"""`build`: a network constructed layer by layer."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet._backends.contract import BuildRequest, BuildResult, DeviceBackend, Operators, Problem, RateReduction
from redunet._inputs import checks, notices, prepare, words
from redunet._inputs.axes import Channels
from redunet._inputs.problem import ASSIGNMENTS, KEEPS
from redunet.network.layers import Rates
from redunet.network.redunet import ReduNet, load
from redunet.progress import Progress

Array = npt.NDArray[Any]
#: Watches the rate reduction; a true result ends the network.
Watcher = Callable[[int, RateReduction], Any]

# A network whose steps are all 0 blames weights of classes that differ by more than this factor, and a lambda below
# this one: of signals with few channels steps are 0 at ratios of 1.5 to 2, and at 5, not at 50 (docs/parameters.md).
UNEQUAL = 1.25
SHARP = 50.0


class BuildInterrupted(KeyboardInterrupt):
    """Ctrl-C during `build`.

    Attributes
    ----------
    net : ReduNet, or None
        The network of the layers that were there, to be used, saved, or gone on with: ``build(..., resume=net)``. None
        where there was none, or ``keep="features"``.
    """

    def __init__(self, net: ReduNet | None = None) -> None:
        super().__init__("no layer was built" if net is None else f"{net.n_layers} layers were built")
        self.net = net

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.net,)


def build(
    X: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    n_layers: int,
    channels: Channels | None = None,
    group: words.Group = "cyclic",
    eta: float | Sequence[float] | npt.NDArray[Any] | words.StepRule = "auto",
    momentum: bool = False,
    epsilon_sq: float = 0.1,
    lam: float = 500.0,
    sample_weight: npt.ArrayLike | None = None,
    assignment: words.Assignment = "estimated",
    dft_norm: words.DftNorm = "ortho",
    keep: words.Keep = "operators",
    tol: float | None = None,
    patience: int = 10,
    backend: words.Backend = "auto",
    n_threads: int | None = None,
    dtype: npt.DTypeLike | None = None,
    progress: bool = False,
    on_layer: Callable[[int, RateReduction], bool | None] | None = None,
    resume: ReduNet | str | os.PathLike[str] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    every: int = 100,
) -> tuple[ReduNet, Array]:
    """Construct a ReduNet by projected gradient ascent of the coding-rate reduction.

    Parameters
    ----------
    X : (m, d), (m, C, T) or (m, C, H, W) array, real or complex
        Samples; the number of axes chooses vectors, signals or images. Networks of signals and images are equivariant
        to cyclic shifts: features of a shifted sample are the shifted ones (see `group`). Samples are scaled to unit
        norm first, whatever their norm: the unit of measurement doesn't matter, and only zeros stay zero. A
        memory-mapped array is read in pieces. Data frames and tensors are taken as the arrays that they are; masked
        entries, sparse matrices and tensors that require gradients are refused.
    y : (m,) array of labels, or (m, k) membership
        Labels, none of them missing, that are numbers, text, bytes, booleans or NumPy's dates (objects too); or a
        non-negative membership whose rows sum to 1.
    n_layers : int
        Number of layers (at most, with `tol` or `on_layer`).
    channels : {None, "first", "last"}, default None
        Where signals and images have their channels: ``"last"`` for (m, T, C) and (m, H, W, C), and Z is like X. With
        None they are first, and shapes that look otherwise are a warning; ``"first"`` says that there is no mistake.
    group : {"cyclic", "dihedral"}, default "cyclic"
        What networks of signals and images are equivariant to. ``"dihedral"``: to shifts and mirror images, of images
        those of rows and of columns. The network is the cyclic one of all samples and their mirror images (index t at
        -t mod T), and its rates are of those, at a part of the cost. Samples that lie on a CUDA device are not taken.
    eta : float, (n_layers,) array, "auto" or "search", default "auto"
        Step size. ``"auto"`` is the natural step eta = 2 / alpha, halved for a layer whose rate reduction would fall:
        it needs about a hundred times fewer layers than the 0.5 of the lecture's experiments. ``"search"`` looks for
        the step of every layer that raises the rate reduction most: half the layers again, each as long to build as the
        four or five steps that it tries, and as long as any to apply. The steps taken are the network's ``etas``.
    momentum : bool, default False
        Nesterov's momentum on the sphere with restart, with any `eta`: a third to a half fewer layers, each about twice
        as long to build. Layer l is built at, and applied to, normalise(z_l + beta_l (z_l - z_{l-1})) where that raises
        the rate reduction, and else at z_l; new samples take the same path, with the network's ``betas``.
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
    resume : ReduNet or path-like, optional
        A network of the same samples and settings (step sizes may be others), or its file, to go on from: its layers
        are applied, and the rest of the `n_layers` built. The result is that of a build without a stop.
    checkpoint : path-like, optional
        A file that the network is saved to after every `every` layers and at the end; see `ReduNet.save`. A process
        that is killed loses no more layers than that.
    every : int, default 100
        See `checkpoint`.

    Returns
    -------
    net : ReduNet
        The network.
    Z : array, X's shape
        Features of the samples after the last layer, in X's order, of X's floating dtype (integers: float64). They are
        NumPy's, of tensors and JAX arrays too, and of X's library where X lies on a CUDA device.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or does not fit; the message names it.
    MemoryError
        If what is needed exceeds what is available; said in GiB before anything is allocated.
    numpy.linalg.LinAlgError
        If a matrix is not positive definite.
    BuildInterrupted
        At Ctrl-C, a `KeyboardInterrupt` whose ``net`` holds the layers so far.

    Notes
    -----
    Layers are built from E = alpha (I + alpha Z Z*)^-1 and C^j = alpha_j (I + alpha_j Z Pi^j Z*)^-1 with
    alpha = C/(m eps^2), alpha_j = C/(m_j eps^2), m counting mirror images too; see `redunet.network.redunet`.
    Reference: Chan, Yu, You, Qi, Wright, Ma, *ReduNet: A White-box Deep Network from the Principle of Maximizing Rate
    Reduction*, JMLR 2022.

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
    options = BuildOptions.checked(
        n_layers=n_layers,
        group=group,
        eta=eta,
        momentum=momentum,
        epsilon_sq=epsilon_sq,
        lam=lam,
        assignment=assignment,
        dft_norm=dft_norm,
        keep=keep,
        tol=tol,
        patience=patience,
        progress=progress,
        on_layer=on_layer,
        resume=resume,
        checkpoint=checkpoint,
        every=every,
    )
    given = prepare.samples(
        X,
        group=group,
        dtype=dtype,
        backend=backend,
        n_threads=n_threads,
        channels=channels,
        n_layers=options.n_layers,
    )
    problem, classes = prepare.problem(
        given, y, sample_weight=sample_weight, epsilon_sq=options.epsilon_sq, dft_norm=dft_norm
    )
    return construct(given, classes, problem, options)


@dataclass(frozen=True)
class BuildOptions:
    """The arguments of `build` beside samples, classes and where it is computed, checked.

    ``eta`` is checked last, when it is known that there is memory for so many layers.
    """

    n_layers: int
    group: str
    eta: Any
    momentum: bool
    epsilon_sq: float
    lam: float
    assignment: str
    dft_norm: str
    keep: str
    tol: float | None
    patience: int
    progress: bool
    on_layer: Callable[[int, RateReduction], bool | None] | None
    resume: ReduNet | str | None
    checkpoint: str | None
    every: int

    @classmethod
    def checked(
        cls,
        *,
        n_layers: Any,
        eta: Any,
        momentum: Any,
        epsilon_sq: Any,
        lam: Any,
        assignment: Any,
        keep: Any,
        tol: Any,
        patience: Any,
        progress: Any,
        on_layer: Any,
        resume: Any,
        checkpoint: Any,
        every: Any,
        **others: Any,
    ) -> BuildOptions:
        """From arguments of `build`; ``others`` are checked where they are used."""
        n_layers = checks.integer(n_layers, "n_layers", 1)
        lam = checks.non_negative(lam, "lam")
        checks.choice(assignment, "assignment", ASSIGNMENTS)
        checks.choice(keep, "keep", KEEPS)
        momentum, progress = checks.flag(momentum, "momentum"), checks.flag(progress, "progress")
        checks.function(on_layer, "on_layer")
        every = checks.integer(every, "every", 1)
        path = None if checkpoint is None else checks.path(checkpoint, "checkpoint")
        if path is not None and not os.path.isdir(os.path.dirname(path) or "."):  # said before the work, not after it
            raise ValueError(f"checkpoint is {path!r}; expected a file in a folder that exists")
        for name, option in (("resume", resume), ("checkpoint", checkpoint)):
            if option is not None and keep != "operators":
                raise ValueError(f'{name} needs operators, and keep is {keep!r}; expected keep="operators"')
        if not (resume is None or isinstance(resume, ReduNet)):
            resume = checks.path(resume, "resume", "a ReduNet or its file")
        return cls(
            n_layers=n_layers,
            eta=eta,
            momentum=momentum,
            epsilon_sq=checks.positive(epsilon_sq, "epsilon_sq"),
            lam=lam,
            assignment=assignment,
            keep=keep,
            tol=None if tol is None else checks.non_negative(tol, "tol"),
            patience=checks.integer(patience, "patience", 1),
            progress=progress,
            on_layer=on_layer,
            resume=resume,
            checkpoint=path,
            every=every,
            **others,
        )

    @property
    def search(self) -> bool:
        """Whether a step is searched for in every layer."""
        return isinstance(self.eta, str) and self.eta == "search"


def construct(
    given: prepare.Samples, classes: Array, problem: Problem, options: BuildOptions, *, tells: bool = True
) -> tuple[ReduNet, Array]:
    """`build` of what has been checked; of ``given.module`` `build` and `rates` are called.

    One that ``tells`` warns of a network that does nothing; of several ranks one is enough.
    """
    keep = options.keep == "operators"
    n_spectra = 2 + int(options.search) + int(options.momentum)  # given, as they are, the best trial, the layer before
    prepare.check_memory(given, problem, n_layers=options.n_layers, keep=keep, n_spectra=n_spectra)
    etas = checks.step_sizes(options.eta, options.n_layers)
    largest_gram = problem.inner * given.n_channels / options.epsilon_sq
    prepare.check_range(problem, given.dtype, lam=options.lam, etas=etas, largest_gram=largest_gram)
    plateau = None if options.tol is None else _plateau(options.tol, options.patience)

    before = load(options.resume) if isinstance(options.resume, str) else options.resume
    if before is not None:
        problem = _kept_like(before, problem)
    V = given.spectra(normalize=True)
    device = given.module if isinstance(given.module, DeviceBackend) else None
    result = BuildResult.room(
        problem,
        options.n_layers,
        given.n_channels,
        V.dtype,
        lam=options.lam,
        keep=keep,
        device=device,
        near=V,
        beside=0 if device is None else n_spectra * math.prod(V.shape) * V.dtype.itemsize,
    )
    settings = {name: getattr(options, name) for name in ("group", "epsilon_sq", "lam", "assignment", "dft_norm")}
    built = _Built(given, classes, problem, result, settings)
    if before is not None:
        row = given.module.rates(V, problem, n_threads=given.n_threads) * np.concatenate([[1.0], problem.gammas])
        _go_on_from(before, built.network(), row, result, plateau)
        built.before = before
    with Progress(options.n_layers, "layer", options.progress) as bar:

        def show(index: int, rates: RateReduction) -> None:
            bar.update(index, {"R": rates.rate, "R_c": rates.class_rate, "Delta R": rates.delta})

        all_of_them = (plateau, options.on_layer, show if options.progress else None)
        watchers = [watch for watch in all_of_them if watch is not None]
        request = _request(options, etas, built, watchers)
        try:
            given.module.build(V, problem, request, result, n_threads=given.n_threads)
            net = built.network()
            if options.checkpoint is not None:
                net.save(options.checkpoint)
            if tells and etas is None and problem.n_classes > 1 and not net.etas.any():
                notices.warn(_no_steps(net.n_layers, problem, options.lam))
            if device is not None and net.n_layers < options.n_layers:
                net = _without_spare_room(net, device)
            return net, given.from_spectra(V)
        except KeyboardInterrupt as stop:
            there = result.operators is not None and result.n_done > 0
            raise BuildInterrupted(built.network() if there else None) from stop


def _no_steps(n_layers: int, problem: Problem, lam: float) -> str:
    """What is said of a network whose steps were all found to be 0, and why that may be (docs/theory.md)."""
    least, most = problem.gammas.min(), problem.gammas.max()
    causes = []
    if most > UNEQUAL * least:
        causes.append(
            f"Classes weigh from {least:.3g} to {most:.3g} of all, and the heaviest wins the gates of all samples: "
            "give them equal weights (sample_weight; class_weight='balanced' of estimators)."
        )
    if lam < SHARP:
        causes.append(f"lam is {lam:g}, at which gates are nearly equal: expected {SHARP:g} or more.")
    if not causes:
        causes.append("Classes differ too little in direction, which is all that unit norm leaves, or all they can.")
    return (
        f"no step raises the rate reduction: all {n_layers} steps are 0, and the features are the samples at unit "
        f"norm. {' '.join(causes)}"
    )


def _request(
    options: BuildOptions, etas: npt.NDArray[np.float64] | None, built: _Built, watchers: list[Watcher]
) -> BuildRequest:
    """What the backend is asked for."""
    path, every = options.checkpoint, options.every

    def report(index: int, row: npt.NDArray[np.float64]) -> bool:
        if path is not None and index > 0 and index % every == 0 and index < options.n_layers:
            built.network().save(path)
        rates = RateReduction.of(row, built.problem.gammas)
        return any([bool(watch(index, rates)) for watch in watchers])

    return BuildRequest(
        n_layers=options.n_layers,
        etas=etas,
        lam=options.lam,
        search=options.search,
        momentum=options.momentum,
        given=options.assignment == "given",
        on_layer=report if watchers or path is not None else None,
        every=0 if path is None else every,
    )


@dataclass
class _Built:
    """What a build has so far: room that is being filled, and what its network is told beside."""

    given: prepare.Samples
    classes: Array
    problem: Problem
    result: BuildResult
    settings: dict[str, Any]
    before: ReduNet | None = None  # gone on from

    def network(self) -> ReduNet:
        """Of the layers that are there."""
        given, result, n = self.given, self.result, self.result.n_done
        rates = result.rates[: n + 1] * np.concatenate([[1.0], self.problem.gammas])
        if self.before is not None:
            old = self.before.n_layers
            old += n == old  # its last row: where the next layer is not built
            rates[:old, 0], rates[:old, 1:] = self.before.rates.rate[:old], self.before.rates.per_class[:old]
        return ReduNet(
            classes_=self.classes,
            n_channels=given.n_channels,
            signal_shape=given.fourier.signal_shape,
            rates=Rates(rates[:, 0].copy(), rates[:, 1:].copy()),
            etas=result.etas[:n].copy(),
            betas=result.betas[:n].copy(),
            dtype=given.dtype,
            backend=given.backend,
            _operators=result.operators and result.operators.layers(0, n).known_finite(),
            **self.settings,
        )


def _go_on_from(
    before: ReduNet, wanted: ReduNet, row: npt.NDArray[np.float64], result: BuildResult, plateau: Watcher | None
) -> None:
    """The layers of a network where `Backend.build` finds them.

    It must be like the one ``wanted``, and have begun with the rates R and gamma_j R_j of the samples, ``row``, to half
    of their digits: backends differ in the others.
    """
    n, room = before.n_layers, len(result.etas)
    if before._operators is None:
        raise ValueError('resume was built with keep="features"; expected a network with its operators')
    if n > room:
        raise ValueError(f"resume has {n} layers and n_layers is {room}; expected at least as many")
    for name in ("n_channels", "signal_shape", "group", "dtype", "dft_norm", "epsilon_sq", "lam", "assignment"):
        found, expected = getattr(before, name), getattr(wanted, name)
        if found != expected:
            raise ValueError(f"resume was built with {name} {found!r}; expected {expected!r}, as in this build")
    if not np.array_equal(before.classes_, wanted.classes_):
        raise ValueError(f"resume has the classes {before.classes_}; expected those of y, {wanted.classes_}")
    operators, mine = before.operators, wanted.operators
    same = all(np.array_equal(getattr(operators, name), getattr(mine, name)) for name in ("alphas", "gammas"))
    if not (same and ((mine.ranks == 0) | (mine.ranks == operators.ranks)).all()):
        raise ValueError("resume was built with other numbers of samples, or weights, in the classes than y has")
    rates = np.column_stack([before.rates.rate, before.rates.per_class])
    if np.abs(rates[0] - row).max() > np.sqrt(np.finfo(before.dtype).eps) * row[0]:
        raise ValueError(
            f"resume was built from samples, or labels, whose coding rates are {rates[0]}; those of X and y are {row}"
        )
    assert result.operators is not None
    _copy_operators(operators, result.operators)
    result.etas[:n], result.betas[:n], result.done[0] = before.etas, before.betas, n
    if plateau is not None:
        for index in range(n):
            plateau(index, RateReduction.of(rates[index], np.ones(len(row) - 1)))


def _kept_like(before: ReduNet, problem: Problem) -> Problem:
    """The problem of a network that goes on: what was kept dense stays dense, as all is that ranks built by samples."""
    dense = before._operators is not None and len(before.operators.ranks) == len(problem.ranks)
    return replace(problem, ranks=np.where(before.operators.ranks > 0, problem.ranks, 0)) if dense else problem


def _without_spare_room(net: ReduNet, device: DeviceBackend) -> ReduNet:
    """A network that ended early, in as much of the device's memory as it needs, if that much is left."""
    operators = net._operators
    if operators is None or operators.there is None:
        return net
    dense, factors = operators.there
    room = device.room_to_keep((dense.shape, factors.shape), dense.dtype, dense, 0)
    if room is None:
        return net
    for to, array in zip(room, operators.there, strict=True):
        to[:] = array
    dense, factors = room
    return replace(net, _operators=replace(operators, dense=dense, factors=factors).known_finite())


def _copy_operators(source: Operators, room: Operators) -> None:
    """The layers of one into the first of the other, whose operators are kept alike, or dense."""
    if room.there is not None:
        alike = source.there is not None and np.array_equal(source.ranks, room.ranks)
        if alike:
            arrays = source.there
        else:
            shapes = (array[: source.n_layers].shape for array in room.there)
            dense, factors = arrays = tuple(np.empty(shape, room.there[0].dtype) for shape in shapes)
            _copy_operators(source, replace(room, dense=dense, factors=factors))
        for to, array in zip(room.there, arrays, strict=True):
            to[: source.n_layers] = array
        return
    dense = np.flatnonzero(room.ranks == 0).tolist()
    for layer in range(source.n_layers):
        for place, number in enumerate(dense):
            room.dense[layer, place] = source.to_dense(layer, number)
        for number in np.flatnonzero(room.ranks).tolist():
            room.factors[layer, :, :, room.columns(number)] = source.factors[layer, :, :, source.columns(number)]


def _plateau(least: float, patience: int) -> Watcher:
    """A watcher that stops when the rate reduction has not risen by ``least`` of itself for ``patience`` layers."""
    best = -np.inf
    last_rise = 0

    def watch(index: int, rates: RateReduction) -> bool:
        nonlocal best, last_rise
        if rates.delta > best + least * abs(best) or not np.isfinite(best):
            best, last_rise = rates.delta, index
        return index - last_rise >= patience

    return watch
