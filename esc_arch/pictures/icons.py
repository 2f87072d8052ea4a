"""Icons of Windows: the best of the pictures in one, in a way of writing that Pillow takes for what it is."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from esc_arch.pictures.bmp import FILE_HEADER, with_file_header, with_whole_palette

_HEAD, _ENTRY = 6, 16  # bytes
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER, _PNG_DEPTH = 16, 24  # bytes before width and height, and before the bits
_DEEP = 32  # bits, as deep as a PNG counts


def only_the_best(data: bytes) -> bytes:
    """Leave the largest picture of an icon alone, and of several as large the one of most bits.

    Pillow takes the one of fewest bits, believes what the entry says of these, takes two colours of more than one bit
    for one, and leaves the mask of transparency of a picture whose alpha is nothing.

    Raises:
        ValueError: there is no picture.
        struct.error: the header is cut off.
    """
    found = list(_pictures(data))
    if not found:
        raise ValueError("it holds no picture")
    _, bits, start, length = max(found, key=lambda picture: picture[:2])
    content, entry = data[start : start + length], bytearray(next(_entries(data, start)))
    if not content.startswith(_PNG):
        content = _with_height_of_both(content, entry[1] or 256)
        if bits in (4, 8):
            content = with_whole_palette(with_file_header(content), lambda width, height: None)[FILE_HEADER:]
        elif bits == _DEEP:
            content = _with_mask_as_alpha(content)
    struct.pack_into("<HII", entry, 6, bits, len(content), _HEAD + _ENTRY)
    return data[:4] + b"\1\0" + bytes(entry) + content


def _entries(data: bytes, start: int | None = None) -> Iterator[bytes]:
    """Yield the entries of the directory, or that of the picture that starts at a byte."""
    (count,) = struct.unpack_from("<H", data, 4)
    for index in range(count):
        entry = data[_HEAD + _ENTRY * index : _HEAD + _ENTRY * (index + 1)]
        if len(entry) == _ENTRY and start in (None, struct.unpack_from("<I", entry, 12)[0]):
            yield entry


def _pictures(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield area, bits of a pixel, first byte and length of the pictures that lie within the file."""
    for entry in _entries(data):
        length, start = struct.unpack_from("<II", entry, 8)
        head = data[start : start + 40]
        if head.startswith(_PNG) and len(head) > _PNG_DEPTH:
            width, height = struct.unpack_from(">II", head, _PNG_HEADER)
            yield width * height, _DEEP, start, length
        elif len(head) == 40:
            _, width, height, _, bits = struct.unpack_from("<IiiHH", head)
            yield width * (height // 2), bits, start, length


def _with_height_of_both(content: bytes, stated: int) -> bytes:
    """Count the rows of the mask where a writer has counted those of the picture alone; a mask that lacks shows all."""
    size, width, height, _, bits = struct.unpack_from("<IiiHH", content)
    (used,) = struct.unpack_from("<I", content, 32)
    palette = 4 * (used or (2**bits if bits <= 8 else 0))
    end = size + palette + (width * bits + 31) // 32 * 4 * height
    if height != stated or width < 1 or len(content) < end:
        return content
    whole = content.ljust(end + (width + 31) // 32 * 4 * height, b"\0")
    return whole[:8] + struct.pack("<i", 2 * height) + whole[12:]


def _with_mask_as_alpha(content: bytes) -> bytes:
    """Put the mask in place of an alpha that is zero everywhere, as Windows does where there is none."""
    size, width, height = struct.unpack_from("<Iii", content)
    height, line = height // 2, (width + 31) // 32 * 4
    end = size + 4 * width * height
    if width < 1 or height < 1 or len(content) < end + line * height:
        return content
    pixels = np.frombuffer(content, np.uint8, 4 * width * height, size).reshape(height, width, 4)
    bits = np.frombuffer(content, np.uint8, line * height, end).reshape(height, line)
    visible = np.unpackbits(bits, axis=1, count=width) == 0
    if pixels[..., 3].any() or visible.all() or not visible.any():
        return content
    shown = pixels.copy()
    shown[..., 3] = visible * np.uint8(255)
    return content[:size] + shown.tobytes() + content[end:]
