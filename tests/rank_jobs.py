"""Jobs of several processes, for test_distributed_processes: ``rank_jobs.py mpi JOB FOLDER`` is one rank.

A rank that does what it should prints "rank R: ...", and ends by itself.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

import redunet as rn
from redunet import distributed


def samples(shape: tuple[int, ...]) -> dict[str, Any]:
    """Of all ranks."""
    rng = np.random.default_rng(0)
    y = np.arange(shape[0]) % 3
    X = rng.standard_normal((3, *shape[1:]))[y] + 0.7 * rng.standard_normal(shape)
    return {"X": X, "y": np.array(["a", "bb", "ccc"])[y], "n_layers": 5, "epsilon_sq": 0.5, "lam": 20.0}


def own(comm: distributed.Communicator, given: dict[str, Any]) -> dict[str, Any]:
    """Uneven shares: the last rank has most."""
    m = len(given["y"])
    first, last = m * comm.rank**2 // comm.size**2, m * (comm.rank + 1) ** 2 // comm.size**2
    return {**given, "X": given["X"][first:last], "y": given["y"][first:last], "comm": comm}


def digest(net: rn.ReduNet) -> str:
    arrays = (net.operators.dense, net.operators.factors, net.etas, net.rates.rate, net.rates.per_class)
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def exact(comm: distributed.Communicator, folder: Path) -> str:
    """Networks are those of one process, on all ranks the same to the last bit, and again in a second run."""
    for shape, layout, options in (
        ((40, 6), "auto", {}),
        ((40, 4, 9), "samples", {"momentum": True}),
        ((40, 4, 9), "frequencies", {"eta": "search"}),
        ((20, 12, 4, 5), "frequencies", {"tol": 1e-6, "patience": 2}),
        ((200, 40, 16), "samples", {"n_layers": 2}),  # messages that are too long to be sent at once
    ):
        given = {**samples(shape), **options}
        (net, Z), (again, W) = (distributed.build(**own(comm, given), layout=layout) for _ in range(2))
        assert Z.tobytes() == W.tobytes()
        assert comm.gather(digest(net)) == comm.gather(digest(again)) == [digest(net)] * comm.size
        whole, V = rn.build(**given)
        everywhere = np.concatenate(comm.share(Z)).reshape(V.shape)
        assert np.abs(everywhere - V).max() < 1e-8
        np.testing.assert_allclose(net.rates.per_class, whole.rates.per_class, rtol=1e-8)
    comm.run(lambda: looks_back(comm))
    return repr(comm)


def looks_back(comm: distributed.Communicator) -> None:
    """Messages stay what they are while somebody has them, in whatever memory later ones come."""
    messages = [comm.share(np.full(30_000, 10 * turn + comm.rank)) for turn in range(3)]
    del messages[1]
    messages.append(comm.share(np.full(30_000, 30 + comm.rank)))
    for turn, parts in zip((0, 2, 3), messages, strict=True):
        assert [np.unique(part).tolist() for part in parts] == [[10 * turn + rank] for rank in range(comm.size)]


def fails(comm: distributed.Communicator, folder: Path) -> str:
    """An error of the last rank reaches all."""
    last = comm.size - 1

    def look(index: int, rates: rn.RateReduction) -> None:
        if index == 2:
            raise OSError("the disk is full")

    try:
        distributed.build(**own(comm, samples((40, 4, 9))), on_layer=look if comm.rank == last else None)
    except OSError as error:
        assert comm.rank == last
        said = str(error)
    except distributed.RankError as error:
        assert comm.rank != last
        said = str(error)
    return f"{said}, and {comm.gather(comm.rank)} are in step"


def interrupted(comm: distributed.Communicator, folder: Path) -> str:
    """Ctrl-C on the last rank, at any moment, is one of all."""

    def look(index: int, rates: rn.RateReduction) -> None:
        if index == 1 and comm.rank == comm.size - 1:
            threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()

    given = {**own(comm, samples((300, 8, 32))), "n_layers": 100_000, "keep": "features"}
    try:
        distributed.build(**given, on_layer=look)
    except rn.BuildInterrupted:
        return "interrupted"
    return "not interrupted"


def killed(comm: distributed.Communicator, folder: Path) -> str:
    """The last rank dies; its neighbours may not live on."""

    def look(index: int, rates: rn.RateReduction) -> None:
        if index == 2 and comm.rank == comm.size - 1:
            (folder / "killed").write_text(str(time.time()))
            os.kill(os.getpid(), signal.SIGKILL)

    distributed.build(**{**own(comm, samples((40, 4, 9))), "n_layers": 10_000}, on_layer=look)
    return "all is well"


def strays(comm: distributed.Communicator, folder: Path) -> str:
    """An error outside of a build, which nobody could be told: python -m mpi4py ends the job."""
    if comm.rank == comm.size - 1:
        raise LookupError("no such file")
    distributed.build(**own(comm, samples((40, 4, 9))))
    return "all is well"


def main(carrier: str, job: str, folder: str) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "alarm"):  # of this process alone: whoever imports the module has a clock of its own
        signal.alarm(180)
    if carrier == "mpi":
        comm = distributed.mpi()
    else:
        import torch
        import torch.distributed as dist

        torch.set_num_threads(1)
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size)
        comm = distributed.torch()
    said = {work.__name__: work for work in (exact, fails, interrupted, killed, strays)}[job](comm, Path(folder))
    sys.stdout.write(f"rank {comm.rank}: {said}\n")  # at once, whoever else writes
    sys.stdout.flush()
    if carrier == "torch":
        dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
