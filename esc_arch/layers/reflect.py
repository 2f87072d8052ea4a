"""Reflection of images at their borders, also where they are smaller than what is asked for."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def next_multiple(side: int, multiple: int) -> int:
    """Round up to a multiple; without negative numbers, which ONNX divides in another way than Python."""
    return (side + multiple - 1) // multiple * multiple


def reflect_axis(x: torch.Tensor, dim: int, start: int, stop: int) -> torch.Tensor:
    """Read positions `start` to `stop` - 1 of a dimension, reflecting as often as necessary (numpy's "reflect").

    A dimension of a single entry is repeated.

    Args:
        x: any tensor.
        dim: the dimension.
        start: first position, may be negative.
        stop: the position after the last, may exceed the size.

    Returns:
        a tensor like `x` with `stop` - `start` entries in `dim`.
    """
    position = torch.arange(start, stop, device=x.device).abs()
    # a tensor and not a number, which ONNX could not divide by and TorchScript would take for a constant
    period = (torch.zeros_like(position) + (2 * x.shape[dim] - 2)).clamp(min=1)
    position = position % period
    return x.index_select(dim, torch.minimum(position, period - position))


class ReflectConv2d(nn.Conv2d):
    """A convolution that keeps the size of images of any size, reflecting them at their borders.

    torch's `padding_mode="reflect"` refuses images that are not larger than the padding.

    Args:
        in_channels: channels before.
        out_channels: and after.
        kernel_size: side of the kernel, odd.
        groups: of channels that are convolved apart.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, groups: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel_size, groups=groups)
        self.border = kernel_size // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `x` (B, in_channels, H, W) to (B, out_channels, H, W)."""
        border = self.border
        height, width = x.shape[-2:]
        if (
            torch.compiler.is_compiling() or torch.jit.is_tracing() or min(height, width) <= border
        ):  # a traced graph serves many sizes
            x = reflect_axis(reflect_axis(x, 2, -border, height + border), 3, -border, width + border)
        else:
            x = F.pad(x, (border, border, border, border), mode="reflect")
        return super().forward(x)
