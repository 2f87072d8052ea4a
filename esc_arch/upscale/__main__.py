"""Enlarge pictures: `python -m esc_arch.upscale INPUT ... -o OUT [--scale S] [--weights W] [...]`.

INPUT are files, folders (with all below them, links followed) and patterns. Results that are there already are left
alone, so that the same command goes on after an interruption.
"""

from __future__ import annotations

import argparse
import sys

import torch

from esc_arch.common.arguments import factor, positive
from esc_arch.common.ending import going_on_when_repeated
from esc_arch.common.errors import UserError, one_sentence
from esc_arch.upscale.batch import run_jobs
from esc_arch.upscale.jobs import plan_jobs, try_places
from esc_arch.upscale.network import bundled_of_scale, load_enlarger

MAX_PIXELS = 100_000_000
DEFAULT_SCALE = 2


@one_sentence
def main(argv: list[str] | None = None) -> None:
    """Run the command; exit code 1 when a picture could not be enlarged."""
    args = _parse(argv)
    device = _choose_device(args.device)
    weights = args.weights or bundled_of_scale(args.scale or DEFAULT_SCALE)
    enlarger = load_enlarger(
        weights, self_ensemble=args.self_ensemble, half=args.fp16, scale=args.scale, window=args.window
    )
    enlarger = enlarger.at_scale(args.scale)
    suffix = f"_x{enlarger.scale:g}" if args.suffix is None else args.suffix
    plan = plan_jobs(args.inputs, args.output, suffix)
    try_places(plan, args.output, args.overwrite)
    enlarger = enlarger.to(device, args.fp16)
    with going_on_when_repeated():
        summary = run_jobs(plan, enlarger, tile=args.tile, overwrite=args.overwrite, max_pixels=args.max_pixels)
    print(summary)
    if summary.failed:
        sys.exit(1)


def _choose_device(name: str) -> str:
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return next(device for device, there in available.items() if there)
    if not available.get(name.partition(":")[0], False):
        there = ", ".join(device for device, is_there in available.items() if is_there)
        raise UserError(f"--device: {name} is not there; choose auto or one of {there}.")
    return name


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m esc_arch.upscale", description="Enlarge pictures.")
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="file, folder or pattern")
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="folder; or a file, for one picture")
    parser.add_argument(
        "--scale",
        type=factor,
        help="enlarge so many times, 2.7 too with weights of ESC+LTE (default: that of the weights, or 2)",
    )
    parser.add_argument("--weights", metavar="W", help="name of weights of this package, or a checkpoint")
    parser.add_argument(
        "--window", type=positive, metavar="PIXELS", help="of ESC-RIB, whose weights do not tell it (default: 64)"
    )
    parser.add_argument("--tile", type=positive, metavar="PIXELS", help="side of a tile (default: by free memory)")
    parser.add_argument("--fp16", action="store_true", help="compute in half precision")
    parser.add_argument("--self-ensemble", action="store_true", help="average over eight symmetries: better, 8x slower")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    parser.add_argument("--suffix", help="added to names (default: _x2 for scale 2, ...)")
    parser.add_argument("--overwrite", action="store_true", help="make results anew that are there already")
    parser.add_argument(
        "--max-pixels", type=positive, default=MAX_PIXELS, help=f"refuse larger pictures (default: {MAX_PIXELS})"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
