"""The whole network: plain, with everything on, and with each switch off."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from esc_arch.archs import ESC
from esc_arch.benchmark.timing import table, take_turns
from esc_arch.fast import kernels, speedups
from esc_arch.fast.speedups import Speedups
from esc_arch.layers.attention import WindowAttention

PLAIN = "plain"
ALL = "all"


def with_attention(network: nn.Module, attn_type: str) -> nn.Module:
    """Copy a network with another attention back-end."""
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, WindowAttention):
            module.attn_type = attn_type
    return network


def alternatives(
    network: nn.Module, baseline: str, run: Callable[[nn.Module], object]
) -> dict[str, Callable[[], object]]:
    """Make the functions to compare.

    Args:
        network: with attention of type `auto`.
        baseline: attention back-end of the plain path.
        run: what to do with the network.

    Returns:
        functions without arguments, the plain path first.
    """
    plain = with_attention(network, baseline)
    cases = {PLAIN: (plain, Speedups.none()), ALL: (network, Speedups())}
    if baseline != "SDPA":
        cases["plain, fused attention"] = with_attention(network, "SDPA"), Speedups.none()
    for field in dataclasses.fields(Speedups):
        cases[f"all but {field.name}"] = network, Speedups(**{field.name: False})

    def bind(net: nn.Module, switches: Speedups) -> Callable[[], object]:
        def call() -> object:
            with speedups.use(switches):
                return run(net)

        return call

    return {name: bind(*case) for name, case in cases.items()}


def inference(size: tuple[int, int], arguments: dict[str, Any], device: str, baseline: str, rounds: int) -> str:
    """Compare the enlarging of one image of `size` (H, W); return a table in Markdown."""
    network = ESC(**arguments).eval().to(device)
    image = torch.rand(1, 3, *size, device=device)
    with torch.no_grad():
        cases = alternatives(network, baseline, lambda net: net(image))
        reference = cases[PLAIN]()
        differences = {name: _difference(function(), reference) for name, function in cases.items()}
        times = take_turns(cases, rounds, device, f"inference {size[0]} x {size[1]}")
    rows = [
        [name, f"{1000 * time:.0f}", f"{times[PLAIN] / time:.2f}", f"{differences[name]:.1e}"]
        for name, time in times.items()
    ]
    return table([f"inference, {size[0]} x {size[1]}", "ms", "plain / this", "difference"], rows)


def training(patch: int, batch: int, arguments: dict[str, Any], device: str, baseline: str, rounds: int) -> str:
    """Compare forward and backward pass of a batch of LQ patches; return a table in Markdown."""
    network = ESC(**arguments).to(device)
    images = torch.rand(batch, 3, patch, patch, device=device)

    def step(net: nn.Module) -> None:
        net.zero_grad()
        net(images).abs().mean().backward()

    cases = alternatives(network, baseline, step)
    if device != "cpu" or kernels.has_bf16():

        def in_bf16() -> None:
            with torch.autocast(device, torch.bfloat16):
                step(network)

        cases[f"{ALL}, bf16"] = in_bf16
    times = take_turns(cases, rounds, device, "training")
    rows = [[name, f"{1000 * time:.0f}", f"{times[PLAIN] / time:.2f}"] for name, time in times.items()]
    return table([f"training step, {batch} x {patch} x {patch}", "ms", "plain / this"], rows)


def _difference(out: object, reference: object) -> float:
    """Largest difference as a part of the range of the reference."""
    assert isinstance(out, torch.Tensor)
    assert isinstance(reference, torch.Tensor)
    return ((out - reference).abs().max() / (reference.max() - reference.min())).item()
