"""Reading pictures, with every sort of pixel turned into grey or RGB, 8 or 16 bits, with or without alpha."""

from __future__ import annotations

import io
import lzma
import os
import re
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import BinaryIO, cast

from PIL import Image

from esc_arch.common.errors import UserError
from esc_arch.pictures.bmp import with_file_header
from esc_arch.pictures.decoding import read_with_pillow
from esc_arch.pictures.formats import FORMATS, HEAD, NAMELESS, format_of, sniff
from esc_arch.pictures.picture import Picture
from esc_arch.pictures.png import read_png
from esc_arch.pictures.pnm import read_pnm

READ = sorted(set(FORMATS.values()))
_LIMIT = Lock()  # one picture at a time: Pillow has its limit for the whole process
_DAMAGED = "it is damaged, or written in a way that is not known"
_OF_PROGRAMS = (LookupError, TypeError, AttributeError, AssertionError, ArithmeticError, UnicodeError, struct.error)
_INSIDE = re.compile(  # what decoders say where a file is not what they expect
    r"requires a buffer|buffer overrun|buffer is not large|index out of range|invalid literal|could not convert string"
    r"|by this driver|decoder object|decoder error|next frame|Generic Error"
)


def read_picture(file: str, max_pixels: int) -> Picture:
    """Read a picture and turn it upright.

    What is stored decides, not the name. Palettes become RGB, bilevel becomes grey, CMYK is converted by its
    profile. Pictures beside the main one (thumbnails, overviews, the companions that phones store) are left.

    Args:
        file: path of a picture.
        max_pixels: the largest number of pixels that is accepted, since a small file may unpack to a huge picture.

    Returns:
        the picture.

    Raises:
        UserError: the file is missing, empty, damaged, too large, of another kind, or holds several pictures.
    """

    return _guarded(file, lambda: open(file, "rb"), max_pixels)


def read_picture_in_memory(name: str, data: bytes, max_pixels: int) -> Picture:
    """Read a picture that is no file, as `read_picture` does.

    Args:
        name: what it is called in messages.
        data: what a file would hold.
        max_pixels: as there.

    Raises:
        UserError: as there.
    """
    return _guarded(name, lambda: io.BytesIO(data), max_pixels)


def _guarded(file: str, opened: Callable[[], BinaryIO], max_pixels: int) -> Picture:
    def check(width: int, height: int) -> None:
        if width < 1 or height < 1:
            raise UserError(f"{file} has {width} x {height} pixels; it is damaged.")
        if width * height > max_pixels:
            raise UserError(
                f"{file} has {width} x {height} pixels, more than the limit of {max_pixels}; raise it by --max-pixels "
                "if you trust the file."
            )

    try:
        with opened() as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is odd about metadata
            if stream.seek(0, os.SEEK_END) == 0:
                raise UserError(f"{file} is empty.")
            stream.seek(0)
            return _read(file, stream, max_pixels, check)
    except UserError:
        raise
    except Image.DecompressionBombError as error:  # of a part that states another size than the whole
        raise UserError(
            f"{file} has more pixels than the limit of {max_pixels}; raise it by --max-pixels if you trust the file."
        ) from error
    except MemoryError as error:
        raise UserError(f"{file} does not fit into memory.") from error
    except Exception as error:  # a damaged file may raise anything at all
        raise UserError(f"{file} cannot be read ({_reason(error)}).") from error


@contextmanager
def _limit_of_pillow(max_pixels: int) -> Iterator[None]:
    """Make Pillow refuse, what has too many pixels here, and not what it takes for too large itself."""
    with _LIMIT:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, cast(int, max_pixels / 2)  # it refuses twice as many
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _reason(error: Exception) -> str:
    """Say why a file cannot be read, in words about the file where those of the error are about a program."""
    if isinstance(error, zlib.error | lzma.LZMAError):
        return "its compressed data are damaged"
    words = getattr(error, "strerror", None) or str(error).partition("\n")[0]
    return _DAMAGED if not words or isinstance(error, _OF_PROGRAMS) or _INSIDE.search(words) else words


def _read(file: str, stream: BinaryIO, max_pixels: int, check: Callable[[int, int], None]) -> Picture:
    head = stream.read(HEAD)
    kind = sniff(head)
    if kind is None and format_of(file) in NAMELESS:
        kind = format_of(file)
    stream.seek(0)
    if kind is None:
        raise UserError(f"{file} is none of {', '.join(READ)}, or damaged from the start.")
    if kind not in (*READ, "DIB"):
        raise UserError(f"{file} is {kind}, which is not read; make a PNG of it, or leave it out.")
    if kind == "PNG":
        return read_png(file, stream.read(), check)
    if kind == "PPM":
        return read_pnm(file, stream.read(), check)
    if kind == "DIB":
        stream, kind = io.BytesIO(with_file_header(stream.read())), "BMP"
    with _limit_of_pillow(max_pixels):
        if kind == "TIFF":
            from esc_arch.pictures.tiff import read_tiff  # which brings a library of its own

            return read_tiff(file, stream, check)
        # from memory: a damaged file may ask for more bytes than there are, and a file would make room for them first
        return read_with_pillow(file, io.BytesIO(stream.read()), kind, check)
