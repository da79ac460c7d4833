"""What passes between the public functions and a backend on the host beside networks: clusters, neighbours, matrices.

No device has these functions yet: `redunet._backends.select_with` finds a module that has one, and what every engine
has moves to `contract.Backend`. Arrays are C-contiguous and aligned, as there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from redunet._backends.contract import Array, Backend


@dataclass(frozen=True)
class MergeRequest:
    """What `HostBackend.merge_path` is asked for.

    Attributes
    ----------
    epsilon_sq : float
        Squared distortion eps^2 per sample; D^2 / eps^2 is finite.
    centred : bool
        Whether clusters are coded about their means (``mean="estimate"``), and not about zero.
    full : bool
        Whether bases and means are coded too (``length="full"``): m + D in place of m, and the term of the mean.
    clusters : (N,) int64 array, or None
        The cluster 0..n-1 in which each sample starts, none of them empty; None: every sample is a cluster.
    neighbours : tuple of n int64 arrays, or None
        Clusters that each may merge with, symmetric, without itself; None: all others.
    saved : tuple of n float64 arrays, or None
        What a merge with each of the neighbours saves beside the code of the samples, in nats >= 0, symmetric: of a
        union the sum of what its parts do. None: nothing.
    moments : (N,) and (N, D, D) float64 arrays, or None
        Sizes > 0 and scatter of the clusters to start from, which X then are the means of: for segments of an image,
        whose samples nobody keeps. Sizes need not be whole. Where codes are not centred scatter is about zero, and X is
        not looked at. None: X are samples.
    on_merge : callable, or None
        Called as ``on_merge(t, gain)`` when t merges are done, now and then and after the last. An exception in it ends
        the path.
    """

    epsilon_sq: float
    centred: bool
    full: bool
    clusters: npt.NDArray[np.int64] | None = None
    neighbours: tuple[npt.NDArray[np.int64], ...] | None = None
    saved: tuple[npt.NDArray[np.float64], ...] | None = None
    moments: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None = None
    on_merge: Callable[[int, float], None] | None = None


@dataclass(frozen=True)
class LocalRequest:
    """What `HostBackend.local_increments` is asked for.

    Attributes
    ----------
    offsets : (k + 1,) int64 array
        Class j has the training samples ``offsets[j]`` to ``offsets[j + 1] - 1``, at least one.
    origin : (D,) array of their dtype
        What distances are taken about, so that they are no differences of large numbers.
    n_neighbors : int
        Neighbours of each class, or all of a smaller one. Of equally near training samples the first are taken.
    centred : bool
        Whether neighbours are coded about their mean (``mean="estimate"``), and not about zero.
    epsilons : (E,) float64 array
        Squared distortions eps^2 > 0 per sample.
    """

    offsets: npt.NDArray[np.int64]
    origin: Array
    n_neighbors: int
    centred: bool
    epsilons: npt.NDArray[np.float64]


class HostBackend(Backend, Protocol):
    """A backend that also has what no device has yet: `redunet._backends.select_with` chooses.

    A matrix that is not positive definite, or not finite, raises `numpy.linalg.LinAlgError` as in `Backend`.
    """

    def quadratic_forms(self, A: Array, X: Array, *, n_threads: int) -> tuple[Array, Array]:
        """x* A^-1 x of the rows of X (..., m, n), (..., m), and log det A (...), A (..., n, n) of the same dtype."""

    def logdet_of_sums(
        self, A: Array, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64], *, n_threads: int
    ) -> Array:
        """log det(A[first[i]] + A[second[i]]), of A (N, n, n) and indices 0..N-1 of one shape."""

    def local_increments(self, X: Array, Z: Array, request: LocalRequest, *, n_threads: int) -> npt.NDArray[np.float64]:
        """What samples X (m, D) add to the codes of their nearest in Z (N, D), of each class: (E, m, k), in nats.

        Both are float32 or float64; inner products are made in that precision, lengths in double.
        """

    def merge_path(
        self, X: Array, request: MergeRequest, *, n_threads: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Steepest descent of the coding length: the pair of smallest gain merges, until none may.

        X (N, D) is float32 or float64, of entries at most 1 in magnitude. Returns ``children`` (t, 2), of merge t
        which makes cluster n + t, smaller number first, and ``gains`` (t,): changes of the whole code's length in
        nats, to double precision.
        """

    def region_moments(
        self, image: Array, filters: Array | None, labels: npt.NDArray[np.int64], n_regions: int, *, n_threads: int
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Sizes (K,), means (K, D) and scatter (K, D, D) about them of K regions of an image, D features a pixel.

        labels (H, W) are regions 0..K-1, or negative where a pixel is in none. Features are products of filters
        (c, w, w, D) with windows of an image (c, H + w - 1, W + w - 1), whose upper left pixel is the pixel's own; or
        without filters the image (H, W, D) itself. Both are float32, or float64.
        """
