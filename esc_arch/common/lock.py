"""A lock that only one process holds, and that is free again when the process is gone, however it ended."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


class Lock:
    """A lock file.

    It is a record lock: unlike that of `flock`, it is not inherited by loader processes, which outlive a kill of
    their parent by seconds, and NFS knows it.

    Args:
        path: the file; its folder must exist when the lock is taken.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._file: Any = None

    def holder(self) -> str | None:
        """Say who else holds the lock, None for nobody; nothing is written."""
        try:
            with open(self.path, "r+", encoding="utf-8") as file:
                if _try(file):
                    return None
                with contextlib.suppress(OSError):
                    return file.read().strip() or "another process"
                return "another process"
        except OSError:  # no such file, or one of somebody else
            return None

    def take(self) -> str | None:
        """Take the lock and keep it until `release`.

        Returns:
            None, or who holds it.

        Raises:
            OSError: the file cannot be made.
        """
        while True:
            file = open(self.path, "a+", encoding="utf-8")  # noqa: SIM115  it stays open
            if not _try(file):
                file.seek(0)
                words = file.read().strip()
                file.close()
                return words or "another process"
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), os.stat(self.path)):
                    break
            file.close()  # it was removed between opening and locking: whoever comes next would make a new one
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        self._file = file
        return None

    def release(self) -> None:
        """Give the lock back and remove its file."""
        if self._file is None:
            return
        if fcntl is not None:  # Windows does not remove what is open
            with contextlib.suppress(OSError):
                os.remove(self.path)
        self._file.close()
        self._file = None
        if fcntl is None:
            with contextlib.suppress(OSError):
                os.remove(self.path)


def _try(file: Any) -> bool:
    """Lock a file; True too where the file system knows no locks."""
    try:
        if fcntl is not None:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            import msvcrt

            # a byte behind the end, for Windows lets nobody read what is locked
            file.seek(1 << 20)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
            file.seek(0)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return True
    return True
