"""Enlarging pixels by a network, plane by plane and tile by tile."""

from __future__ import annotations

import gc
from collections.abc import Callable

import numpy as np
import torch

from esc_arch.common.errors import UserError
from esc_arch.pictures.alpha import fill_hidden, is_hidden, restore_hidden
from esc_arch.pictures.picture import Pixels
from esc_arch.upscale.memory import choose_tile, fit_tile, free_memory, overlap_of
from esc_arch.upscale.network import Enlarger
from esc_arch.upscale.sizes import Sides
from esc_arch.upscale.tiles import Place, count_tiles, enlarge_in_tiles

RANGES = {"uint8": 255, "uint16": 65535, "float32": 1}


def enlarge_pixels(
    pixels: Pixels,
    enlarger: Enlarger,
    tile: int | None = None,
    on_start: Callable[[int], object] = lambda tiles: None,
    on_tile: Callable[[], object] = lambda: None,
    sides: Sides | None = None,
) -> Pixels:
    """Enlarge pixels, with smaller tiles where the memory does not suffice.

    Colours of transparent pixels do not touch those of visible ones; where the result is
    transparent, they are repeated.

    Args:
        pixels: (H, W, C), C from 1 to 4, of a type in RANGES.
        enlarger: the network.
        tile: side of a tile; None chooses it by the free memory.
        on_start: called with the number of tiles, again where everything starts anew with smaller ones.
        on_tile: called after every tile.
        sides: H', W' of the result; None for S * H, S * W, which every network gives, others those of any scale.

    Returns:
        (H', W', C), of the same type.

    Raises:
        UserError: the memory does not suffice for the smallest tiles either.
    """
    overlap = overlap_of(enlarger)
    sides = sides or enlarger.enlarged(pixels.shape[0], pixels.shape[1])
    if tile is None:
        tile = choose_tile(enlarger, pixels.shape[1], free_memory(str(enlarger.device)))
    tile = fit_tile(enlarger, tile)
    while True:
        planes = _planes(pixels)
        on_start(len(planes) * count_tiles(pixels.shape[0], pixels.shape[1], tile, overlap))
        try:
            return _enlarge_planes(pixels, planes, enlarger, sides, tile, overlap, on_tile)
        except (RuntimeError, MemoryError) as error:
            if not _out_of_memory(error):
                raise
        # outside of the clause above, which keeps the tensors of the failed attempt alive
        smaller = fit_tile(enlarger, tile // 2)
        if smaller == tile:
            raise UserError(f"there is not enough memory for tiles of {tile} pixels")
        tile = smaller
        gc.collect()


def enlarge_together(pictures: list[Pixels], enlarger: Enlarger) -> list[Pixels]:
    """Enlarge pictures of one shape in one pass of the network, without tiles.

    Args:
        pictures: (H, W, 1 or 3), of one type in RANGES.
        enlarger: the network, of a fixed scale.

    Returns:
        (S * H, S * W, 1 or 3) each, of the same type.

    Raises:
        UserError, RuntimeError: as the network does; the memory does not suffice.
    """
    whole = RANGES[pictures[0].dtype.name]
    stacked = torch.from_numpy(np.stack(pictures))
    where = enlarger.device if whole == 255 else torch.device("cpu")  # bytes go there and back, and no floats
    images = stacked.to(where).permute(0, 3, 1, 2)
    enlarged = enlarger(images.expand(-1, 3, -1, -1).float() / whole)
    if images.shape[1] == 1:
        enlarged = enlarged.mean(dim=1, keepdim=True)
    rows = enlarged.permute(0, 2, 3, 1) * whole  # a tensor of inference mode itself cannot be changed in place
    results = (rows if whole == 1 else rows.round_()).clamp_(0, whole).to(where).to(images.dtype)
    return list(results.contiguous().cpu().numpy())


def _planes(pixels: Pixels) -> list[slice]:
    """Divide the channels into what is enlarged together: grey or colour, and alpha unless it is uniform."""
    colours = 1 if pixels.shape[2] < 3 else 3
    planes = [slice(0, colours)]
    if pixels.shape[2] > colours and pixels[..., -1].min() != pixels[..., -1].max():
        planes.insert(0, slice(colours, colours + 1))  # first: it tells which colours are seen
    return planes


def _enlarge_planes(
    pixels: Pixels,
    planes: list[slice],
    enlarger: Enlarger,
    sides: Sides,
    tile: int,
    overlap: int,
    on_tile: Callable[[], object],
) -> Pixels:
    channels = pixels.shape[2]
    whole = RANGES[pixels.dtype.name]
    result = np.empty((*sides, channels), pixels.dtype)
    result[..., -1] = pixels[0, 0, -1]  # alpha that is the same everywhere; else it is overwritten

    def enlarge(part: torch.Tensor, place: Place) -> torch.Tensor:
        grey = part.shape[1] == 1
        enlarged = enlarger(part.expand(-1, 3, -1, -1).float() / whole, place)
        on_tile()
        return enlarged.mean(dim=1, keepdim=True) if grey else enlarged

    transparent = len(planes) > 1 and is_hidden(pixels[..., -1], whole).any()
    for plane in planes:
        source = fill_hidden(pixels, whole) if transparent and plane.start == 0 else pixels[..., plane]
        image = torch.from_numpy(np.require(source, requirements=["C", "W"])).permute(2, 0, 1)[None]
        top = 0
        for rows in enlarge_in_tiles(image, enlarge, sides, tile, overlap):
            rows = rows[0].permute(1, 2, 0).mul_(whole)
            target = result[top : top + rows.shape[0], :, plane]
            target[:] = (rows if whole == 1 else rows.round_()).clamp_(0, whole).numpy()
            if transparent and plane.start == 0:
                alpha = result[top : top + rows.shape[0], :, -1]
                restore_hidden(target, alpha, pixels[..., plane], top, sides, whole)
            top += rows.shape[0]
    return result


def _out_of_memory(error: BaseException) -> bool:
    words = ("out of memory", "allocate memory", "not enough memory")
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or any(word in str(error).lower() for word in words)
