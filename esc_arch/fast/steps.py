"""The steps of a block: the same function as calling its modules one by one, with fewer operations and less memory.

Two linear maps that follow each other are composed: on the channels that a ConvAttn does not convolve, the last layer
of the ConvFFN before it and its own. With hidden features h, u = F h + f split into (u_1, u_2), and
y = A_1 conv(u_1) + A_2 u_2 + a, this is y = A_1 conv(u_1) + (A_2 F_2) h + (A_2 f_2 + a). The composed weights are
computed in every forward pass, which takes microseconds, so there is no state that could be outdated.

Without gradients every step also works in strips of the image (see strips.py) and, where it owns the memory, in place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from esc_arch.fast import (
    compiled_depthwise,
    compiled_ffn,
    compiled_large_kernel,
    compiled_products,
    reduced,
    speedups,
)
from esc_arch.fast.compiled_gelu import gelu
from esc_arch.fast.strips import Assembly, Strip, channels_last, convolve_rows, cut, memory_format
from esc_arch.layers import backend
from esc_arch.layers.attention import WindowAttention
from esc_arch.layers.backend import Bias
from esc_arch.layers.block import ESCBlock
from esc_arch.layers.conv_attn import PartialConvAttn
from esc_arch.layers.ffn import ConvFFN
from esc_arch.layers.flash_bias import FlashBiasAttention
from esc_arch.layers.implicit_bias import ImplicitBiasAttention, PlainAttention
from esc_arch.layers.reflect import next_multiple, reflect_axis
from esc_arch.layers.window import pad_to_multiple


def in_steps(
    definition: Callable[[ESCBlock, torch.Tensor, Any], torch.Tensor], block: ESCBlock, x: torch.Tensor, kernel: Any
) -> torch.Tensor:
    """Do what the `forward` of `ESCBlock` does."""
    if not may_bypass(block):
        return definition(block, x, kernel)
    if x.device.type == "cpu" and speedups.active().channels_last:
        x = channels_last(x)  # where one channel came in, the layout of the features was left to chance
    skip = x
    x = ffn_step(x, block.ln_proj, block.proj)
    x = attention_step(x, block.ln_attn, block.attn)
    memory: torch.Tensor | None = None  # of the last but one result, unless gradients need it
    for norm, ffn, convolution in zip(block.lns, block.convffns, block.pconvs, strict=True):
        assert isinstance(ffn, ConvFFN)
        assert isinstance(convolution, PartialConvAttn)
        result = conv_attn_step(x, norm, ffn, convolution, kernel, memory)
        x, memory = result, None if torch.is_grad_enabled() else x
    return conv_out_step(x, block.ln_out, block.conv_out, skip, memory)


HOOKS = "forward", "forward_pre", "backward", "backward_pre"
ATTENTIONS = (WindowAttention, FlashBiasAttention, ImplicitBiasAttention, PlainAttention)


def may_bypass(block: ESCBlock) -> bool:
    """Tell whether the weights of the modules in `block` may be used without calling the modules.

    Not if a module is watched (hooks), parametrised, or replaced by one of another kind.
    """
    ffns = block.proj, *block.convffns
    if not (
        speedups.active().composed
        and all(type(ffn) is ConvFFN for ffn in ffns)
        and all(isinstance(convolution, PartialConvAttn) for convolution in block.pconvs)
        and type(block.attn) in ATTENTIONS
    ):
        return False
    linear: list[Any] = [block.conv_out, *(convolution.aggr for convolution in block.pconvs)]
    linear += [layer for ffn in ffns for layer in (ffn.proj, ffn.dwc, ffn.aggr)]
    watched = _all_are_watched() or any(_is_watched(module) for module in block.modules())
    return all(_is_plain(layer) for layer in linear) and not watched


def _is_watched(module: nn.Module) -> bool:
    hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
    return any(hooks)


def _all_are_watched() -> bool:
    """Tell whether there are hooks for all modules of the process, which profilers set."""
    hooks = (getattr(nn.modules.module, f"_global_{kind}_hooks") for kind in HOOKS)
    return any(hooks)


def _is_plain(layer: nn.Module) -> bool:
    return (
        type(layer) is nn.Conv2d
        and type(layer.weight) in (nn.Parameter, torch.Tensor)  # and not numbers that are kept in another form
        and layer.bias is not None
        and layer.stride == layer.dilation == (1, 1)
        and layer.padding_mode == "zeros"
    )


def ffn_step(x: torch.Tensor, norm: nn.Module, ffn: ConvFFN) -> torch.Tensor:
    """Compute ffn(norm(x)) of `x` (B, C, H, W)."""
    if compiled_ffn.pays(x, norm, ffn):
        assert ffn.aggr.bias is not None
        return compiled_ffn.compiled_ffn(x, norm, ffn, ffn.aggr.weight, ffn.aggr.bias)[0]
    out = Assembly(x)
    for strip, hidden in _hidden(x, norm, ffn):
        out.put(strip, ffn.aggr(hidden))
    return out.whole


def attention_step(x: torch.Tensor, norm: nn.Module, attn: WindowAttention) -> torch.Tensor:
    """Compute x + attn(norm(x)) of `x` (B, C, H, W), which is overwritten unless there are gradients to compute."""
    if torch.is_grad_enabled():
        return x + attn(norm(x))
    window, bias, gate = attn.window_size, attn.bias(), attn.gate
    context = 0 if gate is None else _reach(gate)
    below = x[:, :, :0]  # rows of the strip below, as they were
    # from the bottom, where the padding by reflection reads rows further up, which must be unchanged
    for strip in reversed(list(cut(x, 3 * x.shape[1], context=context, multiple=window))):
        start, stop = strip.rows.start, strip.rows.stop
        rows = strip.of(x)
        gates = None
        if gate is not None:
            above = x[strip.images, :, start - strip.above : start]
            around = torch.cat([above, rows, below], dim=2) if strip.below else torch.cat([above, rows], dim=2)
            gates = gate_rows(gate, norm(around), strip.above, strip.below)
            below = rows[:, :, :context].clone()
        if start and stop % window:
            beyond = reflect_axis(x[strip.images], 2, stop, next_multiple(stop, window))
            rows = torch.cat([rows, beyond], dim=2)
        if gates is not None and rows.shape[2] > stop - start:
            gates = F.pad(gates, (0, 0, 0, rows.shape[2] - (stop - start)))
        _add_attention(strip.of(x), rows, norm, attn, bias, gates)
    return x


def _add_attention(
    out: torch.Tensor,
    rows: torch.Tensor,
    norm: nn.Module,
    attn: WindowAttention,
    bias: Bias,
    gates: torch.Tensor | None,
) -> None:
    """Add the first rows of attn.attend(norm(rows), bias, gates) to `out`, which may be the same memory."""
    height, width = out.shape[2:]
    layers = attn.to_qkv, attn.to_out
    if not (
        all(_is_plain(layer) and layer.kernel_size == (1, 1) and layer.groups == 1 for layer in layers)
        and out.dtype == torch.float32
        and out.is_contiguous(memory_format=torch.channels_last)
        and compiled_products.pays(rows, attn.to_qkv, norm)
        and compiled_products.pays(rows, attn.to_out)
    ):
        out.add_(attn.attend(norm(rows), bias, gates)[:, :, :height])
        return
    dtype = torch.bfloat16 if reduced.active(rows.shape[1]) else torch.float32
    qkv = compiled_products.mapped(pad_to_multiple(rows, attn.window_size), attn.to_qkv, norm, dtype)
    attended = backend.image_attention(qkv, bias, attn.num_heads, attn.attn_type)[:, :, :height, :width]
    if gates is not None:
        attended = attended * gates[:, :, :height]
    compiled_products.add_mapped(out, attended, attn.to_out.weight, attn.to_out.bias)


def _reach(gate: nn.Sequential) -> int:
    """Return how many rows further a gate looks."""
    first = gate[0]
    assert isinstance(first, nn.Conv2d)
    return first.kernel_size[0] // 2


def gate_rows(gate: nn.Sequential, x: torch.Tensor, above: int, below: int) -> torch.Tensor:
    """Compute the gate of an attention for some rows, out of (B, C, above + H + below, W)."""
    first, *rest = gate
    assert isinstance(first, nn.Conv2d)
    x = convolve_rows(first, x, above, below)
    for layer in rest:
        x = layer(x)
    return x


def conv_attn_step(
    x: torch.Tensor,
    norm: nn.Module,
    ffn: ConvFFN,
    convolution: PartialConvAttn,
    kernel: Any,
    memory: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compute x + convolution(ffn(norm(x)), kernel) of `x` (B, C, H, W), in `memory` if that fits."""
    pdim = convolution.pdim
    weight, bias = compose(ffn.aggr, convolution.aggr, pdim)
    compiled = compiled_ffn.pays(x, norm, ffn)
    if compiled:
        out, head = compiled_ffn.compiled_ffn(x, norm, ffn, weight, bias, skip=x, memory=memory)
        for way in (compiled_large_kernel, compiled_depthwise):
            if way.pays(head, convolution, kernel):
                way.add_conv_attn(out, head, convolution, kernel)
                return out
    else:
        out, head = _mapped(x, norm, ffn, weight, bias, memory)
    mixed = convolution.plk(head, kernel).contiguous(memory_format=memory_format(x))  # (B, P, H, W)
    detour = convolution.aggr.weight[:, :pdim]
    if torch.is_grad_enabled():
        return out + F.conv2d(mixed, detour)
    if compiled:
        compiled_products.add_mapped(out, mixed.float(), detour)
        return out
    for strip in cut(x, x.shape[1]):
        strip.of(out).add_(F.conv2d(strip.of(mixed), detour))
    return out


def conv_out_step(
    x: torch.Tensor, norm: nn.Module, conv: nn.Conv2d, skip: torch.Tensor, memory: torch.Tensor | None = None
) -> torch.Tensor:
    """Compute conv(norm(x)) + skip, all (B, C, H, W), in `memory` if that fits."""
    out = Assembly(x, memory)
    for strip in cut(x, x.shape[1], context=conv.kernel_size[0] // 2):
        part = convolve_rows(conv, norm(strip.with_context(x)), strip.above, strip.below)
        out.put(strip, part + strip.of(skip))
    return out.whole


def compose(first: nn.Conv2d, second: nn.Conv2d, pdim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Compose two 1x1 convolutions on the channels from `pdim` on.

    Args:
        first: E -> C channels.
        second: C -> C channels.
        pdim: number of channels P between them that something else happens to.

    Returns:
        weight (C + P, E, 1, 1) and bias (C + P): first the map from the input of `first` to the result of `second`,
        without what comes through the first P channels between them, then the map to these P channels.
    """
    dtype = first.weight.dtype
    precise = torch.promote_types(dtype, torch.float32)  # products of half precision are rounded once
    before, after = first.weight.flatten(1).to(precise), second.weight.flatten(1).to(precise)  # (C, E), (C, C)
    assert first.bias is not None
    assert second.bias is not None
    shift = first.bias.to(precise)
    with _in_full_precision(before.device.type):
        weight = torch.cat([after[:, pdim:] @ before[pdim:], before[:pdim]])
        bias = torch.cat([after[:, pdim:] @ shift[pdim:] + second.bias, shift[:pdim]])
    return weight.to(dtype)[:, :, None, None], bias.to(dtype)


def _in_full_precision(device: str) -> AbstractContextManager[object]:
    """Switch autocast off, on devices that have it."""
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def _mapped(
    x: torch.Tensor,
    norm: nn.Module,
    ffn: ConvFFN,
    weight: torch.Tensor,
    bias: torch.Tensor,
    memory: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Map the hidden layer to C + P channels; return x plus the first ones, (B, C, H, W), and the others."""
    channels = x.shape[1]
    out, others = Assembly(x, memory), Assembly(x)
    for strip, hidden in _hidden(x, norm, ffn):
        mapped, head = F.conv2d(hidden, weight, bias).split([channels, weight.shape[0] - channels], dim=1)
        if head.requires_grad:  # or both gradients would be put together in the layout of this one
            layout = memory_format(x)
            head.register_hook(lambda grad, layout=layout: grad.contiguous(memory_format=layout))
        out.put(strip, strip.of(x) + mapped)
        others.put(strip, head)
    return out.whole, others.whole


def _hidden(x: torch.Tensor, norm: nn.Module, ffn: ConvFFN) -> Iterator[tuple[Strip, torch.Tensor]]:
    """Yield the hidden layer of the ConvFFN behind `norm`, strip by strip."""
    for strip in cut(x, ffn.dwc.in_channels, context=ffn.dwc.kernel_size[0] // 2):
        yield strip, hidden_layer(ffn, norm(strip.with_context(x)), strip.above, strip.below)


def hidden_layer(ffn: ConvFFN, x: torch.Tensor, above: int, below: int) -> torch.Tensor:
    """Compute the hidden layer of a ConvFFN for a strip of an image.

    Args:
        ffn: has E hidden channels.
        x: rows of the image with some rows around them, (B, C, above + H + below, W).
        above: rows of `x` that serve the convolution only, up to half of its kernel; the image begins where they are
            fewer.
        below: likewise at the bottom.

    Returns:
        (B, E, H, W), what the ConvFFN hands to its last layer.
    """
    x = gelu(ffn.proj(x))  # (B, E, above + H + below, W)
    return gelu(convolve_rows(ffn.dwc, x, above, below)).add_(x[:, :, above : x.shape[2] - below])
