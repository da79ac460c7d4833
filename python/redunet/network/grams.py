"""`ClassGrams`: the Gram matrices of classes, which samples are added to and forgotten from; one layer is made of them.

G_j(p) = sum_i v_i(p) v_i(p)* over the samples of class j, v_i their spectra (C, d) on the sphere, at every frequency p:
all that a layer's operators know of samples. Matrices are kept for each class, in double precision whatever that of the
samples: what is added and taken away again leaves its rounding, which single precision would show at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from redunet._backends import select
from redunet._backends.contract import NATURAL_STEP, Array, Operators, Problem, RateReduction, ReadOnlyCopies
from redunet._inputs import checks, prepare, words
from redunet._inputs.axes import Channels, channels_first
from redunet._inputs.problem import problem_of
from redunet.network.class_gram import ClassGram, check_finite, class_gram, narrow
from redunet.network.layers import Rates
from redunet.network.redunet import ReduNet
from redunet.transforms import groups
from redunet.transforms.cyclic import Fourier

#: A Gram matrix whose error may exceed this part of it is not kept by `ClassGrams.forget`: what is promised of double
#: precision.
LARGEST_ERROR = 1e-10


@dataclass(frozen=True, eq=False, repr=False)
class ClassGrams(ReadOnlyCopies):
    """The Gram matrices of classes, with their sizes and labels: a value, which methods return a changed copy of.

    Made by `of`, read back by `load`. Samples themselves are not kept. A copy shares the matrices of classes that are
    the same.

    Attributes
    ----------
    n_channels : int
        C (for vectors d).
    signal_shape : tuple of int
        () for vectors, (T,) for signals, (H, W) for images.
    group : {"cyclic", "dihedral"}
        As in `redunet.build`.
    real : bool
        Whether the samples are real.

    Notes
    -----
    A layer at the input z of its samples is made of G_j and m_j alone (Chan et al., *ReduNet*, JMLR 2022)::

        E = alpha (I + alpha sum_j G_j)^-1,    C^j = alpha_j (I + alpha_j G_j)^-1,    alpha_j = C / (m_j eps^2),

    so what is added, forgotten or merged gives the layer of the samples that are left, to rounding; Wu, Baek, You and
    Ma, *Incremental Learning via Rate Reduction*, CVPR 2021, add classes so. Every sample weighs one.

    `bounds` are upper bounds of the relative error of each G_j; that of C^j is at most C inner / eps^2 times as much,
    inner = 1, or the number of points with ``dft_norm="backward"``. Sums of n numbers are n units of rounding wrong at
    worst, and what is forgotten leaves the error of what was there: of m_j samples of which s are left, m_j / s times
    the error of m_j. Forgetting a whole class leaves none: its matrix is dropped, and the sum over classes is made of
    those that remain, in the order of their labels.

    Examples
    --------
    >>> import numpy as np, redunet as rn
    >>> X, y = rn.datasets.gaussian_mixture(50, n_features=3, random_state=0)
    >>> grams = rn.ClassGrams.of(X[:60], y[:60]).add(X[60:], y[60:])
    >>> grams
    ClassGrams(3 classes, 150 samples, d=3; 216 B)
    >>> net, _ = rn.build(X, y, n_layers=1)
    >>> np.allclose(grams.layer().layers[0].Cs, net.layers[0].Cs, rtol=1e-10)
    True
    >>> grams.forget_class(2).classes_.tolist()
    [0, 1]
    """

    n_channels: int
    signal_shape: tuple[int, ...]
    group: words.Group
    real: bool
    _classes: tuple[ClassGram, ...]

    @classmethod
    def of(
        cls,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        *,
        group: words.Group = "cyclic",
        channels: Channels | None = None,
        backend: words.Backend = "auto",
        n_threads: int | None = None,
    ) -> ClassGrams:
        """Of samples.

        Parameters
        ----------
        X : (m, d), (m, C, T) or (m, C, H, W) array, real or complex
            Samples, scaled to unit norm first. They are read in pieces, so that X may be memory-mapped.
        y : (m,) array
            Labels.
        group, channels, backend, n_threads
            As in `redunet.build`.

        Returns
        -------
        ClassGrams

        Raises
        ------
        ValueError, TypeError
            If an argument is out of range or does not fit; the message names it.
        """
        array = channels_first(checks.samples(X), channels, "X")
        real = array.dtype.kind != "c"
        given = cls(array.shape[1], array.shape[2:], checks.group(group, array.shape, "X"), real, ())
        return given.add(array, y, backend=backend, n_threads=n_threads)

    @property
    def classes_(self) -> Array:
        """The labels, sorted, (k,)."""
        return np.concatenate([one.label for one in self._classes])

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Samples of each class, m_j: (k,)."""
        return np.array([one.size for one in self._classes], np.int64)

    @property
    def grams(self) -> Array:
        """G_j of each class: (k, C, C, *freqs), double precision, Hermitian at every frequency kept."""
        stacked = np.stack([one.gram for one in self._classes])
        return np.moveaxis(stacked, 1, -1).reshape(*stacked.shape[:1], *stacked.shape[2:], *self.fourier.freq_shape)

    @property
    def bounds(self) -> npt.NDArray[np.float64]:
        """At most the error of each G_j, relative to its trace, summed over all frequencies: (k,)."""
        return np.array([one.bound for one in self._classes])

    @property
    def fourier(self) -> Fourier:
        """The transform between samples and spectra."""
        return groups.transform(self.signal_shape, self.real, self.group)

    @property
    def nbytes(self) -> int:
        """Bytes of the matrices: 8 k F C^2, or 16 for signals and images of the cyclic group and complex samples."""
        return sum(one.gram.nbytes for one in self._classes)

    def add(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        *,
        channels: Channels = "first",
        backend: words.Backend = "auto",
        n_threads: int | None = None,
    ) -> ClassGrams:
        """With more samples, of these classes or others: X, y and the rest as in `of`, channels first by default."""
        return self._joined(self._summed(X, y, channels, backend, n_threads))

    def merge(self, other: ClassGrams) -> ClassGrams:
        """With the samples of ``other``, which need not be here: two owners of samples exchange no more than this.

        Raises
        ------
        ValueError, TypeError
            If ``other`` is of samples of another kind, or its labels are.
        """
        checks.instance(other, ClassGrams, "other")
        for name in ("n_channels", "signal_shape", "group", "real"):
            found, expected = getattr(other, name), getattr(self, name)
            if found != expected:
                raise ValueError(f"other has {name} {found!r}; expected {expected!r}, as these have")
        return self._joined(other._classes, "other")

    def forget(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        *,
        largest_error: float = LARGEST_ERROR,
        channels: Channels = "first",
        backend: words.Backend = "auto",
        n_threads: int | None = None,
    ) -> ClassGrams:
        """Without samples that were added before.

        A class of which all are forgotten is dropped, as by `forget_class`.

        Parameters
        ----------
        X, y, channels, backend, n_threads
            As in `of`.
        largest_error : float, default 1e-10
            What `bounds` may become. Where few samples of many are left, `rebuild` their class from them.

        Raises
        ------
        ValueError, TypeError
            If there are not so many samples of a class, or these cannot have been among them: what is left would be no
            sum of squares. (Others that fit into it as well are not found out.) If `bounds` would exceed
            ``largest_error``, or no class would be left.
        """
        largest_error = checks.positive(largest_error, "largest_error")
        left: list[ClassGram | None] = list(self._classes)
        for one in self._summed(X, y, channels, backend, n_threads):
            place = checks.place(one.name, "a label in y", self.classes_)
            before = self._classes[place]
            rest = before.minus(one, self.fourier)
            if rest.size > 0 and rest.bound > largest_error:
                raise ValueError(
                    f"X leaves {rest.size} of {before.size} samples of class {one.name!r}, whose Gram matrix is known "
                    f"to {rest.bound:.2g} then; expected largest_error = {largest_error:.2g} at most: pass the samples "
                    "that remain to rebuild"
                )
            left[place] = rest if rest.size > 0 else None
        if not any(left):
            raise ValueError("X holds the samples of all classes; expected that some are left")
        return replace(self, _classes=tuple(one for one in left if one is not None))

    def forget_class(self, label: Any) -> ClassGrams:
        """Without a class: to the last bit what it would be if no sample of it had been added.

        Raises
        ------
        ValueError
            If there is no such class, or no other.
        """
        place = checks.place(label, "label", self.classes_)
        if len(self._classes) == 1:
            raise ValueError(f"label is {label!r}, the only class; expected that one is left")
        return replace(self, _classes=(*self._classes[:place], *self._classes[place + 1 :]))

    def rebuild(
        self,
        label: Any,
        X: npt.ArrayLike,
        *,
        channels: Channels = "first",
        backend: words.Backend = "auto",
        n_threads: int | None = None,
    ) -> ClassGrams:
        """With the class ``label`` made of the samples X alone, and of nothing that was there.

        Raises
        ------
        ValueError, TypeError
            If there is no such class, or X does not fit.
        """
        place = checks.place(label, "label", self.classes_)
        array = checks.samples(X)
        y = np.repeat(self._classes[place].label, len(array))
        (made,) = self._summed(array, y, channels, backend, n_threads)
        return replace(self, _classes=(*self._classes[:place], made, *self._classes[place + 1 :]))

    def rates(
        self,
        *,
        epsilon_sq: float = 0.1,
        dft_norm: words.DftNorm = "ortho",
        backend: words.Backend = "auto",
        n_threads: int | None = None,
    ) -> RateReduction:
        """Coding rates of the samples, in nats, as `redunet.rate_reduction` has them; arguments as in `build`."""
        problem, _, row = self._operators(epsilon_sq, dft_norm, np.dtype(np.float64), backend, n_threads)
        return RateReduction.of(row, problem.gammas)

    def layer(
        self,
        *,
        eta: float | Literal["auto"] = "auto",
        epsilon_sq: float = 0.1,
        lam: float = 500.0,
        dft_norm: words.DftNorm = "ortho",
        dtype: npt.DTypeLike | None = None,
        backend: words.Backend = "auto",
        n_threads: int | None = None,
    ) -> ReduNet:
        """A network of the one layer that `build` makes of the samples.

        Features of its samples give the Gram matrices of the next layer, and so on: several owners of samples build a
        network, layer by layer, whose samples stay where they are.

        Parameters
        ----------
        eta : float or "auto", default "auto"
            Step size; "auto" is the natural step 2 / alpha, which `build` halves where the rate reduction would fall:
            that only samples tell.
        epsilon_sq, lam, dft_norm, backend, n_threads
            As in `redunet.build`.
        dtype : dtype, optional
            What it computes in, float32 or float64 (or their complex partners). Default: double precision.

        Returns
        -------
        ReduNet
            Its rates after the layer are NaN, since they are those of features; it is not to be saved: save these.

        Raises
        ------
        ValueError, TypeError
            If an argument is out of range.
        numpy.linalg.LinAlgError
            If a matrix is not positive definite.
        """
        kind = checks.floating(dtype, np.empty(0, np.float64 if self.real else np.complex128))
        if self.real and kind.kind == "c":
            raise TypeError(f"dtype is {kind}; expected float32 or float64, of real samples")
        lam = checks.non_negative(lam, "lam")
        if isinstance(eta, str):
            checks.choice(eta, "eta", ("auto",))
        etas = checks.step_sizes(eta, 1)
        problem, dense, row = self._operators(epsilon_sq, dft_norm, kind, backend, n_threads)
        prepare.check_range(
            problem, kind, lam=lam, etas=etas, largest_gram=problem.inner * self.n_channels / epsilon_sq
        )
        step = NATURAL_STEP / float(problem.alphas[0]) if etas is None else float(etas[0])
        dense = dense.astype(self.fourier.spectral_dtype(kind))
        factors = np.empty((*dense.shape[1:3], 0), dense.dtype)
        rates = np.stack([row * np.concatenate([[1.0], problem.gammas]), np.full(len(row), np.nan)])
        operators = Operators.single(problem, dense, factors, eta=step, lam=lam)
        return ReduNet(
            classes_=self.classes_,
            n_channels=self.n_channels,
            signal_shape=self.signal_shape,
            group=self.group,
            rates=Rates(rates[:, 0].copy(), rates[:, 1:].copy()),
            etas=operators.etas,
            betas=operators.betas,
            epsilon_sq=checks.positive(epsilon_sq, "epsilon_sq"),
            lam=lam,
            assignment="estimated",
            dft_norm=dft_norm,
            dtype=kind,
            backend=select(backend)[0],
            _operators=operators.known_finite(),
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write them to a safetensors file, with checksums; it appears whole or not at all, as `ReduNet.save` has it.

        Raises
        ------
        OSError
            If it can't be written.
        """
        from redunet.network import grams_storage

        grams_storage.write(checks.path(path, "path"), self)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ClassGrams:
        """Read what `save` wrote, into memory.

        Raises
        ------
        ValueError
            If the file is no such file, truncated, damaged, or holds what no samples make: "'<path>' cannot be loaded:
            ...".
        OSError
            If there is no such file, or it can't be read.
        """
        from redunet.network import grams_storage

        return cls(**grams_storage.read(checks.path(path, "path")))

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.signal_shape))
        size = f"d={self.n_channels}" if not shape else f"C={self.n_channels} on {shape}"
        size += "" if self.group == "cyclic" else f", {self.group}"
        return f"ClassGrams({len(self._classes)} classes, {self.sizes.sum()} samples, {size}; {self.nbytes} B)"

    def _summed(
        self, X: npt.ArrayLike, y: npt.ArrayLike, channels: Channels, backend: words.Backend, n_threads: int | None
    ) -> list[ClassGram]:
        """Of samples like these, a class after the other: so no class knows of the others."""
        checks.choice(channels, "channels", get_args(Channels))
        array = channels_first(checks.samples(X), channels, "X")
        expected = (self.n_channels, *self.signal_shape)
        if array.shape[1:] != expected:
            raise ValueError(f"X has shape {array.shape}; expected (m, {', '.join(map(str, expected))})")
        if self.real != (array.dtype.kind != "c"):
            raise TypeError(f"X has dtype {array.dtype}; expected {'real' if self.real else 'complex'} samples")
        labels, _, classes = checks.membership(y, len(array), whole=False)
        if labels is None:
            raise ValueError(f"y is a membership of shape {np.shape(y)}; expected labels ({len(array)},)")
        check_finite(array)
        summed = []
        for j, label in enumerate(classes[:, None]):
            rows = np.flatnonzero(labels == j)
            if len(rows):
                options: dict[str, Any] = {"group": self.group, "backend": backend, "n_threads": n_threads}
                summed.append(class_gram(narrow(label), array, rows, fourier=self.fourier, **options))
        return summed

    def _joined(self, others: Iterable[ClassGram], name: str = "y") -> ClassGrams:
        """With more classes, or more of these."""
        every = [*self._classes, *others]
        checks.one_kind((one.label for one in every), name)
        _, places = checks.labels(np.concatenate([one.label for one in every]), len(every), name)
        joined: dict[int, ClassGram] = {}
        for place, one in zip(places.tolist(), every, strict=True):
            joined[place] = joined[place].plus(one) if place in joined else one
        return replace(self, _classes=tuple(joined[place] for place in sorted(joined)))

    def _operators(
        self,
        epsilon_sq: float,
        dft_norm: words.DftNorm,
        dtype: np.dtype[Any],
        backend: words.Backend,
        n_threads: int | None,
    ) -> tuple[Problem, Array, npt.NDArray[np.float64]]:
        """The problem of all samples, dense operators (k + 1, F, C, C) in double precision, and a row of rates."""
        fourier, sizes = self.fourier, self.sizes
        total = int(sizes.sum())
        problem = problem_of(
            np.empty(0, np.int64),
            None,
            None,
            sizes=sizes.astype(np.float64),
            total=float(total),
            counts=np.array([total, *sizes]),
            n_channels=self.n_channels,
            n_points=fourier.n_points,
            freq_weights=fourier.freq_weights,
            n_columns=fourier.n_columns,
            epsilon_sq=checks.positive(epsilon_sq, "epsilon_sq"),
            dft_norm=dft_norm,
            dtype=dtype,
        )
        problem = replace(problem, ranks=np.zeros_like(problem.ranks))
        checks.memory(2 * (self.nbytes + self._classes[0].gram.nbytes), "the operators of a layer")
        grams = np.empty((len(sizes) + 1, *self._classes[0].gram.shape), self._classes[0].gram.dtype)
        for one, room in zip(self._classes, grams[1:], strict=True):
            room[:] = one.gram
        grams[0] = grams[1]
        for gram in grams[2:]:
            grams[0] += gram
        dense, row = select(backend)[1].operators_of_grams(grams, problem, n_threads=checks.threads(n_threads))
        return problem, dense, row
