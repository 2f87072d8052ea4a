"""Files that are whole or not there: written under a temporary name beside their place, and renamed when they are done.

The temporary name is short and of this process alone, so that names of any length can be written and two runs do not
meet. It is locked while it is written: what a killed run left behind is known by the lock that is gone.
"""

from __future__ import annotations

import errno
import io
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from esc_arch.common.ending import at_hard_end
from esc_arch.common.errors import UserError

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be removed, nor be replaced
    fcntl = None  # type: ignore[assignment]

PREFIX, END = ".esc-", ".part"
PROBE = 4096  # bytes that are written to try a place: a full disk may still take an empty file
NO_ROOM = {
    errno.ENOSPC: "is full",
    getattr(errno, "EDQUOT", errno.ENOSPC): "holds as much as your quota allows",
    errno.EROFS: "can only be read",
}
_partials: set[str] = set()


class DiskError(UserError):
    """A disk takes nothing any more, so that there is no sense in going on."""


@contextmanager
def replacing(file: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Write a file, which takes its name when the block has ended without an exception.

    Args:
        file: where it shall be; what is there is replaced, be it a link.

    Yields:
        a stream to write to, which is no file of the system: libraries would write past Python, and not notice where
        a disk takes but a part.

    Raises:
        DiskError: the disk is full or can only be read.
        UserError: it cannot be written for another reason.
    """
    with _renamed(os.fspath(file), "") as (partial, descriptor):
        stream = _Stream(partial, descriptor)
        try:
            yield stream  # type: ignore[misc]
            stream.flush()
        finally:
            with suppress(OSError):  # what could not be flushed before is lost with the file
                stream.close()


@contextmanager
def temporary_name(file: str | os.PathLike[str]) -> Iterator[str]:
    """Give the path to write a file to, for libraries that want one; it is renamed as by `replacing`.

    Args:
        file: where it shall be.

    Yields:
        a path in the same folder, with the same suffix; an empty file is there.

    Raises:
        DiskError, UserError: as `replacing`.
    """
    with _renamed(os.fspath(file), os.path.splitext(file)[1]) as (partial, _):
        yield partial


@contextmanager
def marked(folder: str) -> Iterator[str]:
    """Keep an empty file in a folder while the block runs, by which others can tell that they see the same folder.

    Yields:
        its path.

    Raises:
        DiskError, UserError: as `replacing`.
    """
    partial = None
    try:
        partial, descriptor = _create(folder, "")
    except OSError as error:
        _discard(partial)
        raise cannot_write(folder, error) from error
    try:
        yield partial
    finally:
        os.close(descriptor)
        _discard(partial)


def try_folder(folder: str) -> bool:
    """Make a folder, unless it is there, and try to write into it.

    Args:
        folder: its path.

    Returns:
        whether it takes names that differ in small and capital letters for the same.

    Raises:
        DiskError, UserError: nothing can be written there; folders that were made for it are removed again.
    """
    made = _missing(folder)
    partial = None
    try:
        os.makedirs(folder, exist_ok=True)
        partial, descriptor = _create(folder, "")
        try:
            os.write(descriptor, bytes(PROBE))
            os.fsync(descriptor)  # a network's disk may tell only now
        finally:
            os.close(descriptor)
        return os.path.exists(os.path.join(folder, os.path.basename(partial).upper()))
    except OSError as error:
        _discard(partial)
        for path in made:
            with suppress(OSError):
                os.rmdir(path)
        raise cannot_write(folder, error) from error
    finally:
        _discard(partial)


def cannot_write(file: str | os.PathLike[str], error: OSError) -> UserError:
    """Put into words that a file or folder could not be written, and name the disk where it is at fault."""
    if error.errno in NO_ROOM:
        return DiskError(
            f"{os.fspath(file)} cannot be written: the disk at {_mount_point(os.fspath(file))} {NO_ROOM[error.errno]} "
            f"({error.strerror}); {'' if error.errno == errno.EROFS else 'make room, or '}choose another place, "
            "and run again."
        )
    reason = error.strerror or str(error) or type(error).__name__
    return UserError(f"{os.fspath(file)} cannot be written ({reason}).")


def sweep(folder: str | os.PathLike[str]) -> None:
    """Remove what killed runs left in a folder; what another run is writing is locked, and stays."""
    try:
        names = [name for name in os.listdir(folder) if name.startswith(PREFIX) and END in name]
    except OSError:
        return
    for name in names:
        with suppress(OSError):
            descriptor = os.open(os.path.join(folder, name), os.O_RDWR)
            try:
                if _lock(descriptor):
                    os.remove(os.path.join(folder, name))
            finally:
                os.close(descriptor)


class _Stream(io.BufferedRandom):
    """A file without a number, so that every byte goes through Python, which notices how many were taken."""

    def __init__(self, path: str, descriptor: int) -> None:
        super().__init__(io.FileIO(descriptor, "r+", closefd=False))
        self._path = path

    @property
    def name(self) -> str:  # type: ignore[override]  # where a file that has a path has it
        return self._path

    def fileno(self) -> int:
        raise io.UnsupportedOperation("fileno")


@contextmanager
def _renamed(file: str, suffix: str) -> Iterator[tuple[str, int]]:
    partial = None
    try:
        partial, descriptor = _create(os.path.dirname(file) or ".", suffix)
        try:
            yield partial, descriptor
        finally:
            os.close(descriptor)
        os.replace(partial, file)
        _partials.discard(partial)
    except OSError as error:
        raise cannot_write(file, error) from error
    finally:
        _discard(partial)


def _create(folder: str, suffix: str) -> tuple[str, int]:
    """Make an empty file of a new name, and lock it; return its path and descriptor."""
    while True:
        partial = os.path.join(folder, f"{PREFIX}{os.getpid():x}-{secrets.token_hex(3)}{END}{suffix}")
        _partials.add(partial)
        try:
            descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        except FileExistsError:
            _partials.discard(partial)
            continue
        except OSError:
            _partials.discard(partial)
            raise
        if _lock(descriptor) and os.fstat(descriptor).st_nlink:
            return partial, descriptor
        os.close(descriptor)  # another run swept it away before it was locked
        _discard(partial)


def _lock(descriptor: int) -> bool:
    """Lock a file for this process; False where another has it. Where there are no locks, nothing is swept."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True


def _discard(partial: str | None) -> None:
    if partial in _partials:
        _partials.discard(partial)
        with suppress(OSError):
            os.remove(partial)


@at_hard_end
def _discard_all() -> None:
    for partial in list(_partials):
        _discard(partial)


def _missing(folder: str) -> list[str]:
    """List the folders that must be made, the innermost first."""
    missing = []
    path = os.path.abspath(folder)
    while not os.path.lexists(path):
        missing.append(path)
        path = os.path.dirname(path)
    return missing


def _mount_point(file: str) -> str:
    path = os.path.realpath(file)
    while not os.path.ismount(path):
        path = os.path.dirname(path)
    return path
