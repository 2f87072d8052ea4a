"""Self-attention within windows."""

from __future__ import annotations

import torch
from torch import nn

from esc_arch.layers.arguments import require
from esc_arch.layers.backend import ATTN_TYPES, Bias, image_attention
from esc_arch.layers.window import RelativePositionBias, pad_to_multiple


class WindowAttention(nn.Module):
    """Multi-head self-attention within non-overlapping windows, with relative position bias (ESC, Sec. 3.2).

    There is no shift and no mask. Images are padded by reflection to whole windows, the padding takes part in the
    attention and is cut off again.

    Args:
        dim: number of channels C.
        window_size: side w of a window.
        num_heads: number of heads h, a divisor of C.
        attn_type: how the attention is computed, one of `ATTN_TYPES`; all compute the same.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, dim: int, window_size: int, num_heads: int, attn_type: str = "auto") -> None:
        super().__init__()
        require(window_size >= 1, f"window_size must be positive, got {window_size}")
        require(num_heads >= 1, f"num_heads must be positive, got {num_heads}")
        require(dim % num_heads == 0, f"dim must be divisible by num_heads, got dim {dim} and num_heads {num_heads}")
        require(attn_type in ATTN_TYPES, f"attn_type must be one of {', '.join(ATTN_TYPES)}, got {attn_type!r}")
        self.window_size = window_size
        self.num_heads = num_heads
        self.attn_type = attn_type
        self.new_positions()
        self.to_qkv = nn.Conv2d(dim, 3 * dim, 1)
        self.to_out = nn.Conv2d(dim, dim, 1)
        self.gate: nn.Sequential | None = None

    def new_positions(self) -> None:
        """Create the weights of the bias."""
        sides = 2 * self.window_size - 1
        self.relative_position_bias = nn.Parameter(nn.init.normal_(torch.empty(self.num_heads, sides**2), std=0.001))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Attend within the windows of `x` (B, C, H, W); the result has the same shape."""
        return self.attend(x, self.bias(), None if self.gate is None else self.gate(x))

    def bias(self) -> Bias:
        """Prepare the bias for one forward pass."""
        return RelativePositionBias(self.relative_position_bias, self.window_size)

    def attend(self, x: torch.Tensor, bias: Bias, gates: torch.Tensor | None = None) -> torch.Tensor:
        """Do what `forward` does, with a bias that is prepared already, and the result of the gate if there is one."""
        height, width = x.shape[-2:]
        x = pad_to_multiple(x, self.window_size)  # (B, C, H', W')
        x = image_attention(self.to_qkv(x), bias, self.num_heads, self.attn_type)  # (B, C, H', W')
        x = x[..., :height, :width]
        return self.to_out(x if gates is None else x * gates)


def set_backend(network: nn.Module, attn_type: str) -> None:
    """Let all window attention in a network be computed in one way, whatever its positions are.

    Args:
        network: with `WindowAttention` somewhere in it.
        attn_type: one of `ATTN_TYPES`.

    Raises:
        ValueError: there is no such back-end.
    """
    require(attn_type in ATTN_TYPES, f"attn_type must be one of {', '.join(ATTN_TYPES)}, got {attn_type!r}")
    for module in network.modules():
        if isinstance(module, WindowAttention):
            module.attn_type = attn_type
