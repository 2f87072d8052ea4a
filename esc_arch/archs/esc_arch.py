"""ESC, ESC-light and ESC-XL: one network, told apart by its arguments."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from esc_arch.common.hub import OnHub
from esc_arch.layers.conv_attn import ConvAttn, averaged_kernel, new_large_kernel
from esc_arch.layers.flash_bias import factored_attention
from esc_arch.layers.trunk import ESCTrunk
from esc_arch.layers.upsample import SubPixelConv, nearest_skip


class ESC(ESCTrunk, OnHub):
    """Super-resolution network that emulates self-attention with convolution.

    "Emulating Self-attention with Convolution for Efficient Image Super-Resolution" (ICCV 2025). Arguments, parameter
    names and shapes are those of the published checkpoints, which load strictly; a checkpoint of another scale loads
    too, its sub-pixel convolution is converted. The defaults are the paper's ESC. ESC-light has `n_blocks=3`; ESC-XL
    `dim=192, pdim=48, n_blocks=8, window_size=48, num_heads=12, use_ln=True`.

    Args:
        dim: this and all that is not listed as in `esc_arch.layers.trunk.ESCTrunk`.
        upscaling_factor: scale S, at least 1.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        dim: int = 64,
        pdim: int = 16,
        kernel_size: int = 13,
        n_blocks: int = 5,
        conv_blocks: int = 5,
        window_size: int = 32,
        num_heads: int = 4,
        upscaling_factor: int = 2,
        exp_ratio: float = 1.25,
        attn_type: str = "auto",
        use_ln: bool = False,
        flashbias_rank: int | None = None,
    ) -> None:
        super().__init__(
            dim,
            lambda: ConvAttn(dim, pdim, kernel_size, owns_kernel=False),
            n_blocks=n_blocks,
            conv_blocks=conv_blocks,
            window_size=window_size,
            num_heads=num_heads,
            proj_ratio=2,
            exp_ratio=exp_ratio,
            attn_type=attn_type,
            use_ln=use_ln,
            attention=factored_attention(attn_type, flashbias_rank, dim, window_size, num_heads),
        )
        self.upscaling_factor = upscaling_factor
        self.plk_filter = new_large_kernel(pdim, kernel_size)
        self.to_img = SubPixelConv(dim, upscaling_factor)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Enlarge images.

        Args:
            x: LQ images (B, 3, H, W), RGB in [0, 1]; any H, W >= 1.

        Returns:
            (B, 3, S * H, S * W), not clamped.

        Raises:
            ValueError: `x` has another shape.
        """
        features = self.extract(x, averaged_kernel(self.plk_filter))
        image = self.to_img(features) + nearest_skip(x, self.upscaling_factor)  # (B, 3 * S * S, H, W)
        return F.pixel_shuffle(image, self.upscaling_factor)
