"""Text for people: on whatever standard output and standard error are, in whatever encoding, if they are at all."""

from __future__ import annotations

import os
import sys
from typing import Any

#: Letters of reports, spelled for encodings that lack them.
SPELLED = str.maketrans(
    {"Δ": "Delta ", "α": "alpha", "ε": "eps", "η": "eta", "λ": "lambda", "²": "^2", "½": "1/2", "±": "+-", "×": "x"}
    | {"→": "->", "−": "-"}
)


def show(text: str) -> None:
    """Print a text; characters that the encoding of standard output lacks are spelled, or escaped."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(SPELLED).encode(encoding, "backslashreplace").decode(encoding)
    print(text)


def tell(line: str) -> None:
    """A line on standard error, where there is one that takes it."""
    if sys.stderr is None:  # which `print` takes for standard output
        return
    try:
        print(line, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        discard(sys.stderr)


def discard(stream: Any) -> None:
    """Let the rest of a stream that can't be written go nowhere, so that Python doesn't complain when it ends."""
    try:
        stream.flush()
        return
    except (AttributeError, OSError, ValueError):
        pass
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (AttributeError, OSError, ValueError):  # no file
        pass
