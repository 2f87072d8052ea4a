"""ESC-RIB: ESC with larger windows, whose position bias is implicit and of low rank."""

from __future__ import annotations

import torch
from torch import nn

from esc_arch.common.hub import OnHub
from esc_arch.layers.arguments import require, require_image, require_scale
from esc_arch.layers.attention import WindowAttention
from esc_arch.layers.backend import ATTN_TYPES
from esc_arch.layers.conv_attn import ConvAttn, averaged_kernel, new_large_kernel
from esc_arch.layers.flash_bias import FlashBiasAttention
from esc_arch.layers.implicit_bias import ImplicitBiasAttention, PlainAttention, new_gate
from esc_arch.layers.norm import LayerNorm
from esc_arch.layers.rib_upsampler import RIBUpsampler
from esc_arch.layers.trunk import ESCTrunk

POSITIONS = ("RIB", "RIBSiren", "FlashBias", "NoPE")


class ESCRIB(ESCTrunk, OnHub):
    """ESC with a rank-factorised implicit bias and a gated attention, the authors' successor of ESC.

    "Rank-factorized Implicit Neural Bias" (arXiv 2603.06738). Arguments, parameter names and shapes are those of the
    published checkpoints, which load strictly; a checkpoint of another scale loads too. No weight depends on the
    window: it must be the one of training, 64 for the published ones. The published network computes attention in
    bf16 always; here the dtype is the caller's choice. The defaults are the published network.

    Args:
        dim: number of channels C.
        pdim: channels P that each ConvAttn convolves, 2 <= P <= C.
        kernel_size: side of the large kernel, odd.
        n_blocks: number of blocks, each with one self-attention.
        conv_blocks: number of ConvAttn in a block.
        window_size: side of an attention window.
        num_heads: heads of the attention, a divisor of C.
        upscaling_factor: scale S, at least 1.
        exp_ratio: expansion of the ConvFFN before each ConvAttn.
        attn_type: positions: "RIB"; "RIBSiren", with sines in place of its features; "FlashBias", free factors; "NoPE",
            none; or, with a table of relative positions, a back-end: "auto", "Naive", "SDPA" or "Flex". The back-end of
            the others is chosen by `esc_arch.layers.attention.set_backend`.
        use_ln: normalise the input of the ConvFFN before each ConvAttn.
        flashbias_rank: rank of "FlashBias", and of "RIB" where `rank` is None.
        rank: R of "RIB" and "RIBSiren"; None for `flashbias_rank`, or else for 256 - C / heads.
        rib_hidden_dim: features G of their hidden layer.
        rib_n_freqs: octaves F of the features of "RIB".
        gate_type: "DWC", "Linear" or None: what multiplies the result of the attention.
        upsampler_type: "pixelshuffle_direct", "pixelshuffle" or "nn+conv".
        intermediate_dim: channels of the last two.

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
        window_size: int = 64,
        num_heads: int = 4,
        upscaling_factor: int = 2,
        exp_ratio: float = 1.25,
        attn_type: str = "RIB",
        use_ln: bool = False,
        flashbias_rank: int | None = None,
        rank: int | None = 16,
        rib_hidden_dim: int = 32,
        rib_n_freqs: int = 10,
        gate_type: str | None = "DWC",
        upsampler_type: str = "pixelshuffle_direct",
        intermediate_dim: int = 64,
    ) -> None:
        require_scale(upscaling_factor)
        require(attn_type != "RoPEViT", "attn_type 'RoPEViT' is not here, no published weights have it: take 'RIB'")
        known = ", ".join((*POSITIONS, *ATTN_TYPES))
        require(attn_type in (*POSITIONS, *ATTN_TYPES), f"attn_type must be one of {known}, got {attn_type!r}")

        def attention() -> WindowAttention:
            if attn_type in ("RIB", "RIBSiren"):
                made: WindowAttention = ImplicitBiasAttention(
                    dim,
                    window_size,
                    num_heads,
                    flashbias_rank if rank is None else rank,
                    rib_hidden_dim,
                    rib_n_freqs,
                    attn_type == "RIBSiren",
                )
            elif attn_type == "FlashBias":
                made = FlashBiasAttention(dim, window_size, num_heads, flashbias_rank, scaled=True)
            elif attn_type == "NoPE":
                made = PlainAttention(dim, window_size, num_heads)
            else:
                made = WindowAttention(dim, window_size, num_heads, attn_type)
            made.gate = new_gate(dim, gate_type)
            return made

        super().__init__(
            dim,
            lambda: ConvAttn(dim, pdim, kernel_size, owns_kernel=False),
            n_blocks=n_blocks,
            conv_blocks=conv_blocks,
            window_size=window_size,
            num_heads=num_heads,
            proj_ratio=4,
            exp_ratio=exp_ratio,
            attn_type=attn_type,
            use_ln=use_ln,
            attention=attention,
        )
        self.window_size = window_size
        self.upscaling_factor = int(upscaling_factor)
        self.plk_filter = new_large_kernel(pdim, kernel_size)
        self.last = nn.Sequential(LayerNorm(dim), self.last)
        self.upsampler = RIBUpsampler(dim, self.upscaling_factor, upsampler_type, intermediate_dim)

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
        return self.upsampler(self.extract(x, averaged_kernel(self.plk_filter)), x)
