"""A picture: pixels and what belongs to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Picture:
    """An upright picture.

    Args:
        pixels: (H, W, C): grey, grey and alpha, RGB, or RGB and alpha; uint8 or uint16.
        profile: ICC profile of the colours, None for sRGB.
        exif: EXIF data without orientation, thumbnail, and sizes, empty where there is none.
    """

    pixels: np.ndarray[Any, Any]
    profile: bytes | None = None
    exif: bytes = b""
