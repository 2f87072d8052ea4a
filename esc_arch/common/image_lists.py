"""Lists of the images of a data set: text files, the first word of whose lines is the name of an image.

Behind it stands the size, or after a comma the name of LQ.
"""

from __future__ import annotations

import os
from collections.abc import Container


def listed_images(file: str) -> list[str]:
    """Read the names of a list; empty lines count for nothing.

    Raises:
        OSError: the file cannot be read.
    """
    with open(file, encoding="utf-8-sig") as lines:
        return [line.split()[0].rstrip(",") for line in lines if line.strip()]


def listed_keys(file: str, known: Container[str]) -> list[str]:
    """Read the keys of an LMDB from a list: the names without their suffix.

    Raises:
        OSError: the file cannot be read.
        ValueError: a key is not among those known.
    """
    keys = [os.path.splitext(name)[0] for name in listed_images(file)]
    for key in keys:
        if key not in known:
            raise ValueError(f"{file} names {key}, which is not in the LMDB")
    return keys
