"""Products in bf16 on a CPU: where autocast asks for them, and the processor has instructions that make them faster.

Only the factors of products are rounded. Features stay in float32 from layer to layer, as do the long skip, sums, the
softmax and the statistics of the normalisation.
"""

from __future__ import annotations

import torch

from esc_arch.fast import kernels, speedups


def asked_for() -> bool:
    """Tell whether autocast asks for bf16 on a CPU."""
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16


def active(*channels: int) -> bool:
    """Tell whether the compiled kernels compute products in bf16, into which so many channels go."""
    asked = asked_for() and speedups.active().kernels and kernels.has_bf16()
    return asked and max(channels, default=0) <= kernels.most_channels_bf16()


def undisturbed() -> bool:
    """Tell whether the compiled kernels serve: without autocast, or with one that they follow."""
    return not torch.is_autocast_enabled("cpu") or active()
