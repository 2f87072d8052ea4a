"""BMP in ways of writing that Pillow does not take, or takes for another, rewritten in one that it knows."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np

from esc_arch.pictures.picture import Pixels

FILE_HEADER, _USUAL, _OS2 = 14, 40, 64  # bytes of the header of the file, and of those that follow
_FIELDS, _FIELDS_WITH_ALPHA = 3, 6  # compressions; the second is of Windows CE
_MASKS, _WITH_ALPHA = 54, 56  # byte where masks begin; least bytes of a header that has one for alpha
_BGRA = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)  # masks of red, green, blue, alpha


def with_file_header(data: bytes) -> bytes:
    """Put the header of a file in front of a BMP that lacks it, as the clipboard of Windows does.

    Raises:
        struct.error: the header is cut off.
    """
    return b"BM" + struct.pack("<IHHI", FILE_HEADER + len(data), 0, 0, FILE_HEADER + _first_pixel(data)) + data


def _first_pixel(data: bytes) -> int:
    """Return how many bytes header, masks and palette take, from the header on that follows that of the file."""
    size, _, _, _, bits, compression = struct.unpack_from("<IiiHHI", data)
    (used,) = struct.unpack_from("<I", data, 32)
    masks = {_FIELDS: 12, _FIELDS_WITH_ALPHA: 16}.get(compression, 0) if size == _USUAL else 0
    return int(size + masks + 4 * (used or (2**bits if bits <= 8 else 0)))


def known_bmp(data: bytes, check: Callable[[int, int], None], notes: list[str]) -> bytes:
    """Rewrite what Pillow does not take: other files are returned as they are.

    Args:
        data: the file.
        check: called with the width and the height of what is unpacked; raises where there are too many pixels.
        notes: gets a sentence where something of the picture is lost.

    Raises:
        UserError: by `check`.
        ValueError: a part of the picture is missing.
        struct.error, IndexError: a part of the header is.
    """
    data = _with_usual_header(data)
    (size,) = struct.unpack_from("<I", data, FILE_HEADER)
    if size < _USUAL:
        return data
    if not any(data[10:FILE_HEADER]):  # where the pixels begin is not said
        first = FILE_HEADER + _first_pixel(data[FILE_HEADER:])
        data = data[:10] + struct.pack("<I", first) + data[FILE_HEADER:]
    bits, compression = struct.unpack_from("<HI", data, 28)
    if compression == _FIELDS_WITH_ALPHA and size == _USUAL:  # the masks lie where a longer header has them
        longer = bytearray(data)
        struct.pack_into("<I", longer, FILE_HEADER, _WITH_ALPHA)
        struct.pack_into("<I", longer, 30, _FIELDS)
        return _in_bytes(bytes(longer), notes)
    if compression == _FIELDS and bits in (16, 32):
        return _in_bytes(data, notes)
    return with_whole_palette(data, check) if bits in (2, 4, 8) else data


def _with_usual_header(data: bytes) -> bytes:
    """Bring the header of OS/2's second version, of which a part may be left out, to the usual length."""
    size, first = struct.unpack_from("<I", data, FILE_HEADER)[0], struct.unpack_from("<I", data, 10)[0]
    if not 16 <= size < _OS2 or size in (_USUAL, 52, _WITH_ALPHA):
        return data
    header = data[FILE_HEADER : FILE_HEADER + size].ljust(_USUAL, b"\0")[:_USUAL]
    start = struct.pack("<II", first and first + _USUAL - size, _USUAL)
    return data[:10] + start + header[4:] + data[FILE_HEADER + size :]


def with_whole_palette(data: bytes, check: Callable[[int, int], None]) -> bytes:
    """Give as many colours as the bits can tell apart, and a byte to places of two bits.

    Of two colours, black and white, Pillow takes each pixel for a bit; of more than 256 it takes none.
    """
    first, size, width, height, _, bits = struct.unpack_from("<IIiiHH", data, 10)
    (used,) = struct.unpack_from("<I", data, 46)
    most, start = 2**bits, FILE_HEADER + size
    if bits != 2 and (used == 0 or 2 < used <= most):
        return data
    used = min(used or most, max(first - start, 0) // 4)
    palette, pixels = data[start : start + 4 * min(used, most)].ljust(4 * most, b"\0"), data[first:]
    header = bytearray(data[:start])
    if bits == 2:
        check(width, abs(height))
        rows = _rows(pixels, width, height, bits)[..., None]
        places = (rows >> np.array([6, 4, 2, 0], np.uint8) & 3).reshape(abs(height), -1)[:, :width]
        pixels = np.pad(places, ((0, 0), (0, -width % 4))).tobytes()
        palette, most = palette.ljust(4 * 256, b"\0"), 256
        struct.pack_into("<H", header, 28, 8)
    struct.pack_into("<I", header, 46, most)
    struct.pack_into("<I", header, 10, start + len(palette))
    return bytes(header) + palette + pixels


def _rows(pixels: bytes, width: int, height: int, bits: int) -> Pixels:
    """Return the bytes of rows, of which each is filled up to four; of the last one what fills it may lack."""
    line, used = (width * bits + 31) // 32 * 4, (width * bits + 7) // 8
    size = line * abs(height)
    if width < 1 or not height or len(pixels) < size - (line - used):
        raise ValueError("it is damaged, or a part of the picture is missing")
    return np.frombuffer(pixels[:size].ljust(size, b"\0"), np.uint8).reshape(abs(height), line)


def _in_bytes(data: bytes, notes: list[str]) -> bytes:
    """Make a byte of each field of bits of a pixel, wherever it lies; the new pixels are put behind the file."""
    first, size, width, height, _, bits = struct.unpack_from("<IIiiHH", data, 10)
    masks = struct.unpack_from("<4I" if size >= _WITH_ALPHA else "<3I", data, _MASKS)
    rows = _rows(data[first:], width, height, bits)
    values = np.ascontiguousarray(rows[:, : width * bits // 8]).view(f"<u{bits // 8}").astype(np.uint32)
    pixels = np.zeros((abs(height), width, 4), np.uint8)
    for mask, channel in zip(masks, (2, 1, 0, 3), strict=False):
        if mask:
            lowest = (mask & -mask).bit_length() - 1
            most = mask >> lowest
            pixels[..., channel] = ((values >> lowest & most).astype(np.uint64) * 255 + most // 2) // most
    if (deepest := max(mask.bit_count() for mask in masks)) > 8:
        notes.append(f"its {deepest} bits are reduced to 8")
    known = bytearray(data)
    struct.pack_into("<I", known, 10, len(data))
    struct.pack_into("<H", known, 28, 32)
    alpha = _BGRA[3:] if any(masks[3:]) else (0,)
    struct.pack_into(f"<{len(masks)}I", known, _MASKS, *(*_BGRA[:3], *alpha)[: len(masks)])
    return bytes(known) + pixels.tobytes()
