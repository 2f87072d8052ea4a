"""Reaching a size: by the network, as often as it takes, and by one resize at the end."""

from __future__ import annotations

import os
from collections.abc import Callable

from esc_arch.common.errors import UserError
from esc_arch.pictures.picture import Pixels
from esc_arch.upscale.network import Enlarger, bundled_of_scale, load_enlarger
from esc_arch.upscale.pixels import enlarge_pixels
from esc_arch.upscale.resizing import resize
from esc_arch.upscale.sizes import Sides, Size, factor_of


class Networks:
    """The networks of a run: that of the weights that were named, or of those of this package the one that suits.

    Args:
        weights: a name or a path as for `load_enlarger`, None to choose by what is to be reached.
        load: makes an enlarger of a name or a path.

    Raises:
        UserError: the weights cannot be used.
    """

    def __init__(self, weights: str | os.PathLike[str] | None, load: Callable[..., Enlarger] = load_enlarger) -> None:
        self._named, self._load = weights, load
        self._loaded: dict[str | os.PathLike[str], Enlarger] = {}
        self._dtype = "fp32"
        self.device = "cpu"
        if weights is not None:
            self.reaching(1)

    def move(self, device: str, dtype: str) -> None:
        """Move the networks to a device, to compute in `fp32`, `bf16` or `fp16`, those too that will be loaded."""
        self.device, self._dtype = device, dtype
        self._loaded = {name: enlarger.to(device, dtype) for name, enlarger in self._loaded.items()}

    def name_reaching(self, factor: float) -> str | os.PathLike[str]:
        """Return the name or the path of the weights for enlarging so many times."""
        return bundled_of_scale(factor) if self._named is None else self._named

    def reaching(self, factor: float) -> Enlarger:
        """Return the network for enlarging so many times."""
        name = self.name_reaching(factor)
        if name not in self._loaded:
            self._loaded[name] = self._load(name).to(self.device, self._dtype)
        return self._loaded[name]


def stages(enlarger: Enlarger, sides: Sides, target: Sides) -> list[Sides]:
    """Return the sides that the network gives step by step, up to where neither is smaller than that of the target.

    Returns:
        nothing where the picture is large enough already; a network of scale 1, which restores, is run once.

    Raises:
        UserError: the network does not enlarge.
    """
    height, width = sides
    larger = height < target[0] or width < target[1]
    if enlarger.any_scale and (larger or target == sides):
        return [target]
    if larger and enlarger.scale <= 1:
        raise UserError(f"the network of the weights enlarges {enlarger.scale:g} times; choose other weights")
    found = [sides] if enlarger.scale == 1 else []
    while height < target[0] or width < target[1]:
        height, width = enlarger.enlarged(height, width)
        found.append((height, width))
    return found


def target_of(enlarger: Enlarger, size: Size, sides: Sides) -> Sides:
    """Return the sides of the result: what was asked for, or what the network makes of a picture."""
    return size.of(*sides) if size.is_given else enlarger.enlarged(*sides)


def enlarge_to(
    pixels: Pixels,
    enlarger: Enlarger,
    target: Sides,
    tile: int | None = None,
    on_start: Callable[[int], object] = lambda tiles: None,
    on_tile: Callable[[], object] = lambda: None,
) -> Pixels:
    """Enlarge pixels to a size.

    Args:
        pixels: (H, W, C), C from 1 to 4, uint8, uint16 or float32 in [0, 1].
        enlarger: the network.
        target: H', W' of the result.
        tile: as for `enlarge_pixels`, and so are the others.

    Returns:
        (H', W', C), of the same type.

    Raises:
        UserError: the memory does not suffice, or the network does not enlarge.
    """
    for sides in stages(enlarger, (pixels.shape[0], pixels.shape[1]), target):
        if enlarger.any_scale:
            enlarger = enlarger.at_scale(max(factor_of((pixels.shape[0], pixels.shape[1]), sides), 1))
        pixels = enlarge_pixels(pixels, enlarger, tile, on_start, on_tile, sides)
    return resize(pixels, target)


def bytes_needed(enlarger: Enlarger, pixels: Pixels, target: Sides, copies: int) -> int:
    """Estimate the memory that enlarging to a size takes, beside what the network takes for a tile.

    Args:
        enlarger: the network.
        pixels: the picture.
        target: H', W'.
        copies: how many times the result is kept.
    """
    height, width, channels = pixels.shape
    per_pixel = pixels.itemsize * channels
    steps = stages(enlarger, (height, width), target)
    area = target[0] * target[1]
    largest = max([height * width, *(rows * columns for rows, columns in steps)])
    before = steps[-2][0] * steps[-2][1] if len(steps) > 1 else 0
    resized = 0 if steps and steps[-1] == target else 4 * (largest + target[1] * steps[-1][0] if steps else largest)
    return max(copies * area * per_pixel, (largest + before) * per_pixel, (largest + area) * per_pixel + 3 * resized)
