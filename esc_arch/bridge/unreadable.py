"""Says which file of a data set cannot be read."""

from __future__ import annotations

import os
from typing import Any

from esc_arch.common.errors import RunError, first_line


class Unreadable(dict[str, str]):
    """Stands for an image, or a batch, that cannot be read, and goes through loaders and prefetchers like a batch.

    Args:
        sentence: which file, and why.
    """

    def __init__(self, sentence: str = "") -> None:
        super().__init__(sentence=sentence)

    def __missing__(self, key: str) -> None:
        """Raise what is wrong where a model looks for its images, in loops that do not look before."""
        raise RunError(self["sentence"])

    def __reduce__(self) -> tuple[type[Unreadable], tuple[str]]:
        return Unreadable, (self["sentence"],)


def what_is_unreadable(dataset: Any, index: int, error: BaseException, then: str = "go on with --auto_resume") -> str:
    """Name the file at fault, as far as a data set tells its files, and the reason.

    Args:
        dataset: a data set of BasicSR, most of which keep a list `paths`.
        index: of the image.
        error: what reading it raised.
        then: what to do once it is repaired.
    """
    reason = first_line(error).rstrip(".")
    files = _files(dataset, index)
    on_disk = [file for file in files if os.path.isabs(file) or os.path.exists(file)]
    broken = [file for file in on_disk if not _decodes(file)]
    named = " and ".join(broken[:1] or files) or f"image {index} of the data set"
    if broken:
        reason = "it is no image, or damaged" if os.path.isfile(broken[0]) else "it is not there any more"
    return f"{named} cannot be read ({reason}); repair or remove it, and {then}."


def _files(dataset: Any, index: int) -> list[str]:
    paths = getattr(dataset, "paths", None) or getattr(dataset, "keys", None)
    try:
        entry = paths[index]  # type: ignore[index]
    except (TypeError, KeyError, IndexError):
        return []
    values = entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list | tuple) else [entry]
    return [str(value) for value in values]


def _decodes(file: str) -> bool:
    import cv2  # not before it is needed: importing this package shall stay quick

    return os.path.isfile(file) and cv2.imread(file, cv2.IMREAD_UNCHANGED) is not None
