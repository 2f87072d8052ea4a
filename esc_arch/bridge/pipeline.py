"""Runs BasicSR's pipelines on options that were checked before anything is written or started."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import torch

from esc_arch.bridge.command_line import for_basicsr, read_arguments
from esc_arch.bridge.peer_options import adapt
from esc_arch.checks.agreement import check_scales
from esc_arch.checks.machine import check_machine
from esc_arch.checks.option_file import load
from esc_arch.checks.options import check_options
from esc_arch.checks.values import force, read_values
from esc_arch.common.errors import UserError

Options = dict[str, Any]


def run_training() -> None:
    """Run BasicSR's training on the command line.

    Raises:
        UserError: the options cannot work, or something went wrong in the training.
        Stopped: a signal came.
    """
    import basicsr.train

    from esc_arch.bridge.run.training import Training

    training = Training()
    with training.running():
        run_checked(basicsr.train, basicsr.train.train_pipeline, training.begin)


def run_test() -> None:
    """Run BasicSR's test on the command line.

    Raises:
        UserError: the options cannot work, or something went wrong in the test.
    """
    import basicsr.test

    from esc_arch.bridge.run.testing import Testing

    testing = Testing()
    with testing.running():
        run_checked(basicsr.test, basicsr.test.test_pipeline, testing.begin)


def run_checked(
    module: Any, pipeline: Callable[[str], None], begin: Callable[[Options, argparse.Namespace], None]
) -> None:
    """Run a pipeline of BasicSR below the current directory.

    The pipelines parse the command line themselves, so the check is put around the `parse_options` that they call.

    Args:
        module: `basicsr.train` or `basicsr.test`.
        pipeline: its pipeline function.
        begin: is called with options and arguments before they are checked.

    Raises:
        UserError: the options cannot work.
    """
    parse = module.parse_options

    def parse_and_check(root_path: str, is_train: bool = True) -> tuple[Options, Any]:
        opt, args, told = parse_in_words(parse, root_path, is_train)
        begin(opt, args)
        with torch.random.fork_rng(devices=[]):  # the networks built by the check must not change the user's seed
            told += _check_once(opt, decode=not args.skip_data_check)
        if opt["rank"] == 0:
            for sentence in dict.fromkeys(told):
                print(f"Warning: {sentence}", flush=True)
        _reset_logger()
        _cap_workers(opt)
        return opt, args

    module.parse_options = parse_and_check
    try:
        pipeline(os.getcwd())
    finally:
        module.parse_options = parse


def parse_in_words(
    parse: Callable[..., tuple[Options, Any]], root_path: str, is_train: bool
) -> tuple[Options, argparse.Namespace, list[str]]:
    """Read the option file and the command line, check their values, and let BasicSR's `parse_options` complete them.

    Args:
        parse: `basicsr.utils.options.parse_options`.
        root_path: the folder below which experiments/ and results/ are.
        is_train: parse for training or for testing.

    Returns:
        the options, the command line, and sentences about what has no effect or was changed.

    Raises:
        UserError: the option file is missing or not understood, a value does not fit, or the machine lacks something.
    """
    arguments = read_arguments(sys.argv[1:], is_train)
    opt: Options = load(arguments.opt, "-opt: ")
    force(opt, arguments.force_yml, is_train)
    opt, told = read_values(opt, is_train)
    check_scales(opt)
    told += adapt(opt)
    told += check_machine(opt, arguments.launcher)
    try:
        with _handed_over(opt, arguments):
            opt, _ = parse(root_path, is_train=is_train)
    except (RuntimeError, ValueError, OSError) as error:
        if arguments.launcher == "none":
            raise
        place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"--launcher {arguments.launcher}: the processes cannot meet at {place} ({reason}); choose another port "
            "if it is in use (torchrun --master_port, or dist_params:port for slurm)."
        ) from error
    return opt, arguments, told


@contextlib.contextmanager
def _handed_over(opt: Options, arguments: argparse.Namespace) -> Iterator[None]:
    """Let BasicSR's parser read options that were read and checked before, and a command line that it knows."""
    from basicsr.utils import options

    class Checked:
        """Stands in for a loader of YAML."""

        def __init__(self, stream: Any) -> None:
            pass

        def get_single_data(self) -> Options:
            return opt

        def dispose(self) -> None:
            pass

    ordered_yaml, argv = options.ordered_yaml, sys.argv
    options.ordered_yaml, sys.argv = lambda: (Checked, None), for_basicsr(argv[0], arguments)
    try:
        yield
    finally:
        options.ordered_yaml, sys.argv = ordered_yaml, argv


def _check_once(opt: Options, decode: bool) -> list[str]:
    """Check the options, in distributed training in the first process while the others wait for what it finds."""
    if not opt["dist"]:
        return check_options(opt, decode)
    group: Any = torch.distributed.new_group(backend="gloo", timeout=timedelta(days=1))  # decoding may take its time
    outcome: list[Any] = [None]
    told: list[str] = []
    try:
        if opt["rank"] == 0:
            told = check_options(opt, decode)
    except BaseException as error:
        outcome = [str(error) if isinstance(error, UserError) else f"the check ended with {type(error).__name__}"]
        raise
    finally:
        torch.distributed.broadcast_object_list(outcome, src=0, group=group)
    if outcome[0] is not None:
        raise UserError(outcome[0])
    return told


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
