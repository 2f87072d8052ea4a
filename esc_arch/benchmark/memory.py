"""Peak memory of inference and fresh pages of the system, each way in a process of its own."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection
from typing import Any

import torch

from esc_arch.archs import ESC
from esc_arch.benchmark.timing import table
from esc_arch.common.peak_memory import MEANING, PeakMemory, fresh_pages
from esc_arch.fast import speedups
from esc_arch.fast.speedups import Speedups


def peak(size: tuple[int, int], arguments: dict[str, Any], device: str) -> str:
    """Compare the peak memory of enlarging one image of `size` (H, W); return a table in Markdown.

    On a CPU, it also has the pages that the system hands out for one further image: none where all that was freed is
    kept.
    """
    cases = {
        "plain, materialised attention": ("Naive", Speedups.none()),
        "plain, fused attention": ("SDPA", Speedups.none()),
        "all": ("auto", Speedups()),
    }
    measured = {name: _in_process(size, arguments, device, *case) for name, case in cases.items()}
    baseline = measured["plain, fused attention"][0]
    rows = [
        [name, f"{mebibytes:.0f}", f"{mebibytes / baseline:.2f}", "-" if pages is None else f"{pages}"]
        for name, (mebibytes, pages) in measured.items()
    ]
    header = [f"memory, {size[0]} x {size[1]}", "MiB", "of plain with fused attention", "fresh pages of an image"]
    return table(header, rows) + f"\n\nMemory: {MEANING[device]}."


def _in_process(
    size: tuple[int, int], arguments: dict[str, Any], device: str, attn_type: str, switches: Speedups
) -> tuple[float, int | None]:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(sender, size, arguments, device, attn_type, switches))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        return float("nan"), None  # it died, most likely of too little memory
    finally:
        process.join()


def _measure(
    sender: Connection,
    size: tuple[int, int],
    arguments: dict[str, Any],
    device: str,
    attn_type: str,
    switches: Speedups,
) -> None:
    network = ESC(**arguments, attn_type=attn_type).eval().to(device)
    with torch.no_grad(), speedups.use(switches):
        network(torch.rand(1, 3, 32, 32, device=device))  # what is loaded at the first use belongs to no way
        image = torch.rand(1, 3, *size, device=device)
        memory = PeakMemory(device)
        network(image)
        mebibytes, before = memory.mebibytes(), fresh_pages()
        network(image)
        sender.send((mebibytes, None if before is None or device != "cpu" else (fresh_pages() or 0) - before))
