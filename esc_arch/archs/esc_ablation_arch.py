"""ESC with parts taken away or exchanged, one at a time, as in the ablations of the paper."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from esc_arch.archs.esc_arch import ESC
from esc_arch.layers.arguments import require
from esc_arch.layers.attention import WindowAttention
from esc_arch.layers.block import ESCBlock
from esc_arch.layers.conv_attn import (
    DYNAMIC_SIZE,
    LargeKernel,
    PartialConvAttn,
    averaged_kernel,
    check_sizes,
    convolve,
    kernel_predictor,
    new_large_kernel,
)
from esc_arch.layers.norm import LayerNorm
from esc_arch.layers.upsample import nearest_skip

ATTENTIONS = ("first", "every", "none")


class ESCAblation(ESC):
    """ESC with other choices of what mixes pixels; with the defaults it is `ESC`, weight for weight.

    "Emulating Self-attention with Convolution for Efficient Image Super-Resolution" (ICCV 2025), ablations.

    Args:
        dim: this and all that is not listed as in `ESC`.
        attention: `first`, one self-attention at the head of a block, and ConvAttn behind it; `every`, self-attention
            of the normalised features in place of every ConvAttn; `none`, a ConvAttn in place of the self-attention.
        dynamic_kernel: every ConvAttn adds a 3x3 kernel that is computed from the image.
        shared_kernel: all ConvAttn have one large kernel in common; otherwise each has its own, averaged likewise.

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
        attention: str = "first",
        dynamic_kernel: bool = True,
        shared_kernel: bool = True,
    ) -> None:
        require(attention in ATTENTIONS, f"attention must be one of {', '.join(ATTENTIONS)}, got {attention!r}")
        require(attn_type != "FlashBias", "attn_type 'FlashBias' is none of the ablations")
        super().__init__(
            dim=dim,
            pdim=pdim,
            kernel_size=kernel_size,
            n_blocks=n_blocks,
            conv_blocks=conv_blocks,
            window_size=window_size,
            num_heads=num_heads,
            upscaling_factor=upscaling_factor,
            exp_ratio=exp_ratio,
            attn_type=attn_type,
            use_ln=use_ln,
        )

        block: dict[str, Any] = {"proj_ratio": 2, "exp_ratio": exp_ratio, "attn_type": attn_type, "use_ln": use_ln}
        block |= {"window_size": window_size, "num_heads": num_heads}

        def convolution() -> PartialConvAttn:
            return AblatedConvAttn(dim, pdim, kernel_size, dynamic_kernel, shared_kernel)

        def layer() -> nn.Module:
            return AttentionLayer(dim, window_size, num_heads, attn_type) if attention == "every" else convolution()

        if attention == "none":
            block["attention"] = convolution
            self.blocks = nn.ModuleList(
                ConvAttnBlock(dim, (convolution() for _ in range(conv_blocks)), **block) for _ in range(n_blocks)
            )
        elif attention == "every" or not (dynamic_kernel and shared_kernel):
            for own in self.blocks:
                own.pconvs = nn.ModuleList(layer() for _ in range(conv_blocks))
        self.has_shared = shared_kernel and attention != "every"
        if not self.has_shared:
            del self.plk_filter

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Enlarge images as `ESC.forward` does."""
        features = self.extract(x, averaged_kernel(self.plk_filter) if self.has_shared else None)
        image = self.to_img(features) + nearest_skip(x, self.upscaling_factor)  # (B, 3 * S * S, H, W)
        return F.pixel_shuffle(image, self.upscaling_factor)


class AblatedLargeKernel(nn.Module):
    """The convolution of ConvAttn on its P channels, of which parts may be missing or its own.

    Args:
        pdim: number of channels P, at least 2.
        kernel_size: side K of the large kernel, odd.
        dynamic: add the kernel that is computed from the image.
        shared: take the large kernel that is handed over; otherwise have one.
    """

    def __init__(self, pdim: int, kernel_size: int, dynamic: bool, shared: bool) -> None:
        super().__init__()
        require(pdim >= 2, f"pdim must be at least 2, got {pdim}")
        self.dwc_proj = kernel_predictor(pdim, pdim // 2) if dynamic else None
        self.plk_filter = None if shared else new_large_kernel(pdim, kernel_size)

    def forward(self, x: torch.Tensor, kernel: LargeKernel | None) -> torch.Tensor:
        """Convolve `x` (B, P, H, W), with `kernel` where it is shared, to the same shape."""
        if self.plk_filter is not None:
            kernel = averaged_kernel(self.plk_filter)
        assert kernel is not None
        if self.dwc_proj is None:
            return F.conv2d(x, kernel.weight.to(x.dtype), padding=kernel.weight.shape[-1] // 2)
        dynamic = self.dwc_proj(x).reshape(*x.shape[:2], DYNAMIC_SIZE, DYNAMIC_SIZE)
        return convolve(x, kernel, dynamic)


class AblatedConvAttn(PartialConvAttn):
    """ConvAttn, of whose convolution parts may be missing; arguments as of `ConvAttn` and `AblatedLargeKernel`."""

    def __init__(self, dim: int, pdim: int, kernel_size: int, dynamic: bool, shared: bool) -> None:
        check_sizes(dim, pdim, kernel_size, smallest=1)
        super().__init__(dim, AblatedLargeKernel(pdim, kernel_size, dynamic, shared), pdim)

    def forward(self, x: torch.Tensor, kernel: LargeKernel | None) -> torch.Tensor:
        """Apply it to `x` (B, C, H, W); the result has the same shape."""
        return self.mix(x, kernel)


class AttentionLayer(nn.Module):
    """Normalisation and self-attention where a block has a ConvAttn; arguments as of `WindowAttention`."""

    def __init__(self, dim: int, window_size: int, num_heads: int, attn_type: str) -> None:
        super().__init__()
        self.ln_attn = LayerNorm(dim)
        self.attn = WindowAttention(dim, window_size, num_heads, attn_type)

    def forward(self, x: torch.Tensor, kernel: None) -> torch.Tensor:
        """Attend within the windows of `x` (B, C, H, W); the result has the same shape."""
        return self.attn(self.ln_attn(x))


class ConvAttnBlock(ESCBlock):
    """A block with a ConvAttn where the attention was; arguments as of `ESCBlock`."""

    def forward(self, x: torch.Tensor, kernel: LargeKernel | None) -> torch.Tensor:
        """Process features (B, C, H, W); the result has the same shape."""
        skip = x
        x = self.proj(self.ln_proj(x))
        x = x + self.attn(self.ln_attn(x), kernel)
        for norm, ffn, convolution in zip(self.lns, self.convffns, self.pconvs, strict=True):
            x = x + convolution(ffn(norm(x)), kernel)
        return self.conv_out(self.ln_out(x)) + skip
