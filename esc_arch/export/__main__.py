"""Export a network: `python -m esc_arch.export --weights W --format onnx|torchscript|pt2|pth|safetensors [-o OUT]`.

Models take images of any batch, height and width. What was written is compared with the network before it is put in its
place. The formats pth and safetensors hold the weights alone.
"""

from __future__ import annotations

import argparse
import os

from esc_arch.common.arguments import positive
from esc_arch.common.errors import one_sentence
from esc_arch.export.exporting import FORMATS, OPSET, WEIGHTS, export

SMALLEST_OPSET = 18  # of the exporter


@one_sentence
def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = _parse(argv)
    report = export(
        args.weights,
        args.format,
        args.output,
        half=args.fp16,
        opset=args.opset,
        overwrite=args.overwrite,
        scale=args.scale,
        window=args.window,
    )
    size = os.path.getsize(report.file) / 2**20
    print(f"Written: {report.file} ({size:.1f} MiB)")
    if report.shapes:
        shapes = ", ".join("x".join(map(str, shape)) for shape in report.shapes)
        print(f"Largest difference to the network for images {shapes}: {report.difference:.1e} of the largest number")


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m esc_arch.export", description="Export a network or its weights.")
    parser.add_argument(
        "--weights", required=True, metavar="W", help="name of weights of this package, or a checkpoint"
    )
    parser.add_argument("--format", required=True, choices=[*FORMATS, *WEIGHTS])
    parser.add_argument("-o", "--output", metavar="OUT", help="file (default: the name of the weights)")
    parser.add_argument("--scale", type=positive, metavar="S", help="where weights do not tell it, as those of ESC+LTE")
    parser.add_argument("--window", type=positive, metavar="W", help="of ESC-RIB, whose weights do not tell it (64)")
    parser.add_argument("--fp16", action="store_true", help="compute, or store weights, in half precision")
    parser.add_argument("--opset", type=int, default=OPSET, help=f"operator set of ONNX (default: {OPSET})")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there already")
    args = parser.parse_args(argv)
    if args.opset < SMALLEST_OPSET:
        parser.error(f"--opset must be at least {SMALLEST_OPSET}, got {args.opset}")
    return args


if __name__ == "__main__":
    main()
