"""Clusters merged pair by pair, always the pair that shortens the code most: exactly, without a table of all pairs.

A cluster of n samples has F = L - n log n, L its coding length (Ma, Derksen, Hong, Wright, TPAMI 2007). A merge changes
the length of the whole code by the gain g(i, j) = F_ij - F_i - F_j.

A cluster that comes, at first or by a merge, is compared with all that are there and keeps its best partner. So of
every pair the later one has a gain that is no higher than the pair's. Where its partner has merged with another since,
it is *stale*: that gain is a lower bound, as the others were worse, and a partner is looked for anew only where it is
the lowest of all. So the lowest gain that is not stale is the lowest of all pairs. (The gains are not reducible: a
union may lie nearer to a third cluster than its parts do, and chains of nearest neighbours would find another tree.)
Most clusters hold one sample, and a gain with such takes a quadratic form in place of a determinant. Memory is that of
the samples in double precision, and of the clusters of several samples, (D, D) each.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet._backends.contract import Array
from redunet._backends.host_contract import MergeRequest

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Rows = Integers | slice


def merge_path(X: Array, request: MergeRequest, *, n_threads: int) -> tuple[Integers, Floats]:
    return _Merging(X.astype(np.float64), request).run()


class _Rows:
    """Numbers of the clusters that are there, in rows without gaps."""

    def __init__(self, **shapes: tuple[int, ...]) -> None:
        self.size = 0
        self.place: dict[int, int] = {}
        self.ids: Integers = np.empty(16, np.int64)
        self.columns: dict[str, Floats] = {name: np.empty((16, *shape)) for name, shape in shapes.items()}

    def add(self, cluster: int, **values: Any) -> None:
        at = self.size
        if at == len(self.ids):
            self.ids = np.concatenate([self.ids, self.ids])
            self.columns = {name: np.concatenate([column, column]) for name, column in self.columns.items()}
        self.place[cluster] = at
        self.ids[at] = cluster
        for name, value in values.items():
            self.columns[name][at] = value
        self.size += 1

    def remove(self, cluster: int) -> None:
        """The last row takes its place."""
        self.size -= 1
        at, last = self.place.pop(cluster), int(self.ids[self.size])
        if at != self.size:
            self.place[last] = at
            self.ids[at] = last
            for column in self.columns.values():
                column[at] = column[self.size]

    def rows(self, among: Iterable[int] | None) -> Rows:
        """Where clusters lie: all that are here, or those ``among`` some."""
        if among is None:
            return slice(0, self.size)
        return np.array([self.place[cluster] for cluster in among if cluster in self.place], np.int64)


class _Merging:
    """The clusters, numbered in the order in which they came, and what is known of each one's best partner."""

    def __init__(self, X: Floats, request: MergeRequest) -> None:
        self.X, self.request = X, request
        N, self.D = X.shape
        self.n_first = N if request.clusters is None else int(request.clusters.max()) + 1
        self.alpha = self.D / request.epsilon_sq
        self.basis = self.D if request.full else 0
        total = 2 * self.n_first - 1
        self.n: Floats = np.ones(total)
        self.F: Floats = np.zeros(total)
        self.best: Floats = np.full(total, np.inf)
        self.partner: Integers = np.full(total, -1, np.int64)
        self.stale = np.zeros(total, bool)
        #: Of every cluster its neighbours, and what merging with each saves beside.
        self.near = None if request.neighbours is None else dict(enumerate(_near(request)))
        D = self.D
        self.ones = _Rows(x=(D,), square=())
        #: Scatter about the mean, or zero; W with |W y|^2 = y* (I + alpha/(n+1) scatter)^-1 y, and -log det W* W.
        self.many = _Rows(scatter=(D, D), mean=(D,), W=(D, D), logdet=())

    def run(self) -> tuple[Integers, Floats]:
        if self.request.moments is not None:
            for cluster, (n, scatter, mean) in enumerate(zip(*self.request.moments, self.X, strict=True)):
                self._begin_several(cluster, n, scatter, mean if self.request.centred else np.zeros(self.D))
        else:
            for cluster, x in enumerate(self._first()):
                self._begin(cluster, x)
        children: list[tuple[int, int]] = []
        gains: list[float] = []
        while (lowest := self._lowest()) is not None:
            i, j = sorted(lowest)
            gains.append(float(self.best[lowest[0]]))
            self._merge(i, j, self.n_first + len(children), gains[-1])
            children.append((i, j))
            if self.request.on_merge is not None:
                self.request.on_merge(len(gains), gains[-1])
        return np.array(children, np.int64).reshape(-1, 2), np.array(gains, np.float64)

    def _first(self) -> Iterable[Floats]:
        """The samples of every cluster at the start."""
        if self.request.clusters is None:
            return (x[None] for x in self.X)
        order = np.argsort(self.request.clusters, kind="stable")
        ends = np.bincount(self.request.clusters).cumsum()
        return (self.X[members] for members in np.split(order, ends[:-1]))

    def _begin(self, c: int, x: Floats) -> None:
        """A cluster of samples x."""
        if len(x) == 1:
            square = x[0] @ x[0]
            self.F[c] = self._code(self.n[c], 0.0 if self.request.centred else np.log1p(self.alpha * square), x[0])
            self.ones.add(c, x=x[0], square=square)
            self._look(c, *self._gains(c))
            return
        mean = x.mean(axis=0) if self.request.centred else np.zeros(self.D)
        self._begin_several(c, float(len(x)), (x - mean).T @ (x - mean), mean)

    def _begin_several(self, c: int, n: float, scatter: Floats, mean: Floats) -> None:
        self.n[c] = n
        self.F[c] = self._code(self.n[c], _log_dets(self.alpha / n * scatter), mean)
        self._add(c, scatter, mean)

    def _lowest(self) -> tuple[int, int] | None:
        """The pair of the lowest gain, or None where no two may merge."""
        while True:
            i = int(self.best.argmin())
            if self.best[i] == np.inf:
                return None
            if not self.stale[i]:
                return i, int(self.partner[i])
            self._look(i, *self._gains(i))

    def _look(self, i: int, others: Integers, gains: Floats) -> None:
        """The best partner of i."""
        at = int(gains.argmin()) if len(gains) else -1
        self.best[i], self.partner[i] = (gains[at], others[at]) if len(gains) else (np.inf, -1)
        self.stale[i] = False

    def _add(self, c: int, scatter: Floats, mean: Floats) -> None:
        """A cluster of several samples."""
        W, logdet = _factor(self.alpha / (self.n[c] + 1) * scatter)
        self.many.add(c, scatter=scatter, mean=mean, W=W, logdet=logdet)
        self._look(c, *self._gains(c))

    def _merge(self, i: int, j: int, c: int, gain: float) -> None:
        scatter, mean = self._union(i, j)
        self.n[c] = self.n[i] + self.n[j]
        self.F[c] = self.F[i] + self.F[j] + gain + (0.0 if self.near is None else self.near[i][j])
        for gone in (i, j):
            self.best[gone] = np.inf
            (self.ones if gone in self.ones.place else self.many).remove(gone)
        if self.near is not None:
            self._unite_neighbours(i, j, c)
        self.stale |= (self.partner == i) | (self.partner == j)
        self._add(c, scatter, mean)

    def _unite_neighbours(self, i: int, j: int, c: int) -> None:
        assert self.near is not None
        union: dict[int, float] = {}
        for gone, other in ((i, j), (j, i)):
            for k, saved in self.near.pop(gone).items():
                if k != other:
                    union[k] = union.get(k, 0.0) + saved
        for k, saved in union.items():
            theirs = self.near[k]
            theirs.pop(i, None)
            theirs.pop(j, None)
            theirs[c] = saved
        self.near[c] = union

    def _union(self, i: int, j: int) -> tuple[Floats, Floats]:
        """Scatter and mean."""
        (S, mu, n), (T, nu, m) = self._moments(i), self._moments(j)
        d = nu - mu
        return S + T + n * m / (n + m) * np.outer(d, d), mu + m / (n + m) * d

    def _moments(self, i: int) -> tuple[Floats, Floats, float]:
        if i in self.many.place:
            at = self.many.place[i]
            return self.many.columns["scatter"][at], self.many.columns["mean"][at], float(self.n[i])
        x = self.ones.columns["x"][self.ones.place[i]]
        zero = np.zeros(self.D)
        return (np.outer(zero, zero), x, 1) if self.request.centred else (np.outer(x, x), zero, 1)

    # --- Gains ---

    def _gains(self, i: int) -> tuple[Integers, Floats]:
        """All others that i may merge with, and the gains."""
        among = None if self.near is None else self.near[i]
        ones, many = self.ones.rows(among), self.many.rows(among)
        if i in self.ones.place:
            codes = self._one_with_ones(i, ones), self._one_with_many(i, many)
        else:
            codes = self._many_with_ones(i, ones), self._many_with_many(i, many)
        others = np.concatenate([self.ones.ids[: self.ones.size][ones], self.many.ids[: self.many.size][many]])
        gains = np.concatenate(codes) - self.F[i] - self.F[others]
        if among is not None:
            gains -= [among.get(k, 0.0) for k in others.tolist()]
        gains[others == i] = np.inf
        return others, gains

    def _code(self, n: Any, logdet: Any, mean: Floats) -> Any:
        """F of clusters of n samples, with the log det of I + D/(n eps^2) scatter."""
        code = (n + self.basis) / 2 * logdet - n * np.log(n)
        if self.request.centred and self.request.full:
            code = code + self.D / 2 * np.log1p((mean * mean).sum(axis=-1) / self.request.epsilon_sq)
        return code

    def _code_with_one(self, n: Any, logdet: Any, form: Floats, mean: Floats) -> Floats:
        """F of clusters of n samples with one more, which changes the log det by one quadratic form."""
        weight = n / (n + 1) if self.request.centred else 1.0
        code: Floats = self._code(n + 1, logdet + np.log1p(self.alpha / (n + 1) * weight * form), mean)
        return code

    def _one_with_ones(self, i: int, rows: Rows) -> Floats:
        """Differences and projections are taken before they are squared: samples may lie close, or on one ray."""
        at = self.ones.place[i]
        x, square = self.ones.columns["x"][at], float(self.ones.columns["square"][at])
        Y = self.ones.columns["x"][: self.ones.size][rows]
        if self.request.centred:
            d = Y - x
            return self._code_with_one(1.0, 0.0, np.einsum("kd,kd->k", d, d), x + d / 2)
        a = self.alpha / 2
        along = Y @ x
        t = along / square if square > 0 else along
        beside = Y - t[:, None] * x
        form = np.einsum("kd,kd->k", beside, beside) + t * along / (1 + a * square)
        return self._code_with_one(1.0, np.log1p(a * square), form, x)

    def _one_with_many(self, i: int, rows: Rows) -> Floats:
        x = self.ones.columns["x"][self.ones.place[i]]
        ids, mean, W, logdet = self._of_many(rows, "mean", "W", "logdet")
        n, d = self.n[ids], x - mean
        form = np.square((W @ d[:, :, None])[:, :, 0]).sum(axis=1)
        return self._code_with_one(n, logdet, form, mean + d / (n + 1)[:, None])

    def _many_with_ones(self, i: int, rows: Rows) -> Floats:
        at, n = self.many.place[i], self.n[i]
        mean, W, logdet = (self.many.columns[name][at] for name in ("mean", "W", "logdet"))
        d = self.ones.columns["x"][: self.ones.size][rows] - mean
        forms = d @ W.T
        return self._code_with_one(n, logdet, np.einsum("kd,kd->k", forms, forms), mean + d / (n + 1))

    def _many_with_many(self, i: int, rows: Rows) -> Floats:
        S, mu, n = self._moments(i)
        ids, scatter, mean = self._of_many(rows, "scatter", "mean")
        m = self.n[ids]
        d, total = mean - mu, n + m
        scatter = scatter + S
        if self.request.centred:
            scatter += (n * m / total)[:, None, None] * d[:, :, None] * d[:, None, :]
        scatter *= (self.alpha / total)[:, None, None]
        code: Floats = self._code(total, _log_dets(scatter), mu + (m / total)[:, None] * d)
        return code

    def _of_many(self, rows: Rows, *names: str) -> tuple[Any, ...]:
        size = self.many.size
        return (self.many.ids[:size][rows], *(self.many.columns[name][:size][rows] for name in names))


def _near(request: MergeRequest) -> Iterable[dict[int, float]]:
    assert request.neighbours is not None
    if request.saved is None:
        return (dict.fromkeys(near.tolist(), 0.0) for near in request.neighbours)
    return (
        dict(zip(near.tolist(), saved.tolist(), strict=True))
        for near, saved in zip(request.neighbours, request.saved, strict=True)
    )


def _factor(M: Floats) -> tuple[Floats, float]:
    """W with W* W = (I + M)^-1, and log det(I + M), for a positive semi-definite M."""
    try:
        L = np.linalg.cholesky(np.eye(len(M)) + M)
    except np.linalg.LinAlgError:  # beside whose largest eigenvalues 1 is rounding
        values, vectors = np.linalg.eigh(M)
        values = values.clip(min=0)
        return vectors.T / np.sqrt(1 + values)[:, None], float(np.log1p(values).sum())
    return np.linalg.inv(L), float(_log_det_of_factor(L))


def _log_dets(M: Floats) -> Floats:
    """log det(I + M) of positive semi-definite matrices (k, D, D)."""
    try:
        return _log_det_of_factor(np.linalg.cholesky(np.eye(M.shape[-1]) + M))
    except np.linalg.LinAlgError:
        result: Floats = np.log1p(np.linalg.eigvalsh(M).clip(min=0)).sum(axis=-1)
        return result


def _log_det_of_factor(L: Array) -> Floats:
    result: Floats = 2 * np.log(np.diagonal(L, axis1=-2, axis2=-1)).sum(axis=-1)
    return result
