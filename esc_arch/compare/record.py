"""Keeps results in a file of JSON lines, so that an interrupted comparison goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from esc_arch.common.errors import UserError
from esc_arch.common.paths import PATHS_OF_DATA

LOCK = "lock.mdb"  # of an LMDB, which reading changes


class Record:
    """Results of tasks, each under a key that holds all that the result depends on.

    Args:
        file: the JSON-lines file; read when it exists, and appended to.

    Raises:
        UserError: the file cannot be read or is not such a file.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.results: dict[tuple[str, int], Any] = {}
        try:
            with open(file, encoding="utf-8") as lines:
                for line in lines:
                    self._take(line)
        except FileNotFoundError:
            return
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--output: {file} cannot be read ({error}); choose another folder.") from error

    def _take(self, line: str) -> None:
        try:
            entry = json.loads(line)
            if "values" in entry:
                self.results[entry["key"], entry["round"]] = entry["values"]
        except (json.JSONDecodeError, TypeError, KeyError):
            return  # the line was being written when the comparison was interrupted

    def add(self, key: str, number: int, **entry: Any) -> None:
        """Append a result (`values=...`), which is used again, or a failure (`error=...`), which is tried again.

        Args:
            key: see `key_of`.
            number: the round.
            entry: what else to write; label and task, for the reader.
        """
        text = json.dumps({"key": key, "round": number, **entry}) + "\n"
        with open(self.file, "a+b") as lines:
            if lines.tell() > 0:
                lines.seek(-1, os.SEEK_END)
                if lines.read(1) != b"\n":
                    text = "\n" + text
            lines.write(text.encode())
        if "values" in entry:
            self.results[key, number] = entry["values"]

    def get(self, key: str, number: int) -> Any:
        """Return the values of a task in a round, None if it has not been done."""
        return self.results.get((key, number))


def key_of(*parts: Any) -> str:
    """Condense all that a result depends on into a short key."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:20]


def state_of(dataset: Mapping[str, Any]) -> str:
    """Condense which files the paths of a data set lead to, how large they are and when they were changed.

    Args:
        dataset: a section of `datasets`.
    """
    roots = [dataset.get(key) or [] for key in PATHS_OF_DATA]
    paths = [path for root in roots for path in ([root] if isinstance(root, str) else root)]
    return key_of([_state(path) for path in paths])


def _state(path: str) -> list[Any]:
    files = [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]
    found = []
    for file in sorted(files) or [path]:
        try:
            state = os.stat(file)
        except OSError:  # what is not there is told when it is scored
            continue
        if os.path.basename(file) != LOCK:
            found.append([os.path.relpath(file, path), state.st_size, state.st_mtime_ns])
    return found


def digest(file: str | None) -> str | None:
    """Condense the content of a file; None when there is none."""
    if file is None or not os.path.isfile(file):
        return None
    state = hashlib.sha256()
    with open(file, "rb") as content:
        while block := content.read(1 << 20):
            state.update(block)
    return state.hexdigest()
