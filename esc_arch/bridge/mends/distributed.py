"""Several processes on machines without a GPU."""

from __future__ import annotations

import functools
from typing import Any

import torch


def initialise_process_group_without_cuda() -> None:
    """Let `--launcher pytorch` run on a machine without a GPU.

    BasicSR picks the GPU by `rank % torch.cuda.device_count()` (a division by zero) and always asks for nccl.
    """
    if torch.cuda.is_available():
        return
    from basicsr.utils import dist_util

    def _init_dist_pytorch(backend: str, **kwargs: Any) -> None:
        torch.distributed.init_process_group(backend="gloo", **kwargs)

    dist_util._init_dist_pytorch = _init_dist_pytorch


def distribute_on_cpu() -> None:
    """Let BasicSR wrap a network that lives on the CPU for distributed training.

    `BaseModel.model_to_device` passes `torch.cuda.current_device()` to DistributedDataParallel.
    """
    from basicsr.models.base_model import BaseModel

    original = BaseModel.model_to_device

    @functools.wraps(original)
    def model_to_device(self: Any, net: torch.nn.Module) -> torch.nn.Module:
        if not (self.opt["dist"] and self.device.type == "cpu"):
            return original(self, net)
        return torch.nn.parallel.DistributedDataParallel(
            net.to(self.device), find_unused_parameters=self.opt.get("find_unused_parameters", False)
        )

    BaseModel.model_to_device = model_to_device
