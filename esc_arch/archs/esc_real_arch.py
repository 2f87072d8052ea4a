"""ESC-Real: ESC for photographs with unknown degradations, at scale 4 or at scales 1 to 4."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from esc_arch.layers.arguments import require, require_image
from esc_arch.layers.conv_attn import ConvAttn, averaged_kernel, new_large_kernel
from esc_arch.layers.dysample import DySample
from esc_arch.layers.reflect import ReflectConv2d
from esc_arch.layers.trunk import ESCTrunk
from esc_arch.layers.upsample_head import UPSAMPLERS, UpsampleHead, nearest_conv_x4
from esc_arch.layers.window import pad_to_multiple


class ESCRealTrunk(ESCTrunk):
    """The trunk of the real-world networks: that of ESC, normalised, plus a branch from the image.

    Args:
        channels: of the input.
        dim: number of channels C.
        pdim: channels P that each ConvAttn convolves, 2 <= P <= C.
        kernel_size: side of the large kernel, odd.
        n_blocks: number of blocks, each with one self-attention.
        conv_blocks: number of ConvAttn in a block.
        window_size: side of an attention window.
        num_heads: heads of the attention, a divisor of C.
        exp_ratio: expansion of the ConvFFN before each ConvAttn.
        attn_type: attention back-end.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        channels: int,
        dim: int,
        pdim: int,
        kernel_size: int,
        n_blocks: int,
        conv_blocks: int,
        window_size: int,
        num_heads: int,
        exp_ratio: float,
        attn_type: str,
    ) -> None:
        super().__init__(
            dim,
            lambda: ConvAttn(dim, pdim, kernel_size, owns_kernel=False),
            n_blocks=n_blocks,
            conv_blocks=conv_blocks,
            channels=channels,
            window_size=window_size,
            num_heads=num_heads,
            proj_ratio=2,
            exp_ratio=exp_ratio,
            attn_type=attn_type,
            use_ln=True,
        )
        self.plk_filter = new_large_kernel(pdim, kernel_size)
        self.skip = nn.Sequential(
            nn.Conv2d(channels, 2 * dim, 1),
            ReflectConv2d(2 * dim, 2 * dim, 7, groups=2 * dim),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * dim, dim, 1),
        )

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the features (B, C, H, W) of `x` (B, channels, H, W)."""
        return self.extract(x, averaged_kernel(self.plk_filter)) + self.skip(x)


class ESCReal(ESCRealTrunk):
    """Real-world super-resolution at scale 4 (ESC-Real in the paper, Sec. 4.3).

    Arguments, parameter names and shapes are those of the published checkpoints, which load strictly.

    Args:
        dim: number of channels C; a multiple of 4 with DySample.
        pdim: channels P that each ConvAttn convolves, 2 <= P <= C.
        kernel_size: side of the large kernel, odd.
        n_blocks: number of blocks, each with one self-attention.
        conv_blocks: number of ConvAttn in a block.
        window_size: side of an attention window.
        num_heads: heads of the attention, a divisor of C.
        upscaling_factor: 4, the only scale.
        exp_ratio: expansion of the ConvFFN before each ConvAttn.
        attn_type: attention back-end: "auto", "Naive", "SDPA" or "Flex"; all compute the same function.
        use_dysample: enlarge by DySample instead of twice nearest neighbours and a convolution.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        dim: int = 64,
        pdim: int = 16,
        kernel_size: int = 13,
        n_blocks: int = 10,
        conv_blocks: int = 5,
        window_size: int = 32,
        num_heads: int = 4,
        upscaling_factor: int = 4,
        exp_ratio: float = 2,
        attn_type: str = "auto",
        use_dysample: bool = False,
    ) -> None:
        require(
            upscaling_factor == 4,
            f"upscaling_factor of ESCReal must be 4, got {upscaling_factor}; ESCRealM has other scales",
        )
        super().__init__(3, dim, pdim, kernel_size, n_blocks, conv_blocks, window_size, num_heads, exp_ratio, attn_type)
        self.upscaling_factor = upscaling_factor
        self.to_img = DySample(dim, 3, 4) if use_dysample else nearest_conv_x4(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Enlarge images.

        Args:
            x: LQ images (B, 3, H, W), RGB in [0, 1]; any H, W >= 1.

        Returns:
            (B, 3, 4 * H, 4 * W), not clamped.

        Raises:
            ValueError: `x` has another shape.
        """
        return self.to_img(self.features(x))


class ESCRealM(ESCRealTrunk):
    """Real-world super-resolution and restoration at scales 1 to 4, with a choice of upsamplers.

    At scales 1 and 2 the image is pixel-unshuffled by 4 or 2 first, and the network enlarges by 4: it then sees a
    larger part of the image at the cost of x4. Only "conv", which cannot enlarge, works at full size, at scale 1.

    Args:
        dim: number of channels C; a multiple of 4 with "dysample".
        pdim: channels P that each ConvAttn convolves, 2 <= P <= C.
        kernel_size: side of the large kernel, odd.
        n_blocks: number of blocks, each with one self-attention.
        conv_blocks: number of ConvAttn in a block.
        window_size: side of an attention window.
        num_heads: heads of the attention, a divisor of C.
        upscaling_factor: scale S, 1 to 4.
        exp_ratio: expansion of the ConvFFN before each ConvAttn.
        attn_type: attention back-end: "auto", "Naive", "SDPA" or "Flex"; all compute the same function.
        upsampler: "nearest+conv", "pixelshuffle", "pixelshuffledirect", "dysample", or "conv" (scale 1).
        mid_dim: channels of the convolutions of "pixelshuffle".

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        dim: int = 64,
        pdim: int = 16,
        kernel_size: int = 13,
        n_blocks: int = 10,
        conv_blocks: int = 5,
        window_size: int = 32,
        num_heads: int = 4,
        upscaling_factor: int = 4,
        exp_ratio: float = 2,
        attn_type: str = "auto",
        upsampler: str = "nearest+conv",
        mid_dim: int = 64,
    ) -> None:
        require(upscaling_factor in (1, 2, 3, 4), f"upscaling_factor must be 1, 2, 3 or 4, got {upscaling_factor}")
        require(upsampler in UPSAMPLERS, f"upsampler must be one of {', '.join(UPSAMPLERS)}, got {upsampler!r}")
        enlarges = upsampler != "conv"
        require(
            enlarges or upscaling_factor == 1,
            f"upsampler 'conv' does not enlarge: it needs upscaling_factor 1, got {upscaling_factor}",
        )
        unshuffle = 4 // upscaling_factor if enlarges and upscaling_factor < 3 else 1
        super().__init__(
            3 * unshuffle**2,
            dim,
            pdim,
            kernel_size,
            n_blocks,
            conv_blocks,
            window_size,
            num_heads,
            exp_ratio,
            attn_type,
        )
        self.upscaling_factor = upscaling_factor
        self.unshuffle = unshuffle
        self.to_img = UpsampleHead(upsampler, dim, upscaling_factor * unshuffle, mid_dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Enlarge images.

        Args:
            x: LQ images (B, 3, H, W), RGB in [0, 1]; any H, W >= 1.

        Returns:
            (B, 3, S * H, S * W), not clamped.

        Raises:
            ValueError: `x` has another shape.
        """
        require_image(x, 3)
        height, width = (side * self.upscaling_factor for side in x.shape[2:])
        x = pad_to_multiple(x, self.unshuffle)
        x = self.to_img(self.features(F.pixel_unshuffle(x, self.unshuffle)))
        return x[..., :height, :width]
