"""Colours that nobody sees: what lies under transparent pixels must not bleed into visible ones."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from esc_arch.pictures.picture import Pixels

_LEVELS = 255  # half a level of these is what can be seen of an alpha
_ROWS = 512  # of the picture that are worked on at a time, an even number: memory stays small


def is_hidden(alpha: Pixels, whole: float) -> Pixels:
    """Tell which pixels are transparent: those whose alpha is less than half a level of 8 bits.

    Args:
        alpha: of any shape.
        whole: the alpha of what is opaque.
    """
    return alpha < whole / (2 * _LEVELS)


def fill_hidden(pixels: Pixels, whole: float) -> Pixels:
    """Replace colours under transparent pixels by those of the visible ones around them.

    Each takes the mean of the visible colours in the smallest neighbourhood that has some, of 2 x 2, 4 x 4, ... pixels,
    interpolated between neighbourhoods (pull and push: Gortler et al., The Lumigraph, 1996, section 3.4).

    Args:
        pixels: (H, W, C), the last channel is alpha, which somewhere is not transparent.
        whole: the alpha of what is opaque.

    Returns:
        (H, W, C - 1), of the same type; visible colours are as they were.
    """
    height, width, channels = pixels.shape
    half = (height + 1) // 2, (width + 1) // 2
    sums, counts = np.empty((*half, channels - 1), np.float32), np.empty(half, np.float32)
    for top in range(0, height, _ROWS):
        part = pixels[top : top + _ROWS]
        seen = ~is_hidden(part[..., -1], whole)
        rows = slice(top // 2, top // 2 + (len(part) + 1) // 2)
        sums[rows], counts[rows] = _halve(part[..., :-1].astype(np.float32), seen)
    around = _complete(_mean(sums, counts), counts > 0)
    filled = pixels[..., :-1].copy()
    for top in range(0, height, _ROWS):
        part = filled[top : top + _ROWS]
        hidden = is_hidden(pixels[top : top + _ROWS, :, -1], whole)
        if hidden.any():
            first, last = max(top // 2 - 1, 0), min((top + len(part) + 1) // 2 + 1, half[0])
            larger = _double(around[first:last])[top - 2 * first :][: len(part), :width]
            larger = larger if filled.dtype.kind == "f" else larger.round()
            part[hidden] = larger[hidden].astype(filled.dtype)
    return filled


def restore_hidden(
    enlarged: Pixels, alpha: Pixels, source: Pixels, top: int, sides: tuple[int, int], whole: float
) -> None:
    """Give pixels that are transparent in the result the colours that the nearest ones had, as nobody sees them.

    Args:
        enlarged: (h, W', C) colours of some rows of the result; changed in place.
        alpha: (h, W') of the result.
        source: (H, W, C) colours of the picture.
        top: the first of these rows.
        sides: H', W' of the result.
        whole: the alpha of what is opaque.
    """
    hidden = is_hidden(alpha, whole)
    if hidden.any():
        rows, columns = np.nonzero(hidden)
        height, width = source.shape[:2]
        above = (2 * (rows + top) + 1) * height // (2 * sides[0])
        enlarged[rows, columns] = source[above, (2 * columns + 1) * width // (2 * sides[1])]


def _halve(colours: Pixels, seen: Pixels) -> tuple[Pixels, Pixels]:
    """Add up the visible colours of 2 x 2 pixels, and count them."""
    height, width, channels = colours.shape
    odd = ((0, height % 2), (0, width % 2))
    weights = np.pad(seen, odd).astype(np.float32)
    weighted = np.pad(colours, (*odd, (0, 0))) * weights[..., None]
    cells = weighted.reshape(weights.shape[0] // 2, 2, weights.shape[1] // 2, 2, channels)
    return cells.sum(axis=(1, 3)), weights.reshape(cells.shape[:4]).sum(axis=(1, 3))


def _mean(sums: Pixels, counts: Pixels) -> Pixels:
    return np.asarray(sums / np.maximum(counts, 1)[..., None])


def _complete(colours: Pixels, seen: Pixels) -> Pixels:
    """Fill what is not seen, level after level."""
    if seen.all() or seen.size == 1:
        return colours
    sums, counts = _halve(colours, seen)
    larger = _double(_complete(_mean(sums, counts), counts > 0))
    return np.where(seen[..., None], colours, larger[: seen.shape[0], : seen.shape[1]])


def _double(colours: Pixels) -> Pixels:
    planes = torch.from_numpy(colours).permute(2, 0, 1)[None]
    larger = F.interpolate(planes, scale_factor=2, mode="bilinear", align_corners=False)
    return np.asarray(larger[0].permute(1, 2, 0).numpy())
