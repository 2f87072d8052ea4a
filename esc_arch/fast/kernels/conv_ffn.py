"""A whole ConvFFN: `torch.ops.esc_arch.conv_ffn`."""

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

NARROWEST = 8  # pixels of the narrowest images, as many as are multiplied at a time or more

OPERATORS.define(
    "conv_ffn(Tensor x, Tensor? scale, Tensor? shift, float epsilon, Tensor weight_in, Tensor bias_in,"
    " Tensor weight_between, Tensor bias_between, Tensor weight_out, Tensor bias_out, Tensor? skip,"
    " Tensor(a!) out, Tensor(b!) rest, bool bf16=False) -> ()"
)


def _conv_ffn(
    x: torch.Tensor,
    scale: torch.Tensor | None,
    shift: torch.Tensor | None,
    epsilon: float,
    weight_in: torch.Tensor,
    bias_in: torch.Tensor,
    weight_between: torch.Tensor,
    bias_between: torch.Tensor,
    weight_out: torch.Tensor,
    bias_out: torch.Tensor,
    skip: torch.Tensor | None,
    out: torch.Tensor,
    rest: torch.Tensor,
    bf16: bool = False,
) -> None:
    """Compute W_2 (h + GELU(depthwise(h))) + b_2 with h = GELU(W_1 norm(x) + b_1).

    All is float32, and images lie with their channels last in memory.

    Args:
        x: (B, C, H, W), W at least NARROWEST.
        scale: weights of the layer norm (C); None for no norm.
        shift: its biases (C).
        epsilon: is added to the variance.
        weight_in: W_1, (E, C, 1, 1).
        bias_in: b_1, (E).
        weight_between: of the depthwise convolution, (E, 1, 3, 3).
        bias_between: likewise (E).
        weight_out: W_2, (C + R, E, 1, 1).
        bias_out: b_2, (C + R).
        skip: (B, C, H, W), is added to the first C results; None for nothing.
        out: (B, C, H, W), is overwritten by the first C results; shares no memory with `x` and `skip`.
        rest: (B, R, H, W), likewise by the others.
        bf16: round the factors of both 1x1 convolutions, where `esc_arch.fast.kernels.has_bf16()`; all else, and sums,
            stay float32.
    """
    kernels = required()
    batch, channels, height, width = x.shape
    hidden, results = len(weight_in), len(weight_out)
    if width < NARROWEST:
        raise RuntimeError(f"esc_arch::conv_ffn is for images at least {NARROWEST} pixels wide, got {tuple(x.shape)}.")
    require_images("conv_ffn", x, skip, out, rest)
    require_normalisation("conv_ffn", scale, shift)
    require_shapes(
        "conv_ffn",
        (x, (batch, channels, height, width)),
        (scale, (channels,)),
        (shift, (channels,)),
        (weight_in, (hidden, channels, 1, 1)),
        (bias_in, (hidden,)),
        (weight_between, (hidden, 1, 3, 3)),
        (bias_between, (hidden,)),
        (weight_out, (results, hidden, 1, 1)),
        (bias_out, (results,)),
        (skip, (batch, channels, height, width)),
        (out, (batch, channels, height, width)),
        (rest, (batch, results - channels, height, width)),
    )
    if bf16:
        require_bf16("conv_ffn", channels, hidden)
    threads = torch.get_num_threads()
    memory = torch.empty(kernels.esc_conv_ffn_workspace(channels, hidden, results, threads))
    weights = scale, shift, weight_in, bias_in, weight_between, bias_between, weight_out, bias_out
    ready = [None if weight is None else weight.contiguous() for weight in weights]
    pointers = (None if tensor is None else tensor.data_ptr() for tensor in (*ready, x, skip, memory, out, rest))
    kernels.esc_conv_ffn(batch, height, width, channels, hidden, results, threads, epsilon, *pointers, bf16)


OPERATORS.impl("conv_ffn", _conv_ffn, "CPU")
torch.library.register_fake("esc_arch::conv_ffn", lambda *arguments: None, lib=OPERATORS)  # it writes only
