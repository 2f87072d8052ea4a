"""What all networks tell by the shapes of their weights: numbers of channels, blocks, heads."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from esc_arch.layers.upsample_head import Mark

Shapes = Mapping[str, tuple[int, ...]]
Arguments = dict[str, Any]
Infer = Callable[[Shapes, Arguments, Mark | None], Arguments]


def infer_trunk(shapes: Shapes) -> Arguments:
    """Infer what all networks of the ESC family have."""
    dim = shapes["proj.1.weight" if "proj.1.weight" in shapes else "proj.weight"][0]  # 0 may pixel-unshuffle
    pdim, _, kernel_size, _ = shapes["lk_spatial" if "lk_spatial" in shapes else "plk_filter"]
    num_heads, positions = shapes["blocks.0.attn.relative_position_bias"]
    arguments: Arguments = {
        "dim": dim,
        "pdim": pdim,
        "kernel_size": kernel_size,
        "n_blocks": count(shapes, r"blocks\.(\d+)\."),
        "conv_blocks": count(shapes, r"blocks\.0\.pconvs\.(\d+)\."),
        "window_size": (root(positions, "the number of relative positions") + 1) // 2,
        "num_heads": num_heads,
    }
    if arguments["conv_blocks"]:
        arguments["exp_ratio"] = ratio_of(shapes["blocks.0.convffns.0.proj.weight"][0], dim)
    return arguments


def count(shapes: Iterable[str], pattern: str) -> int:
    """Count the entries of a list of modules: one more than the largest index."""
    found = (re.match(pattern, name) for name in shapes)
    return max((int(match[1]) + 1 for match in found if match), default=0)


def root(square: float, what: str) -> int:
    root = round(square**0.5)
    if root < 1 or root**2 != square:
        raise ValueError(f"{what} must be a square number, got {square:g}")
    return root


def ratio_of(hidden: int, dim: int) -> float:
    """Find the roundest r with int(dim * r) == hidden."""
    candidates = (round(hidden / dim, digits) for digits in range(8))
    return next((ratio for ratio in candidates if int(dim * ratio) == hidden), (hidden + 0.5) / dim)
