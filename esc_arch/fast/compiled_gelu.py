"""GELU by a compiled kernel (see `esc_arch.fast.kernels`), for training; else whole ConvFFNs are compiled."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from esc_arch.fast import kernels
from esc_arch.fast.compiled import serves


def gelu(x: torch.Tensor) -> torch.Tensor:
    """Compute GELU of `x`, of any shape and dtype."""
    result: torch.Tensor = torch.ops.esc_arch.gelu(x) if pays(x) else F.gelu(x)
    return result


def pays(x: torch.Tensor) -> bool:
    """Tell whether GELU of `x` should be computed by the kernel."""
    return serves(x) and torch.is_grad_enabled() and x.dtype in kernels.gelu.DTYPES and kernels.gelu.dense(x)
