"""Processes that work together: messages between them, sums in a fixed order, and errors that reach all.

Everything is made of one operation, at which all ranks meet: `Communicator._meet` sends a message to every rank. The
lengths go ahead of the messages, and say when a rank has failed: a rank whose own work raised an error joins the next
meeting of the others, whatever it is about, and tells them. So nobody waits for a rank that is gone, and ranks stay in
step. Sums are made in the order of the ranks, by the same rank or by all of them alike, so that a run repeats bit for
bit; complex numbers travel as their bytes.
"""

from __future__ import annotations

import pickle
import signal
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple, NoReturn, TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]
Result = TypeVar("Result")

#: Sums up to this many bytes are made by every rank, of all that there is; larger ones in shares, and one meeting more.
#: Both take equally long at 10 us a meeting and 5 GB/s, for few ranks.
SMALL_SUM_BYTES = 1 << 15
#: Meetings, and bytes in one of them, that `Communicator.measured` times: a few milliseconds.
TIMED_MEETINGS, TIMED_BYTES = 9, 1 << 20


#: Bytes of memory for messages that are kept between meetings, at most; messages below the other number need no such.
KEPT_BYTES, SMALLEST_KEPT_BYTES = 1 << 28, 1 << 16


class RankError(RuntimeError):
    """What went wrong on another rank: "rank 1: ValueError: X holds NaN ...".

    Attributes
    ----------
    rank : int
        Where.
    kind : str
        The error's type.
    text : str
        What it said.
    """

    def __init__(self, rank: int, kind: str, text: str) -> None:
        super().__init__(f"rank {rank}: {kind}: {text}" if text else f"rank {rank}: {kind}")
        self.rank, self.kind, self.text = rank, kind, text

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.rank, self.kind, self.text)


class Speed(NamedTuple):
    """Of a communicator.

    Attributes
    ----------
    latency : float
        Seconds that a meeting takes which has nothing to say.
    bandwidth : float
        Bytes a second that a rank sends to, and receives from, the others.
    """

    latency: float
    bandwidth: float


class Communicator(ABC):
    """Processes, or *ranks*, that build one network together; made by `single`, `mpi` and `torch`.

    All ranks call its methods in the same order: each is a meeting.

    Attributes
    ----------
    rank : int
        The number of this process, 0..size - 1.
    size : int
        Processes.
    name : str
        What carries the messages.
    """

    name = "single"

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self._speed: Speed | None = None
        self._settled = True  # all know how the work ended, or nobody can be told
        self._meeting = False
        self._rooms = Rooms()
        self._heard: Callable[[], object] | None = None  # Ctrl-C, while ranks met

    @abstractmethod
    def _swap_lengths(self, lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """One number from each rank, of those (size,) that every rank has for the others."""

    @abstractmethod
    def _swap(self, parts: Sequence[Bytes], lengths: Sequence[int]) -> list[Bytes]:
        """A message of so many bytes from each rank; part q goes to rank q."""

    def all_to_all(self, parts: Sequence[Array]) -> list[Array]:
        """Part q of every rank to rank q, in any numbers; all are of one dtype. Returns flat arrays in rank order."""
        dtype = parts[0].dtype
        return [message.view(dtype) for message in self._meet([_bytes(part) for part in parts])]

    def share(self, array: Array) -> list[Array]:
        """The arrays of all ranks, flat, in rank order; in any sizes, of one dtype."""
        return self.all_to_all([array] * self.size)

    def gather(self, value: Any) -> list[Any]:
        """A small object of every rank, in rank order."""
        message = np.frombuffer(pickle.dumps(value), np.uint8)
        return [pickle.loads(part.tobytes()) for part in self._meet([message] * self.size)]

    def broadcast(self, value: Any) -> Any:
        """Rank 0's object."""
        message = np.frombuffer(pickle.dumps(value if self.rank == 0 else None), np.uint8)
        return pickle.loads(self._meet([message] * self.size)[0].tobytes())

    def all_sum(self, array: Array) -> None:
        """Replace an array by the sum of those of all ranks, to the same bits on each."""
        flat = array.reshape(-1)
        if not np.shares_memory(flat, array) and array.size:
            raise ValueError("array is not contiguous; expected one that is, to be summed in place")
        if self.size == 1:
            return
        if array.nbytes <= SMALL_SUM_BYTES:
            flat[:] = in_order(self.share(flat))
            return
        mine = in_order(self.all_to_all([flat[some] for some in slices(len(flat), self.size)]))
        np.concatenate(self.share(mine), out=flat)

    def measured(self) -> Speed:
        """Latency and bandwidth, measured at the first call, which takes a few milliseconds; rank 0's."""
        speed = self._speed
        if any(self.gather(speed is None)) or speed is None:
            speed = self._measure()
        self._speed = speed
        return speed

    def _measure(self) -> Speed:
        some = np.zeros(TIMED_BYTES // self.size, np.uint8)
        self._seconds(some)  # memory, connections
        latency, seconds = self._seconds(some[:0]), self._seconds(some)
        sent = max(self.size - 1, 1) * len(some)
        # What hardly differs from nothing, on a busy machine, is no measurement: at least half of it is bytes.
        speed: Speed = self.broadcast(Speed(latency, sent / max(seconds - latency, seconds / 2)))
        return speed

    def _seconds(self, message: Bytes) -> float:
        """A meeting's, where every rank has this to say: the median of some."""
        took = []
        for _ in range(TIMED_MEETINGS):
            started = time.perf_counter()
            self.share(message)
            took.append(time.perf_counter() - started)
        return float(np.median(took))

    def run(self, work: Callable[[], Result]) -> Result:
        """The result of ``work``, in which ranks meet; an error on one of them is an error on all.

        Raises
        ------
        RankError
            If another rank failed first; the message names it.
        KeyboardInterrupt
            If another rank was interrupted.
        """
        self._settled = False
        with self._listening(), self._rooms.kept():
            try:
                result = work()
                self._meet([np.empty(0, np.uint8)] * self.size, last=True)
                return result
            except BaseException as error:
                if not self._settled:
                    self._meet([_said(self.rank, error)] * self.size, failed=True)
                raise

    def _meet(self, parts: Sequence[Bytes], *, failed: bool = False, last: bool = False) -> list[Bytes]:
        """The messages of all ranks to this one; with ``failed`` what it has to say is an error."""
        with self._undisturbed():
            lengths = np.array([part.size for part in parts], np.int64)
            theirs = self._swap_lengths(-lengths if failed else lengths)
            if not failed and not (theirs < 0).any():
                messages = self._swap(parts, theirs.tolist())
                self._settled = self._settled or last
                return messages
            nothing = [np.empty(0, np.uint8)] * self.size
            said = self._swap(parts if failed else nothing, np.maximum(-theirs, 0).tolist())
            self._settled = True
        if not failed:
            _raise(said)
        return []

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """While ranks meet Ctrl-C waits, so that they stay in step; when a meeting fails there won't be another."""
        self._meeting = True
        try:
            yield
        except BaseException:
            self._settled = True
            raise
        finally:
            self._meeting = False
            if self._heard is not None:
                heard, self._heard = self._heard, None
                heard()

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Ctrl-C is heard, but not in a meeting."""
        before = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is not threading.main_thread() or not callable(before):
            yield
            return

        def hear(number: int, frame: Any) -> None:
            if self._meeting:
                self._heard = lambda: before(number, frame)
            else:
                before(number, frame)

        signal.signal(signal.SIGINT, hear)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def __repr__(self) -> str:
        speed = ""
        if self._speed is not None:
            speed = f", {1e6 * self._speed.latency:.3g} us a meeting, {self._speed.bandwidth / 1e9:.3g} GB/s"
        return f"Communicator({self.name}, rank {self.rank} of {self.size}{speed})"


class Rooms:
    """Memory for messages: what nobody looks at any more is used again, and the system not asked for it."""

    def __init__(self) -> None:
        self.keeps = False
        self.free: list[memoryview] = []  # the smallest first

    def of(self, n_bytes: int) -> Bytes:
        """Room for so many."""
        if not self.keeps or n_bytes < SMALLEST_KEPT_BYTES:
            return np.empty(n_bytes, np.uint8)
        large = [number for number, memory in enumerate(self.free) if len(memory) >= n_bytes]
        memory = self.free.pop(large[0]) if large else np.empty(n_bytes, np.uint8).data
        room = np.frombuffer(memory, np.uint8, n_bytes)  # views of it keep this array, and not just the memory
        weakref.finalize(room, self._come_back, memory).atexit = False
        return room

    def _come_back(self, memory: memoryview) -> None:
        if self.keeps:
            self.free = sorted([*self.free, memory], key=len)
            while sum(map(len, self.free)) > KEPT_BYTES:
                del self.free[0]

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Until the end of this; then all of it goes."""
        self.keeps = True
        try:
            yield
        finally:
            self.keeps = False
            self.free.clear()


def parts_of(sizes: Sequence[int]) -> list[slice]:
    """Where parts of these sizes lie, one after the other."""
    bounds = np.cumsum([0, *sizes]).tolist()
    return [slice(first, last) for first, last in pairwise(bounds)]


def slices(n: int, size: int) -> list[slice]:
    """Consecutive parts of n things, one for every rank, as equal as they can be; the first are the larger."""
    return parts_of([n // size + (rank < n % size) for rank in range(size)])


def in_order(parts: Sequence[Array]) -> Array:
    """Their sum, from the first to the last."""
    total = parts[0].copy()
    for part in parts[1:]:
        total += part
    return total


def _bytes(array: Array) -> Bytes:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _said(rank: int, error: BaseException) -> Bytes:
    kind = type(error).__name__
    interrupted = isinstance(error, KeyboardInterrupt)
    return np.frombuffer(pickle.dumps((rank, kind, str(error), interrupted)), np.uint8)


def _raise(said: Sequence[Bytes]) -> NoReturn:
    """The error of the first rank that has one."""
    first = next(message for message in said if message.size)
    rank, kind, text, interrupted = pickle.loads(first.tobytes())
    error = RankError(rank, kind, text)
    if interrupted:
        raise KeyboardInterrupt(str(error)) from error
    raise error
