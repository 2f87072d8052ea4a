"""The learning rate after warm-up."""

from __future__ import annotations

import functools
from typing import Any


def reach_the_stated_rate() -> None:
    """Let the learning rate be the stated one when warm-up ends.

    BasicSR sets the rate of warm-up over that of the schedule. MultiStepLR goes on from the rate that it finds, so it
    stays at (warmup_iter - 1) / warmup_iter of the stated one until the end of training.
    """
    from basicsr.models.base_model import BaseModel

    original = BaseModel.update_learning_rate

    @functools.wraps(original)
    def update_learning_rate(self: Any, current_iter: int, warmup_iter: int = -1) -> None:
        if 1 <= current_iter - 1 < warmup_iter:
            for scheduler in self.schedulers:  # whose own rate before warm-up changed it is kept
                for group, rate in zip(scheduler.optimizer.param_groups, scheduler.get_last_lr(), strict=True):
                    group["lr"] = rate
        original(self, current_iter, warmup_iter=warmup_iter)

    BaseModel.update_learning_rate = update_learning_rate
