"""The layers that the networks are made of. None of them needs BasicSR."""

from esc_arch.layers.attention import WindowAttention
from esc_arch.layers.conv_attn import ConvAttn, DecomposedConvAttn, average_over_square
from esc_arch.layers.ffn import ConvFFN
from esc_arch.layers.norm import LayerNorm
from esc_arch.layers.upsample import SubPixelConv

__all__ = [
    "ConvAttn",
    "ConvFFN",
    "DecomposedConvAttn",
    "LayerNorm",
    "SubPixelConv",
    "WindowAttention",
    "average_over_square",
]
