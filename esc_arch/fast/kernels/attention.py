"""Window attention of images and its gradients: `torch.ops.esc_arch.attend` and `attend_gradients`.

For gradients the sums of the rows are stored, and scores are computed again (as in FlashAttention, Dao et al. 2022).
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch

from esc_arch.fast.kernels.loading import OPERATORS, has_bf16, images, require_shapes, required

WINDOW_MULTIPLE = 16  # sides of windows that the attention is made for
MOST_DEPTH_BF16 = 16  # channels of a head, an even number, that it is made for in bf16

OPERATORS.define("attend(Tensor qkv, Tensor table, int window, int heads, bool keep_sums) -> (Tensor, Tensor)")
OPERATORS.define(
    "attend_gradients(Tensor grad, Tensor qkv, Tensor table, Tensor out, Tensor sums, int window, int heads)"
    " -> (Tensor, Tensor)"
)


def _attend(
    qkv: torch.Tensor, table: torch.Tensor, window: int, heads: int, keep_sums: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend within the windows of images.

    Args:
        qkv: (B, 3 * C, H, W), float32, channels last in memory, in the order (qkv, heads, head channels); H, W
            multiples of the window. In bfloat16, for which `esc_arch.fast.kernels.has_bf16()` must hold, the channels
            of a head are an even number up to MOST_DEPTH_BF16; scores, exponentials and sums stay float32.
        table: biases (h, (2w - 1)^2), float32, see `esc_arch.layers.window.RelativePositionBias`.
        window: side w, a multiple of WINDOW_MULTIPLE.
        heads: number of heads h.
        keep_sums: also return what the gradients need.

    Returns:
        (B, C, H, W), in the dtype of `qkv`, channels last in memory, and the logarithm (base 2) of the sum of every row
        of exponentials (B * H/w * W/w, h, w * w), empty unless asked for.
    """
    kernels, qkv, table = _ready("attend", qkv, table, window, heads)
    batch, channels, height, width = qkv.shape
    tokens, depth, threads = window * window, channels // 3 // heads, torch.get_num_threads()
    if qkv.dtype == torch.bfloat16 and not fits_bf16(depth):
        raise RuntimeError(
            "esc_arch::attend in bf16 is for processors with AVX512_BF16 and heads of an even number of channels up to "
            f"{MOST_DEPTH_BF16}, got {heads} heads of {depth}."
        )
    out = images(batch, channels // 3, height, width, qkv.dtype)
    sums = table.new_empty(batch * height * width // tokens if keep_sums else 0, heads, tokens)
    shape = batch, height, width, window, heads, depth, threads
    if qkv.dtype == torch.bfloat16:
        attend = kernels.esc_attend_bf16
        memory = torch.empty(threads * kernels.esc_attention_bf16_workspace(window, depth))
    else:
        attend, memory = kernels.esc_attend, _workspace(kernels, shape, gradients=False)
    attend(
        *shape,
        qkv.data_ptr(),
        table.data_ptr(),
        memory.data_ptr(),
        out.data_ptr(),
        sums.data_ptr() if keep_sums else None,
    )
    return out, sums


def _attend_gradients(
    grad: torch.Tensor,
    qkv: torch.Tensor,
    table: torch.Tensor,
    out: torch.Tensor,
    sums: torch.Tensor,
    window: int,
    heads: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the gradients of `qkv` and `table` from that of `out`; arguments as of `_attend`, in float32."""
    kernels, qkv, table = _ready("attend_gradients", qkv, table, window, heads)
    batch, channels, height, width = qkv.shape
    tokens, image = window * window, (batch, channels // 3, height, width)
    require_shapes(
        "attend_gradients",
        (qkv, tuple(qkv.shape)),
        (grad, image),
        (out, image),
        (sums, (batch * height * width // tokens, heads, tokens)),
    )
    grad, out = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (grad, out))
    sums = sums.contiguous()
    grad_qkv = images(*qkv.shape)
    tables = table.new_empty(sums.shape[0], *table.shape)  # one of every window, so that their sum has one order
    shape = batch, height, width, window, heads, channels // 3 // heads, torch.get_num_threads()
    memory = _workspace(kernels, shape, gradients=True)
    tensors = qkv, table, out, sums, grad, memory, grad_qkv, tables
    kernels.esc_attend_gradients(*shape, *(tensor.data_ptr() for tensor in tensors))
    return grad_qkv, tables.sum(0)


def _ready(
    operator: str, qkv: torch.Tensor, table: torch.Tensor, window: int, heads: int
) -> tuple[ctypes.CDLL, torch.Tensor, torch.Tensor]:
    kernels = required()
    _, channels, height, width = qkv.shape
    fits = qkv.dtype in (torch.float32, torch.bfloat16) and heads > 0 and channels % (3 * heads) == 0
    if not fits or window < 1 or window % WINDOW_MULTIPLE or height % window or width % window:
        raise RuntimeError(
            f"esc_arch::{operator} is for float32, heads of the same size, and windows that fit the image and are "
            f"multiples of {WINDOW_MULTIPLE}, got {qkv.dtype}, {tuple(qkv.shape)}, {heads} heads and window {window}."
        )
    require_shapes(operator, (table, (heads, (2 * window - 1) ** 2)))
    return kernels, qkv.contiguous(memory_format=torch.channels_last), table.contiguous()


def fits_bf16(depth: int) -> bool:
    """Tell whether the attention can be computed in bf16 on this machine, for heads of so many channels."""
    return depth % 2 == 0 and depth <= MOST_DEPTH_BF16 and has_bf16()


def _workspace(kernels: ctypes.CDLL, shape: tuple[int, ...], gradients: bool) -> torch.Tensor:
    _, _, _, window, _, depth, threads = shape
    return torch.empty(threads * kernels.esc_attention_workspace(window, depth, gradients))


def _shapes(
    qkv: torch.Tensor, table: torch.Tensor, window: int, heads: int, keep_sums: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give results of `_attend` without numbers."""
    batch, channels, height, width = qkv.shape
    out = qkv.new_empty(batch, height, width, channels // 3).permute(0, 3, 1, 2)
    return out, table.new_empty(batch * height * width // window**2 if keep_sums else 0, heads, window**2)


def _shapes_of_gradients(
    grad: torch.Tensor,
    qkv: torch.Tensor,
    table: torch.Tensor,
    out: torch.Tensor,
    sums: torch.Tensor,
    window: int,
    heads: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give results of `_attend_gradients` without numbers."""
    batch, channels, height, width = qkv.shape
    return qkv.new_empty(batch, height, width, channels).permute(0, 3, 1, 2), table.new_empty(table.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    qkv, table, *ctx.sides, ctx.has_sums = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(qkv, table, *output)


def _backward(ctx: Any, grad: torch.Tensor, _: Any) -> tuple[torch.Tensor | None, ...]:
    qkv, table, out, sums = ctx.saved_tensors
    if not ctx.has_sums:
        out, sums = torch.ops.esc_arch.attend(qkv, table, *ctx.sides, True)
    images = (image.float() for image in (grad, qkv))  # in bf16 only the products of the forward pass are rounded
    grad_qkv, grad_table = torch.ops.esc_arch.attend_gradients(*images, table, out.float(), sums, *ctx.sides)
    return grad_qkv.to(qkv.dtype), grad_table, None, None, None


def _keep_nothing(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    pass


def _no_second_derivatives(ctx: Any, *grads: Any) -> tuple[None, ...]:
    raise RuntimeError("esc_arch::attend has no second derivatives; attn_type 'Naive' has.")


OPERATORS.impl("attend", _attend, "CPU")
OPERATORS.impl("attend_gradients", _attend_gradients, "CPU")
torch.library.register_fake("esc_arch::attend", _shapes, lib=OPERATORS)
torch.library.register_fake("esc_arch::attend_gradients", _shapes_of_gradients, lib=OPERATORS)
torch.library.register_autograd("esc_arch::attend", _backward, setup_context=_keep, lib=OPERATORS)
torch.library.register_autograd(
    "esc_arch::attend_gradients", _no_second_derivatives, setup_context=_keep_nothing, lib=OPERATORS
)
