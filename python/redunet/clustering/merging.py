"""Pairwise merging by coding length: steepest descent from single samples, or from given clusters, to one."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from redunet._backends import select_with
from redunet._backends.host_contract import MergeRequest
from redunet._inputs import checks, words
from redunet.clustering.codes import Coding, length_of_partition, vectors
from redunet.clustering.path import MergePath
from redunet.progress import Progress
from redunet.rates import UNITS

Array = npt.NDArray[Any]
Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def merge_path(
    X: npt.ArrayLike,
    *,
    epsilon_sq: float,
    mean: words.Mean = "estimate",
    length: words.Length = "full",
    connectivity: Any = None,
    init: npt.ArrayLike | None = None,
    backend: words.Backend = "auto",
    n_threads: int | None = None,
    progress: bool = False,
) -> MergePath:
    """Merge clusters pair by pair, always those whose merge makes the code shortest, until one is left.

    Parameters
    ----------
    X : (N, D) array, real
        Samples, taken as they are; float32 and float64 are read in their own precision.
    epsilon_sq : float
        Squared distortion eps^2 > 0 per sample, in the unit of X squared: about D times the variance of the noise.
    mean : {"estimate", "zero"}, default "estimate"
        Whether clusters are coded about their means (Gaussians, affine subspaces), or about zero (linear subspaces).
    length : {"full", "rate"}, default "full"
        "rate" leaves out what bases and means take: m in place of m + D, and no term of the mean.
    connectivity : (N, N) array or sparse matrix, optional
        Which samples are neighbours: not zero, in either order. Clusters merge only where samples of theirs are.
    init : (N,) array of labels, optional
        Clusters to start from, numbered in the sorted order of their labels. Default: every sample is one.
    backend, n_threads
        As in `redunet.build`.
    progress : bool, default False
        Show merges on standard error.

    Returns
    -------
    MergePath
        The merges, their gains, and the partitions on the way.

    Raises
    ------
    ValueError, TypeError
        If X holds NaN, infinity or no real vectors, or an argument is out of range or of another shape.

    Notes
    -----
    With W_j the n_j samples of cluster j, the code takes sum_j L(W_j) - n_j log(n_j/N) nats,
    L(W) = (m + D)/2 log det(I + D/(m eps^2) (W - mu)* (W - mu)) + D/2 log(1 + |mu|^2/eps^2) (Ma et al.), with mu = 0
    for ``mean="zero"``. The merges are those of the greedy descent over all pairs, exactly, in O(N^2 D^2) time and
    memory of the order of X. Clusters do not change with rotations, nor with the unit of X and eps; with an estimated
    mean they do change with translations. Where eps^2 is less than about 1e-14 |x|^2, the rounding of clusters' second
    moments counts as dimensions of theirs.

    References
    ----------
    .. [1] Ma, Derksen, Hong and Wright, "Segmentation of multivariate mixed data via lossy data coding and
       compression", IEEE TPAMI 29 (2007).

    Examples
    --------
    >>> import redunet as rn
    >>> X, y = rn.datasets.lines_and_plane(200, noise=0.03, random_state=0)
    >>> path = rn.clustering.merge_path(X, epsilon_sq=0.001, mean="zero")
    >>> path.n_best
    3
    """
    samples = vectors(X)
    coding = Coding(epsilon_sq, mean, length)
    N = len(samples)
    clusters = None if init is None else checks.labels(init, N, "init")[1]
    start = np.arange(N) if clusters is None else clusters
    neighbours = None if connectivity is None else _neighbours(connectivity, start)
    module, cores = select_with("merge_path", backend), checks.threads(n_threads)
    show = checks.flag(progress, "progress")
    scaled, unitless = coding.scaled(samples)
    first = length_of_partition(scaled, start, unitless)
    with Progress(int(start.max()), "merge", show) as bar:
        request = MergeRequest(
            epsilon_sq=unitless.epsilon_sq,
            centred=coding.centred,
            full=coding.full,
            clusters=clusters,
            neighbours=neighbours,
            on_merge=(lambda t, gain: bar.update(t, {"gain": gain})) if show else None,
        )
        children, gains = module.merge_path(scaled, request, n_threads=cores)
    settings = {"epsilon_sq": coding.epsilon_sq, "mean": mean, "length": length}
    return MergePath.of(children, gains, start, first, **settings)


def _neighbours(connectivity: Any, start: Integers) -> tuple[Integers, ...]:
    """Neighbours of every cluster of the start, from those of samples."""
    N, n = len(start), int(start.max()) + 1
    sparse = hasattr(connectivity, "tocoo")
    table: Any = connectivity.tocoo() if sparse else checks.array(connectivity, "connectivity")
    if table.dtype.kind not in "biuf":
        raise TypeError(f"connectivity has dtype {table.dtype}; expected real numbers")
    if table.shape != (N, N):
        raise ValueError(f"connectivity has shape {table.shape}; expected ({N}, {N}): a row and a column for a sample")
    values = table.data if sparse else table
    if not np.isfinite(values).all():
        raise ValueError("connectivity holds NaN or infinity; expected finite numbers, zero for no neighbours")
    rows, columns = (table.row[values != 0], table.col[values != 0]) if sparse else np.nonzero(table)
    i, j = start[rows], start[columns]
    i, j = np.concatenate([i, j])[:, None], np.concatenate([j, i])[:, None]
    pairs = np.unique(np.hstack([i, j])[(i != j)[:, 0]], axis=0)
    return tuple(np.split(pairs[:, 1], np.bincount(pairs[:, 0], minlength=n).cumsum()[:-1]))


class PhaseTransition(NamedTuple):
    """Clusters found as the distortion grows.

    Attributes
    ----------
    epsilons : (q,) float64 array
        The distortions eps.
    n_first, n_best : (q,) int64 arrays
        Clusters at the paper's stop, and of the shortest code (`MergePath`).
    bits_per_sample : (q,) float64 array
        The shortest code's length over the number of samples.
    """

    epsilons: Floats
    n_first: Integers
    n_best: Integers
    bits_per_sample: Floats

    def plateau(self, tolerance: float = 0.25) -> float:
        """A distortion for samples of which nothing else is known: where the number of clusters changes least.

        Parameters
        ----------
        tolerance : float, default 0.25
            How far numbers of clusters may lie apart on a plateau: n_best within (1 + tolerance) of each other.

        Returns
        -------
        float
            The middle, by ratio, of the longest range of distortions over which the shortest code has two clusters or
            more, and their number stays within the tolerance; of ranges that are as long the last.

        Raises
        ------
        ValueError, TypeError
            If the tolerance is out of range, or if at every distortion the shortest code is one cluster.

        Notes
        -----
        A rule of thumb: the range must hold the distortion of the data, and the distortions should be close, at most
        a factor of 1.5 apart.

        Examples
        --------
        >>> import numpy as np, redunet as rn
        >>> X, y = rn.datasets.lines_and_plane(100, noise=0.03, random_state=0)
        >>> epsilons = np.geomspace(0.001, 2, 16)
        >>> epsilon = rn.clustering.phase_transition(X, epsilons, mean="zero").plateau()
        >>> rn.clustering.merge_path(X, epsilon_sq=epsilon**2, mean="zero").n_best
        3
        """
        within = 1 + checks.non_negative(tolerance, "tolerance")
        order = self.epsilons.argsort(kind="stable")
        epsilons, counts = self.epsilons[order], self.n_best[order]
        ranges = [
            (epsilons[stop - 1] / epsilons[start], stop, start)
            for start in range(len(counts))
            for stop in range(start + 1, len(counts) + 1)
            if counts[start:stop].min() > 1 and counts[start:stop].max() <= within * counts[start:stop].min()
        ]
        if not ranges:
            raise ValueError(
                "at every one of the epsilons the shortest code is one cluster; expected others among them"
            )
        _, stop, start = max(ranges)
        return float(np.sqrt(epsilons[start]) * np.sqrt(epsilons[stop - 1]))


def phase_transition(
    X: npt.ArrayLike,
    epsilons: npt.ArrayLike,
    *,
    mean: words.Mean = "estimate",
    length: words.Length = "full",
    connectivity: Any = None,
    init: npt.ArrayLike | None = None,
    backend: words.Backend = "auto",
    n_threads: int | None = None,
    progress: bool = False,
) -> PhaseTransition:
    """How many clusters are found at every distortion: many, then on a plateau those of the data, then one.

    Parameters
    ----------
    X : (N, D) array, real
        Samples.
    epsilons : (q,) array
        Distortions eps > 0 per sample, in the unit of X; not squared.
    mean, length, connectivity, init, backend, n_threads, progress
        As in `merge_path`.

    Returns
    -------
    PhaseTransition
        ``(epsilons, n_first, n_best, bits_per_sample)``.

    Raises
    ------
    ValueError, TypeError
        As of `merge_path`; or if epsilons are not finite numbers > 0.

    Notes
    -----
    With ``length="full"`` and more than about D^2 samples no distortion is so small that every sample is a cluster of
    its own: what bases take does not shrink. The regime of many clusters is seen with ``length="rate"``.

    Examples
    --------
    >>> import redunet as rn
    >>> X, y = rn.datasets.lines_and_plane(100, noise=0.03, random_state=0)
    >>> rn.clustering.phase_transition(X, [0.03, 1.0], mean="zero").n_best.tolist()
    [3, 1]
    """
    values = checks.array(epsilons, "epsilons")
    if values.dtype.kind not in "iuf":
        raise TypeError(f"epsilons has dtype {values.dtype}; expected real numbers")
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"epsilons has shape {values.shape}; expected (q,): one or more distortions")
    distortions = [checks.positive(epsilon, "epsilons") for epsilon in values.tolist()]
    settings = {"mean": mean, "length": length, "connectivity": connectivity, "init": init}
    options: dict[str, Any] = {**settings, "backend": backend, "n_threads": n_threads, "progress": progress}
    paths = [merge_path(X, epsilon_sq=epsilon**2, **options) for epsilon in distortions]
    bits = [UNITS["bits"] * float(path.code_lengths.min()) / path.n_samples for path in paths]
    return PhaseTransition(
        np.array(distortions),
        np.array([path.n_first for path in paths]),
        np.array([path.n_best for path in paths]),
        np.array(bits),
    )
