"""Attention whose maps are computed once and shared by later blocks, as in ASID, and its channel attention.

Groups of 64 pixels attend to each other: the pixels of an 8 x 8 window, or 64 pixels spread evenly over the image.
Source: "Efficient Attention-Sharing Information Distillation Transformer" (Park et al., AAAI 2025), Sec. 3.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from esc_arch.layers.constants import WithConstants
from esc_arch.layers.norm import LayerNorm

SIDE = 8  # of a group of pixels
CHANNEL_NORM_EPS = 1e-6


def split_windows(x: torch.Tensor) -> torch.Tensor:
    """Cut `x` (B, C, H, W) into 8 x 8 windows: (B, H/8, W/8, 8, 8, C)."""
    return x.unflatten(3, (-1, SIDE)).unflatten(2, (-1, SIDE)).permute(0, 2, 4, 3, 5, 1)


def merge_windows(x: torch.Tensor) -> torch.Tensor:
    """Undo `split_windows`."""
    return x.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)


def split_grid(x: torch.Tensor) -> torch.Tensor:
    """Cut `x` (B, C, H, W) into groups of 8 x 8 pixels that lie H/8 and W/8 apart: (B, H/8, W/8, 8, 8, C)."""
    return x.unflatten(3, (SIDE, -1)).unflatten(2, (SIDE, -1)).permute(0, 3, 5, 2, 4, 1)


def merge_grid(x: torch.Tensor) -> torch.Tensor:
    """Undo `split_grid`."""
    return x.permute(0, 5, 3, 1, 4, 2).flatten(4).flatten(2, 3)


class MapAttention(WithConstants):
    """Single-head self-attention among 64 tokens that also hands out its map.

    Args:
        dim: number of channels C.
    """

    index: torch.Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.to_out = nn.Sequential(nn.Linear(dim, dim, bias=False))
        self.rel_pos_bias = nn.Embedding((2 * SIDE - 1) ** 2, 1)
        self.add_constants()

    def constants(self) -> dict[str, torch.Tensor]:
        """Compute the entry of the table of biases for every query and key, (64, 64)."""
        place = torch.stack(torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij"), -1).reshape(-1, 2)
        offset = place[:, None] - place[None] + SIDE - 1  # query minus key
        return {"index": offset[..., 0] * (2 * SIDE - 1) + offset[..., 1]}

    def forward(self, tokens: torch.Tensor, weights: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Map `tokens` (groups, 64, C) to the same shape, and return the attention map (groups, 64, 64) with it."""
        q, k, v = self.to_qkv(tokens).chunk(3, dim=-1)
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(1, 2) + self.rel_pos_bias(self.index).squeeze(-1)
        weights = scores.softmax(dim=-1)
        return self.to_out(weights @ v), weights


class SharingAttention(nn.Module):
    """Attention with the map of an earlier block.

    Args:
        dim: number of channels C.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.to_v = nn.Linear(dim, dim, bias=False)
        self.to_out = nn.Sequential(nn.Linear(dim, dim, bias=False))

    def forward(self, tokens: torch.Tensor, weights: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Map `tokens` (groups, 64, C) to the same shape with `weights` (groups, 64, 64), which are returned too."""
        assert weights is not None
        return self.to_out(weights @ self.to_v(tokens)), weights


class GatedFeedForward(nn.Module):
    """Feed-forward network with a gated depthwise convolution (Restormer, Zamir et al. 2022).

    Args:
        dim: number of channels C.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.project_in = nn.Conv2d(dim, 2 * dim, 1, bias=False)
        self.dwconv = nn.Conv2d(2 * dim, 2 * dim, 3, padding=1, groups=2 * dim, bias=False)
        self.project_out = nn.Conv2d(dim, dim, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `x` (B, C, H, W) to a tensor of the same shape."""
        gate, value = self.dwconv(self.project_in(x)).chunk(2, dim=1)
        return self.project_out(F.gelu(gate) * value)


class GroupAttention(nn.Module):
    """Attention within groups of 64 pixels, then a feed-forward network.

    Args:
        dim: number of channels C.
        spread: the pixels of a group are spread over the image, or else they are a window.
        shares: take the maps of an earlier block.
    """

    def __init__(self, dim: int, spread: bool, shares: bool) -> None:
        super().__init__()
        self.spread = spread
        self.norm = nn.LayerNorm(dim)
        self.attn = SharingAttention(dim) if shares else MapAttention(dim)
        self.cnorm = LayerNorm(dim, CHANNEL_NORM_EPS)
        self.gfn = GatedFeedForward(dim)

    def forward(self, x: torch.Tensor, weights: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Process `x` (B, C, H, W), sides multiples of 8; returns the same shape and the maps (groups, 64, 64)."""
        groups = (split_grid if self.spread else split_windows)(x)
        tokens = groups.reshape(-1, SIDE * SIDE, x.shape[1])
        attended, weights = self.attn(self.norm(tokens), weights)
        x = (merge_grid if self.spread else merge_windows)((tokens + attended).reshape(groups.shape))
        return x + self.gfn(self.cnorm(x)), weights


class GroupChannelAttention(nn.Module):
    """Attention between channels, over groups of pixels (Restormer's transposed attention, one head).

    Args:
        dim: number of channels C.
        across: a group holds the pixels at the same place of all windows, or else those of a window.
    """

    def __init__(self, dim: int, across: bool) -> None:
        super().__init__()
        self.across = across
        self.temperature = nn.Parameter(torch.ones(1, 1, 1))
        self.qkv = nn.Conv2d(dim, 3 * dim, 1, bias=False)
        self.qkv_dwconv = nn.Conv2d(3 * dim, 3 * dim, 3, padding=1, groups=3 * dim, bias=False)
        self.project_out = nn.Conv2d(dim, dim, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Process `x` (B, C, H, W), sides multiples of 8, to the same shape."""
        windows = split_windows(self.qkv_dwconv(self.qkv(x)))  # (B, H/8, W/8, 8, 8, 3 * C)
        if self.across:
            windows = windows.permute(0, 3, 4, 1, 2, 5)
        q, k, v = windows.flatten(3, 4).transpose(3, 4).chunk(3, dim=3)  # (B, ., ., C, pixels)
        scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(3, 4) * self.temperature
        out = (scores.softmax(dim=-1) @ v).transpose(3, 4).unflatten(3, windows.shape[3:5])
        if self.across:
            out = out.permute(0, 3, 4, 1, 2, 5)
        return self.project_out(merge_windows(out))
