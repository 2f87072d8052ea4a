"""CATANet, attention among pixels that look alike, for comparison with ESC."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from esc_arch.archs.swin_frame import start_linear_layers
from esc_arch.common.hub import OnHub
from esc_arch.layers.arguments import require, require_image
from esc_arch.layers.overlapping_attention import OVERLAP, LocalRegionAttention
from esc_arch.layers.token_aggregation import TokenAggregationBlock
from esc_arch.layers.window import pad_to_multiple


class CATANet(nn.Module, OnHub):
    """Content-aware token aggregation ("CATANet", CVPR 2025).

    Arguments, parameter names and shapes are those of the published checkpoints, which load strictly. What the
    published code keeps in a class attribute, from `dim` on, are arguments here. Images of which a side is smaller than
    the largest patch are padded by reflection. Pixels attend across the whole image, so tiles change the result.

    Args:
        in_chans: channels of an image.
        n_iters: steps of k-means in a training step, for every block.
        num_tokens: number of token centres of every block.
        group_size: most tokens that attend to each other, for every block.
        upscale: scale S: 1, 2, 3 or 4.
        dim: number of channels C, a multiple of the heads.
        block_num: number of blocks.
        qk_dim: channels of queries and keys, a multiple of the heads.
        mlp_dim: hidden channels of the feed-forward networks.
        heads: heads of all attentions.
        patch_size: side of the overlapping patches, for every block.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        in_chans: int = 3,
        n_iters: Sequence[int] = (5,) * 8,
        num_tokens: Sequence[int] = (16, 32, 64, 128) * 2,
        group_size: Sequence[int] = (256, 128, 64, 32) * 2,
        upscale: int = 4,
        dim: int = 40,
        block_num: int = 8,
        qk_dim: int = 36,
        mlp_dim: int = 96,
        heads: int = 4,
        patch_size: Sequence[int] = (16, 20, 24, 28) * 2,
    ) -> None:
        super().__init__()
        require(upscale in (1, 2, 3, 4), f"upscale must be 1, 2, 3 or 4, got {upscale}")
        for name, number in (("in_chans", in_chans), ("block_num", block_num), ("mlp_dim", mlp_dim), ("heads", heads)):
            require(number >= 1, f"{name} must be positive, got {number}")
        for name, number in (("dim", dim), ("qk_dim", qk_dim)):
            require(number >= 1 and number % heads == 0, f"{name} must be a multiple of heads ({heads}), got {number}")
        lists = {"n_iters": n_iters, "num_tokens": num_tokens, "group_size": group_size, "patch_size": patch_size}
        for name, numbers in lists.items():
            least = OVERLAP + 1 if name == "patch_size" else 1
            require(
                len(numbers) == block_num and min(numbers) >= least,
                f"{name} must hold {block_num} numbers of at least {least}, one for every block, got {numbers!r}",
            )
        self.in_chans = in_chans
        self.upscale = upscale
        self.smallest = max(patch_size)
        self.first_conv = nn.Conv2d(in_chans, dim, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                TokenAggregationBlock(dim, qk_dim, mlp_dim, heads, steps, tokens, size),
                LocalRegionAttention(dim, qk_dim, mlp_dim, heads, patch),
            )
            for steps, tokens, size, patch in zip(n_iters, num_tokens, group_size, patch_size, strict=True)
        )
        self.mid_convs = nn.ModuleList(nn.Conv2d(dim, dim, 3, padding=1) for _ in range(block_num))
        if upscale == 4:
            self.upconv1 = nn.Conv2d(dim, 4 * dim, 3, padding=1)
            self.upconv2 = nn.Conv2d(dim, 4 * dim, 3, padding=1)
        elif upscale > 1:
            self.upconv = nn.Conv2d(dim, dim * upscale**2, 3, padding=1)
        self.last_conv = nn.Conv2d(dim, in_chans, 3, padding=1)
        start_linear_layers(self)

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
        height, width = x.shape[2:]
        if min(height, width) < self.smallest:
            x = pad_to_multiple(x, self.smallest)[..., : max(height, self.smallest), : max(width, self.smallest)]
        base = F.interpolate(x, scale_factor=self.upscale, mode="bilinear", align_corners=False)
        features = shallow = self.first_conv(x)  # (B, C, H, W)
        for block, convolution in zip(self.blocks, self.mid_convs, strict=True):
            features = features + convolution(block(features))
        features = features + shallow
        if self.upscale == 4:
            features = F.leaky_relu(F.pixel_shuffle(self.upconv1(features), 2), 0.1)
            features = F.leaky_relu(F.pixel_shuffle(self.upconv2(features), 2), 0.1)
        elif self.upscale > 1:
            features = F.leaky_relu(F.pixel_shuffle(self.upconv(features), self.upscale), 0.1)
        image = self.last_conv(features) + base
        return image[..., : height * self.upscale, : width * self.upscale]
