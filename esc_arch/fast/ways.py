"""All ways of computing that take the place of definitions in `esc_arch.layers`; `import esc_arch` lets them."""

from __future__ import annotations

from esc_arch.fast import compiled_attention, large_kernel, layout, lean_attention, steps
from esc_arch.layers import backend, conv_attn
from esc_arch.layers.block import ESCBlock
from esc_arch.layers.seam import replace
from esc_arch.layers.trunk import ESCTrunk


def attach() -> None:
    """Let each way take the place of its definition."""
    replace(ESCTrunk.extract, layout.extract)
    replace(ESCBlock.forward, steps.in_steps)
    replace(conv_attn.convolve, large_kernel.convolve)
    replace(backend.image_attention, compiled_attention.image_attention)
    replace(backend.sdpa, lean_attention.sdpa)
