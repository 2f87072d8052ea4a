"""How features lie in memory on a CPU: channels last, in memory that is kept, in float32 under autocast too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from esc_arch.fast import kernels, reduced, speedups
from esc_arch.fast.allocator import keep_freed_memory
from esc_arch.fast.strips import channels_last
from esc_arch.layers.arguments import require_image
from esc_arch.layers.trunk import ESCTrunk


def extract(
    definition: Callable[[ESCTrunk, torch.Tensor, Any], torch.Tensor], trunk: ESCTrunk, x: torch.Tensor, kernel: Any
) -> torch.Tensor:
    """Do what the `extract` of `ESCTrunk` does, with channels last in memory: convolutions hand it on.

    Under autocast to bf16 the first convolution and the long skip stay in float32, as do the features between the steps
    of the blocks, which round only what they multiply. Without instructions for bf16 all is computed in float32, which
    is faster then. Networks of other dtypes are left to PyTorch's autocast.
    """
    if x.device.type == "cpu" and x.dim() == 4 and speedups.active().channels_last:
        keep_freed_memory()
        x = channels_last(x)
    ours = x.device.type == "cpu" and not torch.is_grad_enabled() and speedups.active().kernels
    if not (ours and reduced.asked_for() and _in_float32(trunk)):
        return definition(trunk, x, kernel)
    rounds = reduced.active() and x.shape[-1] >= kernels.large_kernel.NARROWEST  # the kernels take no narrower images
    with torch.autocast("cpu", enabled=False):
        if not rounds:
            return definition(trunk, x.float(), kernel)
        require_image(x, trunk.channels)
        features = skip = trunk.proj(x.float())
    for block in trunk.blocks:
        features = block(features, kernel)
    return trunk.last(trunk.ln_last(features)) + skip


def _in_float32(trunk: ESCTrunk) -> bool:
    return all(weight.dtype == torch.float32 for weight in trunk.parameters() if weight.is_floating_point())
