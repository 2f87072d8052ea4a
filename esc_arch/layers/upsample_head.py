"""Heads of real-world networks: the ways from features to an image, and their names in option files."""

from __future__ import annotations

from typing import Any

from torch import nn

from esc_arch.layers.arguments import require
from esc_arch.layers.dysample import DySample

UPSAMPLERS = ("conv", "pixelshuffledirect", "pixelshuffle", "nearest+conv", "dysample")


def _convolution(dim: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(dim, out_channels, 3, padding=1)


def nearest_conv_x4(dim: int) -> nn.Sequential:
    """Create the head of ESC-Real: each doubling is followed by a convolution; (B, C, H, W) -> (B, 3, 4 * H, 4 * W)."""
    layers: list[nn.Module] = []
    for _ in range(2):
        layers += [nn.Upsample(scale_factor=2), _convolution(dim, dim), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, _convolution(dim, dim), nn.LeakyReLU(0.2), _convolution(dim, 3))


class UpsampleHead(nn.Sequential):
    """Maps features (B, C, H, W) to an image (B, 3, S * H, S * W) by one of several ways.

    Layers stand at the places that they have in the common upsampler of the real-world networks of neosr and
    traiNNer-redux, so that checkpoints fit. Here, unlike in ESC-Real's own head, nearest enlargement comes after its
    convolution.

    Args:
        upsampler: one of `UPSAMPLERS`. "conv" is a single convolution and does not enlarge.
        dim: number of channels C.
        scale: factor S: 1 for "conv", otherwise 2, 3 or 4.
        mid_dim: channels of the convolutions of "pixelshuffle".
        groups: of DySample.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, upsampler: str, dim: int, scale: int, mid_dim: int = 64, groups: int = 4) -> None:
        require(upsampler in UPSAMPLERS, f"upsampler must be one of {', '.join(UPSAMPLERS)}, got {upsampler!r}")
        factors = [2, 2] if scale == 4 else [scale]
        layers: list[nn.Module] = []
        if upsampler == "conv":
            layers = [_convolution(dim, 3)]
        elif upsampler == "pixelshuffledirect":
            layers = [_convolution(dim, 3 * scale**2), nn.PixelShuffle(scale)]
        elif upsampler == "pixelshuffle":
            require(mid_dim >= 1, f"mid_dim must be positive, got {mid_dim}")
            layers = [_convolution(dim, mid_dim), nn.LeakyReLU(0.01)]
            for factor in factors:
                layers += [_convolution(mid_dim, mid_dim * factor**2), nn.PixelShuffle(factor)]
            layers += [_convolution(mid_dim, 3)]
        elif upsampler == "nearest+conv":
            for factor in factors:
                layers += [_convolution(dim, dim), nn.Upsample(scale_factor=factor), nn.LeakyReLU(0.2)]
            layers += [_convolution(dim, dim), nn.LeakyReLU(0.2), _convolution(dim, 3)]
        else:
            layers = [DySample(dim, 3, scale, groups)]
        super().__init__(*layers)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Leave out `MetaUpsample`, by which other projects mark a checkpoint; torch hands over a copy."""
        state_dict.pop(prefix + "MetaUpsample", None)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
