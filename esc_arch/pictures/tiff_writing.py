"""Writing TIFF: compressed without loss, with all that belongs to a picture."""

from __future__ import annotations

import os
import struct
from typing import Any, BinaryIO

import tifffile
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from esc_arch.pictures.metadata import DESCRIPTIVE, EXIF_BLOCK, GPS_BLOCK, as_stored, block_of, load_exif
from esc_arch.pictures.picture import Picture

_SOFTWARE = 305  # a tag that tifffile has an argument for
_UNITS = {"": 1, "inch": 2, "cm": 3}
_LARGEST = 2**32 - 2**25  # bytes of pixels from which on tifffile writes BigTIFF
_BYTE, _ASCII, _SHORT, _LONG, _UNDEFINED, _LONG8 = 1, 2, 3, 4, 7, 16  # types of tags
_HEADER, _BIG_HEADER = b"II*\0" + bytes(4), b"II+\0\x08" + bytes(11)


def write_tiff(stream: BinaryIO, picture: Picture) -> None:
    """Write a picture of 8 or 16 bits as TIFF, in strips compressed by Deflate.

    Args:
        stream: where to; it can be read and moved in, too.
        picture: grey or RGB, with or without alpha, which is declared as not multiplied into the colours.

    Raises:
        OSError, ValueError: it cannot be written.
    """
    pixels, exif = picture.pixels, load_exif(picture.exif)
    channels = pixels.shape[2]
    tags: list[tuple[int, int, int, Any, bool]] = []
    for tag in DESCRIPTIVE:
        value = exif.get(tag)
        if isinstance(value, str) and tag != _SOFTWARE:
            encoded = as_stored(value.rstrip("\0")).encode() + b"\0"
            tags.append((tag, _ASCII, len(encoded), encoded, True))
        elif isinstance(value, bytes):
            tags.append((tag, _BYTE, len(value), value, True))
        elif isinstance(value, int):
            tags.append((tag, _SHORT, 1, value, True))
    if picture.xmp:
        tags.append((700, _BYTE, len(picture.xmp), picture.xmp, True))
    if picture.iptc:
        tags.append((33723, _UNDEFINED, len(picture.iptc), picture.iptc, True))
    big = pixels.nbytes > _LARGEST
    blocks = {block: values for block in (EXIF_BLOCK, GPS_BLOCK) if (values := block_of(exif, block))}
    # tifffile does not take pointers to directories: another number holds the place of each
    tags += [(block - 1, _LONG8 if big else _LONG, 1, 0, True) for block in blocks]
    resolution = picture.resolution
    tifffile.imwrite(
        stream,
        pixels[..., 0] if channels == 1 else pixels,
        byteorder="<",
        bigtiff=big,
        photometric="minisblack" if channels < 3 else "rgb",
        planarconfig=None if channels == 1 else "contig",
        extrasamples=["unassalpha"] if channels in (2, 4) else None,
        compression="zlib",
        iccprofile=picture.profile,
        metadata=None,
        software=as_stored(str(exif.get(_SOFTWARE) or "")).encode() or False,
        resolution=(resolution.x, resolution.y) if resolution else None,
        resolutionunit=_UNITS[resolution.unit] if resolution else None,
        extratags=tags,
    )
    _append_blocks(stream, blocks, big)


def _append_blocks(stream: BinaryIO, blocks: dict[int, dict[int, Any]], big: bool) -> None:
    """Write directories below the first one, which tifffile does not, at the end of the file."""
    if not blocks:
        return
    places = _places(stream, big)
    for block, values in blocks.items():
        directory = ImageFileDirectory_v2(_BIG_HEADER if big else _HEADER, group=block)
        for tag, value in values.items():
            directory[tag] = as_stored(value, tag, block)
        start = stream.seek(0, os.SEEK_END)
        start += stream.write(bytes(start % 2))  # directories begin at even places
        stream.write(directory.tobytes(start))
        stream.seek(places[block - 1])
        stream.write(struct.pack("<HHQQ" if big else "<HHII", block, _LONG8 if big else _LONG, 1, start))


def _places(stream: BinaryIO, big: bool) -> dict[int, int]:
    """Return where in the file the entry of each tag of the first directory lies."""
    stream.seek(8 if big else 4)
    (directory,) = struct.unpack("<Q" if big else "<I", stream.read(8 if big else 4))
    stream.seek(directory)
    (count,) = struct.unpack("<Q" if big else "<H", stream.read(8 if big else 2))
    first, size = stream.tell(), 20 if big else 12
    entries = stream.read(count * size)
    tags = (struct.unpack_from("<H", entries, index * size)[0] for index in range(count))
    return {tag: first + index * size for index, tag in enumerate(tags)}
