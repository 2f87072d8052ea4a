"""Older formats in ways of writing that Pillow does not take, rewritten in one that it does."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

import numpy as np

from esc_arch.pictures.bmp import known_bmp
from esc_arch.pictures.icons import only_the_best
from esc_arch.pictures.picture import Pixels

REWRITTEN = ("BMP", "ICO", "PCX", "SGI", "SUN", "TGA")
_TGA_MAP, _TGA_KIND, _TGA_MAP_BITS, _TGA_BITS, _TGA_ALPHA = 1, 2, 7, 16, 17  # bytes of the header
_SGI_HEADER, _SGI_PACKED = 512, 1  # bytes; storage
_SUN_HEADER, _SUN_STANDARD, _SUN_PACKED = 32, 1, 2  # bytes; types of file
_SUN_RUN = re.compile(rb"\x80(?:\0|(.)(.))", re.DOTALL)
_PCX_HEADER, _PCX_PALETTE, _PCX_RUN = 128, slice(16, 64), re.compile(rb"([\xc0-\xff])(.)", re.DOTALL)
_PCX_SIXTEEN = ((4, 1), (2, 1), (1, 3))  # bits and planes of up to 16 colours


def made_known(data: bytes, image_format: str, check: Callable[[int, int], None], notes: list[str]) -> bytes:
    """Rewrite what Pillow does not take: other files are returned as they are.

    Args:
        data: the file.
        image_format: one of `REWRITTEN`.
        check: called with the width and the height of what is unpacked; raises where there are too many pixels.
        notes: gets a sentence where something of the picture is lost.

    Raises:
        UserError: by `check`.
        ValueError: a part of the picture is missing.
        struct.error, IndexError: a part of the header is.
    """
    if image_format == "ICO":
        return only_the_best(data)
    if image_format == "TGA":
        return _tga_of_16_bits(_without_idle_map(data))
    if image_format == "SGI" and data[2] == _SGI_PACKED:
        return _unpacked_sgi(data, check)
    if image_format == "SUN" and int.from_bytes(data[20:24], "big") == _SUN_PACKED:
        return _unpacked_sun(data, check)
    if image_format == "PCX" and ((data[3], data[65]) in _PCX_SIXTEEN or _has_two_colours(data)):
        return _pcx_of_8_bits(data, check)
    return known_bmp(data, check, notes) if image_format == "BMP" else data


def _without_idle_map(data: bytes) -> bytes:
    """Leave out a colour map that pixels do not need, as a TGA of grey or RGB may hold one."""
    if data[_TGA_MAP] != 1 or data[_TGA_KIND] & 7 not in (2, 3):
        return data
    (count,) = struct.unpack_from("<H", data, 5)
    start = _TGA_ALPHA + 1 + data[0]  # behind the words that a file may begin with
    behind = data[start + count * ((data[_TGA_MAP_BITS] + 7) // 8) :]
    return data[:_TGA_MAP] + b"\0" + data[_TGA_KIND : _TGA_KIND + 1] + bytes(5) + data[8:start] + behind


def _tga_of_16_bits(data: bytes) -> bytes:
    """15 bits lie in 16, of which the highest says nothing."""
    header = bytearray(data[: _TGA_ALPHA + 1])
    if header[_TGA_MAP_BITS] == 15:
        header[_TGA_MAP_BITS] = 16
    if header[_TGA_BITS] == 15:
        header[_TGA_BITS] = 16
        header[_TGA_ALPHA] &= 0xF0
    return bytes(header) + data[len(header) :]


def _unpacked_sgi(data: bytes, check: Callable[[int, int], None]) -> bytes:
    """Unpack run lengths, with an end mark in each row or without (Haeberli, The SGI Image File Format, 1.0)."""
    size, dimensions, width, height, planes = struct.unpack_from(">BHHHH", data, 3)
    height, planes = (height if dimensions > 1 else 1), (planes if dimensions > 2 else 1)
    check(width, height)
    if planes > len("RGBA"):
        return data
    kind = np.dtype(f">u{size}")
    rows = height * planes
    starts, lengths = (struct.unpack_from(f">{rows}I", data, _SGI_HEADER + 4 * rows * part) for part in (0, 1))
    unpacked = bytearray()
    for start, length in zip(starts, lengths, strict=True):
        stored = np.frombuffer(data[start : start + length // size * size], kind)
        unpacked += _sgi_row(stored, width).tobytes()
    header = struct.pack(">BBHHHH", 0, size, 2 if planes == 1 else 3, width, height, planes)
    return data[:2] + header + data[2 + len(header) : _SGI_HEADER] + bytes(unpacked)


def _sgi_row(stored: Pixels, width: int) -> Pixels:
    row, filled, position = np.empty(width, stored.dtype), 0, 0
    while filled < width:
        head = int(stored[position]) if position < len(stored) else 0
        count = min(head & 0x7F, width - filled)
        part = stored[position + 1 : position + 1 + (count if head & 0x80 else 1)]
        if not count or len(part) < (count if head & 0x80 else 1):
            raise ValueError("a part of the picture is missing")
        row[filled : filled + count] = part
        filled += count
        position += 1 + len(part)
    return row


def _unpacked_sun(data: bytes, check: Callable[[int, int], None]) -> bytes:
    """Unpack run lengths, which go on from row to row, and over the byte that makes the bytes of a row even."""
    width, height, depth, _, _, _, colours = struct.unpack_from(">7I", data, 4)
    check(width, height)
    used = (width * depth + 7) // 8
    line, start = used + used % 2, _SUN_HEADER + colours
    packed = data[start : start + 2 * line * height]  # a byte takes two at most
    stored = _SUN_RUN.sub(lambda run: run[2] * (run[1][0] + 1) if run[1] else b"\x80", packed)
    if used * height == len(stored) < line * height:  # some programs leave that byte out
        rows = np.zeros((height, line), np.uint8)
        rows[:, :used] = np.frombuffer(stored, np.uint8).reshape(height, used)
        stored = rows.tobytes()
    if len(stored) < line * height - (line - used):
        raise ValueError("a part of the picture is missing")
    head = bytearray(data[:start])
    struct.pack_into(">I", head, 20, _SUN_STANDARD)
    return bytes(head) + stored[: line * height].ljust(line * height, b"\0")


def _has_two_colours(data: bytes) -> bool:
    """Tell whether one bit of a PCX stands for colours other than black and white, as GIMP decides."""
    first, second = data[16:19], data[19:22]
    return (data[3], data[65]) == (1, 1) and first != second and (first, second) != (b"\0\0\0", b"\xff\xff\xff")


def _pcx_of_8_bits(data: bytes, check: Callable[[int, int], None]) -> bytes:
    """Make a byte of what 16 colours at most are stored in, with the palette of the header."""
    bits, (left, top, right, bottom), planes = data[3], struct.unpack_from("<4H", data, 4), data[65]
    (line,) = struct.unpack_from("<H", data, 66)
    width, height = right - left + 1, bottom - top + 1
    check(width, height)
    stored = _PCX_RUN.sub(lambda run: run[2] * (run[1][0] & 0x3F), data[_PCX_HEADER:])
    if width < 1 or height < 1 or line * 8 < width * bits or len(stored) < height * planes * line:
        raise ValueError("a part of the picture is missing")
    rows = np.frombuffer(stored, np.uint8, height * planes * line).reshape(height, planes, line)
    digits = np.unpackbits(rows, axis=2)
    if planes > 1:
        places = (digits[..., :width] << np.arange(planes, dtype=np.uint8)[:, None]).sum(axis=1, dtype=np.uint8)
    else:
        places = digits.reshape(height, -1, bits) @ (1 << np.arange(bits - 1, -1, -1, dtype=np.uint8))
    padded = np.zeros((height, width + width % 2), np.uint8)
    padded[:, :width] = places[:, :width]
    header = bytearray(data[:_PCX_HEADER])
    header[1:4], header[65:68] = b"\5\1\x08", struct.pack("<BH", 1, padded.shape[1])
    return bytes(header) + padded.tobytes() + b"\x0c" + data[_PCX_PALETTE].ljust(768, b"\0")
