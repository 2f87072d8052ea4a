"""Enlarging an array of pixels."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from esc_arch.common.errors import UserError
from esc_arch.common.precision import choose_dtype
from esc_arch.pictures.picture import Pixels
from esc_arch.upscale.network import Enlarger, load_enlarger
from esc_arch.upscale.pixels import RANGES
from esc_arch.upscale.reaching import enlarge_to, target_of
from esc_arch.upscale.sizes import Size

TAKEN = (*RANGES, "bool", "float16", "float64")
BEYOND = 0.5  # how far float images may lie outside of [0, 1], as resampling leaves them; more is another range
MODES = ("L", "LA", "RGB", "RGBA", "1", "I;16")  # of Pillow, whose pixels are what they seem


def upscale_image(
    image: Pixels,
    weights: str | os.PathLike[str] | nn.Module,
    *,
    scale: float | None = None,
    size: tuple[int | None, int | None] | None = None,
    longest: int | None = None,
    tile: int | None = None,
    self_ensemble: bool = False,
    window: int | None = None,
    dtype: str = "auto",
) -> Pixels:
    """Enlarge one image.

    Where alpha says that pixels are transparent, their colours are left out of the others and repeated in the result.

    Args:
        image: (H, W), (H, W, 1), or (H, W, C) with grey and alpha, RGB, or RGB and alpha; uint8 or uint16 in their
            whole range, float16, float32 or float64 in [0, 1], of which a little more is cut off, or bool. In any
            byte order and layout, writable or not; it is left as it is.
        weights: the name of weights that come with this package, the path of a checkpoint, or a network, which runs
            where it is and is left in evaluation mode; see `esc_arch.upscale.network.load_enlarger`.
        scale: any number from 1 on. ESC+LTE gives it at once; others enlarge as often as it takes, and what is more is
            resized. None takes the network's own.
        size: width and height of a box that the result fits into, either may be None; see `Size.of` for how sides
            are rounded. What is smaller than the image is reached by resizing alone.
        longest: pixels of the longer side of the result, likewise.
        tile: side of a tile in pixels; None chooses it by the free memory.
        self_ensemble: average over the eight symmetries of the square, in eight times the time.
        window: side of the windows of ESC-RIB, which no weight tells; None for the published one, 64.
        dtype: what is computed in, `fp32`, `bf16` or `fp16`; fp32 in place of bf16 where there are no instructions for
            it. `auto` is fp32, or the precision of a network that is given, which no other choice but bf16 changes.

    Returns:
        the enlarged image, (H', W'[, C]), rounded, of the same type.

    Raises:
        UserError: the weights cannot be used, do not enlarge, or not with this window.
        ValueError: the image has another shape, type or range; or the size is none, or the dtype.
    """
    image = _checked(image)
    flat = image.ndim == 2
    # a copy: numpy calls an axis of one pixel contiguous, whatever its stride, and torch refuses those below zero
    pixels = np.array(image[..., None] if flat else image, _computed_as(image.dtype), order="C")
    wanted = wanted_size(scale, size, longest)
    enlarger = _in_dtype(weights, dtype, self_ensemble=self_ensemble, scale=scale, window=window)
    enlarged = enlarge_to(pixels, enlarger, target_of(enlarger, wanted, pixels.shape[:2]), tile)
    if image.dtype == bool:
        enlarged = enlarged >= 0.5
    return (enlarged[..., 0] if flat else enlarged).astype(image.dtype, copy=False)


def _in_dtype(weights: str | os.PathLike[str] | nn.Module, name: str, **options: Any) -> Enlarger:
    """Load the enlarger to compute in what is asked for; the weights of a network that is given stay as they are."""
    if not isinstance(weights, nn.Module):
        dtype = choose_dtype(name, "cpu")[0]
        return load_enlarger(weights, dtype=dtype, **options).to("cpu", dtype)
    enlarger = load_enlarger(weights, **options)
    given = {torch.float32: "fp32", torch.float16: "fp16"}.get(enlarger.dtype)
    dtype = choose_dtype(name, str(enlarger.device))[0]
    if name == "auto" or dtype == given:
        return enlarger
    if dtype != "bf16" or given != "fp32":
        raise ValueError(
            f"dtype is {name}, but the network has weights of {enlarger.dtype}; convert it by network.to(...)"
        )
    return replace(enlarger, bf16=True)


def wanted_size(scale: float | None, size: tuple[int | None, int | None] | None, longest: int | None) -> Size:
    """Return what was asked for, or raise ValueError where it is no size, or several."""
    if sum(value is not None for value in (scale, size, longest)) > 1:
        raise ValueError("give one of scale, size and longest")
    if scale is not None and not 1 <= scale < math.inf:
        raise UserError(f"The scale must be at least 1, got {scale:g}.")
    width, height = (None, None) if size is None else size
    sides = [side for side in (width, height, longest) if side is not None]
    if any(isinstance(side, bool) or int(side) != side or side < 1 for side in sides) or (size and not sides):
        raise ValueError(f"sides must be whole numbers of at least 1, got {size or longest}")
    return Size(scale, width, height, longest)


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
