"""Make the training LMDBs of HR and LR sub-images from folders of HR images."""

from __future__ import annotations

__command__ = "esc_arch"  # its signals are answered in a sentence from the first import on

import argparse
from collections.abc import Sequence
from pathlib import Path

from esc_arch.common.errors import UserError, one_sentence
from esc_arch.prepare.training import prepare_training


@one_sentence
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", type=Path, nargs="+", required=True, help="folders that hold the HR images directly")
    parser.add_argument("--output", type=Path, required=True, help="folder of the dataset, such as datasets/DF2K")
    parser.add_argument(
        "--scales",
        type=int,
        nargs="*",
        default=[2, 3, 4],
        help="make LR for these (default: 2 3 4); without any, HR alone",
    )
    parser.add_argument("--size", type=int, default=480, help="side of a sub-image in HR pixels (default: 480)")
    parser.add_argument("--step", type=int, default=240, help="HR pixels between sub-images (default: 240)")
    parser.add_argument("--workers", type=int, help="number of processes (default: one per CPU core)")
    parser.add_argument("--keep-images", action="store_true", help="keep the sub-images as PNG besides the LMDBs")
    args = parser.parse_args(arguments)
    try:
        prepare_training(args.input, args.output, args.scales, args.size, args.step, args.workers, args.keep_images)
    except OSError as error:
        raise UserError(str(error)) from error


if __name__ == "__main__":
    main()
