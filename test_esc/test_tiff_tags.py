"""TIFFs by hand whose tags say more than usual, or less than they should."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import tifffile

from esc_arch.common.errors import UserError
from esc_arch.pictures.reading import read_picture_in_memory

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(4)
PIXELS: Array = RNG.integers(0, 256, (9, 13, 3), np.uint8)


def read(data: bytes) -> Array:
    return read_picture_in_memory("a.tif", data, 10**6).pixels


def written(pixels: Array, **options: Any) -> bytearray:
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, metadata=None, **options)
    return bytearray(stream.getvalue())


def with_lengths(data: bytearray, *lengths: int) -> bytes:
    """Change how long the strips are said to be."""
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        tag = tiff.pages.first.tags[279]
    assert (tag.count, tag.dtype) in ((len(lengths), 3), (len(lengths), 4))
    struct.pack_into(f"<{len(lengths)}{'H' if tag.dtype == 3 else 'I'}", data, tag.valueoffset, *lengths)
    return bytes(data)


@pytest.mark.parametrize("length", [0, 50_000])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_length_that_is_none(length: int, compression: str | None) -> None:
    data = with_lengths(written(PIXELS, photometric="rgb", compression=compression), length)
    np.testing.assert_array_equal(read(data), PIXELS)


def test_lengths_of_several_strips_that_are_none() -> None:
    plain = written(PIXELS, photometric="rgb", rowsperstrip=4)
    np.testing.assert_array_equal(read(with_lengths(plain, 0, 50_000, 0)), PIXELS)
    packed = written(PIXELS, photometric="rgb", rowsperstrip=4, compression="zlib")
    with pytest.raises(UserError, match="it is cut off"):
        read(with_lengths(packed, 0, 50_000, 0))


def test_what_is_cut_off_is_told_whatever_its_length_is_said_to_be() -> None:
    data = written(PIXELS, photometric="rgb")
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        (start,) = tiff.pages.first.dataoffsets
    directory = bytes(data[:start])
    for length in (0, PIXELS.nbytes, 50_000):
        cut = with_lengths(bytearray(directory + PIXELS.tobytes()[:-5]), length)
        with pytest.raises(UserError, match="cut off"):
            read(cut)


@pytest.mark.parametrize("compression", ["zlib", "lzma"])
@pytest.mark.parametrize("rows", [4, 9])
def test_checksums_of_what_is_compressed(compression: str, rows: int) -> None:
    """A bit of the pixels that is wrong is told, also where it can be unpacked; a checksum that is missing is not."""
    options = {"compressionargs": {"level": 0}} if compression == "zlib" else {}  # so that any bit can be unpacked
    data = written(PIXELS, photometric="rgb", rowsperstrip=rows, compression=compression, **options)
    np.testing.assert_array_equal(read(bytes(data)), PIXELS)
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        page = tiff.pages.first
        start, length = page.dataoffsets[-1], page.databytecounts[-1]
        lengths = page.databytecounts
    wrong = data.copy()
    wrong[start + length // 2] ^= 8
    with pytest.raises(UserError, match="its compressed data are damaged"):
        read(bytes(wrong))
    if compression == "zlib":
        np.testing.assert_array_equal(read(with_lengths(data, *lengths[:-1], length - 4)), PIXELS)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha", "unspecified"])
def test_a_palette_with_alpha(bits: int, kind: str) -> None:
    """The second sample of a pixel is its alpha."""
    places = RNG.integers(0, 256, (9, 13), np.uint8)
    alpha = RNG.integers(1, 256, (9, 13), np.uint8)
    table = RNG.integers(0, 65536, (3, 256), np.uint16)
    if bits == 8:
        table = table // 256 * 257
    entries: list[tuple[int, int, bytes]] = [
        (256, 3, struct.pack("<H", 13)),
        (257, 3, struct.pack("<H", 9)),
        (258, 3, struct.pack("<2H", 8, 8)),
        (259, 3, struct.pack("<H", 8)),
        (262, 3, struct.pack("<H", 3)),
        (273, 4, struct.pack("<I", 8)),
        (277, 3, struct.pack("<H", 2)),
        (320, 3, table.tobytes()),
        (338, 3, struct.pack("<H", ["unspecified", "assocalpha", "unassalpha"].index(kind))),
    ]
    found = read(tiff(zlib.compress(np.stack([places, alpha], axis=2).tobytes()), entries))
    colours = (table // 257 if bits == 8 else table).T[places]
    assert found.dtype == (np.uint8 if bits == 8 else np.uint16)
    if kind == "unspecified":
        np.testing.assert_array_equal(found, colours)
        return
    np.testing.assert_array_equal(found[..., 3], alpha.astype(int) * (1 if bits == 8 else 257))
    if kind == "assocalpha":
        whole = 2**bits - 1
        colours = np.minimum((colours / (alpha[..., None] / 255)).round(), whole)
    np.testing.assert_allclose(found[..., :3].astype(int), colours.astype(int), atol=kind == "assocalpha")


def tiff(content: bytes, entries: list[tuple[int, int, bytes]]) -> bytes:
    """A file of one strip: content, the directory, and what does not fit into it."""
    content += bytes(len(content) % 2)
    size = {3: 2, 4: 4}
    entries = sorted([*entries, (279, 4, struct.pack("<I", len(content)))])
    after = 8 + len(content) + 2 + 12 * len(entries) + 4
    directory, more = struct.pack("<H", len(entries)), b""
    for code, kind, value in entries:
        field = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<I", after + len(more))
        more += b"" if len(value) <= 4 else value
        directory += struct.pack("<HHI", code, kind, len(value) // size[kind]) + field
    return b"II*\0" + struct.pack("<I", 8 + len(content)) + content + directory + bytes(4) + more
