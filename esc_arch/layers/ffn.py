"""Convolutional feed-forward network."""

import torch
import torch.nn.functional as F
from torch import nn

from esc_arch.layers.arguments import require


class ConvFFN(nn.Module):
    """Feed-forward network with a depthwise convolution in the hidden layer (ESC, Sec. 3.2).

    Args:
        dim: number of channels C.
        exp_ratio: hidden channels E = int(C * exp_ratio).
        kernel_size: of the depthwise convolution, odd.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, dim: int, exp_ratio: float = 2, kernel_size: int = 3) -> None:
        super().__init__()
        hidden = int(dim * exp_ratio)
        require(hidden >= 1, f"exp_ratio must leave at least one hidden channel, got {exp_ratio} for dim {dim}")
        require(kernel_size % 2 == 1, f"kernel_size must be odd, got {kernel_size}")
        self.proj = nn.Conv2d(dim, hidden, 1)
        self.dwc = nn.Conv2d(hidden, hidden, kernel_size, padding=kernel_size // 2, groups=hidden)
        self.aggr = nn.Conv2d(hidden, dim, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `x` (B, C, H, W) to a tensor of the same shape."""
        x = F.gelu(self.proj(x))  # (B, E, H, W)
        x = F.gelu(self.dwc(x)) + x
        return self.aggr(x)  # (B, C, H, W)
