"""What new samples are coded with: all members of a class, by vectors or by a kernel, or the nearest of each class.

The first two give pairs of a `Members` and what it sees of some samples, `Seen`, in pieces of bounded memory; the third
leaves all to a backend. Samples are vectors (m, D), real; labels are 0..k-1, and every class has a sample.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from redunet._backends import arrays, select_with
from redunet._backends.host_contract import LocalRequest
from redunet._inputs import checks
from redunet.classifiers.base import chunks
from redunet.classifiers.increments import Code, Members, Seen, increments, sweep
from redunet.classifiers.kernels import Kernel

Array = npt.NDArray[Any]
DOUBLE = np.dtype(np.float64)


class Piece(NamedTuple):
    """Samples ``rows`` as class ``j`` sees them."""

    rows: slice
    j: int
    members: Members
    seen: Seen


class Classes(Protocol):
    """The training samples, class by class."""

    sizes: npt.NDArray[np.int64]

    def lengths(self, code: Code, epsilons: Array, X: Array) -> Array:
        """What new samples X (m, ...) add to every class's code, (E, m, k), in nats."""
        ...


class InPieces:
    """Classes of which each is one `Members`."""

    sizes: npt.NDArray[np.int64]

    def pieces(self, X: Array) -> Iterator[Piece]:
        """New samples as all classes see them."""
        raise NotImplementedError

    def lengths(self, code: Code, epsilons: Array, X: Array) -> Array:
        """As in `Classes`: for one distortion by Cholesky, for many by an eigendecomposition."""
        found = np.empty((len(epsilons), len(X), len(self.sizes)))
        for rows, j, members, seen in self.pieces(X):
            if len(epsilons) == 1:
                found[0, rows, j] = increments(code, float(epsilons[0]), members, seen)
            else:
                for e, lengths in enumerate(sweep(code, epsilons, members, seen)):
                    found[e, rows, j] = lengths
        return found


class WholeClasses(InPieces):
    """Scatter matrices, or Gram matrices where a class has fewer samples than dimensions."""

    def __init__(self, Z: Array, labels: Array, *, estimated: bool) -> None:
        self.sizes = np.bincount(labels)
        self.means, self.samples, self.members = [], [], []
        for j, n in enumerate(self.sizes.tolist()):
            Y = Z[labels == j].astype(DOUBLE)
            mu = Y.mean(axis=0) if estimated else np.zeros(Y.shape[1])
            Y -= mu
            dual = n < Y.shape[1]
            self.means.append(mu)
            self.samples.append(Y if dual else None)
            self.members.append(Members(n, Y @ Y.T if dual else Y.T @ Y, dual, float(mu @ mu)))

    def pieces(self, X: Array) -> Iterator[Piece]:
        """Samples about the mean of each class."""
        for rows in chunks(len(X), 4 * X.shape[1] * DOUBLE.itemsize):
            for j, (mu, Y, members) in enumerate(zip(self.means, self.samples, self.members, strict=True)):
                y = X[rows].astype(DOUBLE) - mu
                yield Piece(rows, j, members, Seen(y if Y is None else y @ Y.T, np.vecdot(y, y), y @ mu))


class KernelClasses(InPieces):
    """Kernel matrices, centred where the mean is estimated. References are what a kernel keeps of the samples."""

    def __init__(self, Z: Array, references: Array, labels: Array, kernel: Kernel, *, estimated: bool) -> None:
        self.kernel, self.estimated = kernel, estimated
        self.sizes = np.bincount(labels)
        self.references, self.means, self.members = [], [], []
        for j in range(len(self.sizes)):
            of = references[labels == j]
            K = kernel.between(Z[labels == j], of)
            means = K.mean(axis=0) if estimated else np.zeros(len(K))  # <mu, z>
            square = float(means.mean())  # |mu|^2
            self.references.append(of)
            self.means.append(means)
            self.members.append(Members(len(K), K - means - means[:, None] + square, True, square))

    def pieces(self, X: Array) -> Iterator[Piece]:
        """Inner products with the samples of each class."""
        for rows in chunks(len(X), 4 * int(self.sizes.max()) * DOUBLE.itemsize):
            squares = self.kernel.itself(X[rows])
            for j, (of, means, members) in enumerate(zip(self.references, self.means, self.members, strict=True)):
                K = self.kernel.between(X[rows], of)
                mean = K.mean(axis=1) if self.estimated else np.zeros(len(K))  # <mu, x>
                square = members.mean_square
                seen = Seen(K - means - mean[:, None] + square, squares - 2 * mean + square, mean - square)
                yield Piece(rows, j, members, seen)


class NearestOfClasses:
    """The n nearest of each class to every sample, or all of a class that has fewer."""

    def __init__(self, Z: Array, labels: Array, n_neighbors: int) -> None:
        self.n_neighbors = n_neighbors
        self.sizes = np.bincount(labels)
        self.samples = np.ascontiguousarray(Z[np.argsort(labels, kind="stable")])  # class by class
        self.offsets = np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64)
        # Distances are ||z||^2 - 2 x* z + ||x||^2, good where norms are not much larger than distances.
        self.origin = Z.mean(axis=0, dtype=DOUBLE).astype(Z.dtype)

    def lengths(self, code: Code, epsilons: Array, X: Array) -> Array:
        """By the backend, which finds the neighbours and codes them."""
        some = arrays.plain(X, self.samples.dtype)
        request = LocalRequest(
            offsets=self.offsets,
            origin=self.origin,
            n_neighbors=min(self.n_neighbors, int(self.sizes.max())),
            centred=code.estimated,
            epsilons=epsilons,
        )
        module = select_with("local_increments")
        return module.local_increments(some, self.samples, request, n_threads=checks.threads(None))
