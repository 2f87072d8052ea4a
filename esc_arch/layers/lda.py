"""LDA: enlargement by attention to a few places of the features around each output pixel, which are computed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from esc_arch.layers.arguments import require, require_scale
from esc_arch.layers.norm import LayerNorm

SIDE = 3  # of the neighbourhood that an output pixel attends to
GROUPS = 2  # of channels, with places of their own
REDUCTION = 4  # of channels, in queries and keys
FARTHEST = 11  # output pixels that a place may move


class LocalDeformableUpsampler(nn.Module):
    """Enlarges features: every output pixel is a weighted mean of nine places around it.

    "LDA-AQU: Adaptive Query-guided Upsampling via Local Deformable Attention" (ACM MM 2024), in the form that
    traiNNer-redux's `escrealm` calls "lda". Places are counted in output pixels from the first centre to the last;
    outside of the image there are zeros.

    Args:
        dim: number of channels C, a multiple of 8.
        scale: upscaling factor S, at least 1.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, dim: int, scale: int) -> None:
        super().__init__()
        require_scale(scale)
        require(dim % (REDUCTION * GROUPS) == 0, f"channels of 'lda' must be a multiple of 8, got {dim}")
        self.scale = scale
        reduced, part = dim // REDUCTION, dim // (REDUCTION * GROUPS)
        self.layer_norm = LayerNorm(dim)
        self.proj_q = nn.Conv2d(dim, reduced, 1, bias=False)
        self.proj_k = nn.Conv2d(dim, reduced, 1, bias=False)
        self.conv_offset = nn.Sequential(
            nn.Conv2d(part, part, 3, padding=1, groups=part, bias=False),
            LayerNorm(part),
            nn.SiLU(),
            nn.Conv2d(part, 2 * SIDE**2, 3, padding=1),
        )
        self.relative_position_bias_table = nn.Parameter(
            nn.init.normal_(torch.empty(1, 1, 1, SIDE**2, reduced), std=0.02)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Enlarge `x` (B, C, H, W) to (B, C, S * H, S * W)."""
        batch, _, height, width = x.shape
        tall, wide = self.scale * height, self.scale * width
        normalised = self.layer_norm(x)
        q = F.interpolate(self.proj_q(normalised), (tall, wide), mode="bilinear", align_corners=True)
        grid = self._places(q.reshape(batch * GROUPS, -1, tall, wide))
        k, v = (self._read(part, grid, batch) for part in (self.proj_k(normalised), x))  # (B, C', 9, S * H, S * W)
        k = k + self.relative_position_bias_table.reshape(1, SIDE**2, -1).transpose(1, 2)[..., None, None]
        weights = ((q * q.shape[1] ** -0.5).unsqueeze(2) * k).sum(dim=1).softmax(dim=1)  # (B, 9, S * H, S * W)
        return (weights.unsqueeze(1) * v).sum(dim=2).to(x.dtype)

    def _places(self, q: torch.Tensor) -> torch.Tensor:
        """Compute where to read, (B * groups, 9 * S * H, S * W, 2), x first, in [-1, 1] inside of the image."""
        exact = torch.promote_types(q.dtype, torch.float32)  # half a coordinate's digits miss whole pixels
        tall, wide = q.shape[-2:]
        moves = FARTHEST * self.conv_offset(q).to(exact).tanh()
        moves = moves.reshape(q.shape[0], SIDE**2, 2, tall, wide)
        steps = torch.arange(SIDE, device=q.device, dtype=exact) - SIDE // 2
        down, right = (step.reshape(-1, 1, 1) for step in torch.meshgrid(steps, steps, indexing="ij"))
        rows = moves[:, :, 0] + down + torch.arange(tall, device=q.device, dtype=exact).unsqueeze(1)
        columns = moves[:, :, 1] + right + torch.arange(wide, device=q.device, dtype=exact)
        grid = torch.stack([2 * columns / max(wide - 1, 1) - 1, 2 * rows / max(tall - 1, 1) - 1], dim=-1)
        return grid.flatten(1, 2)

    def _read(self, x: torch.Tensor, grid: torch.Tensor, batch: int) -> torch.Tensor:
        parts = x.to(grid.dtype).reshape(batch * GROUPS, -1, *x.shape[-2:])
        found = F.grid_sample(parts, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
        return found.reshape(batch, -1, SIDE**2, found.shape[-2] // SIDE**2, found.shape[-1])
