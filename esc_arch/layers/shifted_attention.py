"""Self-attention in windows that are shifted in every other layer (Swin, Liu et al. 2021)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from esc_arch.layers.window import window_merge, window_partition

SEPARATE = -100.0  # added to the scores of pixels that are no neighbours in the image
BUDGET = 2**26  # bytes of the scores of the windows that are done at a time


def relative_position_index(window: int) -> torch.Tensor:
    """Number the offsets, query minus key, of all pairs of tokens of a window of side w: (w * w, w * w)."""
    place = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij"), -1).reshape(-1, 2)
    offset = place[:, None] - place[None] + window - 1
    return offset[..., 0] * (2 * window - 1) + offset[..., 1]


class ShiftedWindowAttention(nn.Module):
    """Multi-head self-attention in windows, of queries, keys and values that are given.

    Args:
        dim: number of channels C.
        window: side w.
        num_heads: number of heads h, a divisor of C.
        shift: rows and columns by which the windows are shifted.
    """

    def __init__(self, dim: int, window: int, num_heads: int, shift: int) -> None:
        super().__init__()
        self.window, self.num_heads, self.shift = window, num_heads, shift
        table = torch.empty((2 * window - 1) ** 2, num_heads)
        self.relative_position_bias_table = nn.Parameter(nn.init.trunc_normal_(table, std=0.02))
        self.proj = nn.Linear(dim, dim)

    def forward(self, qkv: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Attend within windows.

        Args:
            qkv: (B, 3 * C, H, W), channels in the order (qkv, heads, head channels); H, W multiples of the window.
            index: from `relative_position_index`.

        Returns:
            (B, C, H, W).
        """
        batch, _, height, width = qkv.shape
        if self.shift:
            qkv = qkv.roll((-self.shift, -self.shift), dims=(2, 3))
        q, k, v = window_partition(qkv, self.window, self.num_heads)  # (windows, h, w * w, d)
        bias = self.relative_position_bias_table[index].permute(2, 0, 1).to(q.dtype)  # (h, w * w, w * w)
        regions = self._regions(height, width, qkv.device).repeat(batch, 1) if self.shift else None
        step = max(BUDGET // (bias.numel() * bias.element_size()), 1)
        parts = []
        for first in range(0, len(q), step):
            some = slice(first, first + step)
            mask = bias[None]
            if regions is not None:
                apart = regions[some, :, None] != regions[some, None]
                mask = mask + SEPARATE * apart[:, None].to(q.dtype)
            parts.append(F.scaled_dot_product_attention(q[some], k[some], v[some], attn_mask=mask))
        x = window_merge(torch.cat(parts), self.window, height, width)
        x = self.proj(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return x.roll((self.shift, self.shift), dims=(2, 3)) if self.shift else x

    def _regions(self, height: int, width: int, device: torch.device) -> torch.Tensor:
        """Number what was neighbours before the shift: (windows of an image, w * w)."""
        rows, columns = (
            (torch.arange(side, device=device) >= side - self.window).int()
            + (torch.arange(side, device=device) >= side - self.shift).int()
            for side in (height, width)
        )
        numbers = (3 * rows[:, None] + columns).reshape(
            height // self.window, self.window, width // self.window, self.window
        )
        return numbers.transpose(1, 2).reshape(-1, self.window**2)
