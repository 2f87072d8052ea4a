"""Finding the pictures among the files of folders, and counting what is passed over."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from esc_arch.common.errors import printable
from esc_arch.common.leftovers import is_leftover
from esc_arch.pictures.formats import format_of

LEFTOVER, LOOP, NO_SUFFIX, OUTPUT = "leftover of a system", "folder in itself", "without a suffix", "output folder"
HIDDEN, RESULT = "picture whose name begins with a dot", "result of an earlier run"
_PLURALS = {
    LEFTOVER: "leftovers of a system",
    LOOP: "folders in themselves",
    OUTPUT: "output folders",
    HIDDEN: "pictures whose names begin with a dot",
    RESULT: "results of an earlier run",
}


@dataclass
class Found:
    """What was found.

    Attributes:
        pictures: paths, and what they are called relative to the folder that was named.
        problems: why a path cannot be read, for those that look like pictures or hold some.
        passed: how many files were passed over, by their suffix or another kind.
    """

    pictures: list[tuple[str, str]] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    passed: Counter[str] = field(default_factory=Counter)

    def add(self, path: str, relative: str) -> None:
        """Take a file as a picture, or note why it cannot be one."""
        problem = _problem(path)
        if problem:
            self.problems[path] = problem
        else:
            self.pictures.append((path, relative))

    def add_if_picture(self, path: str, relative: str) -> None:
        """Take a file if it is called like a picture, and pass it over otherwise."""
        name = os.path.basename(path)
        if is_leftover(name):
            self.passed[LEFTOVER] += 1
        elif format_of(name):
            self.add(path, relative)
        else:
            self.passed[os.path.splitext(name)[1].lower() or NO_SUFFIX] += 1

    def add_folder(self, folder: str, *, below: bool = True, apart: Collection[str] = ()) -> None:
        """Take the pictures of a folder, in alphabetical order; links to files and folders are followed.

        Args:
            folder: its path.
            below: take those of all folders below it too.
            apart: real paths of folders below it that are passed over.
        """
        self._visit(folder, "", below, apart, ())

    def _visit(self, folder: str, relative: str, below: bool, apart: Collection[str], above: tuple[str, ...]) -> None:
        try:
            names = sorted(os.listdir(folder))
        except OSError as error:
            self.problems[folder] = f"{printable(folder)} cannot be opened ({error.strerror})."
            return
        real = os.path.realpath(folder)
        folders = []
        for name in names:
            path = os.path.join(folder, name)
            if not os.path.isdir(path):
                self.add_if_picture(path, os.path.join(relative, name))
            elif below and is_leftover(name):
                self.passed[LEFTOVER] += 1
            elif below:
                folders.append((path, os.path.join(relative, name)))
        for path, name in folders:
            inner = os.path.realpath(path)
            if inner in (*above, real):
                self.passed[LOOP] += 1
            elif inner in apart:
                self.passed[OUTPUT] += 1
            else:
                self._visit(path, name, below, apart, (*above, real))


def in_words(passed: Counter[str]) -> str:
    """Say what was passed over: "3 passed over (2 .txt, 1 leftover of a system)"; empty for nothing."""
    if not passed.total():
        return ""
    kinds = ", ".join(
        f"{count} {printable(_PLURALS.get(kind, kind) if count > 1 else kind)}" for kind, count in passed.most_common()
    )
    return f"{passed.total()} passed over ({kinds})"


def _problem(path: str) -> str | None:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        reason = error.strerror or type(error).__name__
        if os.path.islink(path):
            reason += f"; it is a link to {printable(os.readlink(path))}"
        return f"{printable(path)} cannot be read ({reason})."
    return (
        None if stat.S_ISREG(mode) else f"{printable(path)} is no file that can be read as a whole; give a copy of it."
    )
