"""GELU and its gradient: `torch.ops.esc_arch.gelu` and `gelu_gradient`."""

from __future__ import annotations

from typing import Any

import torch

from esc_arch.fast.kernels.loading import OPERATORS, required

DTYPES = torch.float32, torch.bfloat16

OPERATORS.define("gelu(Tensor x) -> Tensor")
OPERATORS.define("gelu_gradient(Tensor grad, Tensor x) -> Tensor")


def dense(x: torch.Tensor) -> bool:
    """Tell whether the numbers of `x` fill memory without gaps, in one of the two layouts of images."""
    return x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)


def _gelu(x: torch.Tensor) -> torch.Tensor:
    """Return GELU of `x`, float32 or bfloat16, dense, in its layout; all is computed in float32."""
    return _activated(x, None)


def _gelu_gradient(grad: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return the gradient of `x` from `grad`, that of the result, of the same shape."""
    if grad.shape != x.shape or grad.dtype != x.dtype:
        raise RuntimeError(
            f"esc_arch::gelu_gradient needs {x.dtype} of the shape {tuple(x.shape)}, got {grad.dtype} of the shape "
            f"{tuple(grad.shape)}."
        )
    layout = torch.contiguous_format if x.is_contiguous() else torch.channels_last
    return _activated(x, grad.contiguous(memory_format=layout))


def _activated(x: torch.Tensor, grad: torch.Tensor | None) -> torch.Tensor:
    kernels = required()
    if x.dtype not in DTYPES or not dense(x):
        raise RuntimeError("esc_arch::gelu is for float32 and bfloat16 without gaps in memory.")
    out = torch.empty_like(x)
    activate = kernels.esc_gelu if x.dtype == torch.float32 else kernels.esc_gelu_bf16
    pointers = x.data_ptr(), None if grad is None else grad.data_ptr(), out.data_ptr()
    activate(x.numel(), torch.get_num_threads(), *pointers)
    return out


def _keep(ctx: Any, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
    (x,) = ctx.saved_tensors
    if torch.is_grad_enabled():  # a graph is asked for, and this one has derivatives of its own
        gradient: torch.Tensor = torch.ops.aten.gelu_backward(grad, x)
        return gradient
    gradient = torch.ops.esc_arch.gelu_gradient(grad, x)
    return gradient


OPERATORS.impl("gelu", _gelu, "CPU")
OPERATORS.impl("gelu_gradient", _gelu_gradient, "CPU")
torch.library.register_fake("esc_arch::gelu", torch.empty_like, lib=OPERATORS)
torch.library.register_fake("esc_arch::gelu_gradient", lambda grad, x: torch.empty_like(x), lib=OPERATORS)
torch.library.register_autograd("esc_arch::gelu", _backward, setup_context=_keep, lib=OPERATORS)
