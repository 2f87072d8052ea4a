"""The layers that the networks are made of. None of them needs BasicSR."""

from esc_arch.layers.attention import WindowAttention
from esc_arch.layers.conv_attn import ConvAttn, average_over_square
from esc_arch.layers.decomposed_conv_attn import DecomposedConvAttn
from esc_arch.layers.dysample import DySample
from esc_arch.layers.ffn import ConvFFN
from esc_arch.layers.norm import LayerNorm
from esc_arch.layers.upsample import SubPixelConv
from esc_arch.layers.upsample_head import UPSAMPLERS, UpsampleHead

__all__ = [
    "UPSAMPLERS",
    "ConvAttn",
    "ConvFFN",
    "DecomposedConvAttn",
    "DySample",
    "LayerNorm",
    "SubPixelConv",
    "UpsampleHead",
    "WindowAttention",
    "average_over_square",
]
