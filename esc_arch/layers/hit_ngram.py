"""The n-gram context of HiT-SNG: what a window should know of the windows beside it."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn

from esc_arch.layers.hit_correlation import SpatialChannelCorrelation

SIDE = 2  # windows along each side of a neighbourhood


class NeighbourhoodAttention(nn.Module):
    """Self-attention among the windows of one neighbourhood, 2 x 2 of them, and the mean of what comes out.

    Args:
        dim: number of channels D.
        num_heads: number of heads h, a divisor of D.
    """

    relative_position_index: torch.Tensor

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        table = torch.empty((2 * SIDE - 1) ** 2, num_heads)
        self.relative_position_bias_table = nn.Parameter(nn.init.trunc_normal_(table, std=0.02))
        place = torch.stack(torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij"), -1).reshape(-1, 2)
        offset = place[:, None] - place[None] + SIDE - 1  # query minus key, (4, 4, 2)
        self.register_buffer("relative_position_index", offset[..., 0] * (2 * SIDE - 1) + offset[..., 1])

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map `tokens` (neighbourhoods, 4, D) to their contexts (neighbourhoods, D)."""
        count, length, dim = tokens.shape
        qkv = self.qkv(tokens).reshape(count, length, 3, self.num_heads, dim // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (neighbourhoods, h, 4, d)
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        # among four tokens nothing is gained by a fused kernel, and ONNX has none
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(2, 3) + bias.to(q.dtype)
        attended = scores.softmax(dim=-1) @ v
        return self.proj(attended.transpose(1, 2).reshape(count, length, dim)).mean(dim=1)


class NGramContext(nn.Module):
    """A vector for every window, of the windows right and below, and left and above (NGswin, Choi et al. 2023).

    Args:
        dim: number of channels C, even.
        window: height and width of a window.
        num_heads: heads of the attention among windows, a divisor of C / 2.
    """

    def __init__(self, dim: int, window: tuple[int, int], num_heads: int) -> None:
        super().__init__()
        self.unigram_embed = nn.Conv2d(2, 1, window, stride=window)
        self.ngram_attn = NeighbourhoodAttention(dim // 2, num_heads)
        self.merge = nn.Conv2d(dim, dim, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the contexts (B, C, rows, columns) of the windows of `x` (B, C, H, W), two or more each way."""
        batch, dim, height, width = x.shape
        unigrams = self.unigram_embed(x.reshape(batch * dim // 2, 2, height, width))  # a pair of channels becomes one
        unigrams = unigrams.reshape(batch, dim // 2, *unigrams.shape[2:])
        forward = self._contexts(F.pad(unigrams, (0, 1, 0, 1), mode="reflect"))
        backward = self._contexts(F.pad(unigrams, (1, 0, 1, 0), mode="reflect"))
        return self.merge(torch.cat([forward, backward], dim=1))

    def _contexts(self, x: torch.Tensor) -> torch.Tensor:
        """Attend within all neighbourhoods, which overlap: (B, D, rows + 1, columns + 1) to (B, D, rows, columns)."""
        batch, dim, rows, columns = x.shape[0], x.shape[1], x.shape[2] - 1, x.shape[3] - 1
        tokens = x.unfold(2, SIDE, 1).unfold(3, SIDE, 1).permute(0, 2, 3, 4, 5, 1)  # (B, rows, columns, 2, 2, D)
        contexts = self.ngram_attn(tokens.reshape(batch * rows * columns, SIDE * SIDE, dim))
        return contexts.reshape(batch, rows, columns, dim).permute(0, 3, 1, 2)


class NGramCorrelation(SpatialChannelCorrelation):
    """Spatial-channel correlation whose queries and values know the windows around theirs (HiT-SR, Sec. 4.1).

    Arguments are those of `SpatialChannelCorrelation`.
    """

    def __init__(self, dim: int, window: tuple[int, int], base: tuple[int, int], num_heads: int) -> None:
        super().__init__(dim, window, base, num_heads)
        self.ngram_window_partition = nn.Sequential(OrderedDict(ngram_context=NGramContext(dim, window, num_heads)))

    def queries_and_values(self, x: torch.Tensor) -> torch.Tensor:
        """Map `x` (B, C, H, W) to queries and values of that shape, the context of its window added to each pixel."""
        qv = super().queries_and_values(x)
        context = self.ngram_window_partition(qv)  # (B, C, rows, columns)
        return qv + context.repeat_interleave(self.window[0], 2).repeat_interleave(self.window[1], 3)
