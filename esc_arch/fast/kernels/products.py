"""A 1x1 convolution, perhaps of normalised pixels: `torch.ops.esc_arch.products`."""

from __future__ import annotations

import torch

from esc_arch.fast.kernels.loading import (
    OPERATORS,
    require_bf16,
    require_images,
    require_normalisation,
    require_shapes,
    required,
)

OPERATORS.define(
    "products(Tensor(a!) out, Tensor x, Tensor weight, Tensor? bias=None, Tensor? scale=None, Tensor? shift=None,"
    " float epsilon=0.0, bool add=False, bool bf16=False) -> ()"
)


def _products(
    out: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    scale: torch.Tensor | None = None,
    shift: torch.Tensor | None = None,
    epsilon: float = 0.0,
    add: bool = False,
    bf16: bool = False,
) -> None:
    """Compute W norm(x) + b.

    All is float32, and images lie with their channels last in memory.

    Args:
        out: (B, C', H, W), is overwritten, or added to; may be bfloat16 where `bf16` holds and nothing is added.
        x: (B, C, H, W); may be bfloat16 where `bf16` holds.
        weight: W, (C', C, 1, 1).
        bias: b, (C'); None for zeros.
        scale: weights of the layer norm (C); None for no norm.
        shift: its biases (C).
        epsilon: is added to the variance.
        add: add to `out`.
        bf16: round the factors, where `esc_arch.fast.kernels.has_bf16()`; sums stay float32.
    """
    kernels = required()
    batch, channels, height, width = x.shape
    results = len(weight)
    require_images("products", out, x)
    require_shapes(
        "products",
        (x if x.dtype != torch.bfloat16 or not bf16 else None, (batch, channels, height, width)),
        (weight, (results, channels, 1, 1)),
        (bias, (results,)),
        (scale, (channels,)),
        (shift, (channels,)),
        (out if out.dtype != torch.bfloat16 or not bf16 or add else None, (batch, results, height, width)),
    )
    require_normalisation("products", scale, shift)
    if out.shape != (batch, results, height, width):
        raise RuntimeError(
            f"esc_arch::products needs results {(batch, results, height, width)}, got {tuple(out.shape)}."
        )
    if bf16:
        require_bf16("products", channels)
    threads = torch.get_num_threads()
    memory = torch.empty(kernels.esc_products_workspace(channels, results, threads))
    ready = [None if tensor is None else tensor.contiguous() for tensor in (scale, shift, weight, bias)]
    pointers = (None if tensor is None else tensor.data_ptr() for tensor in (*ready, x, memory, out))
    halves = x.dtype == torch.bfloat16, out.dtype == torch.bfloat16
    kernels.esc_products(batch * height * width, channels, results, threads, epsilon, *pointers, *halves, add, bf16)


OPERATORS.impl("products", _products, "CPU")
torch.library.register_fake("esc_arch::products", lambda *arguments: None, lib=OPERATORS)  # it writes only
