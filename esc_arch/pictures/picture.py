"""A picture: pixels and what belongs to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

Pixels = np.ndarray[Any, Any]
INCH = 2.54  # centimetres


@dataclass(frozen=True)
class Resolution:
    """How many pixels of a picture lie side by side, and above each other.

    Args:
        x: across.
        y: down.
        unit: "inch", "cm", or "" where only their ratio is meant: pixels that are not square.
    """

    x: float
    y: float
    unit: str = "inch"

    def per_inch(self) -> tuple[float, float] | None:
        """Return the pixels per inch across and down, None where there is no unit."""
        factors = {"inch": 1.0, "cm": INCH}
        return (self.x * factors[self.unit], self.y * factors[self.unit]) if self.unit else None

    def says_something(self) -> bool:
        """Tell whether these are numbers that a picture can have and not merely those of square pixels."""
        possible = 0 < self.x < 1e6 and 0 < self.y < 1e6  # false of NaN, too
        return possible and (bool(self.unit) or self.x != self.y)


@dataclass(frozen=True)
class Picture:
    """An upright picture.

    Args:
        pixels: (H, W, C): grey, grey and alpha, RGB, or RGB and alpha, which is not multiplied into the colours; uint8
            or uint16.
        profile: ICC profile of the colours, of their number (grey or RGB); None for sRGB.
        exif: EXIF data without orientation, thumbnail, and sizes, empty where there is none.
        xmp: XMP packet without orientation and sizes, empty where there is none.
        iptc: records of IPTC-IIM, empty where there are none.
        resolution: pixels per inch or centimetre; None where nothing is said.
        comment: the comment of JPEG and GIF.
        chunks: names and contents of the chunks of a PNG that stay true: how its colours are meant, and its texts.
        lossless: whether the pixels were stored as they are where a format has both (WebP).
        notes: sentences, without the name of the file, about what of it is left or has been decided.
    """

    pixels: Pixels
    profile: bytes | None = None
    exif: bytes = b""
    xmp: bytes = b""
    iptc: bytes = b""
    resolution: Resolution | None = None
    comment: bytes = b""
    chunks: tuple[tuple[bytes, bytes], ...] = ()
    lossless: bool = False
    notes: tuple[str, ...] = field(default=(), compare=False)
