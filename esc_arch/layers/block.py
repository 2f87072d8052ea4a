"""The block that all networks of the ESC family are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from esc_arch.layers.attention import WindowAttention
from esc_arch.layers.conv_attn import PartialConvAttn
from esc_arch.layers.ffn import ConvFFN
from esc_arch.layers.norm import LayerNorm
from esc_arch.layers.seam import replaceable


class ESCBlock(nn.Module):
    """One window self-attention followed by many ConvAttn that emulate it (ESC, Fig. 3).

    Args:
        dim: number of channels C.
        convolutions: the ConvAttn modules, called as `module(x, kernel)`.
        window_size: this and the following as in `esc_arch.layers.trunk.ESCTrunk`.
        attention: makes the attention, in place of one with a table of relative positions.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        dim: int,
        convolutions: Iterable[PartialConvAttn],
        *,
        window_size: int,
        num_heads: int,
        proj_ratio: float,
        exp_ratio: float,
        attn_type: str,
        use_ln: bool,
        attention: Callable[[], WindowAttention] | None = None,
    ) -> None:
        super().__init__()
        self.ln_proj = LayerNorm(dim)
        self.proj = ConvFFN(dim, proj_ratio)
        self.ln_attn = LayerNorm(dim)
        self.attn = attention() if attention else WindowAttention(dim, window_size, num_heads, attn_type)
        self.pconvs = nn.ModuleList(convolutions)
        normalise: Callable[[], nn.Module] = (lambda: LayerNorm(dim)) if use_ln else nn.Identity
        self.lns = nn.ModuleList(normalise() for _ in self.pconvs)
        self.convffns = nn.ModuleList(ConvFFN(dim, exp_ratio) for _ in self.pconvs)
        self.ln_out = LayerNorm(dim)
        self.conv_out = nn.Conv2d(dim, dim, 3, padding=1)

    @replaceable
    def forward(self, x: torch.Tensor, kernel: Any) -> torch.Tensor:
        """Process features.

        Args:
            x: (B, C, H, W).
            kernel: the shared large kernel, in the form that the ConvAttn modules take.

        Returns:
            (B, C, H, W).
        """
        skip = x
        x = self.proj(self.ln_proj(x))
        x = x + self.attn(self.ln_attn(x))
        for norm, ffn, convolution in zip(self.lns, self.convffns, self.pconvs, strict=True):
            x = x + convolution(ffn(norm(x)), kernel)
        return self.conv_out(self.ln_out(x)) + skip
