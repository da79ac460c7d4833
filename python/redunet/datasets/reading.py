"""Files of data, plain or compressed by gzip, that are believed in nothing: no more is read than was asked for.

What can't be right is a ValueError that begins with the path.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from redunet import files

PIECE = 1 << 20


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The file, or the same with ``.gz`` where it is missing, as a stream of what it holds.

    Raises
    ------
    FileNotFoundError
        If there is neither file.
    ValueError
        If it is no regular file, cut short or damaged, and with the path before what the block raises of this kind.
    """
    file = path
    if not file.exists():
        compressed = file.with_name(f"{file.name}.gz") if file.name else file
        if not compressed.exists():
            raise FileNotFoundError(f"no file {file}, and no {compressed.name} beside it")
        file = compressed
    try:
        with files.open_regular(str(file)) as stream:
            magic = stream.read(2)
            stream.seek(0)
            if magic != b"\x1f\x8b":
                yield stream
                return
            with gzip.open(stream, "rb") as plain:
                yield cast("IO[bytes]", plain)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{file} cannot be read: it is cut short or damaged: {error}") from error
    except ValueError as error:
        raise ValueError(f"{file} cannot be read: {error}") from None


def read(stream: IO[bytes], most: int) -> bytearray:
    """What is left, of at most so many bytes and one more: in pieces, so that a damaged head takes no memory."""
    values = bytearray()
    while len(values) <= most and (piece := stream.read(min(PIECE, most + 1 - len(values)))):
        values += piece
    return values


def missing(folder: Path, names: Sequence[str]) -> None:
    """An error that says which of these files, plain or with ``.gz``, a folder lacks."""
    absent = [name for name in names if not any((folder / (name + end)).is_file() for end in ("", ".gz"))]
    if absent:
        raise FileNotFoundError(
            f"no {', '.join(absent)} in the folder {folder.absolute()}; "
            f"expected {', '.join(names)}, each plain or with .gz"
        )
