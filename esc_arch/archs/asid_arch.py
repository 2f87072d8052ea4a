"""ASID, distillation blocks that share their attention maps, for comparison with ESC."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from esc_arch.common.hub import OnHub
from esc_arch.layers.arguments import require, require_image
from esc_arch.layers.norm import LayerNorm
from esc_arch.layers.reflect import next_multiple
from esc_arch.layers.shared_attention import CHANNEL_NORM_EPS, SIDE, GatedFeedForward, GroupAttention
from esc_arch.layers.shared_attention import GroupChannelAttention as ChannelAttention

SMALLEST = 2 * SIDE  # side of the padded image; the pooling of ESA needs it
PUBLISHED: dict[str, Any] = {"block_num": 1, "window_size": SIDE}  # the only values that the published code has
WITHOUT_EFFECT = ("res_num", "block_script_name", "block_class_name", "pe", "ffn_bias")


class SqueezeExcitation(nn.Module):
    """Weighs channels by their means.

    Args:
        dim: number of channels C, at least 4.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.Identity(),
            nn.Linear(dim, int(dim * 0.25), bias=False),
            nn.SiLU(),
            nn.Linear(int(dim * 0.25), dim, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Weigh the channels of `x` (B, C, H, W)."""
        return x * self.gate(x.mean(dim=(2, 3)))[:, :, None, None]


class LocalBlock(nn.Module):
    """MobileNet's inverted convolution without expansion, with a skip.

    Args:
        dim: number of channels C.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        layers = nn.Sequential(
            nn.Conv2d(dim, dim, 1),
            nn.GELU(),
            nn.Conv2d(dim, dim, 3, padding=1, groups=dim),
            nn.GELU(),
            SqueezeExcitation(dim),
            nn.Conv2d(dim, dim, 1),
        )
        self.net = nn.Sequential(OrderedDict(fn=layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Process `x` (B, C, H, W); the result has the same shape."""
        return self.net(x) + x


class ChannelBlock(nn.Module):
    """Channel attention within windows, then across them, each with a feed-forward network.

    Args:
        dim: number of channels C.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.canorm1, self.canorm2 = LayerNorm(dim, CHANNEL_NORM_EPS), LayerNorm(dim, CHANNEL_NORM_EPS)
        self.cttn1, self.cttn2 = ChannelAttention(dim, across=False), ChannelAttention(dim, across=True)
        self.cnorm1, self.cnorm2 = LayerNorm(dim, CHANNEL_NORM_EPS), LayerNorm(dim, CHANNEL_NORM_EPS)
        self.gfn1, self.gfn2 = GatedFeedForward(dim), GatedFeedForward(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Process `x` (B, C, H, W), sides multiples of 8; the result has the same shape."""
        x = x + self.cttn1(self.canorm1(x))
        x = x + self.gfn1(self.cnorm1(x))
        x = x + self.cttn2(self.canorm2(x))
        return x + self.gfn2(self.cnorm2(x))


class DistillationBody(nn.Module):
    """Three steps of attention, each on what the last one did not put aside (ASID, Fig. 3).

    Args:
        dim: number of channels C, a multiple of 4, at least 16.
        shares: take the attention maps of an earlier block.
    """

    def __init__(self, dim: int, shares: bool) -> None:
        super().__init__()
        quarter = dim // 4
        self.quarter = quarter
        for step, width in enumerate((4, 3, 2), 1):
            rest = (width - 1) * quarter
            setattr(self, f"LB{step}", LocalBlock(width * quarter))
            setattr(self, f"SLA{step}", GroupAttention(rest, spread=False, shares=shares))
            setattr(self, f"SGA{step}", GroupAttention(rest, spread=True, shares=shares))
        self.pw1 = nn.Conv2d(4 * quarter, 4 * quarter, 1)
        self.pw2 = nn.Conv2d(3 * quarter, 3 * quarter, 1)
        self.pw3 = nn.Conv2d(4 * quarter, 4 * quarter, 1)
        self.BlockC = ChannelBlock(4 * quarter)

    def forward(self, x: torch.Tensor, maps: list[torch.Tensor]) -> torch.Tensor:
        """Process `x` (B, C, H, W), sides multiples of 8.

        Args:
            x: features.
            maps: the six attention maps of an earlier block; where they are to be computed here, an empty list that is
                filled.

        Returns:
            (B, C, H, W).
        """
        shared = iter(list(maps))
        kept: list[torch.Tensor] = []
        for step in (1, 2, 3):
            y = getattr(self, f"LB{step}")(x)
            first, rest = y[:, : self.quarter], y[:, self.quarter :]
            for name in (f"SLA{step}", f"SGA{step}"):
                attention = getattr(self, name)
                rest, weights = attention(rest, next(shared, None))
                if len(maps) < 6:
                    maps.append(weights)
            parts = [rest, first] if step < 3 else [*kept, rest, first]
            y = getattr(self, f"pw{step}")(torch.cat(parts, dim=1))
            kept.append(y[:, : self.quarter])
            x = y[:, self.quarter :]
        return self.BlockC(y)


class ESA(nn.Module):
    """Enhanced spatial attention (RFANet, Liu et al. 2020).

    Args:
        dim: number of channels C.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        width = max(dim // 4, 16)
        self.conv1 = nn.Conv2d(dim, width, 1)
        self.conv_f = nn.Conv2d(width, width, 1)
        self.conv2 = nn.Conv2d(width, width, 3, stride=2)
        self.conv3 = nn.Conv2d(width, width, 3, padding=1)
        self.conv4 = nn.Conv2d(width, dim, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Weigh the pixels of `x` (B, C, H, W), H, W >= 15."""
        squeezed = self.conv1(x)
        coarse = self.conv3(F.max_pool2d(self.conv2(squeezed), kernel_size=7, stride=3))
        coarse = F.interpolate(coarse, x.shape[2:], mode="bilinear", align_corners=False)
        return x * torch.sigmoid(self.conv4(coarse + self.conv_f(squeezed)))


class ASIDBlock(nn.Module):
    """A distillation body with a skip, then spatial attention.

    Args:
        dim: number of channels C.
        shares: take the attention maps of an earlier block.
        bias: of the convolution before the skip.
    """

    def __init__(self, dim: int, shares: bool, bias: bool) -> None:
        super().__init__()
        body = DistillationBody(dim, shares)
        self.residual_layer: nn.Module = body if shares else nn.ModuleList([body])  # so are the published names
        self.res_end = nn.Conv2d(dim, dim, 1, bias=bias)
        self.esa = ESA(dim)

    def forward(self, x: torch.Tensor, maps: list[torch.Tensor]) -> torch.Tensor:
        """Process `x` (B, C, H, W) with the maps of `DistillationBody`; the result has the same shape."""
        layer = self.residual_layer
        body = layer[0] if isinstance(layer, nn.ModuleList) else layer
        return self.esa(self.res_end(body(x, maps)) + x)


class ASID(nn.Module, OnHub):
    """Attention-sharing information distillation, the small network of three blocks (AAAI 2025).

    Arguments, parameter names and shapes are those of the published checkpoints, which load strictly.

    Args:
        num_in_ch: channels of an image.
        num_out_ch: channels of the result.
        num_feat: number of channels C, a multiple of 4, at least 16; `feature_num` of published option files is another
            name of it.
        upsampling: scale S, at least 1.
        bias: of the convolutions around the blocks.
        module_params: published option files hold the other arguments here.
        published: arguments of published option files that have no effect, or one value only.

    Raises:
        TypeError: an argument is unknown.
        ValueError: an argument is out of range.
    """

    blocks = 3
    pads_itself = True

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        num_feat: int = 48,
        upsampling: int = 2,
        bias: bool = True,
        module_params: dict[str, Any] | None = None,
        feature_num: int | None = None,
        **published: Any,
    ) -> None:
        super().__init__()
        published = {**(module_params or {}), **published}
        upsampling, bias = published.pop("upsampling", upsampling), published.pop("bias", bias)
        for name, value in published.items():
            if name not in PUBLISHED and name not in WITHOUT_EFFECT:
                raise TypeError(f"{type(self).__name__} has no argument {name!r}")
            wanted = PUBLISHED.get(name, value)
            require(value == wanted, f"{name} must be {wanted}, the published network has nothing else; got {value}")
        dim = num_feat if feature_num is None else feature_num
        require(dim >= 16 and dim % 4 == 0, f"num_feat must be a multiple of 4 and at least 16, got {dim}")
        require(
            upsampling >= 1 and upsampling == int(upsampling), f"upsampling must be a whole number, got {upsampling}"
        )
        for name, channels in (("num_in_ch", num_in_ch), ("num_out_ch", num_out_ch)):
            require(channels >= 1, f"{name} must be positive, got {channels}")
        self.num_in_ch = num_in_ch
        self.upsampling = upsampling
        self.input = nn.Conv2d(num_in_ch, dim, 3, padding=1, bias=bias)
        for number in range(self.blocks):
            setattr(self, f"block{number}", ASIDBlock(dim, shares=number > 0, bias=bias))
        self.output = nn.Conv2d(dim, dim, 3, padding=1, bias=bias)
        self.up = nn.Sequential(
            nn.Conv2d(dim, num_out_ch * upsampling**2, 3, padding=1, bias=bias), nn.PixelShuffle(upsampling)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Enlarge images, padded by zeros to multiples of 8, at least 16.

        Args:
            x: LQ images (B, num_in_ch, H, W), in [0, 1]; any H, W >= 1.

        Returns:
            (B, num_out_ch, S * H, S * W), not clamped.

        Raises:
            ValueError: `x` has another shape.
        """
        require_image(x, self.num_in_ch)
        height, width = x.shape[2:]
        below, right = (max(next_multiple(side, SIDE), SMALLEST) - side for side in (height, width))
        features = skip = self.input(F.pad(x, (0, right, 0, below)))
        maps: list[torch.Tensor] = []
        for number in range(self.blocks):
            features = getattr(self, f"block{number}")(features, maps)
        image = self.up(self.output(features) + skip)
        return image[..., : height * self.upsampling, : width * self.upsampling]


class ASIDd8(ASID):
    """ASID-D8, of eight blocks, of which the first computes the attention maps. Arguments are those of `ASID`."""

    blocks = 8
