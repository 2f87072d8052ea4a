"""What AVIF, HEIC and JPEG XL say of their pixels and Pillow does not tell: their depth, and how colours are meant."""

from __future__ import annotations

import importlib
import io
from typing import Any

import numpy as np

from esc_arch.pictures.picture import Pixels
from esc_arch.pictures.ranges import stretch_whole

_UNSPECIFIED = 2  # of primaries and transfer functions (ITU-T H.273)
_JXL_STREAM = b"\xff\x0a"
_JXL_DEPTHS = ((8, 0, 10, 0, 12, 0, 1, 6), (32, 0, 16, 0, 24, 0, 1, 6))  # value and bits beside it, of four choices
_JXL_SIDES = ((1, 9), (1, 13), (1, 18), (1, 30))


def bits_stored(data: bytes, image_format: str) -> int:
    """Return the bits of a channel in an AVIF (its configuration, AV1-ISOBMFF, section 2.3) or a JPEG XL; 8 if unknown.

    Args:
        data: the file.
        image_format: "AVIF" or "JXL"; of others nothing is known here.
    """
    if image_format == "JXL":
        return _bits_of_jxl(data)
    start = data.find(b"av1C") + 4
    if image_format != "AVIF" or start < 4 or start + 3 > len(data):
        return 8
    flags = data[start + 2]
    return 8 if not flags & 0x40 else 12 if flags & 0x20 else 10


def meant_colours(data: bytes) -> bytes | None:
    """Return what an AVIF or HEIC without a profile says of its colours, as the content of a cICP chunk of PNG."""
    start = data.find(b"colrnclx") + 8
    if start < 8 or start + 7 > len(data):
        return None
    primaries, transfer = (int.from_bytes(data[start + at : start + at + 2], "big") for at in (0, 2))
    if _UNSPECIFIED in (primaries, transfer) or not (0 < primaries < 256 and 0 < transfer < 256):
        return None
    return bytes((primaries, transfer, 0, 1))


def decode_deep_heif(data: bytes, bits: int) -> Pixels:
    """Decode a HEIC of 10 or 12 bits, which its plugin for Pillow reduces to 8; turned as the format says.

    Returns:
        (H, W, 1 to 4) uint16 in the whole range.
    """
    found: Any = importlib.import_module("pillow_heif").open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)
    pixels = np.asarray(found[found.primary_index])
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    return stretch_whole(pixels >> (16 - bits), 2**bits - 1)  # they are stored in the upper bits


def _bits_of_jxl(data: bytes) -> int:
    """Read the depth out of the header of the code stream (ISO/IEC 18181-1, annex D)."""
    start = (
        0 if data.startswith(_JXL_STREAM) else data.find(_JXL_STREAM, max(data.find(b"jxlc"), data.find(b"jxlp"), 0))
    )
    bits = _Bits(data[start + 2 : start + 100])
    small = bits.take(1)
    bits.take(5) if small else bits.choice(_JXL_SIDES)  # the height
    if bits.take(3) == 0:  # no ratio: the width follows
        bits.take(5) if small else bits.choice(_JXL_SIDES)
    if bits.take(1):  # everything is as usual
        return 8
    if bits.take(1):  # orientation, and what a preview or an animation needs
        bits.take(3)
        if bits.take(3):
            return 8
    floating = bits.take(1)
    offsets = _JXL_DEPTHS[floating]
    return bits.choice(tuple(zip(offsets[::2], offsets[1::2], strict=True)))


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
