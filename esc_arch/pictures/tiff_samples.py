"""The samples of a TIFF page as they are stored: any number of bits and order of bytes, in strips, tiles and planes.

tifffile tells where the strips are; what it would leave to imagecodecs (LZW, packed bits, predictors of floating point
numbers) is done here, with libtiff as Pillow brings it for LZW and Zstandard. TIFF 6.0, sections 3, 9, 13 to 15, and
Adobe's technical note 3.
"""

from __future__ import annotations

import io
import lzma
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import tifffile
from PIL import Image

from esc_arch.pictures.picture import Pixels

NONE, LZW, DEFLATE, PACKBITS = (1,), (5,), (8, 32946), (32773,)
LZMA, ZSTD = (34925,), (50000,)
COMPRESSIONS = (*NONE, *LZW, *DEFLATE, *PACKBITS, *LZMA, *ZSTD)  # that are undone here
_PREDICTORS = {1: "none", 2: "difference", 3: "floating point"}
_KINDS = {1: "u", 2: "i", 3: "f"}  # of SampleFormat
_REVERSED = np.packbits(np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)[:, ::-1], axis=1)[:, 0]


def read_samples(page: tifffile.TiffPage, bits: int, sample_format: int) -> Pixels:
    """Read the samples of a page whose compression is among `COMPRESSIONS`.

    Args:
        page: of an open file.
        bits: per sample, the same for all.
        sample_format: 1 for unsigned, 2 for signed, 3 for floating point.

    Returns:
        (H, W, samples), of the smallest type that holds them, in the byte order of the machine.

    Raises:
        ValueError: strips are missing or cut off, or the numbers are of a kind that is not known.
    """
    kind = _KINDS.get(sample_format)
    if kind is None or (kind == "f" and bits not in (16, 32, 64)) or not 1 <= bits <= 64:
        raise ValueError(f"it has samples of {bits} bits of format {sample_format}, which are not read")
    if page.predictor not in _PREDICTORS or (page.predictor == 3 and kind != "f"):
        raise ValueError(f"its predictor {page.predictor} is not read")
    width, height, samples = page.imagewidth, page.imagelength, page.samplesperpixel
    separate = page.planarconfig == 2 and samples > 1
    planes, together = (samples, 1) if separate else (1, samples)
    size = next(size for size in (8, 16, 32, 64) if size >= bits)
    result = np.empty((planes, height, width, together), f"{kind}{size // 8}")
    tile = (page.tilelength, page.tilewidth) if page.is_tiled else (min(page.rowsperstrip or height, height), width)
    places = [
        (plane, top, left)
        for plane in range(planes)
        for top in range(0, height, tile[0])
        for left in range(0, width, tile[1])
    ]
    stored_sizes = [tile if page.is_tiled else (min(tile[0], height - top), width) for _, top, _ in places]
    needed = [rows * ((columns * together * bits + 7) // 8) for rows, columns in stored_sizes]
    segments = zip(places, stored_sizes, _segments(page, needed), strict=True)
    for (plane, top, left), stored, data in segments:
        rows, columns = min(tile[0], height - top), min(tile[1], width - left)
        part = _unpack(page, data, (*stored, together), bits, result.dtype)
        result[plane, top : top + rows, left : left + columns] = part[:rows, :columns]
    return result[0] if not separate else np.moveaxis(result[..., 0], 0, -1)


def _segments(page: tifffile.TiffPage, needed: list[int]) -> Iterator[bytes]:
    """Yield what is stored of strips or tiles that take so many bytes unpacked.

    A length of zero, or beyond the end of the file, is none: libtiff reckons without it, too.
    """
    count = len(needed)
    if min(len(page.dataoffsets), len(page.databytecounts)) < count:
        raise ValueError(f"it names {len(page.dataoffsets)} of its {count} strips")
    handle = page.parent.filehandle
    for offset, length, whole in zip(page.dataoffsets, page.databytecounts, needed, strict=False):
        if not 0 < length <= handle.size - offset:
            length = whole if page.compression in NONE else handle.size - offset if count == 1 else 0
        if not offset or not 0 < length <= handle.size - offset:
            raise ValueError("it is cut off")
        handle.seek(offset)
        data = handle.read(length)
        yield data


def _unpack(page: tifffile.TiffPage, data: bytes, shape: tuple[int, ...], bits: int, dtype: np.dtype) -> Pixels:
    """Decode a strip or tile, (h, w, samples)."""
    rows, columns, samples = shape
    row_bytes = (columns * samples * bits + 7) // 8
    if page.fillorder == 2 and page.compression not in LZW:  # libtiff is told
        data = _REVERSED[np.frombuffer(data, np.uint8)].tobytes()
    data = _decompress(page, data, rows, row_bytes)
    if len(data) < rows * row_bytes:
        raise ValueError("one of its strips is cut off")
    lines = np.frombuffer(data, np.uint8, rows * row_bytes).reshape(rows, row_bytes)
    order = page.parent.byteorder
    if page.predictor == 3:
        return _undo_floating_point(lines, shape, dtype)
    if bits == 8 * dtype.itemsize:
        values = lines.view(dtype.newbyteorder(order)).astype(dtype).reshape(shape)
        return np.cumsum(values, axis=1, dtype=dtype) if page.predictor == 2 else values
    values = _unpack_bits(lines, columns * samples, bits, order).reshape(shape)
    if page.predictor == 2:
        values = np.cumsum(values, axis=1, dtype=np.uint64) % 2**bits
    if dtype.kind == "i":
        values = values.astype(np.int64) - (values >= 2 ** (bits - 1)).astype(np.int64) * 2**bits
    return values.astype(dtype)


def _unpack_bits(lines: Pixels, count: int, bits: int, order: str) -> Pixels:
    """Take numbers of any length apart, (rows, count); every row starts with a byte of its own."""
    if bits % 8 == 0:  # 24 and so on: whole bytes, in the order of the file
        parts = lines[:, : count * bits // 8].reshape(len(lines), count, bits // 8)
        parts = parts if order == ">" else parts[..., ::-1]
        whole = np.zeros((len(lines), count), np.uint64)
        for index in range(bits // 8):
            whole = (whole << np.uint64(8)) | parts[..., index]
        return whole
    values = np.zeros((len(lines), count), np.uint64 if bits > 32 else np.uint32 if bits > 16 else np.uint16)
    digits = np.unpackbits(lines, axis=1, count=count * bits).reshape(len(lines), count, bits)
    for bit in range(bits):
        values <<= values.dtype.type(1)
        values |= digits[..., bit]
    return values


def _undo_floating_point(lines: Pixels, shape: tuple[int, ...], dtype: np.dtype) -> Pixels:
    """Undo the predictor of Adobe's technical note 3: differences of bytes, the highest bytes of a row first."""
    rows, columns, samples = shape
    differences = lines.reshape(rows, -1, samples)
    planes = np.cumsum(differences, axis=1, dtype=np.uint8).reshape(rows, dtype.itemsize, columns * samples)
    return np.ascontiguousarray(planes.swapaxes(1, 2)).view(dtype.newbyteorder(">")).astype(dtype).reshape(shape)


def _decompress(page: tifffile.TiffPage, data: bytes, rows: int, row_bytes: int) -> bytes:
    """Undo the compression; no more than is needed is unpacked, whatever the file claims."""
    needed = rows * row_bytes
    if page.compression in NONE:
        return data
    if page.compression in DEFLATE:
        inflating = zlib.decompressobj()
        unpacked = inflating.decompress(data, needed)
        if not inflating.eof:  # what is left may be the checksum alone, which tells whether all of it is right
            inflating.decompress(inflating.unconsumed_tail, 1)
        return unpacked
    if page.compression in LZMA:
        unpacking = lzma.LZMADecompressor()
        unpacked = unpacking.decompress(data, needed)
        if not unpacking.eof:
            unpacking.decompress(b"", 1)
        return unpacked
    if page.compression in PACKBITS:
        return bytes(tifffile.TIFF.DECOMPRESSORS[page.compression](data))
    return _libtiff(page, data, rows, row_bytes)


def _libtiff(page: tifffile.TiffPage, data: bytes, rows: int, row_bytes: int) -> bytes:
    """Let libtiff undo the compression, of a file with this strip alone, as if every byte were a grey pixel."""
    entries = [
        (256, row_bytes),
        (257, rows),
        (258, 8),
        (259, page.compression),
        (262, 1),
        (266, page.fillorder),
        (273, 8),
        (277, 1),
        (278, rows),
        (279, len(data)),
    ]
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    padded = data + bytes(len(data) % 2)
    head = b"II*\0" + struct.pack("<I", 8 + len(padded))
    file = head + padded + struct.pack("<H", len(entries)) + directory + bytes(4)
    with Image.open(io.BytesIO(file), formats=["TIFF"]) as image:
        return image.tobytes()
