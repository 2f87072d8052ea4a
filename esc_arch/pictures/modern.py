"""What AVIF and HEIC say of their pixels and Pillow does not tell: their depth, and how colours are meant."""

from __future__ import annotations

import importlib
import io
from typing import Any

import numpy as np

from esc_arch.pictures.picture import Pixels
from esc_arch.pictures.ranges import stretch_whole

_UNSPECIFIED = 2  # of primaries and transfer functions (ITU-T H.273)


def bits_stored(data: bytes) -> int:
    """Return the bits of a channel in an AVIF (its configuration, AV1-ISOBMFF, section 2.3); 8 if unknown.

    Args:
        data: the file.
    """
    start = data.find(b"av1C") + 4
    if start < 4 or start + 3 > len(data):
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
