"""Runs BasicSR's pipelines on options that were checked before anything is written or started."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import Any

import torch

from esc_arch.checks.option_file import reading
from esc_arch.checks.options import check_options
from esc_arch.common.errors import UserError

Options = dict[str, Any]


def run_checked(module: Any, pipeline: Callable[[str], None]) -> None:
    """Run a pipeline of BasicSR below the current directory.

    The pipelines parse the command line themselves, so the check is put around the `parse_options` that they call.

    Args:
        module: `basicsr.train` or `basicsr.test`.
        pipeline: its pipeline function.

    Raises:
        UserError: the options cannot work.
    """
    parse = module.parse_options

    def parse_and_check(root_path: str, is_train: bool = True) -> tuple[Options, Any]:
        opt, args = parse_in_words(parse, root_path, is_train)
        with torch.random.fork_rng(devices=[]):  # the networks built by the check must not change the user's seed
            check_options(opt)
        _reset_logger()
        _cap_workers(opt)
        return opt, args

    module.parse_options = parse_and_check
    try:
        pipeline(os.getcwd())
    finally:
        module.parse_options = parse


def parse_in_words(parse: Callable[..., tuple[Options, Any]], root_path: str, is_train: bool) -> tuple[Options, Any]:
    """Call BasicSR's `parse_options` on the command line and say in one sentence what it stumbled over.

    Args:
        parse: `basicsr.utils.options.parse_options`.
        root_path: the folder below which experiments/ and results/ are.
        is_train: parse for training or for testing.

    Returns:
        the options and the command line arguments.

    Raises:
        UserError: the option file is missing, or not understood.
    """
    file = _option_file(sys.argv)
    try:
        with reading(file, "-opt: "):
            return parse(root_path, is_train=is_train)
    except UserError:  # a ValueError too, but one that says all
        raise
    except KeyError as error:
        raise UserError(
            f"{file}: the option {error} is missing; --force_yml can change existing options only."
        ) from error
    except (TypeError, AttributeError, ValueError, SyntaxError) as error:
        raise UserError(
            f"{file}: the options cannot be understood ({error}); compare the file with those in options/, and write "
            "--force_yml as section:key=value."
        ) from error


def _option_file(argv: list[str]) -> str:
    for index, argument in enumerate(argv):
        if argument in ("-opt", "--opt") and index + 1 < len(argv):
            return argv[index + 1]
        if argument.startswith(("-opt=", "--opt=")):
            return argument.partition("=")[2]
    return "the option file"


def _reset_logger() -> None:
    """Forget a logger made while checking: BasicSR attaches the log file only to one that is new."""
    from basicsr.utils.logger import initialized_logger

    if initialized_logger.pop("basicsr", None):
        logging.getLogger("basicsr").handlers.clear()


def _cap_workers(opt: Options) -> None:
    """Ask for no more loader processes than there are CPUs: torch warns about it, and more are slower."""
    train = opt["datasets"].get("train")
    if train is None:
        return
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    loaders = int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if opt["dist"] else max(opt["num_gpu"], 1)
    wanted, most = train["num_worker_per_gpu"], max(cpus // loaders, 1)
    if wanted > most:
        train["num_worker_per_gpu"] = most
        if opt["rank"] == 0:
            print(f"num_worker_per_gpu is lowered from {wanted} to {most}: there are {cpus} CPUs.", flush=True)
