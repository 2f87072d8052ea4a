"""The frame of SwinIR, which its successors kept: what is around the groups of blocks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import nn

from esc_arch.layers.arguments import require, require_image
from esc_arch.layers.constants import WithConstants
from esc_arch.layers.norm import LayerNorm

RGB_MEAN = (0.4488, 0.4371, 0.4040)  # of DIV2K
NORM_EPS = 1e-5
WIDTH = 64  # of the features that "pixelshuffle" enlarges


class SwinFrame(WithConstants):
    """Shallow features, groups of blocks, a convolution with a long skip, and an upsampler (SwinIR, Liang et al. 2021).

    Linear layers start as is usual for transformers, whatever they are part of.

    Args:
        upscale: scale S, at least 1.
        in_chans: channels of an image; for 3 the mean colour of DIV2K is subtracted and added again.
        img_range: the network works on images times this number.
        embed_dim: number of channels C.
        groups: maps of features (B, C, H, W) that are applied in turn.
        resi_connection: the convolution after the groups, "1conv" or "3conv".
        upsampler: "pixelshuffledirect", "pixelshuffle", or "" for restoration without enlarging.

    Raises:
        ValueError: an argument is out of range.
    """

    mean: torch.Tensor

    def __init__(
        self,
        upscale: int,
        in_chans: int,
        img_range: float,
        embed_dim: int,
        groups: Iterable[nn.Module],
        resi_connection: str = "1conv",
        upsampler: str = "pixelshuffledirect",
    ) -> None:
        super().__init__()
        require(upscale >= 1 and upscale == int(upscale), f"upscale must be a positive whole number, got {upscale}")
        require(in_chans >= 1, f"in_chans must be positive, got {in_chans}")
        require(img_range > 0, f"img_range must be positive, got {img_range}")
        self.upscale = upscale
        self.in_chans = in_chans
        self.img_range = img_range
        self.upsampler = upsampler
        self.add_constants()
        self.conv_first = nn.Conv2d(in_chans, embed_dim, 3, padding=1)
        self.patch_embed = nn.Sequential(OrderedDict(norm=LayerNorm(embed_dim, NORM_EPS)))
        self.layers = nn.Sequential(*groups)
        self.norm = LayerNorm(embed_dim, NORM_EPS)
        self.conv_after_body = residual_convolution(embed_dim, resi_connection)
        if upsampler == "pixelshuffledirect":
            self.upsample = nn.Sequential(*_sub_pixels(embed_dim, in_chans, upscale))
        elif upsampler == "pixelshuffle":
            self.conv_before_upsample = nn.Sequential(nn.Conv2d(embed_dim, WIDTH, 3, padding=1), nn.LeakyReLU())
            self.upsample = nn.Sequential(*_in_steps(upscale))
            self.conv_last = nn.Conv2d(WIDTH, in_chans, 3, padding=1)
        else:
            require(upsampler == "", f"upsampler must be pixelshuffledirect, pixelshuffle or '', got {upsampler!r}")
            require(upscale == 1, f"upscale must be 1 without an upsampler, got {upscale}")
            self.conv_last = nn.Conv2d(embed_dim, in_chans, 3, padding=1)
        start_linear_layers(self)

    def constants(self) -> dict[str, torch.Tensor]:
        """Compute the mean colour that is subtracted, (1, in_chans, 1, 1)."""
        mean = RGB_MEAN if self.in_chans == 3 else (0.0,) * self.in_chans
        return {"mean": torch.tensor(mean).reshape(1, self.in_chans, 1, 1)}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Enlarge images.

        Args:
            x: LQ images (B, in_chans, H, W), in [0, 1]; any H, W >= 1.

        Returns:
            (B, in_chans, S * H, S * W), not clamped.

        Raises:
            ValueError: `x` has another shape.
        """
        require_image(x, self.in_chans)
        image = (x - self.mean) * self.img_range
        shallow = self.conv_first(image)  # (B, C, H, W)
        deep = self.norm(self.body(self.patch_embed(shallow)))
        features = self.conv_after_body(deep) + shallow
        if self.upsampler == "pixelshuffledirect":
            enlarged = self.upsample(features)
        elif self.upsampler == "pixelshuffle":
            enlarged = self.conv_last(self.upsample(self.conv_before_upsample(features)))
        else:
            enlarged = self.conv_last(features) + image
        return enlarged / self.img_range + self.mean

    def body(self, x: torch.Tensor) -> torch.Tensor:
        """Process features (B, C, H, W) by the groups, to the same shape."""
        return self.layers(x)


class ResidualGroup(nn.Module):
    """Blocks, a convolution and a skip.

    Args:
        dim: number of channels C.
        blocks: what precedes the convolution: maps of (B, C, H, W).
        resi_connection: the convolution, "1conv" or "3conv".
        name: of the list of blocks in checkpoints.
    """

    def __init__(
        self, dim: int, blocks: Iterable[nn.Module], resi_connection: str = "1conv", name: str = "blocks"
    ) -> None:
        super().__init__()
        self.residual_group = nn.Sequential(OrderedDict([(name, nn.Sequential(*blocks))]))
        self.conv = residual_convolution(dim, resi_connection)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Process `x` (B, C, H, W); the result has the same shape."""
        return self.conv(self.residual_group(x)) + x


def start_linear_layers(network: nn.Module) -> None:
    """Draw the weights of all linear layers as is usual for transformers, with biases of zero."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def residual_convolution(dim: int, kind: str) -> nn.Module:
    """Make the convolution before a skip: "1conv", or "3conv" with a bottleneck, C -> C."""
    if kind == "1conv":
        return nn.Conv2d(dim, dim, 3, padding=1)
    require(kind == "3conv", f"resi_connection must be '1conv' or '3conv', got {kind!r}")
    return nn.Sequential(
        nn.Conv2d(dim, dim // 4, 3, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(dim // 4, dim // 4, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(dim // 4, dim, 3, padding=1),
    )


def _sub_pixels(dim: int, channels: int, scale: int) -> list[nn.Module]:
    return [nn.Conv2d(dim, channels * scale**2, 3, padding=1), nn.PixelShuffle(scale)]


def _in_steps(scale: int) -> list[nn.Module]:
    """Enlarge by doubling, or at once by 3."""
    if scale == 3:
        return _sub_pixels(WIDTH, WIDTH, 3)
    require(scale & (scale - 1) == 0, f"upscale of 'pixelshuffle' must be 3 or a power of 2, got {scale}")
    return [layer for _ in range(scale.bit_length() - 1) for layer in _sub_pixels(WIDTH, WIDTH, 2)]


class StochasticDepth(nn.Module):
    """Drops a branch for some images of a batch while training, and scales it for the others (Huang et al. 2016).

    Args:
        rate: part of the images for which it is dropped, in [0, 1).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        require(0 <= rate < 1, f"drop_path_rate must be in [0, 1), got {rate}")
        self.rate = rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Drop or scale the images of `x` (B, ...)."""
        if not self.training or self.rate == 0:
            return x
        kept = F.dropout(x.new_ones(x.shape[0], *[1] * (x.dim() - 1)), self.rate)
        return x * kept
