"""LMDB environments that are opened once per process and path, because lmdb refuses a second time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

_open: dict[str, tuple[int, Any]] = {}  # process that opened it and the environment, by real path


def environment(path: str, **options: Any) -> Any:
    """Return the environment of an LMDB, opened for reading unless this process has it open already.

    Args:
        path: the `.lmdb` folder.
        options: of `lmdb.open`, for an environment that is not open yet.

    Returns:
        an `lmdb.Environment`; it stays open.

    Raises:
        lmdb.Error: the database cannot be opened.
    """
    import lmdb

    key = os.path.realpath(path)
    process, known = _open.get(key, (os.getpid(), None))
    if process != os.getpid():  # a forked worker: its copy of the parent's environment still counts as open
        known.close()
        known = None
    if known is None:
        known = lmdb.open(str(path), **{"readonly": True, "lock": False, "readahead": False, **options})
        _open[key] = os.getpid(), known
    return known


@contextlib.contextmanager
def opened(path: str) -> Iterator[Any]:
    """Give the environment of an LMDB for a while, and close it afterwards unless it was open before."""
    key = os.path.realpath(path)
    was_open = _open.get(key, (0, None))[0] == os.getpid()
    known = environment(path)
    try:
        yield known
    finally:
        if not was_open:
            del _open[key]
            known.close()
