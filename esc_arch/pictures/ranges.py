"""Mapping the numbers that a file holds to all of 8 or 16 bits, of colours that alpha is not multiplied into."""

from __future__ import annotations

import numpy as np

from esc_arch.common.errors import UserError
from esc_arch.pictures.picture import Pixels


def stretch_whole(values: Pixels, most: int) -> Pixels:
    """Map whole numbers from 0 to `most` to uint8, or to uint16 where `most` is above 255.

    Args:
        values: of any shape, none above `most`.
        most: what stands for white; of 255 and 65535 the values are returned as they are.
    """
    target, whole = ("u1", 255) if most <= 255 else ("u2", 65535)
    if most == whole:
        return values.astype(target)
    if most <= 65535:
        return ((values.astype(np.uint32) * whole + most // 2) // most).astype(target)
    return (values.astype(np.float64) * (whole / most)).round().astype(target)


def stretch_stated(values: Pixels, lowest: float, highest: float) -> Pixels:
    """Map numbers from `lowest` to `highest`, which a file states to be black and white, to uint16."""
    scaled = (values.astype(np.float64) - lowest) * (65535 / (highest - lowest))
    return np.asarray(scaled.round().clip(0, 65535).astype(np.uint16))


def require_numbers(file: str, values: Pixels) -> None:
    """Raise UserError where there are infinities or what is not a number."""
    if not np.isfinite(values).all():
        raise UserError(f"{file} has samples that are no numbers (NaN or infinity); replace them.")


def stretch_fractions(file: str, values: Pixels, how_to_state: str = "") -> Pixels:
    """Map floating point numbers of no stated range to uint16: 0 is black and 1 is white.

    Args:
        file: its name, for messages.
        values: of any shape.
        how_to_state: how the format states a range, for messages.

    Raises:
        UserError: there are numbers outside, so that 0 and 1 are not what is meant.
    """
    require_numbers(file, values)
    least, most = float(values.min()), float(values.max())
    if least < 0 or most > 1:
        raise UserError(
            f"{file} has floating point samples from {least:g} to {most:g} and does not state what is black and "
            f"white{how_to_state}; scale it to [0, 1]."
        )
    return stretch_stated(values, 0, 1)


def divide_by_alpha(pixels: Pixels) -> Pixels:
    """Undo the multiplication of colours by alpha; transparent colours become black.

    Args:
        pixels: (H, W, C) uint8 or uint16, the last channel is alpha.

    Returns:
        of the same shape and type.
    """
    whole = np.iinfo(pixels.dtype).max
    alpha = pixels[..., -1:].astype(np.uint64)
    colours = (pixels[..., :-1].astype(np.uint64) * whole + alpha // 2) // np.maximum(alpha, 1)
    straight = np.where(alpha == 0, 0, np.minimum(colours, whole)).astype(pixels.dtype)
    return np.concatenate([straight, pixels[..., -1:]], axis=2)
