"""Progress on standard error: a bar of tqdm, or a line that is written over, on a terminal; else lines.

What is shown is plain ASCII, and a stream that is missing, closed or broken ends the showing, not the work.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any


class Progress:
    """A context manager around work of ``n`` layers, merges, ...; does nothing when ``show`` is false."""

    SECONDS_BETWEEN = 0.1  # on a terminal
    SECONDS_BETWEEN_LINES = 10.0  # in a file, where every line stays

    def __init__(self, n: int, unit: str, show: bool) -> None:
        self._n, self._unit = n, unit
        stream: Any = sys.stderr  # None without a console
        self._stream = None if not show or stream is None or getattr(stream, "closed", False) else stream
        isatty = getattr(stream, "isatty", None)
        # Notebooks show bars and carriage returns although they are no terminals.
        self._live = self._stream is not None and ("ipykernel" in sys.modules or (isatty is not None and isatty()))
        self._bar: Any = None
        self._shown = -float("inf")

    def __enter__(self) -> Progress:
        if self._live:
            try:
                from tqdm.auto import tqdm
            except ImportError:
                pass
            else:
                self._bar = tqdm(total=self._n, unit=self._unit, mininterval=self.SECONDS_BETWEEN, file=self._stream)
        return self

    def update(self, index: int, numbers: dict[str, float]) -> None:
        """Show the numbers after ``index`` of n: not more often than can be read, but always the last."""
        now = time.monotonic()
        wait = self.SECONDS_BETWEEN if self._live else self.SECONDS_BETWEEN_LINES
        if self._stream is None or (index < self._n and now - self._shown < wait):
            return
        self._shown = now
        text = ", ".join(f"{name}={number:.4f}" for name, number in numbers.items())
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(index - self._bar.n)
        else:
            line = f"{self._unit} {index}/{self._n}  {text}"
            self._write(f"\r{line}" if self._live else f"{line}\n")

    def _write(self, text: str) -> None:
        stream: Any = self._stream
        try:
            stream.write(text)
            stream.flush()
        except (OSError, ValueError):  # a pipe without a reader, or closed meanwhile
            self._stream = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._live and self._stream is not None:
            self._write("\n")
