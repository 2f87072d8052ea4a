"""What AVIF and HEIC say of their pixels and Pillow does not tell: their depth, and how colours are meant."""

from __future__ import annotations

import importlib
import io
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from esc_arch.pictures.items import Property
from esc_arch.pictures.picture import Picture, Pixels
from esc_arch.pictures.ranges import divide_by_alpha, stretch_whole

_OF_WHOLE_RGB = b"\0\1"  # the rest of cICP: no matrix, the whole range
_NCLX = b"colrnclx"
_UNSPECIFIED = 2  # of primaries and transfer functions (ITU-T H.273)


def bits_stored(properties: Sequence[Property]) -> int:
    """Return the bits of a channel of an AVIF (its configuration, AV1-ISOBMFF, section 2.3); 8 if unknown.

    Args:
        properties: of the picture.
    """
    flags = _first(properties, b"av1C")[2:3] or b"\0"
    return 8 if not flags[0] & 0x40 else 12 if flags[0] & 0x20 else 10


def meant_colours(properties: Sequence[Property]) -> bytes | None:
    """Return what an AVIF or HEIC without a profile says of its colours, as the content of a cICP chunk of PNG."""
    said = _first(properties, b"colr", b"nclx")[4:]
    if len(said) < 7:
        return None
    primaries, transfer = struct.unpack_from(">HH", said)
    if _UNSPECIFIED in (primaries, transfer) or not (0 < primaries < 256 and 0 < transfer < 256):
        return None
    return bytes((primaries, transfer)) + _OF_WHOLE_RGB


def nclx_of(picture: Picture) -> bytes | None:
    """Return primaries and transfer function as a `colr` box of AVIF has them, where a cICP chunk alone says them."""
    said = dict(picture.chunks).get(b"cICP", b"")
    return struct.pack(">HH", *said[:2]) if said[2:] == _OF_WHOLE_RGB and not picture.profile else None


def with_nclx(encoded: bytes, nclx: bytes) -> bytes:
    """Say in an AVIF how its colours are meant, which its encoder takes for sRGB.

    Raises:
        ValueError: it has no place for that.
    """
    start = encoded.index(_NCLX) + len(_NCLX)
    return encoded[:start] + nclx + encoded[start + len(nclx) :]


def _first(properties: Sequence[Property], name: bytes, begin: bytes = b"") -> bytes:
    return next((content for found, content in properties if found == name and content.startswith(begin)), b"")


def decode_deep_heif(data: bytes, bits: int) -> Pixels:
    """Decode a HEIC of 10 or 12 bits, which its plugin for Pillow reduces to 8; turned as the format says.

    Returns:
        (H, W, 1 to 4) uint16 in the whole range.
    """
    found: Any = importlib.import_module("pillow_heif").open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)
    image = found[found.primary_index]
    pixels = np.asarray(image)
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    pixels = stretch_whole(pixels >> (16 - bits), 2**bits - 1)  # they are stored in the upper bits
    return divide_by_alpha(pixels) if image.premultiplied_alpha else pixels
