"""What every way by a compiled kernel (`compiled_*.py`) asks first."""

from __future__ import annotations

import torch

from esc_arch.fast import kernels, speedups


def serves(x: torch.Tensor) -> bool:
    """Tell whether the kernels are there, are switched on, and can read `x`.

    They read memory of the CPU, so `x` must not be of a class that stands for other numbers, or has none of its own.
    """
    return speedups.active().kernels and type(x) is torch.Tensor and x.device.type == "cpu" and kernels.available()
