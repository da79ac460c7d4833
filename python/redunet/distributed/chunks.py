"""`build_chunks`: a network of samples that do not fit into memory, whose features lie in a scratch folder."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet._backends import select
from redunet._backends.contract import DeviceBackend, Problem
from redunet._inputs import axes, checks, prepare
from redunet._inputs.problem import problem_of
from redunet.distributed.chunk_states import ByChunks, Chunking, Features
from redunet.distributed.grams import OperatorsOfAll
from redunet.distributed.intake import Intake, Taken, spectra_table, tables_of
from redunet.distributed.scratch import FEATURES, NETWORK, Scratch, Spectra, Table, write_npy
from redunet.distributed.transports import single
from redunet.network.build import BuildInterrupted, BuildOptions, construct
from redunet.network.build import build as build_here
from redunet.network.redunet import ReduNet, load

Array = npt.NDArray[Any]
UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
#: What lies in memory of a chunk at a time, in copies of its spectra: they as they are read, the engine's, the result.
COPIES = 3
#: Beside them with momentum: the layer before, as it is read and the engine's.
COPIES_BEFORE = 2
#: Beside them in NumPy: the step, its products, and a response of every class.
COPIES_IN_NUMPY = 4
#: What must be as it was when a build goes on.
SETTINGS = ("group", "momentum", "epsilon_sq", "lam", "assignment", "dft_norm")


class Chunks:
    """Features of samples that do not fit into memory, and their labels: what `build_chunks` returns beside a network.

    Iterating gives ``(Z, y)``, chunk by chunk in the order of the samples: Z, (n, d), (n, C, T) or (n, C, H, W), a
    memory map, read-only; y, (n,), labels, or (n, k), membership.

    Attributes
    ----------
    features : (m, d), (m, C, T) or (m, C, H, W) memory map
        Of all samples, read-only: what is looked at is read.
    folder : str
        Where they lie: ``features.npy``, with ``labels.npy``, the numbers of the classes, or ``membership.npy``.
    n_samples : int
        m.

    Notes
    -----
    Of a scratch folder that was not given, `close` removes the files, as does the end of the process that made it, and
    of this object there. It is a context manager.
    """

    def __init__(self, chunking: Chunking, classes: Array, temporary: bool) -> None:
        self._chunking, self._classes = chunking, classes
        self._table = Table.of_npy(chunking.scratch.at(FEATURES))
        self.folder, self.n_samples = chunking.scratch.path, chunking.n
        self._goes = weakref.finalize(self, _remove_folder_of, os.getpid(), self.folder) if temporary else None

    @property
    def features(self) -> Array:
        """Of all samples."""
        return self._table.mapped(slice(0, self.n_samples))

    def __len__(self) -> int:
        """Chunks."""
        return -(-self.n_samples // self._chunking.rows)

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        for rows in self._chunking.chunks():
            membership, labels = self._chunking.membership, self._chunking.labels
            if membership is not None:
                y = membership.read(rows)
            else:
                assert labels is not None
                y = self._classes[labels.read(rows)]
            yield self._table.mapped(rows), y

    def close(self) -> None:
        """Removes a folder that was made for this; one that was given stays."""
        if self._goes is not None:
            self._goes()

    def __enter__(self) -> Chunks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        shape = (self.n_samples, *self._table.shape)
        return f"Chunks({shape} {self._table.dtype} in {len(self)} chunks)"


@dataclass(frozen=True, eq=False)
class _Samples(prepare.Samples):
    """Those of a folder: ``array`` has none of them, and all that is of size m stays there."""

    chunking: Chunking
    features: Features

    def __len__(self) -> int:
        """How many are in memory."""
        return min(self.chunking.rows, self.chunking.n)

    def spectra(self, *, normalize: bool) -> Any:
        return self.features

    def from_spectra(self, V: Any, dtype: np.dtype[Any] | None = None) -> Any:
        """``features.npy``."""
        table, n = self.features.spectra[0].table, self.chunking.n
        write_npy(
            self.chunking.scratch.at(FEATURES),
            self.dtype,
            (n, *axes.shape_as_given(self.array.shape[1:], self.channels)),
            (super(_Samples, self).from_spectra(table.read(rows)) for rows in self.chunking.chunks()),
        )


def build_chunks(
    source: Any,
    *,
    n_layers: int,
    chunk_bytes: int | str = "1GiB",
    scratch: str | os.PathLike[str] | None = None,
    every: int = 10,
    **options: Any,
) -> tuple[ReduNet, Chunks]:
    """Construct a network from samples that do not fit into memory.

    The network is that of `redunet.build` for all of them together, to rounding. Samples are read once, in pieces;
    their features lie in files, and are rewritten layer by layer.

    Parameters
    ----------
    source : tuple of arrays, iterable of pairs, or path-like
        Samples X and labels y as `redunet.build` takes them, with ``sample_weight`` or without:

        - ``(X, y)`` or ``(X, y, sample_weight)``, a tuple of arrays or memory maps, or of Dask arrays, of which a block
          of samples is computed at a time;
        - an iterable of such tuples, of which each fits into memory: it is read once;
        - a folder with files ``X*.npy``, and for each of them ``y*.npy``, and ``w*.npy`` if there are weights, with the
          same rest of the name: in the order of their names.
    n_layers : int
        Number of layers (at most, with `tol` or `on_layer`).
    chunk_bytes : int or str, default "1GiB"
        What features may take of memory, in bytes, or with one of the units kB, MB, GB, TB, KiB, MiB, GiB, TiB. Beside
        them there are the operators of all layers, and Gram matrices of one in double precision.
    scratch : path-like, optional
        A folder for features, empty or new, on a disk with room for three times the spectra of all samples, for six
        times with momentum, and for one more with ``eta="search"``. If it has a build from chunks that was stopped or
        killed, this goes on from its last checkpoint, and compares the first sample of the source alone; the network
        is then the one of a build that never stopped, to the last bit if `chunk_bytes` and threads are the same.
        Default: a temporary one, without checkpoints, that goes with the `Chunks`.
    every : int, default 10
        After so many layers, and at the end, there is a checkpoint.
    **options
        All others of `redunet.build`, but for ``sample_weight``, which belongs to the source, ``resume`` and
        ``checkpoint``, in place of which there is `scratch`; ``keep`` must be "operators", and the backend "cpu" or
        "numpy".

    Returns
    -------
    net : ReduNet
        The network.
    chunks : Chunks
        Features of the samples after the last layer, and their labels, in files.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or does not fit, the folder has other files, or a build of other settings; the
        message names the argument, and the place in the source.
    OSError
        If the folder can't be written to, or its disk is full; a build goes on from the last checkpoint.
    BuildInterrupted
        At Ctrl-C, a `KeyboardInterrupt` whose ``net`` holds the layers so far.

    Notes
    -----
    A layer reads and writes all features once, and once more with momentum; with ``eta="auto"`` or ``"search"`` for
    every step that is tried. Gram matrices are sums over chunks, in their order. All operators are kept dense.

    Examples
    --------
    >>> import redunet as rn
    >>> from redunet import distributed
    >>> def samples():  # read from somewhere, a piece at a time
    ...     for seed in range(5):
    ...         yield rn.datasets.gaussian_mixture(40, n_features=3, random_state=seed)
    >>> net, chunks = distributed.build_chunks(samples(), n_layers=5, chunk_bytes="8KiB")
    >>> net
    ReduNet(5 layers, 3 classes, d=3, float64; 1.406 KiB; Delta R ...)
    >>> chunks
    Chunks((600, 3) float64 in ... chunks)
    >>> sum(len(Z) for Z, y in chunks)
    600
    >>> chunks.close()
    """
    n_bytes = _n_bytes(chunk_bytes)
    given = inspect.signature(build_here).bind(None, None, n_layers=n_layers, every=every, **options)
    given.apply_defaults()
    arguments = dict(given.arguments)
    for name in ("sample_weight", "resume", "checkpoint"):
        if arguments[name] is not None:
            instead = "weights in the source" if name == "sample_weight" else "a scratch folder"
            raise ValueError(f"{name} is given; expected {instead} in its place")
    if arguments["keep"] == "features":
        raise ValueError('keep is "features"; expected "operators", with which a build from chunks goes on')
    del arguments["X"], arguments["y"], arguments["sample_weight"]
    where = {name: arguments.pop(name) for name in ("dtype", "backend", "n_threads", "channels")}
    where["group"] = arguments["group"]
    where["backend"] = _on_host(where["backend"])
    checked = BuildOptions.checked(**arguments)
    temporary = None if scratch is not None else tempfile.mkdtemp(prefix="redunet-")
    folder = Scratch(temporary or os.path.abspath(checks.path(scratch, "scratch")))
    try:
        with folder.opened():
            return _build(source, n_bytes, folder, temporary is not None, where, checked)
    except BaseException as error:
        if temporary is not None:
            remove_folder(temporary)
        if isinstance(error, KeyboardInterrupt) and not isinstance(error, BuildInterrupted):
            raise BuildInterrupted() from error
        raise


def _build(
    source: Any, n_bytes: int, scratch: Scratch, temporary: bool, where: dict[str, Any], options: BuildOptions
) -> tuple[ReduNet, Chunks]:
    """The same in a folder that is ours."""
    settings = {name: getattr(options, name) for name in SETTINGS}

    def of_any_size(like: prepare.Samples) -> None:
        _rows(n_bytes, like, 1, options)  # how many classes there are is not known yet

    taken = _taken(source, scratch, Intake(scratch, n_bytes // (1 + COPIES), where, of_any_size), settings)
    like = prepare.samples(
        np.zeros((1, *taken.shape), taken.dtype), **{**where, "dtype": taken.dtype, "channels": "first"}
    )
    problem = _problem(taken, like, options)
    rows = _rows(n_bytes, like, problem.n_classes, options)
    chunking = Chunking(scratch=scratch, n=taken.n, rows=rows, **tables_of(scratch))
    net = load(scratch.at(NETWORK)) if scratch.has(NETWORK) else None
    features = _features(net, scratch, like, taken.n, options)
    if not temporary:
        options = replace(options, checkpoint=scratch.at(NETWORK), resume=net)

    def of_all(problem: Problem) -> OperatorsOfAll:
        return OperatorsOfAll(single(), like.module, problem, like.n_channels, features.dtype, like.n_threads)

    fields = {**vars(like), "array": like.array[:0], "given": None, "module": ByChunks(chunking, like.module, of_all)}
    fields["channels"] = where["channels"]
    net, _ = construct(_Samples(**fields, chunking=chunking, features=features), taken.classes, problem, options)
    scratch.keep_only(*([] if temporary else [net.n_layers, net.n_layers - options.momentum]))
    return net, Chunks(chunking, taken.classes, temporary)


def _taken(source: Any, scratch: Scratch, intake: Intake, settings: dict[str, Any]) -> Taken:
    """The samples, which are there, or are taken in."""
    about, tensors = scratch.read_manifest()
    if not tensors:
        scratch.clear()
        scratch.write_manifest({}, {})
        try:
            taken = intake.run(source)
        except BaseException:
            scratch.clear()  # the half of it is of no use
            raise
        taken.write(scratch, settings)
        return taken
    for name, found in about["settings"].items():
        if found != settings[name]:
            raise ValueError(f"scratch was begun with {name} {found!r}; expected {settings[name]!r}, as in this build")
    taken = Taken.read(about["samples"], tensors)
    if not intake.begins_like(source, taken):
        raise ValueError("scratch was begun with other samples, or in another precision, than those of source")
    return taken


def _problem(taken: Taken, like: prepare.Samples, options: BuildOptions) -> Problem:
    """The constants, of all samples; labels and weights are in files."""
    problem = problem_of(
        None,
        None,
        None,
        sizes=taken.sizes,
        total=float(taken.sizes.sum()),
        counts=taken.counts,
        n_channels=like.n_channels,
        n_points=like.fourier.n_points,
        freq_weights=like.fourier.freq_weights,
        n_columns=like.fourier.n_columns,
        epsilon_sq=options.epsilon_sq,
        dft_norm=options.dft_norm,
        dtype=like.dtype,
    )
    return replace(problem, ranks=np.zeros_like(problem.ranks))


def _rows(n_bytes: int, like: prepare.Samples, n_classes: int, options: BuildOptions) -> int:
    """Samples of a chunk."""
    copies = COPIES + COPIES_BEFORE * options.momentum
    copies += COPIES_IN_NUMPY + n_classes if like.backend == "numpy" else 0
    one = copies * spectra_table("", like).row_bytes
    if n_bytes < one:
        raise ValueError(f"chunk_bytes is {n_bytes}; expected at least {one}, what a sample takes")
    return n_bytes // one


def _features(net: ReduNet | None, scratch: Scratch, like: prepare.Samples, n: int, options: BuildOptions) -> Features:
    """Those that the build goes on from, after the layers of a network if there is one."""
    n_layers = 0 if net is None else net.n_layers
    if n_layers > options.n_layers:
        raise ValueError(f"scratch has {n_layers} layers and n_layers is {options.n_layers}; expected at least as many")
    before = max(0, n_layers - options.momentum)
    now, earlier = (_kept(spectra_table(scratch.kept(layer), like), n) for layer in (n_layers, before))
    scratch.keep_only(n_layers, before)
    row = None if net is None else np.concatenate([net.rates.rate[:1], net.rates.per_class[0] / net.operators.gammas])
    return Features(now.table.dtype, [now, earlier], row)


def _kept(table: Table, n: int) -> Spectra:
    """Of n samples; an error where they are not all there."""
    size = os.path.getsize(table.path) if os.path.isfile(table.path) else 0
    if size != n * table.row_bytes:
        name = os.path.basename(table.path)
        raise ValueError(f"scratch is damaged: {name!r} has {size} bytes; expected {n * table.row_bytes}")
    return Spectra.kept(table)


def _on_host(backend: Any) -> str:
    """The name of the backend: one that reads the host's memory."""
    name, module = select(backend)
    if isinstance(module, DeviceBackend):
        raise ValueError(f'backend is {name!r}; expected "cpu" or "numpy", to which chunks are read from files')
    return name


def _n_bytes(value: Any) -> int:
    """Of a number, or of text with a unit."""
    if not isinstance(value, str):
        return checks.integer(value, "chunk_bytes", 1)
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?) ?(\w+)", value)
    if found is None or found[2] not in UNITS:
        raise ValueError(f'chunk_bytes is {value!r}; expected a number of bytes, or text such as "512MiB" or "2 GB"')
    return int(float(found[1]) * UNITS[found[2]])


def _remove_folder_of(process: int, path: str) -> None:
    """One of this process, not of the one that it was forked from."""
    if os.getpid() == process:
        remove_folder(path)


def remove_folder(path: str) -> None:
    """A temporary one."""
    shutil.rmtree(path, ignore_errors=True)
