"""Enlarging an image tile by tile, in memory that depends on the tile and on one row of tiles alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

Span = tuple[int, int]  # first pixel, and the one after the last


def spans(length: int, tile: int, overlap: int) -> list[Span]:
    """Cut a side into tiles.

    Args:
        length: pixels of the side.
        tile: pixels of a tile; the last one may be shorter.
        overlap: pixels that neighbours share, at most half a tile.

    Returns:
        where the tiles are. They start at multiples of `tile - overlap`, and at most two of them share a pixel.

    Raises:
        ValueError: the overlap is negative or more than half a tile.
    """
    if not 0 <= 2 * overlap <= tile:
        raise ValueError(f"overlap must be between 0 and half a tile, got {overlap} of {tile}")
    starts = range(0, max(length - overlap, 1), tile - overlap)
    return [(start, min(start + tile, length)) for start in starts]


def count_tiles(height: int, width: int, tile: int, overlap: int) -> int:
    """Count the tiles of an image."""
    return len(spans(height, tile, overlap)) * len(spans(width, tile, overlap))


def enlarge_in_tiles(
    image: torch.Tensor,
    enlarge: Callable[[torch.Tensor], torch.Tensor],
    scale: int,
    tile: int,
    overlap: int,
) -> Iterator[torch.Tensor]:
    """Enlarge an image tile by tile and blend the tiles where they overlap.

    From one tile to the next the weights change linearly over the middle half of the overlap; a quarter on either side
    belongs to one tile alone, so that what a network makes of the border of a tile is not seen. Elsewhere the result is
    that of a tile alone. Where a network sees no further than a quarter of the overlap, it is that of the whole image.

    Args:
        image: (1, C, H, W) of any type that `enlarge` takes.
        enlarge: enlarges a part (1, C, h, w) of the image to floating point numbers (1, C', S * h, S * w).
        scale: S.
        tile: side of a tile in pixels of `image`.
        overlap: pixels that neighbouring tiles share, at most half a tile.

    Yields:
        rows of the result from top to bottom, (1, C', any number of rows, S * W), on the CPU.

    Raises:
        ValueError: the overlap is negative or more than half a tile.
    """
    height, width = image.shape[-2:]
    rows, columns = spans(height, tile, overlap), spans(width, tile, overlap)
    carried: torch.Tensor | None = None  # the upper tiles' part of what they share with those below
    for row, (top, bottom) in enumerate(rows):
        band: torch.Tensor | None = None
        for column, (left, right) in enumerate(columns):
            part = enlarge(image[..., top:bottom, left:right]).cpu()
            if band is None:
                band = part.new_zeros(*part.shape[:-1], scale * width)
            band[..., scale * left : scale * right] += part * _weights(columns, column, scale * overlap, scale).to(part)
        assert band is not None
        band *= _weights(rows, row, scale * overlap, scale).to(band)[:, None]
        if carried is not None:
            band[..., : carried.shape[-2], :] += carried
        finished = scale * ((rows[row + 1][0] if row + 1 < len(rows) else bottom) - top)
        carried = band[..., finished:, :].clone()
        yield band[..., :finished, :]


def _weights(sides: list[Span], index: int, overlap: int, scale: int) -> torch.Tensor:
    """Compute the weights of a tile along one side; those of neighbours add up to one."""
    first, last = sides[index]
    weights = torch.ones(scale * (last - first))
    if overlap:
        position = (torch.arange(overlap) + 0.5) / overlap
        rise = ((position - 0.25) * 2).clamp(0, 1)
        if index > 0:
            weights[:overlap] = rise
        if index + 1 < len(sides):
            weights[-overlap:] = rise.flip(0)
    return weights
