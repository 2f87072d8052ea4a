"""Lists of the images of a data set: text files, the first word of whose lines is the name of an image.

Behind it stands the size, or after a comma the name of LQ.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Container


def lines_of(file: str) -> list[str]:
    """Read the lines of a list that are not empty, as editors leave it: with tabs, in UTF-16, with a mark in front.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no text.
    """
    with open(file, "rb") as stream:
        content = stream.read()
    in_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if in_16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no text in UTF-8; save it as that") from error
    if "\0" in text:
        raise ValueError(f"{file} is no text")
    return [line.strip().replace("\t", " ") for line in text.splitlines() if line.strip()]


def listed_images(file: str) -> list[str]:
    """Read the names of a list.

    Raises:
        OSError, ValueError: as `lines_of`.
    """
    return [line.split()[0].rstrip(",") for line in lines_of(file)]


def listed_keys(file: str, known: Container[str]) -> list[str]:
    """Read the keys of an LMDB from a list: the names without their suffix.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no text, or a key is not among those known.
    """
    keys = [os.path.splitext(name)[0] for name in listed_images(file)]
    for key in keys:
        if key not in known:
            raise ValueError(f"{file} names {key}, which is not in the LMDB")
    return keys
