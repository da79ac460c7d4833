"""`build`: a network constructed layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet._backends.contract import BuildRequest, RateReduction
from redunet._inputs import checks, prepare
from redunet._inputs.problem import ASSIGNMENTS, KEEPS
from redunet.network.layers import Rates
from redunet.network.progress import RateProgress
from redunet.network.redunet import ReduNet

Array = npt.NDArray[Any]


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
        built and applied one by one, and each needs the features of two before it; see `redunet.network.momentum`.
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
    alpha = C/(m eps^2), alpha_j = C/(m_j eps^2); see `redunet.network.redunet`. Reference: Chan, Yu, You, Qi, Wright,
    Ma, *ReduNet: A White-box Deep Network from the Principle of Maximizing Rate Reduction*, JMLR 2022.

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
    given = prepare.samples(X, dtype=dtype, backend=backend, n_threads=n_threads)
    n_layers = checks.integer(n_layers, "n_layers", 1)
    lam = checks.non_negative(lam, "lam")
    checks.choice(assignment, "assignment", ASSIGNMENTS)
    checks.choice(keep, "keep", KEEPS)
    momentum, progress = checks.flag(momentum, "momentum"), checks.flag(progress, "progress")
    checks.function(on_layer, "on_layer")
    problem, classes = prepare.problem(given, y, sample_weight=sample_weight, epsilon_sq=epsilon_sq, dft_norm=dft_norm)
    prepare.check_memory(given, problem, n_layers=n_layers, keep=keep == "operators")
    etas = checks.step_sizes(eta, n_layers)
    largest_gram = problem.inner * given.n_channels / float(epsilon_sq)
    prepare.check_range(problem, given.dtype, lam=lam, etas=etas, largest_gram=largest_gram)

    V = given.spectra(normalize=True)
    module, cores = given.module, given.n_threads
    search = isinstance(eta, str) and eta == "search"
    if search and not momentum:
        from redunet.network.line_search import search_steps

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
            from redunet.network.momentum import build_with_momentum

            V, result, betas = build_with_momentum(V, problem, module, request, search=search, n_threads=cores)
        else:
            result = module.build(V, problem, request, n_threads=cores)
            betas = np.zeros(len(result.etas))
    Z = given.from_spectra(V)
    net = ReduNet(
        classes_=classes,
        n_channels=given.n_channels,
        signal_shape=given.fourier.signal_shape,
        rates=Rates(result.rates[:, 0].copy(), result.rates[:, 1:] * problem.gammas),
        etas=result.etas,
        betas=betas,
        epsilon_sq=float(epsilon_sq),
        lam=lam,
        assignment=assignment,
        dft_norm=dft_norm,
        dtype=given.dtype,
        backend=given.backend,
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
