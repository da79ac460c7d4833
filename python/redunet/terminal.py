"""Text for people: on whatever standard output is, in whatever encoding it has."""

from __future__ import annotations

import sys

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
