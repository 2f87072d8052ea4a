"""MambaIR, image restoration by state spaces, for comparison with ESC."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from esc_arch.archs.swin_frame import NORM_EPS, ResidualGroup, StochasticDepth, SwinFrame
from esc_arch.common.hub import OnHub
from esc_arch.layers.arguments import require
from esc_arch.layers.norm import LayerNorm
from esc_arch.layers.ss2d import SS2D

SQUEEZE = 30  # channels that become one in channel attention


class ChannelAttention(nn.Module):
    """Weighs channels by what the whole image has of them.

    Args:
        dim: number of channels C, at least `SQUEEZE`.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        squeezed = dim // SQUEEZE
        self.attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(dim, squeezed, 1), nn.ReLU(), nn.Conv2d(squeezed, dim, 1), nn.Sigmoid()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Weigh the channels of `x` (B, C, H, W)."""
        return x * self.attention(x)


def channel_attention_block(dim: int, light: bool) -> nn.Sequential:
    """Make convolutions and channel attention, (B, C, H, W) -> (B, C, H, W); the light ones are depthwise."""
    if light:
        middle = dim // 2
        layers: list[nn.Module] = [
            nn.Conv2d(dim, middle, 1),
            nn.Conv2d(middle, middle, 3, padding=1, groups=middle),
            nn.GELU(),
            nn.Conv2d(middle, dim, 1),
            nn.Conv2d(dim, dim, 3, padding=2, dilation=2, groups=dim),
        ]
    else:
        layers = [nn.Conv2d(dim, dim // 3, 3, padding=1), nn.GELU(), nn.Conv2d(dim // 3, dim, 3, padding=1)]
    return nn.Sequential(OrderedDict(cab=nn.Sequential(*layers, ChannelAttention(dim))))


class MambaBlock(nn.Module):
    """Scans in four directions, then convolutions with channel attention (MambaIR, Sec. 3.2).

    Args:
        dim: number of channels C.
        states: N of the scans.
        expand: expansion of the scans.
        light: take the light convolutions.
        drop_path: rate of stochastic depth.
    """

    def __init__(self, dim: int, states: int, expand: float, light: bool, drop_path: float) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(dim, NORM_EPS)
        self.self_attention = SS2D(dim, states, expand)
        self.drop_path = StochasticDepth(drop_path)
        self.skip_scale = nn.Parameter(torch.ones(dim))
        self.conv_blk = channel_attention_block(dim, light)
        self.ln_2 = LayerNorm(dim, NORM_EPS)
        self.skip_scale2 = nn.Parameter(torch.ones(dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Process `x` (B, C, H, W); the result has the same shape."""
        x = x * self.skip_scale[:, None, None] + self.drop_path(self.self_attention(self.ln_1(x)))
        return x * self.skip_scale2[:, None, None] + self.conv_blk(self.ln_2(x))


class MambaIR(SwinFrame, OnHub):
    """Image restoration by selective scans of the image ("MambaIR", ECCV 2024).

    Arguments, parameter names and shapes are those of the published checkpoints, which load strictly; the defaults are
    those of MambaIR-light at scale 2. The scans see the whole image, so tiles change the result.

    Args:
        upscale: scale S, at least 1.
        in_chans: channels of an image; for 3 the mean colour of DIV2K is subtracted and added again.
        img_size: not used, the network takes images of any size.
        img_range: the network works on images times this number.
        d_state: states N of a channel of the scans.
        depths: number of blocks in every group.
        embed_dim: number of channels C, at least 30.
        mlp_ratio: expansion of the scans.
        drop_path_rate: rate of stochastic depth of the last block, growing from 0; in training only.
        resi_connection: convolution at the end of a group, "1conv" or "3conv".
        upsampler: "pixelshuffledirect" (light), "pixelshuffle", or "" for restoration at scale 1.
        ignored: other arguments are ignored, with a warning; published option files set some of other networks.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        upscale: int = 2,
        in_chans: int = 3,
        img_size: int | Sequence[int] = 64,
        img_range: float = 1.0,
        d_state: int = 10,
        depths: Sequence[int] = (6, 6, 6, 6),
        embed_dim: int = 60,
        mlp_ratio: float = 1.2,
        drop_path_rate: float = 0.1,
        resi_connection: str = "1conv",
        upsampler: str = "pixelshuffledirect",
        **ignored: Any,
    ) -> None:
        if unknown := sorted(set(ignored) - {"window_size", "interval", "num_heads"}):
            warnings.warn(f"MambaIR ignores the arguments {', '.join(unknown)}", stacklevel=2)
        require(embed_dim >= SQUEEZE, f"embed_dim must be at least {SQUEEZE}, got {embed_dim}")
        require(d_state >= 1, f"d_state must be positive, got {d_state}")
        require(int(embed_dim * mlp_ratio) >= 1, f"mlp_ratio must leave at least one channel, got {mlp_ratio}")
        require(len(depths) > 0 and min(depths) > 0, f"depths must be a list of positive numbers, got {depths!r}")
        rates = iter(torch.linspace(0, drop_path_rate, sum(depths), device="cpu").tolist())
        light = upsampler == "pixelshuffledirect"
        groups = [
            ResidualGroup(
                embed_dim,
                [MambaBlock(embed_dim, d_state, mlp_ratio, light, next(rates)) for _ in range(depth)],
                resi_connection,
            )
            for depth in depths
        ]
        super().__init__(upscale, in_chans, img_range, embed_dim, groups, resi_connection, upsampler)
