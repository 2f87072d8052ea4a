"""The image heads of ESC-RIB."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from esc_arch.layers.arguments import require
from esc_arch.layers.upsample import SubPixelConv, nearest_skip

RIB_UPSAMPLERS = ("pixelshuffle_direct", "pixelshuffle", "nn+conv")
SLOPE = 0.1


class RIBUpsampler(nn.Module):
    """Maps features and the image that they are of to an enlarged image.

    "pixelshuffle_direct" is the head of ESC, and loads weights of other scales as that does; "pixelshuffle" shuffles
    features and adds the image enlarged by nearest neighbours; "nn+conv" adds features of the image to the features
    and alternates nearest neighbours with convolutions.

    Args:
        dim: number of channels C.
        scale: factor S; with "nn+conv" 3 or a power of two.
        upsampler_type: one of `RIB_UPSAMPLERS`.
        intermediate_dim: channels M between.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, dim: int, scale: int, upsampler_type: str, intermediate_dim: int) -> None:
        super().__init__()
        known = ", ".join(RIB_UPSAMPLERS)
        require(upsampler_type in RIB_UPSAMPLERS, f"upsampler_type must be one of {known}, got {upsampler_type!r}")
        require(intermediate_dim >= 1, f"intermediate_dim must be positive, got {intermediate_dim}")
        self.scale = scale
        self.upsampler_type = upsampler_type
        if upsampler_type == "pixelshuffle_direct":
            self.up_conv: nn.Module = SubPixelConv(dim, scale)
        elif upsampler_type == "pixelshuffle":
            self.feature_conv = nn.Conv2d(dim, intermediate_dim, 3, padding=1)
            self.up_conv = nn.Conv2d(intermediate_dim, intermediate_dim * scale**2, 3, padding=1)
            self.final_conv = nn.Conv2d(intermediate_dim, 3, 3, padding=1)
        else:
            require(
                scale == 3 or scale & (scale - 1) == 0,
                f"upsampler_type 'nn+conv' enlarges by 3 and by powers of two: upscaling_factor is {scale}",
            )
            self.f = _nearest(dim, [3] if scale == 3 else [2] * (scale.bit_length() - 1), intermediate_dim)
            self.f_img = nn.Sequential(
                nn.Conv2d(3, dim, 1), nn.Conv2d(dim, dim, 7, padding=3), nn.LeakyReLU(SLOPE), nn.Conv2d(dim, dim, 1)
            )

    def forward(self, features: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """Make (B, 3, S * H, S * W) of features (B, C, H, W) and the image (B, 3, H, W)."""
        if self.upsampler_type == "pixelshuffle_direct":
            return F.pixel_shuffle(self.up_conv(features) + nearest_skip(image, self.scale), self.scale)
        if self.upsampler_type == "pixelshuffle":
            features = self.up_conv(F.leaky_relu(self.feature_conv(features), SLOPE))
            enlarged = self.final_conv(F.pixel_shuffle(features, self.scale))
            return enlarged + F.pixel_shuffle(nearest_skip(image, self.scale), self.scale)
        return self.f(features + self.f_img(image))


def _nearest(dim: int, factors: list[int], intermediate_dim: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(dim, intermediate_dim, 3, padding=1), nn.LeakyReLU(SLOPE)]
    for factor in factors:
        layers += [nn.Upsample(scale_factor=factor), nn.Conv2d(intermediate_dim, intermediate_dim, 3, padding=1)]
        layers += [nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers, nn.Conv2d(intermediate_dim, 3, 3, padding=1))
