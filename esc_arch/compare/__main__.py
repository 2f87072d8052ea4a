"""Compare networks: `python -m esc_arch.compare FILE ... [--weights FILE=CHECKPOINT ...] [--output DIR] [...]`.

`--paper` stands for the option files of the paper's table. Every FILE is an option file of BasicSR, for training or
testing, and becomes a line of a table: parameters, multiply-accumulates, latency, peak memory, and PSNR and SSIM where
there is a checkpoint. Every scale and dtype has a table of its own. Every network is measured in a process of its own.
Started again with the same arguments, an interrupted comparison goes on.
"""

from __future__ import annotations

import argparse
import os
import sys

from esc_arch.common import machine
from esc_arch.common.arguments import count, positive, size
from esc_arch.common.ending import going_on_when_repeated
from esc_arch.common.errors import UserError, one_sentence
from esc_arch.common.whole_files import try_folder
from esc_arch.compare import page, table
from esc_arch.compare.job import DTYPES, Protocol
from esc_arch.compare.options import PYTORCH, bicubic_rows, in_every_dtype, read_rows
from esc_arch.compare.paper import materialised_rows
from esc_arch.compare.paper_files import CPU_OUTPUT, with_paper
from esc_arch.compare.runner import Plan, run
from esc_arch.compare.runtimes import RUNTIMES, check_runtimes, in_every_runtime, leave_out
from esc_arch.compare.summary import summarise

Size = tuple[int, int]  # height, width
OUTPUT = 1280, 720  # width, height
WARMUP = {"cpu": 1, "cuda": 20}
REPEATS = {"cpu": 5, "cuda": 50}


@one_sentence
def main(argv: list[str] | None = None) -> None:
    """Run the command; exit code 1 when anything could not be measured."""
    args = _parse(argv)
    device = machine.choose_device(args.device)
    if args.cpu_time and (device != "cpu" or args.threads != 1 or args.runtime != [PYTORCH]):
        raise UserError("--cpu-time: it is of one thread of PyTorch on a CPU; add --device cpu --threads 1.")
    check_runtimes(args.runtime, device, args.scores_only)
    rows = read_rows(with_paper(args.files, args.paper), args.weights, args.sets)
    for row in rows:
        row.timed = not args.scores_only
        row.metrics = tuple(dict.fromkeys(args.metrics))
    extra = materialised_rows(rows) if args.claims else []
    baselines = bicubic_rows(rows) if args.bicubic else []
    rows = in_every_dtype([*baselines, *in_every_runtime(rows, args.runtime), *extra], args.dtype)
    leave_out(rows, device)
    sizes = {row.scale: _input_size(args, row.scale, device) for row in rows if row.content}
    warmup = WARMUP[device] if args.warmup is None else args.warmup
    repeats = args.repeats or REPEATS[device]
    protocol = Protocol(device, args.compile, warmup, repeats, args.threads, args.cpu_time)
    try_folder(args.output)
    environment = machine.describe(device, args.threads)
    plan = Plan(rows, sizes, protocol, args.rounds, environment, args.output, tuple(args.modules), args.pictures)
    with going_on_when_repeated():
        record = run(plan)
    summary = summarise(plan, record, args.claims)
    print(table.terminal(summary))
    files = [*table.write(summary, args.output), page.write(summary, plan, args.plot_set), *_pictures(summary, args)]
    print("Written:", ", ".join(os.path.relpath(file) for file in files))
    if any(row.problems for row in rows):
        sys.exit(1)


def _pictures(summary: dict[str, object], args: argparse.Namespace) -> list[str]:
    from esc_arch.compare.plot import draw

    try:
        files = draw(summary, args.output, args.plot_set)
    except ImportError as error:
        print(f"No picture: {error}")
        return []
    if not files:
        print("No picture: it needs a network with both PSNR and latency.")
    return files


def _input_size(args: argparse.Namespace, scale: int, device: str = "cpu") -> Size:
    if args.size is not None:
        return args.size
    width, height = args.output_size or (CPU_OUTPUT if args.paper and device == "cpu" else OUTPUT)
    # up, so that the output is no smaller than asked for: 240 x 427 at x3
    return -(-height // scale), -(-width // scale)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m esc_arch.compare", description="Compare networks side by side.")
    add = parser.add_argument
    add("files", nargs="*", metavar="FILE", help="option files of BasicSR, for training or testing")
    paper = "the networks of the paper's Table 2 at x2, x3 and x4, before those of FILE"
    add("--paper", action="store_true", help=f"{paper}; on a CPU for an output of 256x256")
    add(
        "--weights",
        nargs="+",
        default=[],
        metavar="FILE=CHECKPOINT",
        help="checkpoints to score with; otherwise "
        "experiments/NAME/models/net_g_latest.pth of a training file, path:pretrain_network_g of a test file",
    )
    add("--output", default="results/compare", metavar="DIR", help="folder of the results (%(default)s)")
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--size", type=size, metavar="HxW", help="height and width of the input")
    either.add_argument(
        "--output-size",
        type=size,
        metavar="WxH",
        help="width and height of the output, 1280x720 by default; the input is this over the scale, rounded up",
    )
    add("--device", choices=["auto", "cpu", "cuda"], default="auto", help="(%(default)s)")
    add(
        "--dtype", nargs="+", choices=list(DTYPES), default=["fp32"], help="one or several; fp16, bf16: autocast (fp32)"
    )
    runtimes = "one or several; the others run an exported graph on the CPU (extras onnx, openvino)"
    add("--runtime", nargs="+", choices=RUNTIMES, default=[PYTORCH], help=f"{runtimes} (pytorch)")
    add("--compile", action="store_true", help="time the networks under torch.compile")
    add("--rounds", type=positive, default=3, help="how often every network is timed, in turn (%(default)s)")
    add("--repeats", type=positive, help="timed forward passes in a round (5 on a CPU, 50 on a GPU)")
    add("--warmup", type=count, help="forward passes before them (1 on a CPU, 20 on a GPU)")
    add("--sets", nargs="+", metavar="NAME", help="data sets of the option files to score on (all but training sets)")
    add(
        "--metrics",
        nargs="+",
        default=[],
        metavar="METRIC",
        type=str.lower,
        help="score by these too: niqe, or any of pyiqa such as lpips, dists, musiq, maniqa, clipiqa, fid",
    )
    add("--bicubic", action="store_true", help="add a line with PSNR and SSIM of bicubic enlargement")
    add("--scores-only", action="store_true", help="PSNR and SSIM alone, no latency, memory and MACs")
    claims = "try the paper's claims of speed: needs ESC and HiT-SRF at x4, ESC at x2; adds ESC with Naive attention"
    add("--claims", action="store_true", help=claims)
    add("--threads", type=positive, help="CPU threads of PyTorch")
    cpu_time = "latency without the time in which others had the processor, for a busy machine; needs --threads 1"
    add("--cpu-time", action="store_true", help=cpu_time)
    add(
        "--pictures",
        type=count,
        default=3,
        metavar="N",
        help="result pictures of every data set that the page shows, from the first on (%(default)s)",
    )
    add("--plot-set", metavar="NAME", help="data set of the bubble plot (the one with most figures)")
    add(
        "--import",
        dest="modules",
        nargs="+",
        default=[],
        metavar="MODULE",
        help="modules to import first, which add networks to BasicSR's ARCH_REGISTRY",
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
