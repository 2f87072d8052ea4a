"""Make the HR and degraded LR folders of a set of photographs, to judge networks for real images by."""

from __future__ import annotations

__command__ = "esc_arch"  # its signals are answered in a sentence from the first import on

import argparse
from collections.abc import Sequence
from pathlib import Path

from esc_arch.common.errors import UserError, one_sentence
from esc_arch.prepare.degraded import prepare_degraded


@one_sentence
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", type=Path, required=True, help="folder that holds the HR images directly")
    parser.add_argument("--name", required=True, help="name of the set, such as Set14")
    parser.add_argument(
        "--output", type=Path, default=Path("datasets/degraded"), help="folder of the sets (default: %(default)s)"
    )
    parser.add_argument(
        "--opt",
        type=Path,
        default=Path("options/train_ESC_Real_x4_mse.yml"),
        help="option file whose degradation and scale are taken (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the degradations (default: %(default)s)")
    parser.add_argument("--workers", type=int, help="number of processes (default: one per CPU core)")
    args = parser.parse_args(arguments)
    try:
        prepare_degraded(args.input, args.name, args.output, args.opt, args.seed, args.workers)
    except OSError as error:
        raise UserError(str(error)) from error


if __name__ == "__main__":
    main()
