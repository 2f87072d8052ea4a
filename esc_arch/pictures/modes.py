"""Pillow's modes, as pixels."""

from __future__ import annotations

import numpy as np
from PIL import Image

from esc_arch.pictures.picture import Pixels


def plain_pixels(image: Image.Image) -> Pixels:
    """Convert a picture of 8 or 16 bits to grey or RGB, with or without alpha.

    Returns:
        (H, W, 1 to 4), uint8 or uint16.

    Raises:
        ValueError: it has numbers of another kind.
    """
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)[..., None]
    if image.mode in ("I", "F"):
        raise ValueError("it has 32 bits per channel; convert it to 16 bits")
    transparent = "transparency" in image.info
    if image.mode in ("1", "L"):
        image = image.convert("LA" if transparent else "L")
    elif image.mode in ("P", "PA", "RGBa", "La"):
        opaque = image.mode == "P" and not transparent and getattr(image.palette, "mode", "RGB") == "RGB"
        image = image.convert("RGB" if opaque else "RGBA")
    elif image.mode not in ("LA", "RGBA"):
        image = image.convert("RGBA" if transparent else "RGB")
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[..., None]
