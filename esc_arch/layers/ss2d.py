"""Selective scans of an image in four directions."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from esc_arch.layers.selective_scan import selective_scan

DIRECTIONS = 4  # by rows, by columns, and both backwards
SLOWEST, SHORTEST_STEP, LONGEST_STEP = 1e-4, 1e-3, 0.1  # of the step sizes that a scan starts with


class ScanParameters(nn.Module):
    """What a selective scan learns, for several directions that have the same width.

    Args:
        directions: number of directions K.
        channels: E of every direction.
        states: N of every channel.
        rank: R of the map from inputs to step sizes.
    """

    def __init__(self, directions: int, channels: int, states: int, rank: int) -> None:
        super().__init__()
        self.states, self.rank = states, rank
        bound = channels**-0.5
        self.x_proj_weight = nn.Parameter(torch.empty(directions, rank + 2 * states, channels).uniform_(-bound, bound))
        bound = rank**-0.5
        self.dt_projs_weight = nn.Parameter(torch.empty(directions, channels, rank).uniform_(-bound, bound))
        steps = torch.empty(directions, channels).uniform_(math.log(SHORTEST_STEP), math.log(LONGEST_STEP)).exp()
        steps = steps.clamp(min=SLOWEST)
        self.dt_projs_bias = nn.Parameter(steps + torch.log(-torch.expm1(-steps)))  # the inverse of softplus
        self.A_logs = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(directions * channels, 1))
        self.Ds = nn.Parameter(torch.ones(directions * channels))

    def scan(self, x: torch.Tensor, prompt: torch.Tensor | None = None) -> torch.Tensor:
        """Scan sequences.

        Args:
            x: (B, K, E, L).
            prompt: (B, K, N, L), is added to what is read of the states.

        Returns:
            (B, K, E, L), in float32 at least.
        """
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        batch, directions, channels, length = x.shape
        projected = self.x_proj_weight.to(x.dtype) @ x  # (B, K, R + 2N, L)
        steps, b, c = projected.split([self.rank, self.states, self.states], dim=2)
        bias = self.dt_projs_bias.to(x.dtype)[:, :, None]
        delta = F.softplus(self.dt_projs_weight.to(x.dtype) @ steps + bias)  # (B, K, E, L)
        if prompt is not None:
            c = c + prompt
        scanned = selective_scan(
            x.reshape(batch, directions * channels, length),
            delta.reshape(batch, directions * channels, length),
            -self.A_logs.to(x.dtype).exp(),
            b,
            c,
            self.Ds,
        )
        return scanned.reshape(x.shape)


class SS2D(ScanParameters):
    """Selective scans of an image by rows and by columns, forwards and backwards, gated (MambaIR, Guo et al. 2024).

    Args:
        dim: number of channels C.
        states: N of the scans.
        expand: hidden channels E = int(C * expand).
    """

    def __init__(self, dim: int, states: int, expand: float) -> None:
        hidden = int(dim * expand)
        super().__init__(DIRECTIONS, hidden, states, math.ceil(dim / 16))
        self.in_proj = nn.Linear(dim, 2 * hidden, bias=False)
        self.conv2d = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.out_norm = nn.LayerNorm(hidden)
        self.out_proj = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scan `x` (B, C, H, W); the result has the same shape."""
        height, width = x.shape[2:]
        features, gate = self.in_proj(x.permute(0, 2, 3, 1)).chunk(2, dim=-1)  # (B, H, W, E)
        features = F.silu(self.conv2d(features.permute(0, 3, 1, 2)))  # (B, E, H, W)
        forwards = torch.stack([features.flatten(2), features.transpose(2, 3).flatten(2)], dim=1)  # (B, 2, E, H * W)
        scanned = self.scan(torch.cat([forwards, forwards.flip(-1)], dim=1))
        by_rows, by_columns = (scanned[:, :2] + scanned[:, 2:].flip(-1)).unbind(1)
        y = by_rows.unflatten(2, (height, width)) + by_columns.unflatten(2, (width, height)).transpose(2, 3)
        y = self.out_norm(y.permute(0, 2, 3, 1).to(gate.dtype)) * F.silu(gate)  # (B, H, W, E)
        return self.out_proj(y).permute(0, 3, 1, 2)
