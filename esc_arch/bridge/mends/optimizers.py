"""Optimizers that option files name and BasicSR's last release does not know."""

from __future__ import annotations

import functools
from typing import Any

import torch

OPTIMIZERS = ("AdamW", "Adamax", "SGD", "ASGD", "RMSprop", "Rprop")


def know_more_optimizers() -> None:
    """Let `optim_g` and `optim_d` name the optimizers that BasicSR's repository has known since its last release.

    `BaseModel.get_optimizer` of 1.4.2 makes Adam only. The arguments are those of the class of `torch.optim`.
    """
    from basicsr.models.base_model import BaseModel

    original = BaseModel.get_optimizer

    @functools.wraps(original)
    def get_optimizer(self: Any, optim_type: str, params: Any, lr: float, **kwargs: Any) -> torch.optim.Optimizer:
        if optim_type in OPTIMIZERS:
            return getattr(torch.optim, optim_type)(params, lr, **kwargs)
        return original(self, optim_type, params, lr, **kwargs)

    BaseModel.get_optimizer = get_optimizer
