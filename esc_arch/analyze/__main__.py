"""Look into networks: `python -m esc_arch.analyze WHAT [option files or weights ...] [--images ...] [-o OUT]`.

Every WHAT makes one figure, as PNG and PDF, with its numbers as NPZ and JSON beside it. Networks are option files of
BasicSR, names of weights of this package, or checkpoints; pictures are GT, from which LQ is made by bicubic. Both have
defaults, so that WHAT alone shows something.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import Any

from tqdm import tqdm

from esc_arch.analyze.result import DPI, require_extra, stem_of, write
from esc_arch.common.arguments import count, positive
from esc_arch.common.errors import one_sentence
from esc_arch.common.machine import choose_device
from esc_arch.common.whole_files import try_folder

KINDS = {
    "lam": "which pixels of the input count for a window of the output (local attribution maps)",
    "similarity": "how similar layers are to each other: CKA of features, cosine of attention maps",
    "erf": "how far the pixels lie that change one pixel of the output (effective receptive field)",
    "kernels": "the large kernel of ConvAttn, before and after averaging, and the dynamic ones of some pictures",
    "features": "what goes into and comes out of the attention and the ConvAttn of a block",
    "spectrum": "which frequencies live in the features of each layer",
    "visual": "crops by several networks side by side, with PSNR and SSIM",
}


@one_sentence
def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = _parse(argv)
    kind = _module(args.what)
    require_extra("matplotlib", *kind.MODULES)
    from esc_arch.analyze.networks import read_subjects
    from esc_arch.analyze.photographs import read_photographs
    from esc_arch.analyze.style import styled

    device = choose_device(args.device)
    photographs = read_photographs(args.images, args.lq)
    subjects = read_subjects(args.networks, args.weights, args.scale, device)
    for subject in subjects:
        if subject.untrained:
            print(f"{subject.label} is untrained: {subject.untrained}.")
        if kind.OF_GRADIENTS:
            subject.probe(gradients=True)
    job = kind.prepare(args, subjects, photographs)
    stem = stem_of(args.output, args.what)
    try_folder(os.path.dirname(stem) or ".")
    with styled(), tqdm(total=job.steps, desc=args.what, file=sys.stderr, disable=None) as bar:
        result = job.run(lambda: bar.update() and None)
        files = write(result, stem, args.dpi)
    for sentence in result.sentences:
        print(sentence)
    print("Written:", ", ".join(os.path.relpath(file) for file in files))


def _module(what: str) -> Any:
    return importlib.import_module(f"esc_arch.analyze.{what}")


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m esc_arch.analyze", description="Look into networks.")
    kinds = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    for what, purpose in KINDS.items():
        parts, module = kinds.add_parser(what, help=purpose, description=f"Show {purpose}."), _module(what)
        _add_common(parts, module.SIDE)
        module.add_arguments(parts)
    return parser.parse_args(argv)


def _add_common(parser: argparse.ArgumentParser, side: int) -> None:
    add = parser.add_argument
    add("networks", nargs="*", metavar="NETWORK", help="option files, names of weights of this package, checkpoints")
    add("--weights", nargs="+", default=[], metavar="FILE=CHECKPOINT", help="checkpoints of option files")
    add("--images", nargs="+", metavar="IMAGE", help="pictures, or folders of them (photographs of scikit-image)")
    add("--lq", action="store_true", help="the pictures are LQ already, not GT that is to be shrunk")
    add("--scale", type=positive, metavar="S", help="of networks for any scale, as ESC+LTE")
    part = "LQ pixels of a side of what is taken of each picture, 0 for all (%(default)s)"
    add("--side", type=count, default=side, metavar="N", help=part)
    add("-o", "--output", default="results/analyze", metavar="OUT", help="folder, or path of the figure (%(default)s)")
    add("--dpi", type=positive, default=DPI, help="pixels per inch of the PNG (%(default)s)")
    add("--device", choices=["auto", "cpu", "cuda"], default="auto", help="(%(default)s)")


if __name__ == "__main__":
    main()
