"""Bringing what a network enlarged too far, or what is too large already, to the size that was asked for."""

from __future__ import annotations

import numpy as np
from PIL import Image

from esc_arch.pictures.alpha import restore_hidden
from esc_arch.pictures.picture import Pixels
from esc_arch.upscale.pixels import RANGES
from esc_arch.upscale.sizes import Sides

FILTER = Image.Resampling.LANCZOS  # widened by the factor, so that what is finer than the result does not alias

LEAST = 1e-4  # of alpha that colours are divided by; what has less is transparent, and gets its colours otherwise


def resize(pixels: Pixels, sides: Sides) -> Pixels:
    """Resize pixels, in floating point numbers, one channel after the other.

    Colours are weighted by alpha, so that those of transparent pixels do not touch visible ones. Where the result is
    transparent, they are those of the nearest pixels.

    Args:
        pixels: (H, W, C), grey or RGB, with alpha where C is 2 or 4; of a type in RANGES.
        sides: H', W'.

    Returns:
        (H', W', C) of the same type, rounded.
    """
    if pixels.shape[:2] == tuple(sides):
        return pixels
    whole, channels = RANGES[pixels.dtype.name], pixels.shape[2]
    result = np.empty((*sides, channels), pixels.dtype)
    alpha = pixels[..., -1] if channels in (2, 4) else None
    if alpha is None or alpha.min() == alpha.max():
        for channel in range(channels):
            _store(_resize(pixels[..., channel].astype(np.float32), sides), result[..., channel], whole)
        return result
    weights = alpha.astype(np.float32)
    seen = _resize(weights, sides)
    _store(seen.copy(), result[..., -1], whole)
    np.maximum(seen, whole * LEAST, out=seen)
    for channel in range(channels - 1):
        premultiplied = _resize(pixels[..., channel] * weights, sides)
        _store(np.divide(premultiplied, seen, out=premultiplied), result[..., channel], whole)
    restore_hidden(result[..., :-1], result[..., -1], pixels[..., :-1], 0, sides, whole)
    return result


def _resize(plane: Pixels, sides: Sides) -> Pixels:
    """Resize (H, W) of float32."""
    return np.array(Image.fromarray(plane).resize((sides[1], sides[0]), FILTER))


def _store(plane: Pixels, target: Pixels, whole: float) -> None:
    rounded = plane if whole == 1 else np.rint(plane, out=plane)
    target[:] = np.clip(rounded, 0, whole, out=rounded)
