"""Remembers which pictures were found whole, so that the second start need not decode them again."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from typing import Any

Size = tuple[int, int]  # height, width
Entry = tuple[int, int, int, int, str]  # size in bytes, time of change in ns, height, width, thumbnail in hexadecimal


class Remembered:
    """The whole pictures of one folder, by name, size and time of change.

    A file that cannot be read or written is as good as none: all is decoded again.

    Args:
        folder: the folder of pictures.
        decoder: version of what decoded them; another version decodes anew.
    """

    def __init__(self, folder: str, decoder: str) -> None:
        name = hashlib.sha256(os.path.realpath(folder).encode(errors="surrogateescape")).hexdigest()[:32]
        self.file = os.path.join(cache_folder(), "pictures", f"{name}.json")
        self.decoder = decoder
        self.changed = False
        self.entries: dict[str, Entry] = {}
        try:
            with open(self.file, encoding="utf-8") as stream:
                content: Any = json.load(stream)
            if content["decoder"] == decoder:
                self.entries = {str(key): _entry(*entry) for key, entry in content["files"].items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            pass

    def get(self, path: str, state: os.stat_result) -> tuple[Size, bytes] | None:
        """Return height and width, and the thumbnail, of a picture that is as it was, or None."""
        size, changed, height, width, thumbnail = self.entries.get(os.path.basename(path), (-1, 0, 0, 0, ""))
        if (size, changed) != (state.st_size, state.st_mtime_ns):
            return None
        return (height, width), bytes.fromhex(thumbnail)

    def add(self, path: str, state: os.stat_result, size: Size, thumbnail: bytes = b"") -> None:
        """Remember a picture of (height, width) pixels."""
        self.entries[os.path.basename(path)] = state.st_size, state.st_mtime_ns, *size, thumbnail.hex()
        self.changed = True

    def save(self) -> None:
        """Write what was added, under a name of its own first."""
        if not self.changed:
            return
        try:
            os.makedirs(os.path.dirname(self.file), exist_ok=True)
            handle, partial = tempfile.mkstemp(dir=os.path.dirname(self.file))
            try:
                with open(handle, "w", encoding="utf-8", errors="surrogateescape") as stream:
                    json.dump({"decoder": self.decoder, "files": self.entries}, stream)
                os.replace(partial, self.file)
            except BaseException:
                os.remove(partial)
                raise
        except (OSError, ValueError):
            pass


def _entry(size: int, changed: int, height: int, width: int, thumbnail: str) -> Entry:
    return int(size), int(changed), int(height), int(width), bytes.fromhex(thumbnail).hex()


def cache_folder() -> str:
    """Return the folder in which this package may keep what it can find again."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or os.path.expanduser("~")
    elif sys.platform == "darwin":
        base = os.path.expanduser("~/Library/Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(base, "esc_arch")
