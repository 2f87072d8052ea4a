"""What `esc_arch.train` and `esc_arch.test` read from the command line besides BasicSR, and before it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from esc_arch.common.errors import UserError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help.")


def read_arguments(arguments: Sequence[str], is_train: bool) -> argparse.Namespace:
    """Read the command line: the arguments of BasicSR's parser, and those of this package.

    Args:
        arguments: the command line without the name of the program.
        is_train: of `esc_arch.train`, otherwise of `esc_arch.test`.

    Returns:
        the arguments; `force_yml` is a list of entries.

    Raises:
        UserError: the command line cannot be understood.
    """
    parser = _Parser(prog=f"python -m esc_arch.{'train' if is_train else 'test'}")
    parser.add_argument("-opt", "--opt", required=True, metavar="FILE", help="the option file")
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm"], default="none", help="who starts processes")
    parser.add_argument("--auto_resume", action="store_true", help="go on from the newest checkpoint")
    parser.add_argument("--debug", action="store_true", help="BasicSR's debug mode: short intervals")
    # torch.distributed.launch writes it with a hyphen
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument(
        "--force_yml", nargs="+", action="extend", default=[], metavar="section:key=value", help="change options"
    )
    if is_train:
        parser.add_argument(
            "--dry_run", action="store_true", help="make one step, validate one picture, say what training will need"
        )
        parser.add_argument(
            "--reset_schedule", action="store_true", help="resume with the learning rate and schedule of the options"
        )
    parser.add_argument(
        "--skip_data_check", action="store_true", help="do not decode the images before the start, which takes a while"
    )
    return parser.parse_args(arguments)


def for_basicsr(program: str, arguments: argparse.Namespace) -> list[str]:
    """Write the command line that BasicSR's own parser takes, without what is dealt with here."""
    written = [program, "-opt", arguments.opt, "--launcher", arguments.launcher]
    written += [f"--{flag}" for flag in ("auto_resume", "debug") if getattr(arguments, flag)]
    return [*written, "--local_rank", str(arguments.local_rank)]
