"""Which page of a TIFF is the picture, and the values of its tags."""

from __future__ import annotations

import struct
from contextlib import suppress
from itertools import islice, pairwise
from typing import Any

import numpy as np
import tifffile

from esc_arch.common.errors import UserError

_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_PAGE_NUMBER = 297  # a tag: which page of how many, from 0 on
_MOST_PAGES = 4096
_THUMBNAIL = 256  # pixels of a side
_STRUCTURAL = {  # tags without which the pixels would be taken for others
    *(256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 317, 320),
    *(322, 323, 324, 325, 338, 339, 340, 341, 530, 532),
}


def main_page(file: str, tiff: tifffile.TiffFile, notes: list[str]) -> tifffile.TiffPage:
    """Find the page that is the picture.

    Thumbnails, overviews and masks are left; of nothing but thumbnails the largest is taken. Where they are not marked,
    pages behind the picture are left as its overviews if each is smaller than the one before and as wide and high as
    the picture halved some times; a single page more is left as a thumbnail if it is as small as one.

    Args:
        file: its name, for messages.
        tiff: the open file.
        notes: gets a sentence where something is left that might be missed.

    Raises:
        UserError: there are several pictures.
    """
    pages = _pages(tiff, notes)
    whole = [page for page in pages if not _is_beside(page)]
    if not whole:  # a thumbnail first, and the picture below it, as in DNG
        below = [sub.aspage() for page in pages for sub in islice(page.pages or (), _MOST_PAGES)]
        whole = [page for page in below if not _is_beside(page)] or pages
        whole = [max(whole, key=_area)] if whole is pages else whole
    stacked = (tiff.imagej_metadata or {}).get("images", 1) if tiff.is_imagej else 1
    largest = max(whole, key=_area)
    if damaged := _STRUCTURAL & (_stored_tags(tiff, largest) - set(largest.tags.keys())):
        raise ValueError(f"its tags {', '.join(map(str, sorted(damaged)))} are damaged")
    others = [page for page in whole if page is not largest]
    if others and whole[0] is largest and _are_overviews(others, largest):
        sides = ", ".join(f"{page.imagewidth} x {page.imagelength}" for page in others)
        notes.append(f"its further pages, of {sides}, are left as overviews")
        others = []
    if len(others) == 1 and stacked == 1 and _is_thumbnail(others[0], largest):
        small = others.pop()
        notes.append(f"its other page, of {small.imagewidth} x {small.imagelength}, is left as a thumbnail")
    if not others and stacked == 1:
        return largest
    raise UserError(f"{file} has {max(len(whole), stacked)} pages; split it into single pictures.")


def _is_thumbnail(page: tifffile.TiffPage, main: tifffile.TiffPage) -> bool:
    small = max(page.imagewidth, page.imagelength) <= _THUMBNAIL and 16 * _area(page) <= _area(main)
    return small or 513 in page.tags  # as EXIF has its thumbnails: a whole JPEG


def _pages(tiff: tifffile.TiffFile, notes: list[str]) -> list[tifffile.TiffPage]:
    """Return the pages as far as their chain is whole: behind the first one, a pointer may lead to no page, or back."""
    first = tiff.pages.first
    pages, seen = [first], {first.offset}
    try:
        for page in islice(tiff.pages, 1, _MOST_PAGES):
            page = page.aspage()
            if page.offset in seen:
                raise ValueError("the chain leads back")
            seen.add(page.offset)
            if not _is_possible(page):
                raise ValueError("the pointer leads to something else")
            pages.append(page)
        if len(pages) < _MOST_PAGES and _next_offset(tiff, pages[-1]):
            raise ValueError("the pointer leads out of the file")
    except Exception:  # what a pointer leads to may raise anything at all
        notes.append(f"behind its page {len(pages)} its directory leads to none; what may have been there is lost")
    return pages


def _next_offset(tiff: tifffile.TiffFile, page: tifffile.TiffPage) -> int:
    """Return where the page behind a page begins, as it is written; 0 behind the last one."""
    layout = tiff.tiff
    tiff.filehandle.seek(page.offset)
    (count,) = struct.unpack(layout.tagnoformat, tiff.filehandle.read(layout.tagnosize))
    tiff.filehandle.seek(page.offset + layout.tagnosize + count * layout.tagsize)
    return int(struct.unpack(layout.offsetformat, tiff.filehandle.read(layout.offsetsize))[0])


def _is_possible(page: tifffile.TiffPage) -> bool:
    """Tell whether a page has a size, and pixels within the file."""
    size = page.parent.filehandle.size
    places = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    inside = bool(places) and all(start > 0 and start + length <= size for start, length in places)
    return _area(page) > 0 and ((inside and 262 in page.tags) or 330 in page.tags)


def _stored_tags(tiff: tifffile.TiffFile, page: tifffile.TiffPage) -> set[int]:
    """Return the numbers of the tags that a page has in the file, those that cannot be read as well."""
    layout = tiff.tiff
    tiff.filehandle.seek(page.offset)
    (count,) = struct.unpack(layout.tagnoformat, tiff.filehandle.read(layout.tagnosize))
    entries = tiff.filehandle.read(count * layout.tagsize)
    starts = range(0, len(entries) - 1, layout.tagsize)
    return {struct.unpack_from(f"{layout.byteorder}H", entries, start)[0] for start in starts}


def _is_beside(page: tifffile.TiffPage) -> bool:
    return bool(tag_number(page, 254, 0) & (_REDUCED | _MASK)) or tag_number(page, 255, 1) == 2


def _area(page: tifffile.TiffPage) -> int:
    return page.imagewidth * page.imagelength


def _are_overviews(pages: list[tifffile.TiffPage], main: tifffile.TiffPage) -> bool:
    """Tell whether pages that are neither marked nor numbered, as those of a document, make a pyramid."""
    areas = [_area(page) for page in (main, *pages)]
    numbered = any(tag_number(page, _PAGE_NUMBER, 0) for page in pages)
    smaller = all(after < before for before, after in pairwise(areas))
    return smaller and not numbered and all(_is_overview(page, main) for page in pages)


def _is_overview(page: tifffile.TiffPage, main: tifffile.TiffPage) -> bool:
    """Tell whether a page is as large as the main one made smaller by a power of two."""
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
