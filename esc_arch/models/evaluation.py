"""How a model enlarges an image when it validates and tests: padded to whole windows, and in parts where asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from esc_arch.layers.window import pad_to_multiple

CHOP_SIDE, CHOP_MARGIN = 200, 16  # LQ pixels, of HiT-SR's code


class Evaluation:
    """Stands before a model of BasicSR among the bases of a class, and replaces its `test`.

    The input is padded by reflection to a multiple of `network_g.window_size` (where there is one) and the output is
    cropped, as in the protocol of the papers and in BasicSR's SwinIRModel, for images of any size. Networks that say
    `pads_itself` were published with another padding, which they do themselves.

    Options:
        tile: `tile_size` and `tile_pad`, LQ pixels: the padded image goes through the network in tiles of this size,
            each with as much around it. For large images; the edges of tiles show in the last bits (HAT, CVPR 2023).
        val: use_chop: parts of at most 200 LQ pixels a side, and 16 around each (HiT-SR, ECCV 2024).

    Parts that are not whole windows are padded as the image is; their windows lie elsewhere than those of the image.
    """

    opt: dict[str, Any]
    lq: torch.Tensor
    output: torch.Tensor
    net_g: Any
    get_bare_model: Callable[[Any], Any]  # of BasicSR

    def test(self) -> None:
        """Enlarge `self.lq` (1, C, H, W) into `self.output` (1, C, S * H, S * W)."""
        lq = self.lq
        scale, (height, width) = self.opt.get("scale", 1), lq.shape[-2:]
        try:
            padded = pad_to_multiple(lq, self._window())
            self.output = self._enlarge(padded, scale)[..., : height * scale, : width * scale]
        finally:
            self.lq = lq

    def _window(self) -> int:
        pads_itself = getattr(self.get_bare_model(self.net_g), "pads_itself", False)
        window = 1 if pads_itself else self.opt["network_g"].get("window_size", 1)
        return window if isinstance(window, int) else 1

    def _enlarge(self, image: torch.Tensor, scale: int) -> torch.Tensor:
        if tile := self.opt.get("tile"):
            side = tile["tile_size"]
            return enlarge_in_parts(self._whole, image, (side, side), tile["tile_pad"], scale)
        if (self.opt.get("val") or {}).get("use_chop"):
            counts = [side // CHOP_SIDE + 1 for side in image.shape[-2:]]
            for axis, count in zip((-2, -1), counts, strict=True):  # mirrored with its edge to a multiple
                missing = -image.shape[axis] % count
                mirrored = image.flip(axis).narrow(axis, 0, missing)
                image = torch.cat([image, mirrored], axis)
            height, width = (side // count for side, count in zip(image.shape[-2:], counts, strict=True))
            return enlarge_in_parts(self._whole, image, (height, width), CHOP_MARGIN, scale)
        return self._whole(image)

    def _whole(self, image: torch.Tensor) -> torch.Tensor:
        self.lq = pad_to_multiple(image, self._window())
        super().test()  # type: ignore[misc]
        return self.output


def enlarge_in_parts(
    enlarge: Callable[[torch.Tensor], torch.Tensor], image: torch.Tensor, part: tuple[int, int], margin: int, scale: int
) -> torch.Tensor:
    """Enlarge an image part by part.

    Args:
        enlarge: from (B, C, h, w) to (B, C, S * h, S * w), of any h, w.
        image: (B, C, H, W).
        part: height and width of a part; the last ones are smaller.
        margin: pixels around a part that are enlarged with it and cut off, fewer where the image ends.
        scale: S.

    Returns:
        (B, C, S * H, S * W).
    """
    height, width = image.shape[-2:]
    whole: torch.Tensor | None = None
    for top in range(0, height, part[0]):
        bottom, above = min(top + part[0], height), min(top, margin)
        for left in range(0, width, part[1]):
            right, before = min(left + part[1], width), min(left, margin)
            piece = enlarge(image[..., top - above : bottom + margin, left - before : right + margin])
            if whole is None:
                whole = piece.new_empty(*piece.shape[:2], height * scale, width * scale)
            rows = slice(above * scale, (above + bottom - top) * scale)
            columns = slice(before * scale, (before + right - left) * scale)
            whole[..., top * scale : bottom * scale, left * scale : right * scale] = piece[..., rows, columns]
    assert whole is not None
    return whole


def check_tile(opt: dict[str, Any]) -> None:
    """Check the option `tile`.

    Raises:
        ValueError: a size is missing or out of range.
    """
    tile = opt.get("tile")
    if not tile:
        return
    for key, least in (("tile_size", 1), ("tile_pad", 0)):
        value = tile.get(key) if isinstance(tile, dict) else None
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"tile must have tile_size and tile_pad, whole LQ pixels, got {key} {value!r}")
