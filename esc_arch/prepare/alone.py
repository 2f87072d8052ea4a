"""Two preparations of one data set at once: the second is told."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from esc_arch.common.errors import UserError, printable

try:
    import fcntl
except ImportError:  # Windows, which cannot lock a folder
    fcntl = None  # type: ignore[assignment]


@contextmanager
def working_alone(folder: Path) -> Iterator[None]:
    """Lock a folder against other preparations, as long as this process lives; where disks know no locks, do nothing.

    Args:
        folder: its path; it must be there.

    Raises:
        UserError: another process has it.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise UserError(
                    f"{printable(str(folder))} is being prepared by another run: wait for it, or choose another "
                    "--output."
                ) from error
        yield
    finally:
        os.close(descriptor)
