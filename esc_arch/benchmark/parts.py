"""The parts of the network beside the roofline: how near each comes to the throughput of matrix products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from esc_arch.archs import ESC
from esc_arch.benchmark.timing import table, take_turns
from esc_arch.fast import compiled_large_kernel, kernels, steps
from esc_arch.fast.large_kernel import ROWS
from esc_arch.layers.conv_attn import LargeKernel, averaged_kernel


def roofline(size: tuple[int, int], arguments: dict[str, Any], device: str, rounds: int) -> str:
    """Time every part of ESC alone; return a table in Markdown.

    The throughput to compare with is the better of a large matrix product and a 3x3 convolution of the network's size.
    Multiply-accumulates are those left after the algorithmic savings: maps composed, large kernel transformed.

    Args:
        size: H, W of the image.
        arguments: of the network.
        device: `cpu` or `cuda`.
        rounds: how often each part is timed.
    """
    network = ESC(**arguments).eval().to(device)
    block: Any = network.blocks[0]
    blocks = len(list(network.blocks))
    convolutions = blocks * len(block.pconvs)
    height, width = size
    last = torch.channels_last if device == "cpu" else torch.contiguous_format
    x = torch.rand(1, 64, height, width, device=device).contiguous(memory_format=last)
    head, out = x[:, :16].contiguous(memory_format=last), torch.zeros_like(x)
    matrix, weight = torch.rand(1024, 1024, device=device), torch.rand(64, 64, 3, 3, device=device)
    with torch.no_grad():
        kernel = averaged_kernel(network.plk_filter)
        parts: dict[str, tuple[int, float, Callable[[], object]]] = {
            "ConvFFN before attention": (
                blocks,
                64 * 128 * 2 + 9 * 128,
                lambda: steps.ffn_step(x, block.ln_proj, block.proj),
            ),
            "attention": (
                blocks,
                64 * 192 + 64 * 64 + 2 * 64 * block.attn.window_size**2,
                lambda: steps.attention_step(x, block.ln_attn, block.attn),
            ),
            "ConvFFN and ConvAttn": (
                convolutions,
                64 * 80 + 9 * 80 + 80 * 80 + 16 * 64 + 9 * 16 + _large_kernel_macs(network, device),
                lambda: steps.conv_attn_step(x, block.lns[0], block.convffns[0], block.pconvs[0], kernel),
            ),
            "- of it the convolution": (
                0,
                16 * 64 + 9 * 16 + _large_kernel_macs(network, device),
                lambda: _convolve(out, head, block.pconvs[0], kernel),
            ),
            "convolution behind a block": (
                blocks,
                9 * 64 * 64,
                lambda: steps.conv_out_step(x, block.ln_out, block.conv_out, x),
            ),
        }
        functions = {name: part[2] for name, part in parts.items()}
        functions["matrix product"] = lambda: matrix @ matrix
        functions["3x3 convolution"] = lambda: F.conv2d(x, weight, padding=1)
        image = torch.rand(1, 3, height, width, device=device)
        functions["whole network"] = lambda: network(image)
        times = take_turns(functions, rounds, device, "parts")
    convolution = 9 * 64 * 64 * height * width
    peak = max(1024**3 / times["matrix product"], convolution / times["3x3 convolution"])
    rows = []
    for name, (count, macs, _) in parts.items():
        best = macs * height * width / peak
        rows.append(_row(name, str(count or convolutions), times[name], best))
    total = sum(count * macs for count, macs, _ in parts.values()) * height * width / peak
    rows.append(_row("whole network", "1", times["whole network"], total))
    return (
        f"Throughput of matrix products: {2 * peak / 1e9:.0f} GFLOP/s (product of 1024 x 1024 matrices "
        f"{2 * 1024**3 / times['matrix product'] / 1e9:.0f}, 3x3 convolution of 64 channels "
        f"{2 * convolution / times['3x3 convolution'] / 1e9:.0f}).\n\n"
        + table([f"part, {height} x {width}", "times", "ms each", "roofline ms", "of the roofline"], rows)
    )


def _row(name: str, count: str, time: float, best: float) -> list[str]:
    return [name, count, f"{1000 * time:.2f}", f"{1000 * best:.2f}", f"{best / time:.0%}"]


def _convolve(out: torch.Tensor, head: torch.Tensor, convolution: Any, kernel: LargeKernel) -> torch.Tensor:
    """Convolve the first channels of the features, and map them, as a step does."""
    if kernels.available() and compiled_large_kernel.pays(head, convolution, kernel):
        compiled_large_kernel.add_conv_attn(out, head, convolution, kernel)
        return out
    return F.conv2d(convolution.plk(head, kernel), convolution.aggr.weight[:, : convolution.pdim])


def _large_kernel_macs(network: ESC, device: str) -> float:
    """Count the multiply-accumulates of the large kernel per pixel, transformed on a CPU.

    The compiled kernel transforms even and odd halves of a column, and multiplies pixels at the same distance together.
    """
    channels, _, side, _ = network.plk_filter.shape
    if device != "cpu":
        return channels**2 * side**2
    period = ROWS + side - 1
    if not kernels.available():
        return channels * (period * period + period * ROWS + period * channels * side) / ROWS
    half, taps = period // 2, side // 2 + 1
    transforms = (half + 1) ** 2 + (half - 1) ** 2 + (ROWS // 2 + 1) * period
    return channels * (transforms + period * channels * taps) / ROWS
