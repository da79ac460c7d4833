"""Long calls of NumPy that Ctrl-C interrupts at once, and several of them at a time.

Python acts on a signal between two instructions of the main thread, never in the middle of a call of NumPy. So long
ones run on other threads, while the main thread waits in a way that a signal ends. After that no task begins any more;
those in hand run to their end, unheard, and the process waits for them before it ends: BLAS would hang in the middle of
a call.
"""

from __future__ import annotations

import contextvars
import functools
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

Result = TypeVar("Result")

#: Entries of an array that NumPy does anything with in less than about ten milliseconds; from there on a thread, which
#: takes a tenth of one to start, costs nothing.
SMALL = 1 << 18
#: Seconds: where a wait without end is deaf to signals (Windows), they are heard between waits.
WAIT = 0.1


def run(tasks: Sequence[Callable[[], object]], n_threads: int = 1) -> None:
    """Run tasks on at most so many threads, begun in their order; of those that fail, the first raises its error."""
    waiting = deque(enumerate(tasks))
    failed: list[tuple[int, Exception]] = []
    ended = threading.Semaphore(0)

    def serve() -> None:
        while not failed:
            try:
                index, task = waiting.popleft()
            except IndexError:
                return
            try:
                task()
            except Exception as error:
                failed.append((index, error))

    def help_out() -> None:
        try:
            serve()
        finally:
            ended.release()

    listens = threading.current_thread() is threading.main_thread()
    wanted = min(n_threads, len(tasks)) - (0 if listens else 1)
    helpers = 0
    try:
        while helpers < wanted:
            context = contextvars.copy_context()  # NumPy's handling of errors, for one
            try:
                threading.Thread(target=context.run, args=(help_out,), daemon=False).start()
            except RuntimeError:  # a limit of threads, or the interpreter ends
                break
            helpers += 1
        if helpers == 0 or not listens:
            serve()
        for _ in range(helpers):
            while not ended.acquire(timeout=WAIT):
                pass
    finally:
        waiting.clear()
    if failed:
        raise min(failed, key=lambda failure: failure[0])[1]


def interruptible(function: Callable[..., Result]) -> Callable[..., Result]:
    """The function, which takes an array or a state first, run beside the main thread where that is large.

    What it changes is lost to the caller where it is interrupted.
    """

    @functools.wraps(function)
    def call(array: Any, *others: Any, **named: Any) -> Result:
        if array.size < SMALL or threading.current_thread() is not threading.main_thread():
            return function(array, *others, **named)
        results: list[Result] = []
        run([lambda: results.append(function(array, *others, **named))])
        return results[0]

    return call
