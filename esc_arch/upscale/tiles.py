"""Enlarging an image tile by tile, in memory that depends on the tile and on one row of tiles alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

Span = tuple[int, int]  # first pixel, and the one after the last


@dataclass(frozen=True)
class Place:
    """Where the pixels of a part of the result lie, in pixels of the part of the image that they are made from.

    Attributes:
        rows: (h,) centres of the rows; the first row of the image reaches from 0 to 1.
        columns: (w,), likewise.
        steps: height and width of a pixel of the result.
    """

    rows: torch.Tensor
    columns: torch.Tensor
    steps: tuple[float, float]

    @classmethod
    def of_whole(cls, sides: tuple[int, int], enlarged: tuple[int, int]) -> Place:
        """Return the place of a whole image of `sides` (H, W) in its result."""
        return cls.of_part(sides, enlarged, ((0, sides[0]), (0, sides[1])), ((0, enlarged[0]), (0, enlarged[1])))

    @classmethod
    def of_part(
        cls, sides: tuple[int, int], enlarged: tuple[int, int], source: tuple[Span, Span], target: tuple[Span, Span]
    ) -> Place:
        """Return the place of a part.

        Args:
            sides: H, W of the image.
            enlarged: H', W' of the result.
            source: rows and columns of the part of the image.
            target: rows and columns of the part of the result.
        """
        steps = sides[0] / enlarged[0], sides[1] / enlarged[1]
        rows, columns = (
            (torch.arange(*span, dtype=torch.float64) + 0.5) * step - first
            for span, step, (first, _) in zip(target, steps, source, strict=True)
        )
        return cls(rows, columns, steps)

    def mirrored(self, width: int) -> Place:
        """Return the place of the pixels after image (of `width`) and result are mirrored left to right."""
        return Place(self.rows, (width - self.columns).flip(0), self.steps)

    def turned(self, width: int) -> Place:
        """Return the place of the pixels after image (of `width`) and result are turned as `rot90` does."""
        return Place((width - self.columns).flip(0), self.rows, (self.steps[1], self.steps[0]))


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
    enlarge: Callable[[torch.Tensor, Place], torch.Tensor],
    enlarged: tuple[int, int],
    tile: int,
    overlap: int,
) -> Iterator[torch.Tensor]:
    """Enlarge an image tile by tile and blend the tiles where they overlap.

    From one tile to the next the weights change linearly over the middle half of the overlap; a quarter on either side
    belongs to one tile alone, so that what a network makes of the border of a tile is not seen. Elsewhere the result is
    that of a tile alone. Where a network sees no further than a quarter of the overlap, it is that of the whole image.

    Args:
        image: (1, C, H, W) of any type that `enlarge` takes.
        enlarge: enlarges a part (1, C, h, w) of the image to floating point numbers (1, C', h', w') at a place.
        enlarged: H', W' of the result.
        tile: side of a tile in pixels of `image`.
        overlap: pixels that neighbouring tiles share, at most half a tile.

    Yields:
        rows of the result from top to bottom, (1, C', any number of rows, W'), on the CPU.

    Raises:
        ValueError: the overlap is negative or more than half a tile.
    """
    sides = image.shape[-2], image.shape[-1]
    rows, columns = (spans(side, tile, overlap) for side in sides)
    rows_out, columns_out = (
        [(_scaled(first, ratio), _scaled(last, ratio)) for first, last in found]
        for found, ratio in ((rows, (enlarged[0], sides[0])), (columns, (enlarged[1], sides[1])))
    )
    carried: torch.Tensor | None = None  # the upper tiles' part of what they share with those below
    for row, (row_in, row_out) in enumerate(zip(rows, rows_out, strict=True)):
        band: torch.Tensor | None = None
        for column, (column_in, column_out) in enumerate(zip(columns, columns_out, strict=True)):
            place = Place.of_part(sides, enlarged, (row_in, column_in), (row_out, column_out))
            part = enlarge(image[..., slice(*row_in), slice(*column_in)], place).cpu()
            if band is None:
                band = part.new_zeros(*part.shape[:-1], enlarged[1])
            band[..., slice(*column_out)] += part * _weights(columns_out, column).to(part)
        assert band is not None
        band *= _weights(rows_out, row).to(band)[:, None]
        if carried is not None:
            band[..., : carried.shape[-2], :] += carried
        finished = (rows_out[row + 1][0] if row + 1 < len(rows) else enlarged[0]) - row_out[0]
        carried = band[..., finished:, :].clone()
        yield band[..., :finished, :]


def _scaled(pixel: int, ratio: tuple[int, int]) -> int:
    """Return the pixel of the result at which a pixel of the image begins, rounded; `ratio` is result to image."""
    return (2 * pixel * ratio[0] + ratio[1]) // (2 * ratio[1])


def _weights(sides: list[Span], index: int) -> torch.Tensor:
    """Compute the weights of a tile of the result along one side; those of neighbours add up to one."""
    first, last = sides[index]
    weights = torch.ones(last - first)
    if index > 0 and (before := sides[index - 1][1] - first):
        weights[:before] = _rise(before)
    if index + 1 < len(sides) and (after := last - sides[index + 1][0]):
        weights[-after:] = _rise(after).flip(0)
    return weights


def _rise(length: int) -> torch.Tensor:
    position = (torch.arange(length) + 0.5) / length
    return ((position - 0.25) * 2).clamp(0, 1)
