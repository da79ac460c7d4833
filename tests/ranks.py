"""Ranks for tests of `redunet.distributed`: threads of this process, and processes of MPI and of torch.distributed.

As a script, which ranks run: ``ranks.py mpi NAME`` or ``ranks.py torch NAME`` is one rank of the job NAME below.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from redunet.distributed import Communicator

#: Seconds after which a test gives up on ranks that wait for each other.
DEADLINE = 60


class _Table:
    """Where threads lay down what they have for each other."""

    def __init__(self, size: int) -> None:
        self.places: list[Any] = [None] * size
        self.barrier = threading.Barrier(size, timeout=DEADLINE)


class Threads(Communicator):
    """Ranks that are threads."""

    name = "threads"

    def __init__(self, rank: int, table: _Table) -> None:
        super().__init__(rank, len(table.places))
        self.table = table
        self.n_meetings = self.n_bytes = 0

    def _exchange(self, mine: Any) -> list[Any]:
        self.table.places[self.rank] = mine
        self.table.barrier.wait()
        all_of_it = list(self.table.places)
        self.table.barrier.wait()
        return all_of_it

    def _swap_lengths(self, lengths):
        self.n_meetings += 1
        return np.array([others[self.rank] for others in self._exchange(lengths.copy())])

    def _swap(self, parts, lengths):
        self.n_bytes += sum(part.size for rank, part in enumerate(parts) if rank != self.rank)
        messages = [others[self.rank] for others in self._exchange([part.copy() for part in parts])]
        assert [message.size for message in messages] == list(lengths)
        return messages


def on_threads(size: int, work: Callable[[Communicator], Any]) -> list[Any]:
    """What ``work`` gives each rank, or the error that it raises."""
    table = _Table(size)
    results: list[Any] = [None] * size

    def one(rank: int) -> None:
        try:
            results[rank] = work(Threads(rank, table))
        except BaseException as error:
            results[rank] = error

    threads = [
        threading.Thread(target=contextvars.copy_context().run, args=(one, rank), daemon=True) for rank in range(size)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * DEADLINE)
        assert not thread.is_alive(), "ranks wait for each other"
    return results


def successes(results: Sequence[Any]) -> list[Any]:
    """Results, none of which is an error."""
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return list(results)
