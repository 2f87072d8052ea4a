"""Make a small training and validation set from the photographs that come with scikit-image; needs no download."""

from __future__ import annotations

__command__ = "esc_arch"  # its signals are answered in a sentence from the first import on

import argparse
from collections.abc import Sequence
from pathlib import Path

from esc_arch.common.errors import UserError, one_sentence
from esc_arch.prepare.demo import prepare_demo


@one_sentence
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--output", type=Path, default=Path("datasets/demo"), help="folder of the data set (default: %(default)s)"
    )
    parser.add_argument("--workers", type=int, help="number of processes (default: one per CPU core)")
    args = parser.parse_args(arguments)
    try:
        prepare_demo(args.output, args.workers)
    except OSError as error:
        raise UserError(str(error)) from error


if __name__ == "__main__":
    main()
