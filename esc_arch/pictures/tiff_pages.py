"""Which page of a TIFF is the picture, and the values of its tags."""

from __future__ import annotations

import struct
from contextlib import suppress
from itertools import islice
from typing import Any

import numpy as np
import tifffile

from esc_arch.common.errors import UserError

_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_MOST_PAGES = 4096


def main_page(file: str, tiff: tifffile.TiffFile) -> tifffile.TiffPage:
    """Find the page that is the picture.

    Thumbnails, overviews and masks are left; of nothing but thumbnails the largest is taken.

    Args:
        file: its name, for messages.
        tiff: the open file.

    Raises:
        UserError: there are several pictures.
    """
    pages = [page.aspage() for page in islice(tiff.pages, _MOST_PAGES)]
    whole = [page for page in pages if not _is_beside(page)]
    if not whole:  # a thumbnail first, and the picture below it, as in DNG
        below = [sub.aspage() for page in pages for sub in islice(page.pages or (), _MOST_PAGES)]
        whole = [page for page in below if not _is_beside(page)] or pages
        whole = [max(whole, key=_area)] if whole is pages else whole
    stacked = (tiff.imagej_metadata or {}).get("images", 1) if tiff.is_imagej else 1
    largest = max(whole, key=_area)
    if all(page is largest or _is_overview(page, largest) for page in whole) and stacked == 1:
        return largest
    raise UserError(f"{file} has {max(len(whole), stacked)} pages; split it into single pictures.")


def _is_beside(page: tifffile.TiffPage) -> bool:
    return bool(tag_number(page, 254, 0) & (_REDUCED | _MASK)) or tag_number(page, 255, 1) == 2


def _area(page: tifffile.TiffPage) -> int:
    return page.imagewidth * page.imagelength


def _is_overview(page: tifffile.TiffPage, main: tifffile.TiffPage) -> bool:
    """Tell whether a page that is not marked is the main one made smaller by a power of two, as in pyramids."""
    if (page.samplesperpixel, page.bitspersample) != (main.samplesperpixel, main.bitspersample):
        return False
    for power in range(1, 16):
        sizes = [(main.imagewidth, page.imagewidth), (main.imagelength, page.imagelength)]
        if all(small in (max(side >> power, 1), -(-side >> power)) for side, small in sizes):
            return True
    return False


def tag_value(page: tifffile.TiffPage, code: int) -> Any:
    """Return the value of a tag as tifffile has it, None where it is not there."""
    tag = page.tags.get(code)
    return None if tag is None else tag.value


def tag_number(page: tifffile.TiffPage, code: int, default: int) -> int:
    """Return the first number of a tag."""
    value = tag_value(page, code)
    value = value[0] if isinstance(value, tuple) and value else value
    return int(value) if isinstance(value, int | float) else default


def tag_bytes(page: tifffile.TiffPage, code: int) -> bytes:
    """Return the bytes of a tag; some programs store them as numbers of 32 bits."""
    value = tag_value(page, code)
    with suppress(struct.error):
        if isinstance(value, str):
            return value.encode()
        if isinstance(value, tuple) and page.tags[code].dtype in (4, 9):
            return struct.pack(f"{page.parent.byteorder}{len(value)}I", *(number & 0xFFFFFFFF for number in value))
        if isinstance(value, np.ndarray):
            return value.tobytes()
        if isinstance(value, tuple) and all(number in range(256) for number in value):
            return bytes(value)
    return value if isinstance(value, bytes) else b""
