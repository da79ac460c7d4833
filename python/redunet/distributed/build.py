"""`build` over several ranks, each of which has a part of the samples."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet._inputs import checks, words
from redunet.distributed import shares
from redunet.distributed.communicator import Communicator
from redunet.distributed.layouts import backend_over
from redunet.distributed.plan import planned
from redunet.network.build import BuildOptions, construct
from redunet.network.build import build as build_here
from redunet.network.redunet import ReduNet

Array = npt.NDArray[Any]
#: What must be the same on all ranks, beside the samples' shape and precision.
ALIKE = (
    *("n_layers", "group", "eta", "momentum", "epsilon_sq", "lam", "assignment", "dft_norm", "keep", "tol", "patience"),
    *("resume", "checkpoint", "every"),
)


def build(
    X: npt.ArrayLike, y: npt.ArrayLike, *, comm: Communicator, layout: words.Layout = "auto", **options: Any
) -> tuple[ReduNet, Array]:
    """Construct one network from the samples of all ranks of a communicator.

    All ranks call it, each with its own samples: the network is that of `redunet.build` for all of them together, to
    rounding. A rank may have any number of samples, of any classes, or none: ``X`` of shape (0, ...).

    Parameters
    ----------
    X : (m, d), (m, C, T) or (m, C, H, W) array, real or complex
        The rank's own samples, in the host's memory.
    y : (m,) array of labels, or (m, k) membership
        Theirs. Classes are those of all ranks.
    comm : Communicator
        The ranks: `mpi`, `torch`, or `single`.
    layout : {"auto", "samples", "frequencies"}, default "auto"
        What ranks share. ``"samples"``: each works on its samples, and Gram matrices are added up. ``"frequencies"``:
        each works on some frequencies of all samples, and norms are added up; for signals and images. ``"auto"`` takes
        the one by which a layer sends its numbers faster; `plan` says which, and why.
    **options
        All others of `redunet.build`, the same on every rank. ``sample_weight`` is that of the rank's own samples;
        ``progress`` shows a bar on rank 0; ``checkpoint`` is written by rank 0; ``on_layer`` is called on every rank
        that gives it, and a true result on one ends the network on all. ``n_threads`` is by default the cores that this
        process may use, divided by the ranks on this machine that may use the same. The backend is one of each rank.

    Returns
    -------
    net : ReduNet
        The network, on every rank the same to the last bit. New samples are a rank's own matter: ``net.transform(X)``.
    Z : array, X's shape
        Features of the rank's own samples after the last layer.

    Raises
    ------
    RankError
        If another rank failed, within a layer's time; the message names it. Errors of the rank's own samples, options
        and callbacks are those of `redunet.build`.
    ValueError, TypeError
        If ranks differ in what must be the same; the message names the argument and the rank.
    BuildInterrupted
        At Ctrl-C on any rank, on all of them. By frequencies its network has the layers of the last checkpoint.

    Notes
    -----
    By samples all operators are kept dense. Two runs with the same ranks are the same to the last bit.

    Gram matrices are sums over samples, ``G_j = sum_ranks sum_i pi_ij v_i v_i*``, and norms are sums over frequencies,
    ``rho_j^2 = sum_ranks sum_p w_p ||C^j(p) v(p)||^2`` (Chan et al., *ReduNet*, JMLR 2022, section 4).

    Examples
    --------
    >>> import redunet as rn
    >>> from redunet import distributed
    >>> X, y = rn.datasets.gaussian_mixture(50, n_features=3, random_state=0)
    >>> net, Z = distributed.build(X, y, n_layers=5, comm=distributed.single())
    >>> net
    ReduNet(5 layers, 3 classes, d=3, float64; 1.406 KiB; Delta R ...)
    >>> Z.shape
    (150, 3)
    """
    checks.instance(comm, Communicator, "comm")
    given = inspect.signature(build_here).bind(X, y, **options)
    given.apply_defaults()
    arguments = dict(given.arguments)
    del arguments["X"], arguments["y"]
    return comm.run(lambda: _build(comm, X, y, layout, arguments))


def _build(
    comm: Communicator, X: npt.ArrayLike, y: npt.ArrayLike, layout: words.Layout, arguments: dict[str, Any]
) -> tuple[ReduNet, Array]:
    """The same, where an error is one of all ranks."""
    said = {name: _comparable(name, arguments[name]) for name in ALIKE} | {"layout": repr(layout)}
    sample_weight, n_threads = arguments.pop("sample_weight"), arguments["n_threads"]
    where = {name: arguments.pop(name) for name in ("dtype", "backend", "n_threads", "channels")}
    if comm.rank:
        arguments["checkpoint"], arguments["progress"] = None, False
    samples, n = shares.own_samples(X, group=arguments["group"], **where)
    options = BuildOptions.checked(**arguments)
    share = shares.agree(comm, samples, n, y, sample_weight, said)
    if n_threads is None:
        samples = shares.threads_among_neighbours(comm, samples)

    m, k = int(share.counts[0]), len(share.classes)
    plan = planned(m, samples.n_channels, k, samples.fourier, samples.dtype, comm, layout)
    classes = share.by_samples() if plan.layout == "samples" else share.of_all(comm)
    problem = share.problem(*classes, epsilon_sq=options.epsilon_sq, dft_norm=options.dft_norm)
    if plan.layout == "samples":
        problem = replace(problem, ranks=np.zeros_like(problem.ranks))
    samples = replace(samples, module=backend_over(comm, samples.module, plan.layout, n))
    net, Z = construct(samples, share.classes, problem, options, tells=comm.rank == 0)
    return net, Z[:n]


def _comparable(name: str, value: Any) -> str:
    """What ranks compare of an argument, and say if it differs."""
    if name in ("resume", "checkpoint"):  # folders may have other names on other machines
        return "None" if value is None else "given"
    return repr(value if isinstance(value, str) else np.asarray(value).tolist())
