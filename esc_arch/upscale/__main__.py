"""Enlarge pictures and videos: `python -m esc_arch.upscale INPUT ... -o OUT [--scale S | --size WxH] [...]`.

INPUT are files, folders (with all below them, links followed) and patterns; `-` is a picture on standard input, and as
OUT one on standard output. Results that are there already are left alone, so that the same command goes on after an
interruption. Started by torchrun or srun, processes share the pictures.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
import time
from typing import TextIO

import torch
from tqdm import tqdm

from esc_arch.common.arguments import count, factor, positive
from esc_arch.common.ending import going_on_when_repeated
from esc_arch.common.errors import UserError, one_sentence, printable
from esc_arch.common.launch import Launch, launched
from esc_arch.common.precision import CHOICES, choose_dtype
from esc_arch.pictures.formats import FORMATS, format_of
from esc_arch.upscale.batch import Summary, conclusion
from esc_arch.upscale.crew import Alone, Crew, told_by_the_first
from esc_arch.upscale.jobs import Job, Plan, plan_jobs, try_places
from esc_arch.upscale.network import load_enlarger
from esc_arch.upscale.reaching import Networks
from esc_arch.upscale.sizes import Size, box
from esc_arch.upscale.streams import STREAM, check_standard_output
from esc_arch.upscale.video.command import VideoSettings, VideoSummary, enlarge_videos, targets_of, videos_among
from esc_arch.upscale.work import Settings, label_of

KINDS = {"png": ".png", "jpg": ".jpg", "webp": ".webp", "tif": ".tif", "bmp": ".bmp", "avif": ".avif"}
WITH_QUALITY = ("JPEG", "WEBP", "AVIF")
QUALITIES = range(1, 101)


@one_sentence
def main(argv: list[str] | None = None) -> None:
    """Run the command; exit code 1 when a picture could not be enlarged."""
    start = time.monotonic()
    launch = launched()
    with told_by_the_first(launch):
        args = _parse(argv)
        _check(args)
        videos = _videos(args, launch)
    summary: Summary | VideoSummary
    if videos:
        summary = _run_videos(args, launch, videos)
    elif launch.size == 1:
        summary = _run(args, launch, Alone())
    else:
        with Crew.joined(launch) as crew:
            summary = _run(args, launch, crew)
        if crew.is_for_another_to_tell:
            return
    print(conclusion(str(summary), args.output, start), file=_messages(args))
    if summary.failed:
        sys.exit(1)


def _run(args: argparse.Namespace, launch: Launch, crew: Alone | Crew) -> Summary:
    """Enlarge pictures, alone or together with others."""
    device = _choose_device(args.device, launch)
    dtype = _dtype(args, device, launch)
    size, networks = _size(args), _networks(args, dtype)
    plan = crew.agree(lambda: _plan(args, size, networks), args.output)
    networks.move(device, dtype)
    settings = Settings(
        size,
        args.tile,
        args.overwrite,
        args.max_pixels,
        FORMATS[KINDS[args.format]] if args.format in KINDS else None,
        args.quality,
        args.lossless,
        args.metadata == "keep",
    )
    tell = functools.partial(_tell, _messages(args)) if args.stats else None
    with going_on_when_repeated():
        return crew.run(plan, networks, settings, tell)


def _run_videos(args: argparse.Namespace, launch: Launch, videos: list[str]) -> VideoSummary:
    device = _choose_device(args.device, launch)
    dtype = _dtype(args, device, launch)
    networks, size = _networks(args, dtype), _size(args)
    targets = targets_of(videos, args.output, _suffix(args, size, networks))
    networks.move(device, dtype)
    settings = VideoSettings(
        size,
        args.codec,
        args.crf,
        args.tile,
        args.overwrite,
        args.max_pixels,
        args.metadata == "keep",
        (args.self_ensemble, dtype, args.window),
    )
    with going_on_when_repeated():
        return enlarge_videos(targets, networks, settings, functools.partial(_tell, sys.stdout) if args.stats else None)


def _size(args: argparse.Namespace) -> Size:
    return args.size or Size(scale=args.scale, longest=args.longest)


def _dtype(args: argparse.Namespace, device: str, launch: Launch) -> str:
    """Choose what is computed in, and say so, once, where it is another dtype than was asked for."""
    dtype, remark = choose_dtype(args.dtype, device)
    if remark and launch.rank == 0:
        print(remark, file=sys.stderr)
    return dtype


def _networks(args: argparse.Namespace, dtype: str) -> Networks:
    load = functools.partial(
        load_enlarger, self_ensemble=args.self_ensemble, dtype=dtype, scale=args.scale, window=args.window
    )
    return Networks(args.weights, load)


def _suffix(args: argparse.Namespace, size: Size, networks: Networks) -> str:
    return label_of(size, networks) if args.suffix is None else str(args.suffix)


def _messages(args: argparse.Namespace) -> TextIO:
    return sys.stderr if args.output == STREAM else sys.stdout


def _tell(stream: TextIO, line: str) -> None:
    tqdm.write(line, file=stream)


def _plan(args: argparse.Namespace, size: Size, networks: Networks) -> Plan:
    """Find out what is to be done, and whether the results can be written."""
    if args.output == STREAM:
        check_standard_output()
    if STREAM in args.inputs:
        plan = Plan([Job(STREAM, args.output)])
    else:
        plan = plan_jobs(args.inputs, args.output, _suffix(args, size, networks), KINDS.get(args.format))
    if args.output != STREAM:
        try_places(plan, args.output, args.overwrite)
    elif len(plan.jobs) + len(plan.problems) > 1:
        raise UserError(f"-o -: standard output takes one picture, and there are {len(plan.jobs)}; name a folder.")
    else:
        plan.jobs = [Job(job.source, STREAM) for job in plan.jobs]
    return plan


def _check(args: argparse.Namespace) -> None:
    """Find what does not go together."""
    if not args.output:
        if STREAM not in args.inputs or args.output == "":
            raise UserError("-o: name a folder, or a file, for the results.")
        args.output = STREAM
    if STREAM in args.inputs:
        if len(args.inputs) > 1:
            raise UserError("- is one picture on standard input, and does not go with others.")
        if args.output != STREAM and (format_of(args.output) is None or os.path.isdir(args.output)):
            raise UserError(
                f"-o: a picture from standard input has no name; {printable(args.output)} must be a file with the "
                "suffix of a picture, or -."
            )
    kind = format_of(args.output)
    chosen = FORMATS[KINDS[args.format]] if args.format in KINDS else None
    if chosen and kind and kind != chosen and not os.path.isdir(args.output):
        raise UserError(f"--format {args.format} does not go with -o {printable(args.output)}; leave one of them out.")
    if args.quality is not None and args.lossless:
        raise UserError("--quality and --lossless do not go together; leave one of them out.")
    if args.quality is not None and (chosen or kind) not in (None, *WITH_QUALITY):
        raise UserError(f"--quality: {chosen or kind} is never lossy; leave it out.")


def _videos(args: argparse.Namespace, launch: Launch) -> list[str]:
    """Return the inputs if they are videos, and find what does not go with that."""
    videos = videos_among(args.inputs)
    of_videos = [name for name in ("codec", "crf") if getattr(args, name) is not None]
    if not videos and of_videos:
        raise UserError(f"--{of_videos[0]} is for videos, and there is none among the inputs; leave it out.")
    for_pictures = [
        name
        for name, given in (
            ("format", args.format != "keep"),
            ("quality", args.quality is not None),
            ("lossless", args.lossless),
        )
        if given
    ]
    if videos and for_pictures:
        raise UserError(f"--{for_pictures[0]} is for pictures; videos take --codec, --crf and the suffix of -o.")
    if videos and args.output == STREAM:
        raise UserError("-o: a video needs a file, or a folder.")
    if videos and launch.size > 1:
        raise UserError(
            f"{printable(videos[0])}: a video is enlarged by one process; start the command without others."
        )
    return videos


def _choose_device(name: str, launch: Launch) -> str:
    """Choose the device of this process: of several on a node each its own GPU, as far as there are enough."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, there in available.items() if there)
    if not available.get(name.partition(":")[0], False):
        there = ", ".join(device for device, is_there in available.items() if is_there)
        raise UserError(f"--device: {name} is not there; choose auto or one of {there}.")
    if launch.local_size > 1 and name.startswith("cuda:"):
        raise UserError(f"--device: {name} is one GPU for {launch.local_size} processes; --device cuda takes them all.")
    if launch.size > 1 and name == "cuda":
        name = f"cuda:{launch.local_rank % torch.cuda.device_count()}"
        torch.cuda.set_device(name)
    return name


def _quality(text: str) -> int:
    number = positive(text)
    if number not in QUALITIES:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 100")
    return number


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m esc_arch.upscale", description="Enlarge pictures and videos.")
    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="file, folder, pattern or video; - is standard input"
    )
    parser.add_argument(
        "-o", "--output", metavar="OUT", help="folder; or a file, for one picture; - is standard output"
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--scale", type=factor, help="enlarge so many times (default: that of the weights, or 2)")
    size.add_argument("--size", type=box, metavar="WxH", help="as large as fits into 3840x2160, or 3840x, or x2160")
    size.add_argument("--longest", type=positive, metavar="PIXELS", help="of the longer side of the result")
    parser.add_argument("--weights", metavar="W", help="name of weights of this package, or a checkpoint")
    parser.add_argument(
        "--window", type=positive, metavar="PIXELS", help="of ESC-RIB, whose weights do not tell it (default: 64)"
    )
    parser.add_argument("--format", choices=("keep", *KINDS), default="keep", help="of the results (default: keep)")
    parser.add_argument("--quality", type=_quality, metavar="1-100", help="of JPEG, WebP and AVIF (default: 95)")
    parser.add_argument("--lossless", action="store_true", help="WebP without a loss; no format that has one")
    parser.add_argument("--codec", metavar="NAME", help="of a video: h264, h265, vp9, av1, or an encoder of FFmpeg")
    parser.add_argument("--crf", type=count, metavar="N", help="quality of a video, the less the better (h264: 18)")
    parser.add_argument("--metadata", choices=("keep", "none"), default="keep", help="EXIF, texts, ... (default: keep)")
    parser.add_argument("--stats", action="store_true", help="a line for each picture: sizes, time, speed")
    parser.add_argument("--tile", type=positive, metavar="PIXELS", help="side of a tile (default: by free memory)")
    precision = parser.add_mutually_exclusive_group()
    precision.add_argument("--dtype", choices=CHOICES, default="auto", help="to compute in (default: auto, fp32)")
    for name in ("bf16", "fp16"):
        precision.add_argument(f"--{name}", dest="dtype", action="store_const", const=name, help=f"--dtype {name}")
    parser.add_argument("--self-ensemble", action="store_true", help="average over eight symmetries: better, 8x slower")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    parser.add_argument("--suffix", help="added to names (default: _x2 for scale 2, _3840x2160, ...)")
    parser.add_argument("--overwrite", action="store_true", help="make results anew that are there already")
    most = Settings.max_pixels
    parser.add_argument("--max-pixels", type=positive, default=most, help=f"refuse larger pictures (default: {most})")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
