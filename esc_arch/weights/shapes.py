"""What all networks tell by the shapes of their weights: numbers of channels, blocks, heads."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from esc_arch.common.errors import UserError
from esc_arch.layers.upsample_head import Mark

Shapes = Mapping[str, tuple[int, ...]]
Arguments = dict[str, Any]
Infer = Callable[[Shapes, Arguments, Mark | None], Arguments]

SAY_SCALE = "say it: upscaling_factor=... in esc_arch.load, scale=... in upscale_image, --scale in commands."
WINDOW_OF_RIB = 64  # of the published networks, which no weight tells


class UndecidedError(UserError):
    """The weights are those of a network, but do not tell an argument that changes what it computes."""


def infer_trunk(shapes: Shapes, positions: Arguments | None = None) -> Arguments:
    """Infer what all networks of the ESC family have; `positions`, of its attention, are given or inferred too."""
    dim = shapes["proj.1.weight" if "proj.1.weight" in shapes else "proj.weight"][0]  # 0 may pixel-unshuffle
    pdim, _, kernel_size, _ = shapes["lk_spatial" if "lk_spatial" in shapes else "plk_filter"]
    positions = infer_positions(shapes) if positions is None else positions
    arguments: Arguments = {
        "dim": dim,
        "pdim": pdim,
        "kernel_size": kernel_size,
        "n_blocks": count(shapes, r"blocks\.(\d+)\."),
        "conv_blocks": count(shapes, r"blocks\.0\.pconvs\.(\d+)\."),
        **positions,
    }
    if arguments["conv_blocks"]:
        arguments["exp_ratio"] = ratio_of(shapes["blocks.0.convffns.0.proj.weight"][0], dim)
    return arguments


def infer_positions(shapes: Shapes) -> Arguments:
    """Infer heads and window of the attention, and the sizes of what takes the place of a table of positions."""
    attention = "blocks.0.attn."
    if attention + "to_hidden" in shapes:
        num_heads, hidden, rank = shapes[attention + "to_q"]
        octaves = (shapes[attention + "to_hidden"][0] - 2) // 4
        sizes = {"rank": rank, "rib_hidden_dim": hidden, "rib_n_freqs": octaves}
        return {"window_size": WINDOW_OF_RIB, "num_heads": num_heads, "attn_type": "RIB", **sizes}
    factors = shapes.get(attention + "flashbias_q")
    if factors is not None:
        num_heads, tokens, rank = factors
        window = root(tokens, "the number of tokens")
        return {"window_size": window, "num_heads": num_heads, "attn_type": "FlashBias", "flashbias_rank": rank}
    num_heads, relative = shapes[attention + "relative_position_bias"]
    window = (root(relative, "the number of relative positions") + 1) // 2
    return {"window_size": window, "num_heads": num_heads}


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
