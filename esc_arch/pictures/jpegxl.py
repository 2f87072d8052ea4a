"""What a JPEG XL says beside its pixels, of which its plugin for Pillow tells parts only (ISO/IEC 18181)."""

from __future__ import annotations

import importlib
from contextlib import suppress
from dataclasses import dataclass

from esc_arch.pictures.jpeg2000 import Belongings, boxes

_STREAM = b"\xff\x0a"  # begins the code stream
_SIDES = ((1, 9), (1, 13), (1, 18), (1, 30))  # of numbers that are coded as one of four: offset, and bits beside it
_DEPTHS = ((8, 0), (10, 0), (12, 0), (1, 6))
_FLOATING_DEPTHS = ((32, 0), (16, 0), (24, 0), (1, 6))
_HEADER = 100  # bytes that it fits into
_MOST = 2**26  # bytes of EXIF or XMP, unpacked
_PART_NUMBER = 4  # bytes before a part of the code stream
_TIFF_HEADS = (b"II", b"MM")


@dataclass(frozen=True)
class Header:
    """What the header of the code stream says (18181-1, annex D).

    Args:
        bits: of a channel.
        orientation: how the stored pixels are to be turned, 1 to 8 as in EXIF.
        is_animation: whether there is more than one frame.
    """

    bits: int = 8
    orientation: int = 1
    is_animation: bool = False


def read_header(data: bytes) -> Header:
    """Read the header of a file, or of a bare code stream; a damaged one says what is usual."""
    stream = data
    if not data.startswith(_STREAM):
        parts = (
            content if name == b"jxlc" else content[_PART_NUMBER:]
            for name, content in boxes(data)
            if name in (b"jxlc", b"jxlp")
        )
        stream = b"".join(parts)
    bits = _Bits(stream[len(_STREAM) : _HEADER])
    bits.take_sides()
    if bits.take(1):  # everything is as usual
        return Header()
    orientation = 1
    if bits.take(1):
        orientation = bits.take(3) + 1
        if bits.take(1):  # another size to be shown in
            bits.take_sides()
        if bits.take(1):  # a preview, whose header is not read here
            return Header(8, orientation)
        if bits.take(1):
            return Header(8, orientation, is_animation=True)
    floating = bits.take(1)
    return Header(bits.choice(_FLOATING_DEPTHS if floating else _DEPTHS), orientation)


def read_belongings(data: bytes) -> Belongings:
    """Find EXIF and XMP in the boxes around the code stream (18181-2, section 9), also those packed by Brotli.

    Args:
        data: the file; of a bare code stream there is nothing to find.
    """
    found: dict[bytes, bytes] = {}
    for kind, content in boxes(data) if not data.startswith(_STREAM) else ():
        name, value = (content[:4], _unpack(content[4:])) if kind == b"brob" else (kind, content)
        found.setdefault(name, value)
    exif = found.get(b"Exif", b"")
    start = int.from_bytes(exif[:4], "big") + 4
    return Belongings(exif=exif[start:] if exif[start : start + 2] in _TIFF_HEADS else b"", xmp=found.get(b"xml ", b""))


def _unpack(packed: bytes) -> bytes:
    with suppress(Exception):  # a missing library, and whatever it raises of damaged data
        decoder = importlib.import_module("brotli").Decompressor()
        unpacked: bytes = decoder.process(packed, output_buffer_limit=_MOST)
        return unpacked if decoder.is_finished() else b""
    return b""


class _Bits:
    """Takes numbers out of bytes, the lowest bits first."""

    def __init__(self, data: bytes) -> None:
        self.number = int.from_bytes(data, "little")

    def take(self, count: int) -> int:
        found = self.number & ((1 << count) - 1)
        self.number >>= count
        return found

    def choice(self, choices: tuple[tuple[int, int], ...]) -> int:
        """Take a number that is coded as one of four, each with an offset and the bits of what is added to it."""
        offset, count = choices[self.take(2)]
        return offset + self.take(count)

    def take_sides(self) -> None:
        """Pass over the height, and the width where it is not told by a ratio."""
        small = self.take(1)
        self.take(5) if small else self.choice(_SIDES)
        if self.take(3) == 0:
            self.take(5) if small else self.choice(_SIDES)
