"""PBM, PGM, PPM, PAM and PFM, text or binary (netpbm's manual pages), of which libraries take parts only or wrongly."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from esc_arch.common.errors import UserError
from esc_arch.pictures.picture import Picture, Pixels
from esc_arch.pictures.ranges import stretch_fractions, stretch_whole

_CHANNELS = {b"1": 1, b"2": 1, b"3": 3, b"4": 1, b"5": 1, b"6": 3, b"f": 1, b"F": 3}
_MOST = 65535
_PAM_LINES = 100
_NEXT = re.compile(rb"P[4-7fF]\s+(?:[#\d]|[A-Z]+\s+\d)")  # how another picture begins


def read_pnm(file: str, data: bytes, check: Callable[[int, int], None]) -> Picture:
    """Read the picture of a file; what lies behind it is left, unless it is another picture.

    Args:
        file: its name, for messages.
        data: all of it.
        check: called with the width and the height before pixels are decoded; raises where there are too many.

    Raises:
        UserError: its numbers have no range that is known, or there are several pictures.
        ValueError: it is damaged.
    """
    kind = data[1:2]
    if kind == b"7":
        return _read_pam(file, data, check)
    words = 2 if kind in b"14" else 3
    (width, height, *rest), start = _header(data, words)
    check(width, height)
    channels, count = _CHANNELS[kind], width * height * _CHANNELS[kind]
    if kind in b"fF":
        order = "<" if rest[0] < 0 else ">"
        values = _only(file, data[start:], f"{order}f4", (height, width, channels))[::-1]
        return Picture(stretch_fractions(file, values))
    if kind in b"123":
        text = data[start:]
        if kind == b"1":  # digits need nothing between them
            text = b" ".join(bytes([digit]) for digit in text if digit in b"01")
        most = 1 if kind == b"1" else rest[0]
        values = np.array(text.split(None, count)[:count], np.int64)
        if values.size < count or values.min() < 0:
            raise ValueError("it is cut off")
        values = values.reshape(height, width, channels)
    elif kind == b"4":
        most, packed = 1, _only(file, data[start:], "u1", (height, (width + 7) // 8))
        values = np.unpackbits(packed, axis=1, count=width)[..., None]
    else:
        most = rest[0]
        values = _only(file, data[start:], "u1" if most < 256 else ">u2", (height, width, channels))
    return Picture(_pixels(1 - values if kind in b"14" else values, most))


def _read_pam(file: str, data: bytes, check: Callable[[int, int], None]) -> Picture:
    head, _, content = data.partition(b"ENDHDR\n")
    fields = dict(line.split(None, 1) for line in head.split(b"\n")[1:_PAM_LINES] if len(line.split(None, 1)) == 2)
    width, height, channels, most = (int(fields[name]) for name in (b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL"))
    check(width, height)
    if not 1 <= channels <= 4 or min(width, height) < 1:
        raise UserError(f"{file} has {channels} channels, which is not one picture; split it.")
    return Picture(_pixels(_only(file, content, "u1" if most < 256 else ">u2", (height, width, channels)), most))


def _header(data: bytes, words: int) -> tuple[list[int], int]:
    """Return the numbers after the magic, and where the pixels begin; of the scale of PFM, only the sign."""
    found: list[int] = []
    position = 2
    while len(found) < words:
        while data[position : position + 1].isspace() or data[position : position + 1] == b"#":
            position = position + 1 if data[position] != 0x23 else _next_line(data, position)
        end = position
        while end < len(data) and not data[end : end + 1].isspace() and data[end] != 0x23:
            end += 1
        number = float(data[position:end])
        found.append((-1 if number < 0 else 1) if data[1:2] in b"fF" and len(found) == 2 else int(data[position:end]))
        position = end
    if min(found[:2]) < 1 or (words == 3 and not (data[1:2] in b"fF" or 0 < found[2] <= _MOST)):
        raise ValueError("its header has numbers that cannot be")
    return found, position + 1


def _next_line(data: bytes, position: int) -> int:
    end = data.find(b"\n", position)
    return len(data) if end < 0 else end + 1


def _only(file: str, data: bytes, dtype: str, shape: tuple[int, ...]) -> Pixels:
    """Return binary numbers, behind which no other picture follows, as netpbm's formats allow."""
    count = int(np.prod(shape))
    end = count * np.dtype(dtype).itemsize
    if len(data) < end:
        raise ValueError("it is cut off")
    if _NEXT.match(data, end):
        raise UserError(f"{file} holds several pictures; split it into single pictures.")
    return np.frombuffer(data, dtype, count).reshape(shape)


def _pixels(values: Pixels, most: int) -> Pixels:
    if not 0 < most <= _MOST or values.max() > most:
        raise ValueError("it has numbers beyond its own range")
    return stretch_whole(values, most)
