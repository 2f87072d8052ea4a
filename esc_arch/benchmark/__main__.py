"""Measures what each way of being fast is worth, and how near the parts come to the roofline."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch

from esc_arch.benchmark.files import overlapping
from esc_arch.benchmark.memory import peak
from esc_arch.benchmark.parts import roofline
from esc_arch.benchmark.precision import differences
from esc_arch.benchmark.scan import scans
from esc_arch.benchmark.whole import inference, training
from esc_arch.common.arguments import positive, size
from esc_arch.common.errors import UserError, one_sentence
from esc_arch.common.machine import choose_device, describe
from esc_arch.common.whole_files import replacing, try_folder
from esc_arch.layers.backend import ATTN_TYPES

KINDS = ("inference", "parts", "training", "memory", "precision", "files", "scan")


@one_sentence
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m esc_arch.benchmark", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"any of {', '.join(KINDS)} (default: all)")
    parser.add_argument("--sizes", nargs="+", type=size, default=[(128, 128), (256, 256)], help="of the input, HxW")
    parser.add_argument("--memory-size", type=size, default=(360, 640), help="input for memory (default: 360x640)")
    parser.add_argument("--patch", type=positive, default=64, help="side of the LQ patches for training (default: 64)")
    parser.add_argument("--batch", type=positive, default=4, help="patches of a training step (default: 4)")
    parser.add_argument(
        "--files",
        nargs="+",
        type=size,
        default=[(1000, 64), (50, 512)],
        metavar="NxSIDE",
        help="pictures to enlarge from files, and their sides (default: 1000x64 50x512)",
    )
    parser.add_argument("--blocks", type=positive, default=5, help="n_blocks: 5 is ESC, 3 is ESC-light (default: 5)")
    parser.add_argument("--scale", type=positive, default=2, help="upscaling factor (default: 2)")
    parser.add_argument("--baseline", choices=ATTN_TYPES, default="Naive", help="attention of the plain path")
    parser.add_argument("--rounds", type=positive, default=5, help="runs of each alternative (default: 5)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--output", type=Path, help="also write the tables to this Markdown file")
    arguments = parser.parse_args()
    run(arguments)


def run(arguments: argparse.Namespace) -> None:
    """Measure what is asked for.

    Raises:
        UserError: an argument cannot be used.
    """
    kinds = arguments.kinds or KINDS
    for kind in kinds:
        if kind not in KINDS:
            raise UserError(f"{kind} is nothing to measure; choose from {', '.join(KINDS)}.")
    device = choose_device(arguments.device)
    if arguments.output:
        try_folder(str(arguments.output.parent))
    torch.manual_seed(0)
    network = {"n_blocks": arguments.blocks, "upscaling_factor": arguments.scale}
    common = network, device, arguments.baseline, arguments.rounds
    sections: dict[str, Callable[[], list[str]]] = {
        "inference": lambda: [inference(sides, *common) for sides in arguments.sizes],
        "parts": lambda: [roofline(sides, device, arguments.rounds) for sides in arguments.sizes],
        "training": lambda: [training(arguments.patch, arguments.batch, *common)],
        "memory": lambda: [peak(arguments.memory_size, network, device)],
        "files": lambda: [overlapping(arguments.files, device, arguments.rounds)],
        "precision": lambda: [differences(arguments.sizes[0], device)],
        "scan": lambda: [scans(arguments.sizes, arguments.patch, arguments.batch, device, arguments.rounds)],
    }
    machine = describe(device, None)
    shown = ("gpu", "cuda", "cpu", "cpus", "threads", "kernels", "torch", "commit")
    report = [", ".join(f"{name} {machine[name]}" for name in shown if machine[name] is not None)]
    print(report[0])
    for kind in kinds:
        tables = sections[kind]()
        print("\n" + "\n\n".join(tables), flush=True)
        report += tables
    if arguments.output:
        with replacing(arguments.output) as stream:
            stream.write(("\n\n".join(report) + "\n").encode())


if __name__ == "__main__":
    main()
