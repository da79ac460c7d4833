"""Files that are opened without blocking, and files that appear whole or not at all.

A file is written under another name in the same folder, synced, and renamed. Until then the new bytes belong to a
temporary that its writer holds a lock on: what is not locked was left by a process that was killed, and goes.

Windows renames no file that is open, and puts none in the place of one that is: there a temporary is closed first, what
a killed process left stays, modes and owners are the folder's, and nothing that may be replaced is mapped.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import secrets
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, cast

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

#: Whether another file can take the place of one that is mapped.
MAPPED_ARE_REPLACED = sys.platform != "win32"
#: Bytes written by one call, and between two syncs: a signal is heard after either, within a second on a slow disk.
PIECE = 1 << 22
SYNCED = 1 << 26
#: How folders say that they can't be synced, or not by us.
UNSYNCED = (errno.EINVAL, errno.EACCES, errno.EPERM, errno.ENOTSUP, errno.EISDIR)


def open_regular(path: str) -> BinaryIO:
    """A regular file, opened to be read.

    Raises
    ------
    ValueError
        If the path names a folder, a FIFO, a socket or a device: none is waited for, and only FIFOs are opened at all.
    OSError
        If there is no such file, or it may not be read.
    """
    kind = _kind(os.stat(path).st_mode)
    if kind is None:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        file = os.fdopen(handle, "rb", buffering=0)
        kind = _kind(os.fstat(handle).st_mode)  # of what was opened, whatever was put there since
        if kind is None:
            return cast(BinaryIO, file)
        file.close()
    raise ValueError(f"it is {kind}; expected a regular file")


def write(path: str, parts: Iterable[bytes | memoryview]) -> None:
    """Put a file of these parts in the place of whatever regular file is there; on an error that stays as it is.

    Mode, and where permitted owner, of a file that is replaced are kept, and links are followed.

    Raises
    ------
    OSError
        That names the path, with the system's own number: no such folder, no permission, no space, ...
    """
    try:
        target, before = _target(path)
        with _replacement(target, before) as handle:
            unsynced = 0
            for part in parts:
                for start in range(0, len(part), PIECE):
                    piece = memoryview(part)[start : start + PIECE]
                    unsynced += len(piece)
                    while len(piece):
                        piece = piece[os.write(handle, piece) :]
                    if unsynced >= SYNCED:
                        os.fsync(handle)
                        unsynced = 0
        _sync_folder(os.path.dirname(target))
    except OSError as error:
        if error.errno is None or isinstance(error, io.UnsupportedOperation):
            raise
        raise OSError(error.errno, error.strerror, path) from error


def lock_now(handle: int) -> bool:
    """Whether an open, empty file could be locked, until it is closed; where there are no locks it always can."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks; on Windows, all of whose own have them, another's lock
        return sys.platform != "win32"
    return True


def _kind(mode: int) -> str | None:
    """What is there, or None for a regular file."""
    if stat.S_ISREG(mode):
        return None
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def _target(path: str) -> tuple[str, os.stat_result | None]:
    """Where links lead to, and what is there."""
    target = os.path.realpath(path)
    before = None
    with suppress(FileNotFoundError):
        before = os.stat(path)
    if before is not None and (kind := _kind(before.st_mode)) is not None:
        number = errno.EISDIR if stat.S_ISDIR(before.st_mode) else errno.EINVAL
        raise io.UnsupportedOperation(number, f"It is {kind}; expected the name of a regular file", path)
    if not os.path.basename(path):
        raise FileNotFoundError(errno.ENOENT, "No name of a file", path)
    return target, before


@contextmanager
def _replacement(target: str, before: os.stat_result | None) -> Iterator[int]:
    """A new file beside the target, locked, with the mode and owner to be, which takes its place; gone on an error.

    Its name is made of a digest: the target's own may be as long as names can be.
    """
    folder, name = os.path.split(target)
    prefix = f".{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}-"
    _remove_stale(folder, prefix)
    handle, temporary = -1, ""
    try:
        while handle < 0:
            temporary = os.path.join(folder, f"{prefix}{secrets.token_hex(4)}.part")
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
            handle = os.open(temporary, flags, 0o666 if before is None else 0o600)
            _lock(handle)
            if os.fstat(handle).st_nlink == 0:  # another save took it for stale before it was locked
                os.close(handle)
                handle = -1
        if before is not None:
            _make_like(handle, before)
        yield handle
        os.fsync(handle)
        if sys.platform == "win32":
            written, handle = handle, -1
            os.close(written)
        os.replace(temporary, target)
    finally:
        if handle >= 0:
            os.close(handle)
        if temporary:
            with suppress(FileNotFoundError):
                os.unlink(temporary)


def _remove_stale(folder: str, prefix: str) -> None:
    """What killed saves of this name left: nobody holds its lock."""
    if sys.platform == "win32":
        return
    with suppress(PermissionError), os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(prefix) or not entry.is_file(follow_symlinks=False):
                continue
            with suppress(OSError):  # in use, gone, or another's: not ours to remove
                handle = os.open(entry.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(entry.path)
                finally:
                    os.close(handle)


def _lock(handle: int) -> None:
    """Say that the file is in use; where a file system has no locks, stale files are not removed either."""
    if sys.platform != "win32":
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)


def _make_like(handle: int, before: os.stat_result) -> None:
    """The owner of another file where that is permitted, then its mode, which a change of owner may clear."""
    if sys.platform == "win32":
        return
    now = os.fstat(handle)
    for owner, group in ((before.st_uid, -1), (-1, before.st_gid)):
        if (owner, group) not in ((now.st_uid, -1), (-1, now.st_gid)):
            with suppress(PermissionError):
                os.fchown(handle, owner, group)
    os.fchmod(handle, stat.S_IMODE(before.st_mode))


def _sync_folder(folder: str) -> None:
    """Make a rename last; not every folder and system can."""
    if sys.platform == "win32":
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in UNSYNCED:
            raise
