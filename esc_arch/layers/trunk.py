"""What all networks of the ESC family share: everything between the image and the upsampler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from esc_arch.layers.arguments import require, require_image
from esc_arch.layers.block import ESCBlock
from esc_arch.layers.conv_attn import PartialConvAttn
from esc_arch.layers.norm import LayerNorm
from esc_arch.layers.seam import replaceable


class ESCTrunk(nn.Module):
    """Shallow features, blocks that share one large kernel, and a last convolution with a long skip (ESC, Fig. 3).

    The networks have these arguments too, and in addition `pdim`, the channels P that each ConvAttn convolves, and
    `kernel_size`, the side of the large kernel, which is odd.

    Args:
        dim: number of channels C.
        convolution: makes a ConvAttn without a kernel of its own.
        n_blocks: number of blocks, each with one self-attention.
        conv_blocks: number of ConvAttn in a block.
        window_size: side of an attention window.
        num_heads: heads of the attention, a divisor of C.
        proj_ratio: expansion of the ConvFFN before the attention.
        exp_ratio: expansion of the ConvFFN before each ConvAttn.
        attn_type: attention back-end, one of `esc_arch.layers.backend.ATTN_TYPES`; all compute the same function.
        use_ln: normalise the input of the ConvFFN before each ConvAttn.
        attention: makes an attention, in place of one with a table of relative positions.
        channels: of the input; more than 3 where the image was pixel-unshuffled.
        normalise_last: normalise before the last convolution.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        dim: int,
        convolution: Callable[[], PartialConvAttn],
        *,
        n_blocks: int,
        conv_blocks: int,
        channels: int = 3,
        normalise_last: bool = False,
        **block: Any,
    ) -> None:
        super().__init__()
        require(dim >= 1, f"dim must be positive, got {dim}")
        require(n_blocks >= 1, f"n_blocks must be positive, got {n_blocks}")
        require(conv_blocks >= 0, f"conv_blocks must not be negative, got {conv_blocks}")
        self.channels = channels
        self.proj: nn.Module = nn.Conv2d(channels, dim, 3, padding=1)
        self.blocks = nn.ModuleList(
            ESCBlock(dim, [convolution() for _ in range(conv_blocks)], **block) for _ in range(n_blocks)
        )
        self.ln_last = LayerNorm(dim) if normalise_last else nn.Identity()
        self.last: nn.Module = nn.Conv2d(dim, dim, 3, padding=1)

    @replaceable
    def extract(self, x: torch.Tensor, kernel: Any) -> torch.Tensor:
        """Compute features of images.

        Args:
            x: LQ images (B, channels, H, W).
            kernel: the shared large kernel, in the form that the ConvAttn modules take.

        Returns:
            (B, C, H, W).

        Raises:
            ValueError: `x` has another shape.
        """
        require_image(x, self.channels)
        features = skip = self.proj(x)  # (B, C, H, W)
        for block in self.blocks:
            features = block(features, kernel)
        return self.last(self.ln_last(features)) + skip
