"""The discriminator of Real-ESRGAN with global self-attention. Built on BasicSR's, so this imports BasicSR."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from basicsr.archs.discriminator_arch import UNetDiscriminatorSN
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn
from torch.nn.utils import spectral_norm

from esc_arch.layers.arguments import require


class GlobalAttention(nn.Module):
    """Multi-head self-attention between all pixels of a map, without positions.

    Args:
        dim: number of channels C.
        num_heads: number of heads, a divisor of C.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.to_qkv = nn.Conv2d(dim, 3 * dim, 1, bias=False)
        self.to_out = spectral_norm(nn.Conv2d(dim, dim, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Attend within `x` (B, C, H, W); the result has the same shape."""
        batch, channels, height, width = x.shape
        tokens = self.to_qkv(x).reshape(batch, 3, self.num_heads, -1, height * width).transpose(-2, -1)
        attended = F.scaled_dot_product_attention(*tokens.unbind(1))  # (B, heads, H * W, C / heads)
        return self.to_out(attended.transpose(-2, -1).reshape(batch, channels, height, width))


class DeepUNetDiscriminatorSN(UNetDiscriminatorSN):  # type: ignore[misc]  # BasicSR has no types
    """BasicSR's U-Net discriminator with two global self-attentions, as published with ESC.

    One refines the map of an eighth of the size; the other takes the place of the skip connection at a quarter. The
    published one computes attention in bf16; here that is the caller's choice.

    Args:
        num_in_ch: channels of the image.
        num_feat: channels F of the first layer.
        skip_connection: add the maps of the way down to those of the way up.

    Raises:
        ValueError: a number of channels is not positive.
    """

    def __init__(self, num_in_ch: int, num_feat: int = 64, skip_connection: bool = True) -> None:
        require(num_in_ch >= 1, f"num_in_ch must be positive, got {num_in_ch}")
        require(num_feat >= 1, f"num_feat must be positive, got {num_feat}")
        super().__init__(num_in_ch, num_feat, skip_connection)
        self.sa1 = GlobalAttention(4 * num_feat, 4)
        self.sa2 = GlobalAttention(8 * num_feat, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Judge images (B, num_in_ch, H, W), sides multiples of 8: a score for every pixel, (B, 1, H, W)."""
        x0 = _activated(self.conv0, x)
        x1 = _activated(self.conv1, x0)
        x2 = _activated(self.conv2, x1)
        x3 = _activated(self.conv3, x2)
        x4 = _activated(self.conv4, _doubled(x3 + self.sa2(x3)))
        if self.skip_connection:
            x4 = x4 + self.sa1(x2)
        x5 = _activated(self.conv5, _doubled(x4))
        if self.skip_connection:
            x5 = x5 + x1
        x6 = _activated(self.conv6, _doubled(x5))
        if self.skip_connection:
            x6 = x6 + x0
        return self.conv9(_activated(self.conv8, _activated(self.conv7, x6)))


def _activated(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu(layer(x), 0.2)


def _doubled(x: torch.Tensor) -> torch.Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


if DeepUNetDiscriminatorSN.__name__ not in ARCH_REGISTRY:
    ARCH_REGISTRY.register(DeepUNetDiscriminatorSN)
