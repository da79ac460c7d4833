"""Ranks for tests of `redunet.distributed`: threads of this process, and processes that run a job of `rank_jobs`."""

from __future__ import annotations

import contextlib
import contextvars
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
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
        self.n_meetings = 0
        self.busiest: list[int] = []  # bytes of the rank that sends or takes most, of every meeting

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
        all_of_it = self._exchange([part.copy() for part in parts])
        n_bytes = np.array([[part.size for part in others] for others in all_of_it])
        np.fill_diagonal(n_bytes, 0)
        self.busiest.append(max(n_bytes.sum(axis=0).max(), n_bytes.sum(axis=1).max()))
        messages = [others[self.rank] for others in all_of_it]
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


# --- Processes ---

#: Seconds that a job may take; a rank ends itself a little later, whatever happened to the test that started it.
LONGEST = 150


def mpirun() -> str | None:
    """The program that starts ranks of MPI: that of this environment, or else of the machine."""
    beside = Path(sys.executable).parent / "mpirun"
    return str(beside) if beside.exists() else shutil.which("mpirun")


def start_job(carrier: str, size: int, job: str, folder: Path) -> list[subprocess.Popen[str]]:
    """A job of `rank_jobs`."""
    return start_script(carrier, size, [str(Path(__file__).with_name("rank_jobs.py")), carrier, job, str(folder)])


def start_script(carrier: str, size: int, script: list[str]) -> list[subprocess.Popen[str]]:
    """A script on ranks that are processes: one program that starts them, or themselves."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "REDUNET_NUM_THREADS": "1",
        # Open MPI: more ranks than cores, and also where the tests are run by root.
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    }
    rank = [sys.executable, "-W", "error"]
    if carrier == "mpi":  # whose mpi4py ends the job where a rank raises what nobody caught
        launched = [[str(mpirun()), "-n", str(size), *rank, "-m", "mpi4py", *script]]
    else:
        launched = [[*rank, *script]] * size
    processes = []
    for number, command in enumerate(launched):
        processes.append(
            subprocess.Popen(
                command,
                env={**environment, "RANK": str(number), "WORLD_SIZE": str(size)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        )
    return processes


def ended(processes: Sequence[subprocess.Popen[str]]) -> tuple[list[int], str]:
    """Exit codes and what was printed, of a job that ends in time; what is left of it is killed."""
    out = ""
    try:
        until = time.monotonic() + LONGEST
        for process in processes:
            out += process.communicate(timeout=max(0.1, until - time.monotonic()))[0]
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return [process.returncode for process in processes], out
