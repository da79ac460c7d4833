"""Meetings of ranks by a LogGP model: simulated, and beside those of a few real ranks.

    python -m bench.collectives [--ranks 2 3 4] [--rounds 5]

A message of n bytes keeps its sender, and then its receiver, busy for s = o + n G; between them lies the latency L. A
rank sends P - 1 messages, to the rank behind it, the one behind that ..., and takes those of the others in the same
order. On one machine the core of a rank copies messages out and in, one after the other, each when it is whole; over a
network (``duplex``) both go on at once, and the first byte arrives o + L after the sender began. A meeting is two such
exchanges, of lengths and of messages, and what Python does for every meeting and for every rank in it.

Constants are fitted to `share` on two ranks alone; `all_sum`, and more ranks, are predictions. Where ranks are more
than cores, prediction shares these out without loss, which is the least that can happen. All times are lower deciles:
of many meetings on a machine that has other work, what the meeting itself takes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.environment import available_cores
from redunet import distributed
from redunet.distributed.communicator import SMALL_SUM_BYTES, Bytes, Communicator
from redunet.distributed.transports import _before, _split

Floats = npt.NDArray[np.float64]
SIZES = (8, 1 << 10, 1 << 13, 1 << 15, 1 << 17, 1 << 19, 1 << 20, 1 << 22)
#: glibc keeps what was freed: else a message of 1 MB takes several times as long, for memory fresh from the system.
KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}
LENGTH_BYTES = 8
BURST = 256  # messages in a row that measure o
ROUND_S = 0.15  # of one kind and size


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Seconds; of a byte, of a meeting, and of a rank in it."""

    latency: float
    overhead: float
    gap: float
    per_meeting: float = 0.0
    per_rank: float = 0.0
    duplex: bool = False

    def slower(self, by: float) -> Machine:
        return Machine(
            **{name: by * value for name, value in vars(self).items() if name != "duplex"}, duplex=self.duplex
        )


def exchange(ready: Floats, machine: Machine, sent_by: npt.ArrayLike = 1.0, to: npt.ArrayLike = 0.0) -> Floats:
    """When each rank (P,) has all messages: q sends r ``sent_by[q] * to[r]`` bytes, from ready[q] on."""
    P = len(ready)
    factor, target = np.broadcast_to(sent_by, P), np.tile(np.broadcast_to(to, P), 2)

    def busy(step: int) -> Floats:
        return machine.overhead + machine.gap * factor * target[step : step + P]

    free, sent = ready.astype(float), ready.astype(float)
    if not machine.duplex:
        for step in range(1, P):
            free += busy(step)
    for step in range(1, P):
        seconds = busy(step)
        leaves = sent + (machine.overhead if machine.duplex else seconds)
        sent += seconds
        free = np.maximum(free, np.roll(leaves, step) + machine.latency) + np.roll(seconds, step)
    return np.maximum(free, sent)


def equal_exchange(ready: Floats, machine: Machine, n_bytes: float = 0.0) -> Floats:
    """The same where all messages have ``n_bytes``: receivers wait for the last, or are always busy."""
    P = len(ready)
    if P == 1:
        return ready.astype(float)
    seconds = machine.overhead + machine.gap * n_bytes
    last = np.full(P, ready.max())
    last[ready.argmax()] = np.partition(ready, -2)[-2]
    lag = machine.latency + (machine.overhead if machine.duplex else seconds)
    own = ready + (P - 1) * seconds * (1 if machine.duplex else 2)
    return np.maximum(own, last + lag + (P - 1) * seconds)


def meeting(ready: Floats, machine: Machine, sent_by: npt.ArrayLike = 1.0, to: npt.ArrayLike = 0.0) -> Floats:
    """`Communicator._meet`: lengths, then messages."""
    P = len(ready)
    if P == 1:
        return ready.astype(float)
    ready = equal_exchange(ready + machine.per_meeting + P * machine.per_rank, machine, LENGTH_BYTES)
    if np.ndim(sent_by) or np.ndim(to):
        return exchange(ready, machine, sent_by, to)
    return equal_exchange(ready, machine, float(np.multiply(sent_by, to)))


def all_sum(ready: Floats, machine: Machine, n_bytes: float) -> Floats:
    """`Communicator.all_sum`, without the additions."""
    if n_bytes <= SMALL_SUM_BYTES:
        return meeting(ready, machine, to=n_bytes)
    return meeting(meeting(ready, machine, to=n_bytes / len(ready)), machine, to=n_bytes / len(ready))


def halving(machine: Machine, P: int, n_bytes: float) -> float:
    """A sum in shares by pairs of ranks that exchange halves, quarters ...; gathering them again takes as long."""
    total = 0.0
    for step in range(int(np.ceil(np.log2(P)))):
        total += machine.per_meeting + equal_exchange(np.zeros(2), machine, n_bytes / 2 ** (step + 1)).max()
    return total


class _Nowhere(Communicator):
    """So many ranks, of which none is there: what Python does in a meeting."""

    def _swap_lengths(self, lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return lengths

    def _swap(self, parts: Sequence[Bytes], lengths: Sequence[int]) -> list[Bytes]:
        _before(lengths)
        return _split(np.empty(sum(lengths), np.uint8), lengths)


def decile(work: Callable[[], object], n: int) -> float:
    took = []
    for _ in range(n):
        started = time.perf_counter()
        work()
        took.append(time.perf_counter() - started)
    return float(np.quantile(took, 0.1))


def python_seconds() -> tuple[float, float]:
    """Of a meeting, and of each rank in it."""
    one, many = (decile(partial(_Nowhere(0, size).share, np.empty(1)), 60) for size in (2, 1000))
    per_rank = (many - one) / 998
    return max(one - 2 * per_rank, 0.0), per_rank


def real(seconds: float) -> dict[str, dict[int, float]]:
    """Of ranks of MPI the slowest's time, of `share` and `all_sum` by size, and of a message in a burst (0)."""
    from mpi4py import MPI

    comm, raw = distributed.mpi(), MPI.COMM_WORLD
    took: dict[str, dict[int, float]] = {"share": {}, "all_sum": {}, "burst": {}}
    for n in SIZES:
        some = np.zeros(n // 8)
        for name, work in (("share", partial(comm.share, some)), ("all_sum", partial(comm.all_sum, some))):
            repeats = int(np.clip(seconds / comm.broadcast(decile(work, 5)), 10, 1000))
            took[name][n] = max(comm.gather(decile(work, repeats)))
    if comm.size == 2:
        start = raw.Send_init if comm.rank == 0 else raw.Recv_init
        burst = [start(np.zeros(1), 1 - comm.rank) for _ in range(BURST)]

        def send_all() -> None:
            MPI.Prequest.Startall(burst)
            MPI.Request.Waitall(burst)

        took["burst"][0] = max(comm.gather(decile(send_all, 100))) / BURST
        for message in burst:
            message.Free()
    return took


def rounds_of(n_ranks: int, rounds: int) -> dict[str, dict[int, float]]:
    """The medians of rounds in processes of their own."""
    beside = Path(sys.executable).parent / "mpirun"
    command = [str(beside) if beside.exists() else str(shutil.which("mpirun")), "-n", str(n_ranks), sys.executable]
    command += ["-m", "bench.collectives", "--real"]
    environment = {"OPENBLAS_NUM_THREADS": "1", **KEPT_MEMORY, **os.environ}
    runs = []
    for _ in range(rounds):
        out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300).stdout
        runs.append(json.loads(out))
    return {
        kind: {int(n): float(np.median([run[kind][n] for run in runs])) for n in found}
        for kind, found in runs[0].items()
    }


def fitted(share: dict[int, float], burst: float) -> Machine:
    """Constants by which two ranks take so long to `share` (by size), and a message in a burst: o."""
    per_meeting, per_rank = python_seconds()
    empty = Machine(latency=0.0, overhead=burst, gap=0.0, per_meeting=per_meeting, per_rank=per_rank)
    smallest = share[min(share)]
    latency = max(smallest - float(meeting(np.zeros(2), empty).max()), 0.0) / 2
    # Least squares of relative errors; n bytes keep a rank of two busy twice, as sender and as receiver.
    n, took = np.array(list(share)), np.array(list(share.values()))
    slope = 2 * n / took
    return replace(empty, latency=latency, gap=float(slope @ (1 - smallest / took) / (slope @ slope)))


def predicted(machine: Machine, kind: str, n_ranks: int, n_bytes: int, n_cores: int) -> float:
    machine, ready = machine.slower(max(1.0, n_ranks / n_cores)), np.zeros(n_ranks)
    ended = meeting(ready, machine, to=n_bytes) if kind == "share" else all_sum(ready, machine, n_bytes)
    return float(ended.max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 3, 4])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--real", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.real:
        took = real(ROUND_S)
        if distributed.mpi().rank == 0:
            print(json.dumps(took))
        return
    measured = {n_ranks: rounds_of(n_ranks, given.rounds) for n_ranks in sorted({2, *given.ranks})}
    machine = fitted(measured[2]["share"], measured[2]["burst"][0])
    n_cores = available_cores()
    us = [f"{1e6 * value:.3g} us" for name, value in vars(machine).items() if name not in ("gap", "duplex")]
    print(f"L {us[0]}, o {us[1]}, Python {us[2]} a meeting and {us[3]} a rank in it; {n_cores} cores,", end=" ")
    print(f"1/G {1e-9 / machine.gap:.3g} GB/s\n")
    heads = [f"{kind}, {n} ranks" for kind in ("share", "all_sum") for n in given.ranks]
    print(f"| bytes | {' | '.join(heads)} |\n|{'---|' * (len(heads) + 1)}")
    for n in SIZES:
        cells = []
        for kind in ("share", "all_sum"):
            for n_ranks in given.ranks:
                guess, took_us = predicted(machine, kind, n_ranks, n, n_cores), measured[n_ranks][kind][n]
                cells.append(f"{1e6 * guess:.3g} / {1e6 * took_us:.3g} = {guess / took_us:.2f}")
        print(f"| {n} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
