"""What new samples are coded with: all members of a class, by vectors or by a kernel, or the nearest of each class.

Each of the three gives pairs of a `Members` and what it sees of some samples, `Seen`, in pieces of bounded memory.
Samples are vectors (m, D), real; labels are 0..k-1, and every class has a sample.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from redunet.classifiers.base import chunks
from redunet.classifiers.increments import Members, Seen
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

    def pieces(self, X: Array) -> Iterator[Piece]:
        """New samples as all classes see them."""
        ...


class WholeClasses:
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


class KernelClasses:
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
    """The n nearest of each class to every sample, or all of a class that has fewer.

    Inner products are made in the precision of the samples, about the sample where the mean is estimated: what is lost
    is relative to the distances and not to the norms.
    """

    def __init__(self, Z: Array, labels: Array, n_neighbors: int, *, estimated: bool) -> None:
        self.estimated, self.n_neighbors = estimated, n_neighbors
        self.sizes = np.bincount(labels)
        self.samples = [Z[labels == j] for j in range(len(self.sizes))]
        # Distances are ||z||^2 - 2 x* z + ||x||^2, good where norms are not much larger than distances.
        self.origin = Z.mean(axis=0, dtype=DOUBLE)
        self.centred = [(samples - self.origin).astype(Z.dtype) for samples in self.samples]
        self.squares = [np.vecdot(samples, samples) for samples in self.centred]

    def pieces(self, X: Array) -> Iterator[Piece]:
        """Each sample beside its neighbours in each class."""
        n = min(self.n_neighbors, int(self.sizes.max()))
        numbers = 2 * int(self.sizes.max()) + 2 * n * X.shape[1] + 4 * n * n
        for rows in chunks(len(X), numbers * DOUBLE.itemsize):
            some = X[rows].astype(self.samples[0].dtype, copy=False)
            centred = (some - self.origin).astype(some.dtype)
            for j, samples in enumerate(self.samples):
                yield Piece(rows, j, *self._beside(some, samples[self._nearest(centred, j)]))

    def _nearest(self, centred: Array, j: int) -> Array:
        """Places of the nearest among the samples of class j, (m, n)."""
        n, of = self.n_neighbors, len(self.squares[j])
        if n >= of:
            return np.broadcast_to(np.arange(of), (len(centred), of))
        distances = (-2 * centred) @ self.centred[j].T
        distances += self.squares[j]
        return np.argpartition(distances, n - 1, axis=1)[:, :n]

    def _beside(self, X: Array, windows: Array) -> tuple[Members, Seen]:
        """Samples (m, D) beside their neighbours (m, n, D)."""
        n = windows.shape[1]
        if not self.estimated:
            gram = (windows @ windows.transpose(0, 2, 1)).astype(DOUBLE)
            along = (windows @ X[:, :, None]).transpose(0, 2, 1).astype(DOUBLE)
            return Members(n, gram, True), Seen(along, _squares(X)[:, None])
        B = windows - X[:, None]
        gram = (B @ B.transpose(0, 2, 1)).astype(DOUBLE)
        along = (B @ X[:, :, None])[:, :, 0].astype(DOUBLE).mean(axis=1)  # <mu - x, x>
        means = gram.mean(axis=2)
        square = means.mean(axis=1)  # |mu - x|^2
        matrix = gram - means[:, None] - means[:, :, None] + square[:, None, None]
        members = Members(n, matrix, True, np.maximum(_squares(X) + 2 * along + square, 0))
        return members, Seen((square[:, None] - means)[:, None], square[:, None], -(along + square)[:, None])


def _squares(X: Array) -> Array:
    """|x|^2, in double precision."""
    wide = X.astype(DOUBLE, copy=False)
    result: Array = np.vecdot(wide, wide)
    return result
