"""Make the HR and LR folders of a benchmark from its HR images."""

from __future__ import annotations

__command__ = "esc_arch"  # its signals are answered in a sentence from the first import on

import argparse
from collections.abc import Sequence
from pathlib import Path

from esc_arch.common.errors import UserError, one_sentence
from esc_arch.prepare.benchmarks import prepare_benchmark


@one_sentence
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", type=Path, required=True, help="folder that holds the HR images directly")
    parser.add_argument("--name", required=True, help="name of the benchmark, such as Set5")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("datasets/benchmark"),
        help="folder of the benchmarks (default: %(default)s)",
    )
    parser.add_argument("--scales", type=int, nargs="+", default=[2, 3, 4], help="make LR for these (default: 2 3 4)")
    parser.add_argument("--workers", type=int, help="number of processes (default: one per CPU core)")
    args = parser.parse_args(arguments)
    try:
        prepare_benchmark(args.input, args.name, args.output, args.scales, args.workers)
    except OSError as error:
        raise UserError(str(error)) from error


if __name__ == "__main__":
    main()
