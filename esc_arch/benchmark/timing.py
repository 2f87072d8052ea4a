"""Timing of alternatives that take turns, so that drift of the machine hits all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch
from tqdm import tqdm

Times = dict[str, float]  # seconds, by the name of the alternative


def take_turns(alternatives: Mapping[str, Callable[[], object]], rounds: int, device: str, title: str) -> Times:
    """Time alternatives, one run of each per round, after a round that is not counted.

    Args:
        alternatives: functions without arguments, by name.
        rounds: how often each is timed.
        device: is waited for after each run.
        title: of the progress bar.

    Returns:
        the median of each, in seconds.
    """
    times: dict[str, list[float]] = {name: [] for name in alternatives}
    with tqdm(total=(rounds + 1) * len(alternatives), desc=title, leave=False) as bar:
        for _ in range(rounds + 1):
            for name, function in alternatives.items():
                start = time.perf_counter()
                function()
                if device == "cuda":
                    torch.cuda.synchronize()
                times[name].append(time.perf_counter() - start)
                bar.update()
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def table(header: list[str], rows: list[list[str]]) -> str:
    """Lay out a table in Markdown, numbers to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
