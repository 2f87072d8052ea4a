"""ESC-FP: ESC with fewer FLOPs and parameters."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from esc_arch.common.hub import OnHub
from esc_arch.layers.decomposed_conv_attn import DecomposedConvAttn, new_decomposed_kernel
from esc_arch.layers.trunk import ESCTrunk
from esc_arch.layers.upsample import SubPixelConv


class ESCFP(ESCTrunk, OnHub):
    """ESC with a decomposed large kernel, for fewer FLOPs and parameters (ESC-FP in the paper).

    It differs from ESC in the kernel (1x1, then depthwise), a smaller ConvFFN before the attention, normalisation
    before every ConvFFN and before the last convolution, and a bicubic instead of a nearest global skip. Parameter
    names and shapes are those of the published checkpoints; other scales are converted on loading.

    Args:
        dim: this and all that is not listed as in `esc_arch.layers.trunk.ESCTrunk`.
        pdim: 4 <= P <= C.
        kernel_size: at least 3.
        upscaling_factor: scale S, at least 1.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        dim: int = 48,
        pdim: int = 16,
        kernel_size: int = 13,
        n_blocks: int = 5,
        conv_blocks: int = 5,
        window_size: int = 32,
        num_heads: int = 3,
        upscaling_factor: int = 2,
        exp_ratio: float = 1.25,
        attn_type: str = "auto",
    ) -> None:
        super().__init__(
            dim,
            lambda: DecomposedConvAttn(dim, pdim, kernel_size, owns_kernel=False),
            n_blocks=n_blocks,
            conv_blocks=conv_blocks,
            normalise_last=True,
            window_size=window_size,
            num_heads=num_heads,
            proj_ratio=1.5,
            exp_ratio=exp_ratio,
            attn_type=attn_type,
            use_ln=True,
        )
        self.upscaling_factor = upscaling_factor
        self.lk_channel, self.lk_spatial = new_decomposed_kernel(pdim, kernel_size)
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
        features = self.extract(x, (self.lk_channel, self.lk_spatial))
        image = F.pixel_shuffle(self.to_img(features), self.upscaling_factor)  # (B, 3, S * H, S * W)
        return image + F.interpolate(x, scale_factor=self.upscaling_factor, mode="bicubic", align_corners=False)
