"""Bicubic enlargement as a network, the baseline of every table."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from esc_arch.common.hub import OnHub
from esc_arch.layers.arguments import require_image, require_scale


class Bicubic(nn.Module, OnHub):
    """MATLAB's bicubic enlargement, without parameters, so that it can stand as `network_g` in an option file.

    Args:
        upscaling_factor: scale S, at least 1.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, upscaling_factor: int = 2) -> None:
        super().__init__()
        require_scale(upscaling_factor)
        self.upscaling_factor = upscaling_factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Enlarge images (B, 3, H, W) to (B, 3, S * H, S * W) on the CPU, with BasicSR's `imresize`."""
        from basicsr.utils.matlab_functions import imresize

        require_image(x, 3)
        if x.is_meta:  # no values that could be moved: shapes and dtypes alone
            return F.interpolate(x, scale_factor=self.upscaling_factor, mode="bicubic")
        enlarged = [imresize(image, self.upscaling_factor) for image in x.float().cpu()]
        return torch.stack(enlarged).to(x)
