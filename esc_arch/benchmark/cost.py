"""What a pixel costs in images of different sizes: with a cost that grows linearly, everywhere the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from esc_arch.archs import ESC
from esc_arch.benchmark.timing import table, take_turns

SIDES = (64, 128, 256, 512, 1024)
ROUNDS = 3  # at most: the largest image costs as much as hundreds of the smallest


def per_pixel(sides: Iterable[int], arguments: dict[str, Any], device: str, rounds: int) -> str:
    """Time the enlarging of square images; return a table in Markdown.

    Args:
        sides: pixels a side of the input.
        arguments: of ESC.
        device: `cpu` or `cuda`.
        rounds: how often each is timed.
    """
    network = ESC(**arguments).eval().to(device)

    def enlarging(side: int) -> Callable[[], object]:
        image = torch.rand(1, 3, side, side, device=device)
        return lambda: network(image)

    sides = sorted(set(sides))
    with torch.no_grad():
        times = take_turns({str(side): enlarging(side) for side in sides}, min(rounds, ROUNDS), device, "cost")
    cost = {side: times[str(side)] / side**2 for side in sides}
    best = min(cost.values())
    rows = [
        [f"{side} x {side}", f"{1000 * times[str(side)]:.0f}", f"{1e6 * cost[side]:.2f}", f"{cost[side] / best:.2f}"]
        for side in sides
    ]
    return table(["cost of a pixel", "ms", "µs a pixel", "of the best"], rows)
