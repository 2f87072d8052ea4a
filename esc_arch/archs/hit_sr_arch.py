"""HiT-SIR, HiT-SNG and HiT-SRF, transformers with hierarchical windows, for comparison with ESC."""

from __future__ import annotations

import math
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from esc_arch.archs.swin_frame import NORM_EPS, ResidualGroup, SwinFrame
from esc_arch.common.hub import OnHub
from esc_arch.layers.arguments import require
from esc_arch.layers.hit_correlation import SMALLEST_DIM, SpatialChannelCorrelation
from esc_arch.layers.hit_ngram import NGramCorrelation
from esc_arch.layers.norm import LayerNorm
from esc_arch.layers.window import next_multiple, pad_to_multiple


class Mlp(nn.Module):
    """Feed-forward network of HiT-SIR, pixel by pixel.

    Args:
        dim: number of channels C.
        hidden: hidden channels E.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `x` (B, C, H, W) to a tensor of the same shape."""
        x = F.gelu(self.fc1(x.permute(0, 2, 3, 1)))  # (B, H, W, E)
        return self.fc2(self.mix(x)).permute(0, 3, 1, 2)  # (B, C, H, W)

    def mix(self, x: torch.Tensor) -> torch.Tensor:
        """Process the hidden features (B, H, W, E); nothing here."""
        return x


class ConvMlp(Mlp):
    """Feed-forward network of HiT-SRF, with a depthwise 5 x 5 convolution of the hidden features.

    Args:
        dim: number of channels C.
        hidden: hidden channels E.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__(dim, hidden)
        convolution = nn.Sequential(nn.Conv2d(hidden, hidden, 5, padding=2, groups=hidden), nn.GELU())
        self.dwconv = nn.Sequential(OrderedDict(depthwise_conv=convolution))

    def mix(self, x: torch.Tensor) -> torch.Tensor:
        """Add the convolution of the hidden features (B, H, W, E) to them."""
        return x + self.dwconv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class HiTBlock(nn.Module):
    """Spatial-channel correlation in windows, then a feed-forward network, both normalised afterwards.

    Args:
        dim: number of channels C.
        num_heads: heads of the spatial correlation.
        window: height and width of a window.
        base: largest number of cells of a window in each direction.
        mlp: the feed-forward network.
    """

    correlation_type: type[SpatialChannelCorrelation] = SpatialChannelCorrelation
    fewest_windows = 1  # in each direction

    def __init__(self, dim: int, num_heads: int, window: tuple[int, int], base: tuple[int, int], mlp: Mlp) -> None:
        super().__init__()
        self.window = window
        self.norm1 = LayerNorm(dim, NORM_EPS)
        self.correlation = self.correlation_type(dim, window, base, num_heads)
        self.norm2 = LayerNorm(dim, NORM_EPS)
        self.mlp = mlp

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Process `x` (B, C, H, W); the result has the same shape."""
        height, width = x.shape[-2:]
        correlated = self.correlation(self._pad(x))[..., :height, :width]
        x = x + self.norm1(correlated)
        return x + self.norm2(self.mlp(x))

    def _pad(self, x: torch.Tensor) -> torch.Tensor:
        """Reflect `x` (B, C, H, W) to whole windows, also where that takes more than one reflection."""
        steps = [side * self.fewest_windows for side in self.window]
        height, width = (next_multiple(side, step) for side, step in zip(x.shape[-2:], steps, strict=True))
        # Reflections continue each other, so what is too much for a window that is no square can be cut off.
        return pad_to_multiple(x, math.lcm(*steps))[..., :height, :width]


class NGramBlock(HiTBlock):
    """The block of HiT-SNG, which looks at the windows around a window; features are padded to pairs of windows."""

    correlation_type = NGramCorrelation
    fewest_windows = 2


class HiTSR(SwinFrame, OnHub):
    """What the three networks share: everything but the kind of block and of feed-forward network.

    "HiT-SR: Hierarchical Transformer for Efficient Image Super-Resolution" (ECCV 2024). Arguments, parameter names and
    shapes are those of the published checkpoints, which load strictly; the defaults are the paper's.

    Args:
        upscale: scale S, at least 1.
        in_chans: channels of an image; for 3 the mean colour of DIV2K is subtracted and added again.
        img_size: not used, the networks take images of any size.
        base_win_size: height and width of the windows, before they are multiplied by `hier_win_ratios`.
        img_range: the networks work on images times this number.
        depths: number of blocks in every group.
        embed_dim: number of channels C, at least 16.
        num_heads: heads in every group; C is a multiple of twice each.
        mlp_ratio: expansion of the feed-forward network.
        resi_connection: end of a group; only "1conv".
        hier_win_ratios: window of the first, second, ... block of every group, as a multiple of `base_win_size`.
        upsampler: how images are made from features; only "pixelshuffledirect".
        ignored: other arguments are ignored, with a warning; published option files set `expansion_factor`, which is
            ignored in silence, since the published networks do not use it either.

    Raises:
        ValueError: an argument is out of range.
    """

    mlp_type: type[Mlp] = Mlp
    block_type: type[HiTBlock] = HiTBlock

    def __init__(
        self,
        upscale: int = 2,
        in_chans: int = 3,
        img_size: int | Sequence[int] = 64,
        base_win_size: Sequence[int] = (8, 8),
        img_range: float = 1.0,
        depths: Sequence[int] = (6, 6, 6, 6),
        embed_dim: int = 60,
        num_heads: Sequence[int] = (6, 6, 6, 6),
        mlp_ratio: float = 2.0,
        resi_connection: str = "1conv",
        hier_win_ratios: Sequence[float] = (0.5, 1, 2, 4, 6, 8),
        upsampler: str = "pixelshuffledirect",
        **ignored: Any,
    ) -> None:
        if unknown := sorted(set(ignored) - {"expansion_factor"}):
            warnings.warn(f"{type(self).__name__} ignores the arguments {', '.join(unknown)}", stacklevel=2)
        require(resi_connection == "1conv", f"resi_connection must be '1conv', got {resi_connection!r}")
        require(upsampler == "pixelshuffledirect", f"upsampler must be 'pixelshuffledirect', got {upsampler!r}")
        hidden = int(embed_dim * mlp_ratio)
        require(hidden >= 1, f"mlp_ratio must leave at least one hidden channel, got {mlp_ratio}")
        _require_positive("depths", depths)
        _require_heads(num_heads, len(depths), embed_dim)
        windows = _hierarchical_windows(base_win_size, hier_win_ratios)
        require(
            max(depths) <= len(windows),
            f"hier_win_ratios must have an entry for every block, got {len(windows)} for {max(depths)} blocks",
        )
        base = (base_win_size[0], base_win_size[1])
        groups = [
            ResidualGroup(
                embed_dim,
                [
                    self.block_type(embed_dim, heads, window, base, self.mlp_type(embed_dim, hidden))
                    for window in windows[:depth]
                ],
            )
            for depth, heads in zip(depths, num_heads, strict=True)
        ]
        super().__init__(upscale, in_chans, img_range, embed_dim, groups)


class HiT_SIR(HiTSR):  # noqa: N801, the published name
    """HiT-SIR: SwinIR's structure with hierarchical windows and correlation. Arguments are those of `HiTSR`."""


class HiT_SNG(HiTSR):  # noqa: N801, the published name
    """HiT-SNG: HiT-SIR with NGswin's context of neighbouring windows. Arguments are those of `HiTSR`."""

    block_type = NGramBlock


class HiT_SRF(HiTSR):  # noqa: N801, the published name
    """HiT-SRF: HiT-SIR with SRFormer's convolution in the feed-forward network. Arguments are those of `HiTSR`."""

    mlp_type = ConvMlp


def _require_positive(name: str, numbers: Sequence[float]) -> None:
    """Raise ValueError unless `numbers` is a list of at least one positive number."""
    valid = isinstance(numbers, list | tuple) and len(numbers) > 0 and all(number > 0 for number in numbers)
    require(valid, f"{name} must be a list of positive numbers, got {numbers!r}")


def _require_heads(num_heads: Sequence[int], groups: int, dim: int) -> None:
    """Raise ValueError unless there are valid numbers of heads for every group of a network with `dim` channels."""
    require(dim >= SMALLEST_DIM, f"embed_dim must be at least {SMALLEST_DIM}, got {dim}")
    _require_positive("num_heads", num_heads)
    require(
        len(num_heads) == groups,
        f"num_heads must be as long as depths, got {len(num_heads)} entries for {groups} groups",
    )
    require(
        all(dim % (2 * heads) == 0 for heads in num_heads),
        f"embed_dim must be divisible by twice each of num_heads, got embed_dim {dim} and num_heads {list(num_heads)}",
    )


def _hierarchical_windows(base: Sequence[int], ratios: Sequence[float]) -> list[tuple[int, int]]:
    """Compute the height and width of the window for every ratio, or raise ValueError."""
    _require_positive("base_win_size", base)
    require(len(base) == 2, f"base_win_size must have a height and a width, got {base!r}")
    _require_positive("hier_win_ratios", ratios)
    windows = [(int(base[0] * ratio), int(base[1] * ratio)) for ratio in ratios]
    for ratio, window in zip(ratios, windows, strict=True):
        require(
            all(side >= 1 and side % min(side, step) == 0 for side, step in zip(window, base, strict=True)),
            f"hier_win_ratios must be whole numbers or make windows of 1 to base_win_size, got {ratio} of {base}",
        )
    return windows
