"""A form of the networks that can be traced once for every batch, height and width.

The dynamic kernel of ConvAttn is one depthwise convolution with as many groups as there are images times channels. It
cannot be traced for any batch: ONNX wants the number of groups to be a constant. Nine shifted products give the same.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import nn

from esc_arch.layers.conv_attn import DYNAMIC_SIZE, DynamicLargeKernel, LargeKernel
from esc_arch.layers.decomposed_conv_attn import DecomposedLargeKernel


class Exportable(nn.Module):
    """A network with all dynamic kernels in the form of shifted products, from float32 to float32.

    Args:
        network: a network of this package; it is copied.
        half: compute in half precision.
    """

    def __init__(self, network: nn.Module, half: bool = False) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).eval()
        _replace_kernels(self.network)
        self.dtype = torch.float16 if half else torch.float32
        self.network.to(self.dtype)

    @property
    def smallest_side(self) -> int:
        """The smallest side of an image that a graph for any size can take.

        The graph leaves the case out that a side is a single pixel after pixel-unshuffling.
        """
        unshuffle = getattr(self.network, "unshuffle", 1)
        return 1 if unshuffle == 1 else unshuffle + 1

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Enlarge `image` (B, 3, H, W), float32."""
        return self.network(image.to(self.dtype)).float()


class ShiftedLargeKernel(nn.Module):
    """`DynamicLargeKernel`, traceable.

    Args:
        original: where the branch that computes the dynamic kernel comes from.
    """

    def __init__(self, original: DynamicLargeKernel) -> None:
        super().__init__()
        self.dwc_proj = original.dwc_proj

    def forward(self, x: torch.Tensor, kernel: LargeKernel) -> torch.Tensor:
        """Convolve `x` (B, P, H, W) with `kernel` plus each image's own kernel."""
        convolved = F.conv2d(x, kernel.weight.to(x.dtype), padding="same")
        return convolved + shifted_products(x, self.dwc_proj(x))


class ShiftedDecomposedKernel(nn.Module):
    """`DecomposedLargeKernel`, traceable.

    Args:
        original: where the branch that computes the dynamic kernel comes from.
    """

    def __init__(self, original: DecomposedLargeKernel) -> None:
        super().__init__()
        self.proj = original.proj
        first = original.proj[1]
        assert isinstance(first, nn.Conv2d)
        self.groups = first.in_channels

    def forward(self, x: torch.Tensor, kernel: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Convolve `x` (B, P, H, W) with the first part of `kernel`, then the second plus each image's own kernel."""
        channel, spatial = kernel
        dynamic = self.proj(x)
        x = F.conv2d(x, channel)
        convolved = F.conv2d(x, spatial, padding="same", groups=self.groups)
        return convolved + shifted_products(x, dynamic)


def shifted_products(x: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    """Convolve every channel of every image with a kernel of its own, as a sum of shifted products.

    Args:
        x: (B, P, H, W).
        kernels: (B, P * 9, 1, 1).

    Returns:
        (B, P, H, W).
    """
    height, width = x.shape[-2:]
    border = DYNAMIC_SIZE // 2
    weights = kernels.reshape(-1, x.shape[1], DYNAMIC_SIZE**2, 1, 1)  # (B, P, 9, 1, 1)
    padded = F.pad(x, (border, border, border, border))
    total = torch.zeros_like(x)
    for row in range(DYNAMIC_SIZE):
        for column in range(DYNAMIC_SIZE):
            shifted = padded[..., row : row + height, column : column + width]
            total = total + shifted * weights[:, :, DYNAMIC_SIZE * row + column]
    return total


def _replace_kernels(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, DynamicLargeKernel):
            setattr(module, name, ShiftedLargeKernel(child))
        elif isinstance(child, DecomposedLargeKernel):
            setattr(module, name, ShiftedDecomposedKernel(child))
        else:
            _replace_kernels(child)
