"""Enlarging an array of pixels."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from esc_arch.common.errors import UserError
from esc_arch.pictures.alpha import fill_hidden, is_hidden, restore_hidden
from esc_arch.upscale.memory import choose_tile, fit_tile, free_memory, overlap_of
from esc_arch.upscale.network import Enlarger, load_enlarger
from esc_arch.upscale.tiles import Place, count_tiles, enlarge_in_tiles

Pixels = np.ndarray[Any, Any]
RANGES = {"uint8": 255, "uint16": 65535, "float32": 1}
TAKEN = (*RANGES, "bool", "float16", "float64")
BEYOND = 0.5  # how far float images may lie outside of [0, 1], as resampling leaves them; more is another range
MODES = ("L", "LA", "RGB", "RGBA", "1", "I;16")  # of Pillow, whose pixels are what they seem


def upscale_image(
    image: Pixels,
    weights: str | os.PathLike[str] | nn.Module,
    *,
    scale: float | None = None,
    tile: int | None = None,
    self_ensemble: bool = False,
    window: int | None = None,
) -> Pixels:
    """Enlarge one image.

    Where alpha says that pixels are transparent, their colours are left out of the others and repeated in the result.

    Args:
        image: (H, W), (H, W, 1), or (H, W, C) with grey and alpha, RGB, or RGB and alpha; uint8 or uint16 in their
            whole range, float16, float32 or float64 in [0, 1], of which a little more is cut off, or bool. In any
            byte order and layout, writable or not; it is left as it is.
        weights: the name of weights that come with this package, the path of a checkpoint, or a network, which runs
            where it is and is left in evaluation mode; see `esc_arch.upscale.network.load_enlarger`.
        scale: any number from 1 on where the network is ESC+LTE; None takes the network's own.
        tile: side of a tile in pixels; None chooses it by the free memory.
        self_ensemble: average over the eight symmetries of the square, in eight times the time.
        window: side of the windows of ESC-RIB, which no weight tells; None for the published one, 64.

    Returns:
        the enlarged image, (S * H, S * W[, C]), rounded, of the same type.

    Raises:
        UserError: the weights cannot be used, or not at this scale or with this window.
        ValueError: the image has another shape, type or range.
    """
    image = _checked(image)
    flat = image.ndim == 2
    # a copy: numpy calls an axis of one pixel contiguous, whatever its stride, and torch refuses those below zero
    pixels = np.array(image[..., None] if flat else image, _computed_as(image.dtype), order="C")
    enlarger = load_enlarger(weights, self_ensemble=self_ensemble, scale=scale, window=window).at_scale(scale)
    enlarged = enlarge_pixels(pixels, enlarger, tile)
    if image.dtype == bool:
        enlarged = enlarged >= 0.5
    return (enlarged[..., 0] if flat else enlarged).astype(image.dtype, copy=False)


def _computed_as(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type in RANGES, in the order of bytes of this machine, that holds what a type of TAKEN does."""
    return np.dtype(dtype.name if dtype.name in RANGES else "float32")


def _checked(image: Pixels) -> Pixels:
    """Return an image as an array, or raise ValueError with what is wrong and what to do."""
    mode = getattr(image, "mode", None) if hasattr(image, "getbands") else None
    if mode is not None and mode not in MODES:
        raise ValueError(f"image is a picture of Pillow in mode {mode}; convert it by image.convert('RGB') first")
    if isinstance(image, np.ma.MaskedArray):
        raise ValueError("image must not be masked; fill it by image.filled(...) first")
    image = np.asarray(image)
    shape = image.shape if image.ndim == 3 else (*image.shape, 1)
    if len(shape) != 3 or not 1 <= shape[2] <= 4 or 0 in shape or image.dtype.name not in TAKEN:
        raise ValueError(
            f"image must have shape (H, W) or (H, W, 1 to 4) and type {', '.join(TAKEN[:-1])} or {TAKEN[-1]}, got "
            f"{image.shape} and {image.dtype}" + _advice(image)
        )
    if image.dtype.kind == "f":
        least, most = float(image.min()), float(image.max())
        if not -BEYOND <= least <= most <= 1 + BEYOND:  # false of NaN, too
            raise ValueError(f"image of {image.dtype} must lie in [0, 1], got numbers from {least:g} to {most:g}")
    return image


def _advice(image: Pixels) -> str:
    if image.ndim == 3 and image.shape[0] in (1, 3, 4) and image.shape[2] > 4:
        return "; channels come last: image.transpose(1, 2, 0)"
    if image.dtype.kind in "iu" and image.dtype.name not in TAKEN:
        return "; if its numbers go up to 255, take image.astype('uint8')"
    return ""


def enlarge_pixels(
    pixels: Pixels,
    enlarger: Enlarger,
    tile: int | None = None,
    on_start: Callable[[int], object] = lambda tiles: None,
    on_tile: Callable[[], object] = lambda: None,
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

    Returns:
        (S * H, S * W, C), of the same type.

    Raises:
        UserError: the memory does not suffice for the smallest tiles either.
    """
    overlap = overlap_of(enlarger)
    if tile is None:
        tile = choose_tile(enlarger, pixels.shape[1], free_memory(str(enlarger.device)))
    tile = fit_tile(enlarger, tile)
    while True:
        planes = _planes(pixels)
        on_start(len(planes) * count_tiles(pixels.shape[0], pixels.shape[1], tile, overlap))
        try:
            return _enlarge_planes(pixels, planes, enlarger, tile, overlap, on_tile)
        except (RuntimeError, MemoryError) as error:
            if not _out_of_memory(error):
                raise
        # outside of the clause above, which keeps the tensors of the failed attempt alive
        smaller = fit_tile(enlarger, tile // 2)
        if smaller == tile:
            raise UserError(f"there is not enough memory for tiles of {tile} pixels")
        tile = smaller
        gc.collect()


def _planes(pixels: Pixels) -> list[slice]:
    """Divide the channels into what is enlarged together: grey or colour, and alpha unless it is uniform."""
    colours = 1 if pixels.shape[2] < 3 else 3
    planes = [slice(0, colours)]
    if pixels.shape[2] > colours and pixels[..., -1].min() != pixels[..., -1].max():
        planes.insert(0, slice(colours, colours + 1))  # first: it tells which colours are seen
    return planes


def _enlarge_planes(
    pixels: Pixels, planes: list[slice], enlarger: Enlarger, tile: int, overlap: int, on_tile: Callable[[], object]
) -> Pixels:
    height, width, channels = pixels.shape
    whole = RANGES[pixels.dtype.name]
    result = np.empty((*enlarger.enlarged(height, width), channels), pixels.dtype)
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
        for rows in enlarge_in_tiles(image, enlarge, enlarger.enlarged(height, width), tile, overlap):
            rows = rows[0].permute(1, 2, 0).mul_(whole)
            target = result[top : top + rows.shape[0], :, plane]
            target[:] = (rows if whole == 1 else rows.round_()).clamp_(0, whole).numpy()
            if transparent and plane.start == 0:
                alpha = result[top : top + rows.shape[0], :, -1]
                restore_hidden(target, alpha, pixels[..., plane], top, (result.shape[0], result.shape[1]), whole)
            top += rows.shape[0]
    return result


def _out_of_memory(error: BaseException) -> bool:
    words = ("out of memory", "allocate memory", "not enough memory")
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or any(word in str(error).lower() for word in words)
