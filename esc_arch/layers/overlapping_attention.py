"""Attention in patches that overlap by two pixels, where results are averaged: the local part of CATANet."""

from __future__ import annotations

import torch
from torch import nn

from esc_arch.layers.token_aggregation import PreNorm, TokenConvFFN, attend

OVERLAP = 2


class PatchAttention(nn.Module):
    """Self-attention among the pixels of a patch.

    Args:
        dim: number of channels C.
        qk_dim: channels of queries and keys.
        heads: number of heads.
    """

    def __init__(self, dim: int, qk_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(dim, qk_dim, bias=False)
        self.to_k = nn.Linear(dim, qk_dim, bias=False)
        self.to_v = nn.Linear(dim, dim, bias=False)
        self.proj = nn.Linear(dim, dim, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map `tokens` (patches, n, C) to the same shape."""
        return self.proj(attend(self.to_q(tokens), self.to_k(tokens), self.to_v(tokens), self.heads))


class LocalRegionAttention(nn.Module):
    """Attention in overlapping patches, then a feed-forward network on the whole image (CATANet, Sec. 3.4).

    Where three patches meet, because the last one was moved to the border, their sum is divided by four, as published.

    Args:
        dim: number of channels C.
        qk_dim: channels of queries and keys.
        mlp_dim: hidden channels of the feed-forward network.
        heads: number of heads.
        patch_size: side of a patch, more than `OVERLAP`.
    """

    def __init__(self, dim: int, qk_dim: int, mlp_dim: int, heads: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.layer = nn.ModuleList(
            [PreNorm(dim, PatchAttention(dim, qk_dim, heads)), PreNorm(dim, TokenConvFFN(dim, mlp_dim))]
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Process `x` (B, C, H, W), H, W >= the patch size; the result has the same shape."""
        batch, dim, height, width = x.shape
        side = self.patch_size
        rows, columns = self._starts(height), self._starts(width)
        patches = torch.stack([x[..., top : top + side, left : left + side] for top in rows for left in columns], dim=1)
        tokens = patches.flatten(3).transpose(2, 3).flatten(0, 1)  # (B * patches, side * side, C)
        tokens = tokens + self.layer[0](tokens)
        patches = tokens.transpose(1, 2).reshape(batch, -1, dim, side, side)
        places = [(top, left) for top in rows for left in columns]
        whole = torch.zeros_like(x)
        for number, (top, left) in enumerate(places):
            whole[..., top : top + side, left : left + side] += patches[:, number]
        y = whole * self._shares(height, x)[:, None] * self._shares(width, x)
        tokens = y.flatten(2).transpose(1, 2)
        return y + self.layer[1](tokens, height).transpose(1, 2).unflatten(2, (height, width))

    def _starts(self, side: int) -> list[int]:
        """Place patches along a side; the last one is moved back to end where the side does."""
        step = self.patch_size - OVERLAP
        return [min(start, side - self.patch_size) for start in range(0, side + step - self.patch_size, step)]

    def _shares(self, side: int, like: torch.Tensor) -> torch.Tensor:
        """Return the factors (side,) that average what overlaps.

        For every patch but the first, from where it starts to where it would overlap if it had not been moved.
        """
        shares = like.new_ones(side)
        step = self.patch_size - OVERLAP
        for number, start in enumerate(self._starts(side)[1:], 1):
            shares[start : number * step + OVERLAP] *= 0.5
        return shares
