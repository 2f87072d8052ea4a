"""DySample: enlargement by sampling the features at places that are computed from them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from esc_arch.layers.arguments import require, require_scale
from esc_arch.layers.constants import WithConstants


class DySample(WithConstants):
    """Enlarges features by bilinear sampling at learned places, then maps them to the output channels.

    "Learning to Upsample by Learning to Sample" (ICCV 2023), with a scope factor, as the published ESC-Real uses it.
    Every output pixel of every group of channels is read at its own centre plus an offset. Positions are computed in
    single precision at least: a half-precision coordinate is off by a pixel in a large image.

    Args:
        dim: number of channels C, a multiple of `groups`.
        out_channels: channels of the result.
        scale: upscaling factor S, at least 1.
        groups: groups of channels that are sampled at places of their own.

    Raises:
        ValueError: an argument is out of range.
    """

    init_pos: torch.Tensor

    def __init__(self, dim: int, out_channels: int, scale: int, groups: int = 4) -> None:
        super().__init__()
        require_scale(scale)
        require(groups >= 1, f"groups must be positive, got {groups}")
        require(dim % groups == 0, f"dim must be divisible by the {groups} groups of DySample, got {dim}")
        self.scale = scale
        self.groups = groups
        self.end_conv = nn.Conv2d(dim, out_channels, 1)
        self.offset = nn.Conv2d(dim, 2 * groups * scale**2, 1)
        self.scope = nn.Conv2d(dim, 2 * groups * scale**2, 1, bias=False)
        nn.init.zeros_(self.scope.weight)
        nn.init.normal_(self.offset.weight, std=0.001)  # starts as bilinear enlargement, nearly
        if self.offset.bias is not None:
            nn.init.zeros_(self.offset.bias)
        self.add_constants(persistent=True)

    def constants(self) -> dict[str, torch.Tensor]:
        """Compute the centres of output pixels within an input pixel, (1, 2 * groups * S * S, 1, 1), x before y."""
        step = (torch.arange(self.scale) - (self.scale - 1) / 2) / self.scale
        y, x = torch.meshgrid(step, step, indexing="ij")  # (S, S) each
        return {"init_pos": torch.stack([x, y]).unsqueeze(1).repeat(1, self.groups, 1, 1).reshape(1, -1, 1, 1)}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Enlarge `x` (B, C, H, W) to (B, out_channels, S * H, S * W)."""
        batch, channels, height, width = x.shape
        exact = torch.promote_types(x.dtype, torch.float32)
        offset = (self.offset(x) * self.scope(x).sigmoid()).to(exact) * 0.5 + self.init_pos.to(exact)
        offset = offset.reshape(batch, 2, -1, height, width)  # (B, 2, groups * S * S, H, W)
        columns = torch.arange(width, device=x.device, dtype=exact) + 0.5
        rows = torch.arange(height, device=x.device, dtype=exact) + 0.5
        places = [2 * (offset[:, 0] + columns) / width - 1, 2 * (offset[:, 1] + rows.unsqueeze(1)) / height - 1]
        grid = torch.stack([F.pixel_shuffle(place, self.scale) for place in places], dim=-1)
        sampled = F.grid_sample(
            x.to(exact).reshape(batch * self.groups, channels // self.groups, height, width),
            grid.flatten(0, 1),  # (B * groups, S * H, S * W, 2)
            mode="bilinear",
            padding_mode="border",
            align_corners=False,
        )
        return self.end_conv(sampled.reshape(batch, channels, *sampled.shape[-2:]).to(x.dtype))
