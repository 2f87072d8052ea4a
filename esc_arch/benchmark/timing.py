"""Timing of alternatives that take turns, so that drift of the machine hits all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch
from tqdm import tqdm

Times = dict[str, float]  # seconds, by the name of the alternative


def take_turns(alternatives: Mapping[str, Callable[[], object]], rounds: int, device: str, title: str) -> Times:
    """Time alternatives, which take turns in rounds.

    In its turn each runs twice, and the second run counts: the first pays for the memory, of other sizes and given back
    to the system, that the alternative before it has left behind.

    Args:
        alternatives: functions without arguments, by name.
        rounds: how often each is timed.
        device: is waited for after each run.
        title: of the progress bar.

    Returns:
        the median of each, in seconds.
    """
    times: dict[str, list[float]] = {name: [] for name in alternatives}
    with tqdm(total=rounds * len(alternatives), desc=title, leave=False) as bar:
        for _ in range(rounds):
            for name, function in alternatives.items():
                function()
                if device == "cuda":
                    torch.cuda.synchronize()
                start = time.perf_counter()
                function()
                if device == "cuda":
                    torch.cuda.synchronize()
                times[name].append(time.perf_counter() - start)
                bar.update()
    return {name: statistics.median(values) for name, values in times.items()}


def table(header: list[str], rows: list[list[str]]) -> str:
    """Lay out a table in Markdown, numbers to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
