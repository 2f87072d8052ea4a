"""What small pictures of odd forms are made of, and what is to be seen of them."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

Array = np.ndarray[Any, Any]
HEIGHT, WIDTH = 9, 7
ORIENTATIONS = range(1, 9)


@dataclass(frozen=True)
class Odd:
    """A file and the upright picture in it.

    Args:
        name: tells how it was written; ends in the suffix.
        data: the file.
        seen: (H, W, C) in [0, 1], grey or RGB, with or without alpha, which is not multiplied into the colours.
        off: how far the pixels may be from it, more than rounding where a format is lossy.
    """

    name: str
    data: bytes
    seen: Array
    off: float = 0.0


def numbers(channels: int, whole: int, seed: int = 0) -> Array:
    """(HEIGHT, WIDTH, channels) whole numbers up to `whole`; black, white, transparent and opaque are among them."""
    values = np.random.default_rng(seed).integers(0, whole + 1, (HEIGHT, WIDTH, channels), np.uint64)
    values[0, 0], values[0, 1], values[1, 0, -1], values[1, 1, -1] = 0, whole, 0, whole
    return values


def turned(stored: Array, orientation: int) -> Array:
    """What is to be seen of pixels that are stored in an orientation of EXIF or TIFF."""
    rows = {1: 0, 2: 0, 3: 2, 4: 2, 5: 0, 6: 3, 7: 2, 8: 1}[orientation]  # quarter turns against the clock
    if orientation in (5, 7):
        return np.rot90(stored, rows).swapaxes(0, 1)
    return np.rot90(stored[:, ::-1] if orientation in (2, 4) else stored, rows)


def visible(pixels: Array) -> Array:
    """Colours laid on white; what is under transparent pixels may change."""
    if pixels.shape[2] in (1, 3):
        return pixels
    return np.concatenate([pixels[..., :-1] * pixels[..., -1:] + 1 - pixels[..., -1:], pixels[..., -1:]], axis=2)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def box(name: bytes, content: bytes) -> bytes:
    """A part of JPEG 2000, JPEG XL, AVIF and HEIC."""
    return struct.pack(">I4s", 8 + len(content), name) + content


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def image_of(pixels: Array, mode: str) -> Image.Image:
    return Image.frombytes(mode, (pixels.shape[1], pixels.shape[0]), np.ascontiguousarray(pixels).tobytes())
