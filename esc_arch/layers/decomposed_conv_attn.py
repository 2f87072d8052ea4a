"""The decomposed ConvAttn of ESC-FP: a 1x1 convolution, then one depthwise convolution with a large kernel.

Source: the supplement of "Emulating Self-attention with Convolution for Efficient Image Super-Resolution" (ICCV 2025).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from esc_arch.layers.arguments import require
from esc_arch.layers.conv_attn import DYNAMIC_SIZE, PartialConvAttn, check_sizes, dynamic_depthwise, kernel_predictor


def new_decomposed_kernel(pdim: int, kernel_size: int) -> tuple[nn.Parameter, nn.Parameter]:
    """Create the two shared kernels of the decomposed ConvAttn.

    Args:
        pdim: channels P.
        kernel_size: side K, odd.

    Returns:
        `lk_channel` (P, P, 1, 1), as a plain 1x1 convolution starts, and `lk_spatial` (P, 1, K, K), orthogonal.
    """
    channel = nn.Parameter(nn.init.kaiming_uniform_(torch.empty(pdim, pdim, 1, 1), a=5**0.5))
    spatial = nn.Parameter(nn.init.orthogonal_(torch.empty(pdim, 1, kernel_size, kernel_size)))
    return channel, spatial


class DecomposedLargeKernel(nn.Module):
    """The decomposed convolution on P channels: a 1x1 convolution, then one depthwise large-plus-dynamic kernel.

    Args:
        pdim: number of channels P, at least 4.
    """

    def __init__(self, pdim: int) -> None:
        super().__init__()
        require(pdim >= 4, f"pdim must be at least 4, got {pdim}")
        self.proj = kernel_predictor(pdim, pdim // 4)

    def forward(self, x: torch.Tensor, kernel: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Convolve `x` (B, P, H, W) with the two parts of `kernel`, the second plus each image's own kernel.

        The parts are (P, P, 1, 1) and (P, 1, K, K). The dynamic kernel is computed from `x` as it comes in. The result
        has the shape of `x`.
        """
        channel, spatial = kernel
        batch, pdim = x.shape[:2]
        dynamic = self.proj(x).reshape(batch, pdim, DYNAMIC_SIZE, DYNAMIC_SIZE)
        border = spatial.shape[-1] // 2 - DYNAMIC_SIZE // 2
        x = F.conv2d(x, channel)
        weight = spatial.squeeze(1) + F.pad(dynamic, (border, border, border, border))  # (B, P, K, K)
        return dynamic_depthwise(x, weight.to(x.dtype))


class DecomposedConvAttn(PartialConvAttn):
    """ConvAttn with its large kernel decomposed into a 1x1 and a depthwise convolution, as in ESC-FP.

    Args:
        dim: number of channels C.
        pdim: number of channels P that are convolved, 4 <= P <= C; the others pass through.
        kernel_size: side K of the depthwise kernel, odd, at least 3.
        owns_kernel: keep kernels of its own (`lk_channel`, `lk_spatial`). If not, they are arguments of `forward`.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, dim: int, pdim: int = 16, kernel_size: int = 13, owns_kernel: bool = True) -> None:
        check_sizes(dim, pdim, kernel_size, smallest=DYNAMIC_SIZE)
        super().__init__(dim, DecomposedLargeKernel(pdim), pdim)
        self.lk_channel: nn.Parameter | None = None
        self.lk_spatial: nn.Parameter | None = None
        if owns_kernel:
            self.lk_channel, self.lk_spatial = new_decomposed_kernel(pdim, kernel_size)

    def forward(self, x: torch.Tensor, kernel: tuple[torch.Tensor, torch.Tensor] | None = None) -> torch.Tensor:
        """Apply the decomposed ConvAttn to `x` (B, C, H, W); the result has the same shape.

        Args:
            x: features.
            kernel: `channel` (P, P, 1, 1) and `spatial` (P, 1, K, K); None takes the module's own.

        Raises:
            ValueError: the channels of `x` do not fit, or no kernel was given to a module without one.
        """
        if kernel is None:
            if self.lk_channel is None or self.lk_spatial is None:
                raise ValueError("kernel is missing: this DecomposedConvAttn was built with owns_kernel=False")
            kernel = self.lk_channel, self.lk_spatial
        return self.mix(x, kernel)
