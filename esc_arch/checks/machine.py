"""Checks that the machine is the one that the options ask for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch

from esc_arch.common.errors import UserError

Options = dict[str, Any]
START = "torchrun --nproc_per_node=N -m esc_arch.train -opt FILE --launcher pytorch"
VARIABLES = {
    "pytorch": ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
    "slurm": ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_NODELIST"),
}


NUMBERS = {
    "pytorch": ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_PORT"),
    "slurm": ("SLURM_PROCID", "SLURM_NTASKS", "MASTER_PORT"),
}


def check_machine(opt: Options, launcher: str, environment: Mapping[str, str] | None = None) -> list[str]:
    """Check the number of GPUs, the launcher and what it needs.

    Args:
        opt: options with values read; `prefetch_mode: cuda` is taken out where there is no GPU.
        launcher: `none`, `pytorch` or `slurm`.
        environment: variables of the environment, those of this process by default.

    Returns:
        sentences about what was changed.

    Raises:
        UserError: the machine lacks what is asked for; the sentence says what.
    """
    environment = os.environ if environment is None else environment
    missing = [name for name in VARIABLES.get(launcher, ()) if name not in environment]
    if missing:
        who = f"start with: {START}" if launcher == "pytorch" else "start with srun, or leave --launcher away"
        raise UserError(f"--launcher {launcher}: the variable {missing[0]} of the environment is missing; {who}.")
    for name in NUMBERS.get(launcher, ()):
        if not environment.get(name, "0").isdecimal():
            raise UserError(
                f"--launcher {launcher}: the variable {name} of the environment is {environment[name]!r}, but must be "
                "a whole number."
            )
    processes = _number(environment, "WORLD_SIZE") if "TORCHELASTIC_RUN_ID" in environment else 1
    if launcher == "none" and processes > 1:
        raise UserError(
            f"torchrun started {processes} processes, but each would train alone; add --launcher pytorch, or start one."
        )
    _check_gpus(opt, launcher, environment)
    return _lower_prefetching(opt)


def _check_gpus(opt: Options, launcher: str, environment: Mapping[str, str]) -> None:
    wanted, there = opt["num_gpu"], torch.cuda.device_count()
    if wanted == "auto":
        wanted = there
    found = f"PyTorch sees {there or 'no'} GPU{'s' if there > 1 else ''}"
    if wanted > there and (launcher == "none" or not there):
        advice = "set num_gpu to 0 to use the CPU" if not there else f"set num_gpu to {there} or auto"
        raise UserError(f"num_gpu is {wanted}, but {found}; {advice}.")
    if launcher == "slurm" and not there:
        raise UserError(
            f"--launcher slurm uses a GPU for each process, but {found}; on CPUs start with torchrun and --launcher "
            "pytorch."
        )
    if launcher != "none" and there:
        local = _number(environment, "LOCAL_WORLD_SIZE" if launcher == "pytorch" else "SLURM_NTASKS_PER_NODE")
        if local > there:
            raise UserError(f"{local} processes were started here, but {found}; start one process a GPU.")
        if wanted == 0:
            raise UserError(
                f"num_gpu is 0, but --launcher {launcher} uses a GPU for each process; set num_gpu to auto."
            )


def _lower_prefetching(opt: Options) -> list[str]:
    told = []
    for name, dataset in opt["datasets"].items():
        where = f"datasets:{name}:prefetch_mode"
        if dataset.get("prefetch_mode") != "cuda":
            continue
        if opt["num_gpu"] == 0 or not torch.cuda.is_available():
            del dataset["prefetch_mode"]
            told.append(f"{where}: cuda is left out, because no GPU is used.")
        elif name == "train" and dataset.get("pin_memory") is not True:
            raise UserError(f"{where}: cuda needs pin_memory: true in the same section; add it.")
    return told


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name, "1")
    return int(text) if text.isdecimal() else 1
