"""Attention among pixels that look alike, wherever they are: the token aggregation block of CATANet.

Source: "CATANet: Efficient Content-Aware Token Aggregation for Lightweight Image Super-Resolution" (Liu et al., CVPR
2025), Sec. 3.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

MOMENTUM = 0.999  # of the centres


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
    """Attend in sequences: `q` (..., n, D), `k` (..., m, D) and `v` (..., m, C) give (..., n, C)."""
    q, k, v = (tensor.unflatten(-1, (heads, -1)).transpose(-3, -2) for tensor in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(-3, -2).flatten(-2)


class TokenConvFFN(nn.Module):
    """Feed-forward network with a depthwise 5 x 5 convolution of the hidden features.

    Args:
        dim: number of channels C.
        hidden: hidden channels E.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        convolution = nn.Sequential(nn.Conv2d(hidden, hidden, 5, padding=2, groups=hidden), nn.GELU())
        self.dwconv = nn.Sequential(OrderedDict(depthwise_conv=convolution))
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, tokens: torch.Tensor, height: int) -> torch.Tensor:
        """Map the pixels of images of this height in raster order, (B, H * W, C), to the same shape."""
        hidden = F.gelu(self.fc1(tokens))
        image = self.dwconv(hidden.transpose(1, 2).unflatten(2, (height, -1)))
        return self.fc2(hidden + image.flatten(2).transpose(1, 2))


class PreNorm(nn.Module):
    """A module behind a LayerNorm.

    Args:
        dim: number of channels C.
        fn: the module.
    """

    def __init__(self, dim: int, fn: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fn = fn

    def forward(self, tokens: torch.Tensor, *arguments: Any) -> torch.Tensor:
        """Call the module on normalised `tokens` (..., C)."""
        return self.fn(self.norm(tokens), *arguments)


class GroupedAttention(nn.Module):
    """Attention of tokens that were sorted, in groups, each of which also sees the next one, and of all to the centres.

    Args:
        dim: number of channels C.
        qk_dim: channels of queries and keys.
        heads: number of heads.
        group_size: most tokens in a group.
    """

    def __init__(self, dim: int, qk_dim: int, heads: int, group_size: int) -> None:
        super().__init__()
        self.heads, self.group_size = heads, group_size
        self.to_q = nn.Linear(dim, qk_dim, bias=False)
        self.to_k = nn.Linear(dim, qk_dim, bias=False)
        self.to_v = nn.Linear(dim, dim, bias=False)
        self.proj = nn.Linear(dim, dim, bias=False)

    def forward(
        self, tokens: torch.Tensor, order: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> torch.Tensor:
        """Attend among `tokens` (B, N, C).

        Args:
            tokens: normalised, in raster order.
            order: permutation that sorts them, (B, N).
            keys: of the centres, (T, qk_dim).
            values: of the centres, (T, C).

        Returns:
            (B, N, C), in raster order.
        """
        length = tokens.shape[1]
        tokens = tokens.gather(1, order.unsqueeze(2).expand_as(tokens))
        q, k, v = self.to_q(tokens), self.to_k(tokens), self.to_v(tokens)
        group = min(length, self.group_size)
        missing = -length % group
        # the end of the sequence is filled up by its own last tokens, in reverse
        q = torch.cat([q, q[:, length - missing :].flip(1)], dim=1).unflatten(1, (-1, group))  # (B, groups, g, qk_dim)
        beyond = missing + group
        k, v = (torch.cat([t, t[:, length - beyond :].flip(1)], dim=1).unfold(1, 2 * group, group) for t in (k, v))
        near = attend(q, k.transpose(2, 3), v.transpose(2, 3), self.heads)
        far = attend(q, keys.expand(*q.shape[:2], *keys.shape), values.expand(*q.shape[:2], *values.shape), self.heads)
        y = (near + far).flatten(1, 2)[:, :length]
        return self.proj(torch.zeros_like(y).scatter(1, order.unsqueeze(2).expand_as(y), y))


class CentreAttention(nn.Module):
    """Keys and values of the centres.

    Args:
        dim: number of channels C.
        qk_dim: channels of keys.
    """

    def __init__(self, dim: int, qk_dim: int) -> None:
        super().__init__()
        self.to_k = nn.Linear(dim, qk_dim, bias=False)
        self.to_v = nn.Linear(dim, dim, bias=False)

    def forward(self, centres: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map `centres` (T, C) to keys (T, qk_dim) and values (T, C)."""
        return self.to_k(centres), self.to_v(centres)


class TokenAggregationBlock(nn.Module):
    """Sorts pixels by the nearest of T centres and attends among those that came to lie together.

    The centres are learned while training, by spherical k-means, and kept in a buffer. A network that was never trained
    has none, and takes them from the images that it is given, all of a batch together. Pixels with the same centre stay
    in raster order, so results do not depend on the processor.

    Args:
        dim: number of channels C.
        qk_dim: channels of queries and keys.
        mlp_dim: hidden channels of the feed-forward network.
        heads: number of heads.
        n_iter: steps of k-means in a training step.
        num_tokens: number of centres T.
        group_size: most tokens that attend to each other.
    """

    means: torch.Tensor
    initted: torch.Tensor

    def __init__(
        self, dim: int, qk_dim: int, mlp_dim: int, heads: int, n_iter: int, num_tokens: int, group_size: int
    ) -> None:
        super().__init__()
        self.n_iter, self.num_tokens = n_iter, num_tokens
        self.norm = nn.LayerNorm(dim)
        self.mlp = PreNorm(dim, TokenConvFFN(dim, mlp_dim))
        self.irca_attn = CentreAttention(dim, qk_dim)
        self.iasa_attn = GroupedAttention(dim, qk_dim, heads, group_size)
        self.register_buffer("means", torch.randn(num_tokens, dim))
        self.register_buffer("initted", torch.tensor(False))
        self.conv1x1 = nn.Conv2d(dim, dim, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Process `x` (B, C, H, W); the result has the same shape. In training the centres are moved."""
        height = x.shape[2]
        tokens = x.flatten(2).transpose(1, 2)  # (B, N, C)
        normalised = self.norm(tokens)
        with torch.no_grad():
            first = torch.where(self.initted, self.means, self._of_runs(normalised))
        centres = self._refined(first, normalised) if self.training else first
        with torch.no_grad():
            order = self._nearest(normalised, centres).argsort(dim=1, stable=True)
        attended = self.iasa_attn(normalised, order, *self.irca_attn(centres.to(tokens.dtype)))
        y = x + self.conv1x1(attended.transpose(1, 2).unflatten(2, (height, -1)))
        tokens = y.flatten(2).transpose(1, 2)
        y = y + self.mlp(tokens, height).transpose(1, 2).unflatten(2, (height, -1))
        if self.training:
            with torch.no_grad():
                moved = MOMENTUM * self.means + (1 - MOMENTUM) * centres
                self.means.copy_(torch.where(self.initted, moved, centres))
                self.initted.fill_(True)
        return y

    def _of_runs(self, tokens: torch.Tensor) -> torch.Tensor:
        """Average `tokens` (B, N, C) over T runs of the same length, and over the batch: (T, C)."""
        missing = self.num_tokens - tokens.shape[1] % self.num_tokens  # a whole run where it divides, as published
        tokens = torch.cat([tokens, tokens[:, tokens.shape[1] - missing :].flip(1)], dim=1)
        return tokens.unflatten(1, (self.num_tokens, -1)).mean(dim=(0, 2))

    def _refined(self, centres: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Move `centres` (T, C) by spherical k-means on `tokens` (B, N, C); the last step has gradients."""
        units = F.normalize(tokens.flatten(0, 1), dim=-1)
        with torch.no_grad():
            for _ in range(self.n_iter - 1):
                centres = self._moved(centres, units)
        return self._moved(centres, units)

    @staticmethod
    def _moved(centres: torch.Tensor, units: torch.Tensor) -> torch.Tensor:
        centres = F.normalize(centres, dim=-1)
        nearest = (units @ centres.t()).argmax(dim=-1)
        sums = torch.zeros_like(centres).index_add(0, nearest, units)
        taken = torch.zeros(len(centres), 1, dtype=torch.bool, device=units.device).index_fill(0, nearest, True)
        return torch.where(taken, F.normalize(sums, dim=-1), centres)

    @staticmethod
    def _nearest(tokens: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
        """Number the centre of largest cosine for `tokens` (B, N, C): (B, N)."""
        return (F.normalize(tokens, dim=-1) @ F.normalize(centres, dim=-1).t()).argmax(dim=-1)
