"""How features lie in memory on a CPU: channels last, in memory that is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from esc_arch.fast import speedups
from esc_arch.fast.allocator import keep_freed_memory
from esc_arch.fast.strips import channels_last
from esc_arch.layers.trunk import ESCTrunk


def extract(
    definition: Callable[[ESCTrunk, torch.Tensor, Any], torch.Tensor], trunk: ESCTrunk, x: torch.Tensor, kernel: Any
) -> torch.Tensor:
    """Do what the `extract` of `ESCTrunk` does, with channels last in memory: convolutions hand it on."""
    if x.device.type == "cpu" and x.dim() == 4 and speedups.active().channels_last:
        keep_freed_memory()
        x = channels_last(x)
    return definition(trunk, x, kernel)
