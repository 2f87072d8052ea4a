"""The block that all networks of the ESC family are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from esc_arch.fast.steps import attention_step, conv_attn_step, conv_out_step, ffn_step, may_bypass
from esc_arch.layers.attention import WindowAttention
from esc_arch.layers.conv_attn import PartialConvAttn
from esc_arch.layers.ffn import ConvFFN
from esc_arch.layers.norm import LayerNorm


class ESCBlock(nn.Module):
    """One window self-attention followed by many ConvAttn that emulate it (ESC, Fig. 3).

    Args:
        dim: number of channels C.
        convolutions: the ConvAttn modules, called as `module(x, kernel)`.
        window_size: side of an attention window.
        num_heads: heads of the attention.
        proj_ratio: expansion of the ConvFFN before the attention.
        exp_ratio: expansion of the ConvFFN before each ConvAttn.
        attn_type: attention back-end.
        use_ln: normalise the input of the ConvFFN before each ConvAttn.

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
    ) -> None:
        super().__init__()
        self.ln_proj = LayerNorm(dim)
        self.proj = ConvFFN(dim, proj_ratio)
        self.ln_attn = LayerNorm(dim)
        self.attn = WindowAttention(dim, window_size, num_heads, attn_type)
        self.pconvs = nn.ModuleList(convolutions)
        normalise: Callable[[], nn.Module] = (lambda: LayerNorm(dim)) if use_ln else nn.Identity
        self.lns = nn.ModuleList(normalise() for _ in self.pconvs)
        self.convffns = nn.ModuleList(ConvFFN(dim, exp_ratio) for _ in self.pconvs)
        self.ln_out = LayerNorm(dim)
        self.conv_out = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x: torch.Tensor, kernel: Any) -> torch.Tensor:
        """Process features.

        Args:
            x: (B, C, H, W).
            kernel: the shared large kernel, in the form that the ConvAttn modules take.

        Returns:
            (B, C, H, W).
        """
        if may_bypass(self):
            return self._in_steps(x, kernel)
        skip = x
        x = self.proj(self.ln_proj(x))
        x = x + self.attn(self.ln_attn(x))
        for norm, ffn, convolution in zip(self.lns, self.convffns, self.pconvs, strict=True):
            x = x + convolution(ffn(norm(x)), kernel)
        return self.conv_out(self.ln_out(x)) + skip

    def _in_steps(self, x: torch.Tensor, kernel: Any) -> torch.Tensor:
        """Do the same with fewer operations."""
        skip = x
        x = ffn_step(x, self.ln_proj, self.proj)
        x = attention_step(x, self.ln_attn, self.attn)
        memory: torch.Tensor | None = None  # of the last but one result, unless gradients need it
        for norm, ffn, convolution in zip(self.lns, self.convffns, self.pconvs, strict=True):
            assert isinstance(ffn, ConvFFN)
            assert isinstance(convolution, PartialConvAttn)
            result = conv_attn_step(x, norm, ffn, convolution, kernel, memory)
            x, memory = result, None if torch.is_grad_enabled() else x
        return conv_out_step(x, self.ln_out, self.conv_out, skip, memory)
