"""The precision that networks compute in, as the tools are asked for it."""

from __future__ import annotations

import torch

from esc_arch.fast import kernels

CHOICES = ("auto", "fp32", "bf16", "fp16")


def choose_dtype(name: str, device: str) -> tuple[str, str | None]:
    """Resolve a dtype for a device.

    Args:
        name: one of CHOICES; `auto` is fp32, in which nothing is rounded on any device.
        device: `cpu`, `cuda`, `cuda:1`, `mps`.

    Returns:
        `fp32`, `bf16` or `fp16`, and a sentence where it is another one than was asked for: bf16 without instructions
        for it would be slower than fp32.

    Raises:
        ValueError: there is no such dtype.
    """
    if name not in CHOICES:
        raise ValueError(f"dtype must be one of {', '.join(CHOICES)}, got {name!r}")
    if name == "auto":
        return "fp32", None
    kind = device.partition(":")[0]
    if name == "bf16" and kind == "cpu" and not kernels.has_bf16():
        why = "this processor has no AVX512_BF16" if kernels.available() else "the kernels were not compiled"
        return "fp32", f"bf16: computing in fp32, since {why}."
    if name == "bf16" and kind == "cuda" and not torch.cuda.is_bf16_supported():
        return "fp32", "bf16: computing in fp32, since this GPU has no instructions for it."
    return name, None
