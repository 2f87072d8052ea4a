"""Measures what it is worth that files are read and written while the network computes.

`python -m esc_arch.upscale.measuring`; `python -m esc_arch.benchmark files` runs it among all others.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image

from esc_arch.archs import ESC
from esc_arch.common.arguments import positive, size
from esc_arch.common.errors import one_sentence
from esc_arch.common.machine import choose_device
from esc_arch.upscale.batch import run_jobs
from esc_arch.upscale.jobs import Job, Plan
from esc_arch.upscale.network import bundled_of_scale, load_enlarger
from esc_arch.upscale.pixels import enlarge_pixels
from esc_arch.upscale.reaching import Networks
from esc_arch.upscale.work import DEFAULT_SCALE, Settings

SETS = [(1000, 64), (50, 512)]  # pictures, and their sides
SMALL_NAME = "a small ESC x2"  # on a CPU it leaves files their share of the time, as ESC-light does on a GPU
SMALL: dict[str, Any] = {"dim": 16, "pdim": 4, "n_blocks": 1, "conv_blocks": 1, "window_size": 16, "num_heads": 2}
COLUMNS = ("one after the other", "overlapped", "computing alone")


@one_sentence
def main(argv: list[str] | None = None) -> None:
    """Run the command: print a table of pictures per second."""
    parser = argparse.ArgumentParser("python -m esc_arch.upscale.measuring", description=__doc__)
    parser.add_argument(
        "--sets", nargs="+", type=size, default=SETS, metavar="NxSIDE", help="N pictures of SIDE x SIDE"
    )
    parser.add_argument("--weights", help=f"name or checkpoint (default: {SMALL_NAME} on a CPU, ESC-light elsewhere)")
    parser.add_argument("--rounds", type=positive, default=3, help="runs of each way, of which the median counts")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    arguments = parser.parse_args(argv)
    device = choose_device(arguments.device)
    name = arguments.weights or (SMALL_NAME if device == "cpu" else bundled_of_scale(DEFAULT_SCALE))
    networks = Networks(name, lambda name: load_enlarger(ESC(**SMALL) if name == SMALL_NAME else name))
    networks.move(device, "fp32")
    print(f"| pictures a second, PNG, {os.path.basename(name)} | {' | '.join(COLUMNS)} | gain |")
    print("| --- |" + " ---: |" * (len(COLUMNS) + 1))
    for number, side in arguments.sets:
        seconds = measure(networks, number, side, arguments.rounds)
        rates = [number / seconds[column] for column in COLUMNS]
        cells = [f"{rate:.3g}" for rate in rates]
        print(f"| {number} of {side} x {side} | {' | '.join(cells)} | {rates[1] / rates[0]:.2f} |", flush=True)


def measure(networks: Networks, number: int, side: int, rounds: int) -> dict[str, float]:
    """Time three ways to enlarge pictures, which take turns.

    Args:
        networks: what enlarges.
        number: of pictures.
        side: of each.
        rounds: how often each is timed.

    Returns:
        the median of the seconds, by the names in COLUMNS; the last one is the network's, with all in memory.
    """
    with tempfile.TemporaryDirectory() as folder:
        pictures = [_picture(index, side) for index in range(min(number, 10))]
        sources = [os.path.join(folder, f"{index}.png") for index in range(number)]
        for index, source in enumerate(sources):
            Image.fromarray(pictures[index % len(pictures)]).save(source)
        plan = Plan([Job(source, source[: -len(".png")] + "_x.png") for source in sources])
        enlarger = networks.reaching(DEFAULT_SCALE)
        ways: dict[str, Callable[[], object]] = {
            COLUMNS[0]: lambda: run_jobs(plan, networks, Settings(overwrite=True), overlap=False),
            COLUMNS[1]: lambda: run_jobs(plan, networks, Settings(overwrite=True)),
            COLUMNS[2]: lambda: [enlarge_pixels(pictures[index % len(pictures)], enlarger) for index in range(number)],
        }
        enlarge_pixels(pictures[0], enlarger)
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                start = time.perf_counter()
                way()
                taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in taken.items()}


def _picture(seed: int, side: int) -> np.ndarray:
    """Make something like a photograph: smooth, with some noise, so that PNG has its usual work."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 8, 8, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")
    noisy = smooth + 0.02 * torch.randn(smooth.shape, generator=generator)
    return (noisy.clamp(0, 1) * 255).round().byte()[0].permute(1, 2, 0).contiguous().numpy()


if __name__ == "__main__":
    main()
