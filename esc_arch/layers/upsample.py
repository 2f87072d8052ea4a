"""From features to an image: the sub-pixel head and its conversion between scales."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from esc_arch.layers.arguments import require_scale


def convert_sub_pixel(tensor: torch.Tensor, scale: int) -> torch.Tensor:
    """Convert the weight or the bias of a sub-pixel convolution to another scale.

    Output channels are seen as (3, S, S): every RGB channel has an S x S field of sub-pixels, which is resized
    bilinearly (align_corners False). The published x3 and x4 networks start from x2 this way.

    Args:
        tensor: (3 * S * S, ...), S the old scale.
        scale: new scale S'.

    Returns:
        (3 * S' * S', ...).
    """
    old = round((tensor.shape[0] / 3) ** 0.5)
    rest = tensor.shape[1:]
    fields = tensor.reshape(3, old, old, -1).permute(0, 3, 1, 2)  # (3, rest, S, S)
    fields = F.interpolate(fields.float(), size=(scale, scale), mode="bilinear", align_corners=False)
    return fields.permute(0, 2, 3, 1).reshape(3 * scale**2, *rest).to(tensor.dtype)


class SubPixelConv(nn.Conv2d):
    """The convolution before a pixel shuffle, C -> 3 * S * S, which loads weights of any scale.

    Args:
        dim: number of channels C.
        scale: upscaling factor S.

    Raises:
        ValueError: the factor is not a whole number from 1 on.
    """

    def __init__(self, dim: int, scale: int) -> None:
        require_scale(scale)
        super().__init__(dim, 3 * scale**2, 3, padding=1)
        self.scale = scale

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Convert entries of another scale first; torch hands over a copy of the caller's dictionary."""
        for name in ("weight", "bias"):
            tensor = state_dict.get(prefix + name)
            if isinstance(tensor, torch.Tensor) and tensor.dim() and tensor.shape[0] != self.out_channels:
                old = round((tensor.shape[0] / 3) ** 0.5)
                if tensor.shape[0] == 3 * old**2:  # otherwise it is no sub-pixel convolution: let torch complain
                    state_dict[prefix + name] = convert_sub_pixel(tensor, self.scale)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def nearest_skip(image: torch.Tensor, scale: int) -> torch.Tensor:
    """Repeat every channel, (B, 3, H, W) -> (B, 3 * S * S, H, W): nearest enlargement, once shuffled."""
    return image.repeat_interleave(scale**2, dim=1)
