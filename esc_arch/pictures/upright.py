"""Turning pixels as a picture says."""

from __future__ import annotations

import numpy as np

from esc_arch.pictures.picture import Pixels, Resolution


def turn_upright(pixels: Pixels, orientation: int) -> Pixels:
    """Turn and mirror pixels.

    Args:
        pixels: (H, W, C).
        orientation: 1 to 8, as EXIF and TIFF number them.

    Returns:
        contiguous pixels, (H, W, C) or (W, H, C).
    """
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def turn_resolution(resolution: Resolution | None, orientation: int) -> Resolution | None:
    """Exchange across and down where the pixels are."""
    if resolution is None or orientation < 5:
        return resolution
    return Resolution(resolution.y, resolution.x, resolution.unit)
