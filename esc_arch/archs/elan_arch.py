"""ELAN, a network of long-range window attention, to compare with."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from esc_arch.common.hub import OnHub
from esc_arch.layers.arguments import require, require_image
from esc_arch.layers.constants import WithConstants
from esc_arch.layers.window import pad_to_multiple, window_merge

RGB_MEAN = (0.4488, 0.4371, 0.4040)  # of DIV2K


class Shift(nn.Module):
    """Shifts fifths of the channels by one pixel to four sides, then mixes the channels (ELAN, Sec. 3.2).

    The shift is a depthwise convolution with a fixed kernel. The kernel is a parameter that is not trained, because
    published checkpoints hold it and published counts of parameters include it.

    Args:
        in_channels: number of channels before.
        out_channels: and after.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        # (row, column) of the one in each group's kernel: from the right, the left, below, above, and the pixel itself
        taps = [(1, 2), (1, 0), (2, 1), (0, 1), (1, 1)]
        fifth = in_channels // 5
        kernel = torch.zeros(in_channels, 1, 3, 3)
        for group, (row, column) in enumerate(taps):
            end = in_channels if group == 4 else (group + 1) * fifth
            kernel[group * fifth : end, 0, row, column] = 1
        self.weight = nn.Parameter(kernel, requires_grad=False)
        self.conv1x1 = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `x` (B, in_channels, H, W) to (B, out_channels, H, W); zeros move in from outside."""
        return self.conv1x1(F.conv2d(x, self.weight, padding=1, groups=x.shape[1]))


class ShiftConv(nn.Module):
    """Holds a `Shift` under the name it has in published checkpoints."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.shift_conv = Shift(in_channels, out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `x` (B, in_channels, H, W) to (B, out_channels, H, W)."""
        return self.shift_conv(x)


class LocalFeatureExtraction(nn.Module):
    """Two shift convolutions with a ReLU between.

    Args:
        dim: number of channels C.
        r_expand: expansion of the hidden channels.
    """

    def __init__(self, dim: int, r_expand: int) -> None:
        super().__init__()
        self.conv0 = ShiftConv(dim, dim * r_expand)
        self.conv1 = ShiftConv(dim * r_expand, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `x` (B, C, H, W) to a tensor of the same shape."""
        return self.conv1(F.relu(self.conv0(x)))


class GroupwiseAttention(nn.Module):
    """Self-attention within windows, of another size for each part of the channels (GMSA; ELAN, Sec. 3.3).

    Queries serve as keys, and scores are not scaled. The module either computes the attention maps or is given those
    of the layer before, and then needs values alone.

    Args:
        dim: number of channels C, a multiple of the number of windows.
        window_sizes: side of the windows of each part.
        shifts: whether the windows are shifted by half, cyclically.
        computes_maps: whether attention maps are computed here.
    """

    def __init__(self, dim: int, window_sizes: Sequence[int], shifts: bool, computes_maps: bool) -> None:
        super().__init__()
        self.window_sizes, self.shifts, self.computes_maps = tuple(window_sizes), shifts, computes_maps
        inner = 2 * dim if computes_maps else dim
        self.project_inp = nn.Sequential(nn.Conv2d(dim, inner, 1), nn.BatchNorm2d(inner))
        self.project_out = nn.Conv2d(dim, dim, 1)

    def forward(
        self, x: torch.Tensor, maps: Sequence[torch.Tensor | None]
    ) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
        """Attend within the windows.

        Args:
            x: (B, C, H, W), sides multiples of all windows.
            maps: for each window size w, the attention (windows, w * w, w * w); unused where it is computed.

        Returns:
            (B, C, H, W) and the attention maps.
        """
        parts = self.project_inp(x).chunk(len(self.window_sizes), dim=1)
        attended = [self._attend(*arguments) for arguments in zip(parts, self.window_sizes, maps, strict=True)]
        return self.project_out(torch.cat([part for part, _ in attended], dim=1)), [weights for _, weights in attended]

    def _attend(self, x: torch.Tensor, w: int, weights: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        height, width = x.shape[2:]
        if self.shifts:
            x = x.roll((-w // 2, -w // 2), dims=(2, 3))  # an odd w moves one pixel further than it comes back
        x = x.reshape(*x.shape[:2], height // w, w, width // w, w).permute(0, 2, 4, 3, 5, 1)
        tokens = x.flatten(3, 4).flatten(0, 2)  # (windows, w * w, channels)
        if self.computes_maps:
            q, tokens = tokens.chunk(2, dim=-1)
            weights = (q @ q.transpose(1, 2)).softmax(dim=-1)  # (windows, w * w, w * w)
        assert weights is not None
        x = window_merge((weights.to(tokens.dtype) @ tokens).unsqueeze(1), w, height, width)
        return (x.roll((w // 2, w // 2), dims=(2, 3)) if self.shifts else x), weights


class ELANBlock(nn.Module):
    """Pairs of local feature extraction and attention; the first attention shares its maps with the others (ELAB).

    Args:
        dim: number of channels C.
        r_expand: expansion of the local feature extraction.
        window_sizes: windows of the attention.
        n_share: pairs after the first.
        shifts: whether the windows are shifted.
    """

    def __init__(self, dim: int, r_expand: int, window_sizes: Sequence[int], n_share: int, shifts: bool) -> None:
        super().__init__()
        pairs = range(1 + n_share)
        self.modules_lfe = nn.ModuleDict({f"lfe_{k}": LocalFeatureExtraction(dim, r_expand) for k in pairs})
        self.modules_gmsa = nn.ModuleDict(
            {f"gmsa_{k}": GroupwiseAttention(dim, window_sizes, shifts, computes_maps=k == 0) for k in pairs}
        )
        self.parts = len(window_sizes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Process features `x` (B, C, H, W), sides multiples of all windows; the result has the same shape."""
        maps: list[torch.Tensor | None] = [None] * self.parts
        for lfe, gmsa in zip(self.modules_lfe.values(), self.modules_gmsa.values(), strict=True):
            x = x + lfe(x)
            attended, maps = gmsa(x, maps)
            x = x + attended
        return x


class ELAN(WithConstants, OnHub):
    """Super-resolution network of shift convolutions and attention in windows of several sizes.

    "Efficient Long-Range Attention Network for Image Super-Resolution" (ECCV 2022). Arguments, parameter names and
    shapes are those of the published checkpoints, which load strictly. The defaults are ELAN-light. Batch norm makes
    training differ from evaluation.

    The published checkpoints were trained on images in [0, 255]. For images in [0, 1], as BasicSR has them, multiply
    `head.0.weight` by 255 and divide `tail.0.weight` and `tail.0.bias` by 255; what is computed stays the same.

    Args:
        scale: upscaling factor S, at least 1.
        colors: image channels.
        rgb_range: largest value of an image, only used by `norm`.
        norm: subtract the mean colour of DIV2K in the network; needs three channels.
        window_sizes: sides of the windows, one for each part of the channels.
        m_elan: layers, a multiple of 1 + n_share.
        c_elan: number of channels C, a multiple of the number of windows.
        n_share: layers that use the attention of the one before.
        r_expand: expansion of the local feature extraction.

    Raises:
        ValueError: an argument is out of range.
    """

    mean: torch.Tensor

    def __init__(
        self,
        scale: int = 2,
        colors: int = 3,
        rgb_range: float = 255,
        norm: bool = False,
        window_sizes: Sequence[int] = (4, 8, 16),
        m_elan: int = 24,
        c_elan: int = 60,
        n_share: int = 1,
        r_expand: int = 2,
    ) -> None:
        super().__init__()
        require(scale >= 1 and scale == int(scale), f"scale must be a whole number of at least 1, got {scale}")
        require(colors >= 1, f"colors must be positive, got {colors}")
        require(rgb_range > 0, f"rgb_range must be positive, got {rgb_range}")
        require(colors == 3 or not norm, f"norm needs 3 colors, got {colors}")
        whole = len(window_sizes) >= 1 and all(w >= 1 and w == int(w) for w in window_sizes)
        require(whole, f"window_sizes must be positive whole numbers, got {window_sizes}")
        require(n_share >= 0, f"n_share must not be negative, got {n_share}")
        require(r_expand >= 1, f"r_expand must be positive, got {r_expand}")
        require(
            m_elan >= 1 and m_elan % (1 + n_share) == 0,
            f"m_elan must be a positive multiple of 1 + n_share, got m_elan {m_elan} and n_share {n_share}",
        )
        require(
            c_elan >= 1 and c_elan % len(window_sizes) == 0,
            f"c_elan must be a positive multiple of the {len(window_sizes)} window_sizes, got {c_elan}",
        )
        self.colors = colors
        self.upscaling_factor = scale
        self.multiple = math.lcm(*window_sizes)
        self.rgb_range = rgb_range
        self.mean_colour = RGB_MEAN if norm else (0.0,) * colors  # as a part of the range
        self.add_constants()
        self.head = nn.Sequential(nn.Conv2d(colors, c_elan, 3, padding=1))
        self.body = nn.Sequential(
            *(
                ELANBlock(c_elan, r_expand, window_sizes, n_share, shifts=i % 2 == 1)
                for i in range(m_elan // (1 + n_share))
            )
        )
        self.tail = nn.Sequential(nn.Conv2d(c_elan, colors * scale**2, 3, padding=1), nn.PixelShuffle(scale))

    def constants(self) -> dict[str, torch.Tensor]:
        """Compute the mean colour that is subtracted, (colors, 1, 1)."""
        return {"mean": (torch.tensor(self.mean_colour) * self.rgb_range).reshape(-1, 1, 1)}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Enlarge images.

        Args:
            x: LQ images (B, colors, H, W), RGB in the range that the weights were trained with; any H, W >= 1.

        Returns:
            (B, colors, S * H, S * W), not clamped.

        Raises:
            ValueError: `x` has another shape.
        """
        require_image(x, self.colors)
        height, width = (side * self.upscaling_factor for side in x.shape[2:])
        features = self.head(pad_to_multiple(x, self.multiple) - self.mean)  # (B, C, H', W')
        x = self.tail(self.body(features) + features) + self.mean  # (B, colors, S * H', S * W')
        return x[..., :height, :width]
