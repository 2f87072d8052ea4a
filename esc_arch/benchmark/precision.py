"""How far half precision is from single precision, in a network with weights in which every part shows."""

from __future__ import annotations

import torch

from esc_arch.archs import ESC, ESCFP
from esc_arch.benchmark.timing import table
from esc_arch.fast import speedups
from esc_arch.fast.speedups import Speedups


def differences(size: tuple[int, int], device: str) -> str:
    """Compare outputs with those of the plain path in fp32, as parts of their range; return a table in Markdown."""
    variants = {"ESC": ESC(), "ESC-light": ESC(n_blocks=3), "ESC-FP": ESCFP()}
    rows = []
    image = torch.rand(1, 3, *size, device=device)
    for name, network in variants.items():
        network = network.eval().to(device)
        for parameter in network.parameters():
            parameter.data += 0.02 * torch.randn_like(parameter)  # no branch stays at zero
        with torch.no_grad():
            with speedups.use(Speedups.none()):
                reference = network(image)
            span = reference.max() - reference.min()
            row = [name]
            for dtype in (torch.float32, torch.bfloat16, torch.float16):
                out = network.to(dtype)(image.to(dtype)).float()
                row.append(f"{((out - reference).abs().max() / span).item():.1e}")
                network.float()
        rows.append(row)
    return table([f"difference from plain fp32, {size[0]} x {size[1]}", "fp32", "bf16", "fp16"], rows)
