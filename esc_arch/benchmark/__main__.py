"""Measures what each way of being fast is worth, and how near the parts come to the roofline."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from esc_arch.benchmark import gpu
from esc_arch.benchmark.cost import SIDES, per_pixel
from esc_arch.benchmark.files import overlapping
from esc_arch.benchmark.memory import peak
from esc_arch.benchmark.parts import roofline
from esc_arch.benchmark.precision import differences
from esc_arch.benchmark.runtimes import comparison, require_runtimes
from esc_arch.benchmark.scan import scans
from esc_arch.benchmark.whole import inference, training
from esc_arch.common.arguments import positive, size
from esc_arch.common.claims import OUTPUT
from esc_arch.common.errors import UserError, one_sentence
from esc_arch.common.machine import choose_device, describe
from esc_arch.common.whole_files import replacing, try_folder
from esc_arch.layers.backend import ATTN_TYPES

KINDS = ("inference", "parts", "training", "memory", "precision", "files", "scan", "cost")
RUNTIMES = "runtimes"  # only where it is asked for: they are not installed with this package
GPU_REPORT = Path("results", "gpu.md")
BATCH = {False: 4, True: 16}  # patches of a training step, on a GPU as published


@one_sentence
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m esc_arch.benchmark", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"any of {', '.join(KINDS)} (default: all)")
    parser.add_argument("--runtimes", action="store_true", help="also compare with onnxruntime and OpenVINO, on a CPU")
    parser.add_argument("--gpu", action="store_true", help="everything that is to be known of a GPU, and nothing else")
    parser.add_argument("--minutes", type=positive, default=8, help="that --gpu may take (default: 8)")
    parser.add_argument("--output-size", type=size, default=OUTPUT, help="of --gpu, HxW (default: 720x1280)")
    parser.add_argument(
        "--sides", nargs="+", type=positive, default=SIDES, help="of the input, for the cost of a pixel"
    )
    parser.add_argument("--sizes", nargs="+", type=size, default=[(128, 128), (256, 256)], help="of the input, HxW")
    parser.add_argument("--memory-size", type=size, default=(360, 640), help="input for memory (default: 360x640)")
    parser.add_argument("--patch", type=positive, default=64, help="side of the LQ patches for training (default: 64)")
    parser.add_argument("--batch", type=positive, help="patches of a training step (default: 4; --gpu: 16)")
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
    parser.add_argument("--output", type=Path, help="also write the tables to this Markdown file, and JSON of --gpu")
    arguments = parser.parse_args()
    run(arguments)


def run(arguments: argparse.Namespace) -> None:
    """Measure what is asked for.

    Raises:
        UserError: an argument cannot be used.
    """
    kinds = [*(arguments.kinds or KINDS), *([RUNTIMES] if arguments.runtimes else [])]
    for kind in arguments.kinds:
        if kind not in KINDS:
            raise UserError(f"{kind} is nothing to measure; choose from {', '.join(KINDS)}.")
    device = choose_device(arguments.device)
    if arguments.gpu and not arguments.output:
        arguments.output = GPU_REPORT
    if arguments.output:
        try_folder(str(arguments.output.parent))
    if arguments.runtimes:
        require_runtimes()
    batch = arguments.batch or BATCH[arguments.gpu]
    torch.manual_seed(0)
    if arguments.gpu:
        everything(arguments, device, batch)
        return
    network = {"n_blocks": arguments.blocks, "upscaling_factor": arguments.scale}
    common = network, device, arguments.baseline, arguments.rounds
    sections: dict[str, Callable[[], list[str]]] = {
        "inference": lambda: [inference(sides, *common) for sides in arguments.sizes],
        "parts": lambda: [roofline(sides, network, device, arguments.rounds) for sides in arguments.sizes],
        "training": lambda: [training(arguments.patch, batch, *common)],
        "memory": lambda: [peak(arguments.memory_size, network, device)],
        "files": lambda: [overlapping(arguments.files, device, arguments.rounds)],
        "precision": lambda: [differences(arguments.sizes[0], device)],
        "scan": lambda: [scans(arguments.sizes, arguments.patch, batch, device, arguments.rounds)],
        "cost": lambda: [per_pixel(arguments.sides, network, device, arguments.rounds)],
        RUNTIMES: lambda: [comparison(sides, network, arguments.rounds) for sides in arguments.sizes],
    }
    machine = shown(device)
    report = [", ".join(f"{name} {value}" for name, value in machine.items() if value is not None)]
    print(report[0])
    for kind in kinds:
        tables = sections[kind]()
        print("\n" + "\n\n".join(tables), flush=True)
        report += tables
    if arguments.output:
        with replacing(arguments.output) as stream:
            stream.write(("\n\n".join(report) + "\n").encode())


def shown(device: str) -> dict[str, Any]:
    """Describe the machine, as far as it bears on times."""
    machine = describe(device, None)
    return {name: machine[name] for name in ("gpu", "cuda", "cpu", "cpus", "threads", "kernels", "torch", "commit")}


def everything(arguments: argparse.Namespace, device: str, batch: int) -> None:
    """Measure a GPU; write the report as Markdown and as JSON."""
    sides = arguments.output_size, arguments.patch
    setting = gpu.Setting(device, *sides, batch, arguments.rounds, arguments.minutes)
    report = gpu.measure_all(setting, shown(device))
    files = {arguments.output: gpu.markdown(report), arguments.output.with_suffix(".json"): gpu.as_json(report)}
    print(files[arguments.output])
    for file, text in files.items():
        with replacing(file) as stream:
            stream.write(text.encode())
    print("Written:", ", ".join(str(file) for file in files))


if __name__ == "__main__":
    main()
