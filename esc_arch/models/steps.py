"""Steps of an optimizer: scaled, clipped, and after several parts of a batch."""

from __future__ import annotations

from typing import Any

import torch


class Steps:
    """What SRModel calls of an optimizer, around the optimizer.

    A step sums the gradients of all parts of the batch, unscales them (fp16, where steps with infinite gradients are
    left out), clips them, and then is the optimizer's.

    Args:
        optimizer: the optimizer.
        scaler: of the gradients; one that is not enabled changes nothing.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> None:
        self.optimizer = optimizer
        self.scaler = scaler
        self.prepare(1, None)

    def prepare(self, parts: int, clip: float | None) -> None:
        """Say of the next step how many times `step` is called for it, and how long its gradient may be."""
        self.parts, self.clip, self.seen = parts, clip, 0

    def zero_grad(self) -> None:
        """Forget the gradients, before the first part."""
        if self.seen == 0:
            self.optimizer.zero_grad()

    def step(self) -> None:
        """Change the weights, after the last part."""
        self.seen += 1
        if self.seen < self.parts:
            return
        self.seen = 0
        weights = [w for group in self.optimizer.param_groups for w in group["params"] if w.grad is not None]
        if self.parts > 1:  # each part's loss is a mean over the part
            torch._foreach_div_([w.grad for w in weights], float(self.parts))
        if self.clip is not None:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(weights, self.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()


def check_steps(opt: dict[str, Any]) -> None:
    """Check the options `gradient_clip`, `accumulate` and `ema_start` of the section `train`.

    Raises:
        ValueError: one of them is out of range or does not go with the others.
    """
    train = opt["train"]
    clip, parts, start = (train.get(key) for key in ("gradient_clip", "accumulate", "ema_start"))
    if clip is not None and (isinstance(clip, bool) or not isinstance(clip, int | float) or not clip > 0):
        raise ValueError(f"train:gradient_clip must be a positive number or empty, got {clip!r}")
    if start is not None and (isinstance(start, bool) or not isinstance(start, int) or start < 0):
        raise ValueError(f"train:ema_start must be a whole number of iterations or empty, got {start!r}")
    if start and not train.get("ema_decay"):
        raise ValueError("train:ema_start needs train:ema_decay, without which no weights are averaged")
    if parts is None:
        return
    if isinstance(parts, bool) or not isinstance(parts, int) or parts < 1:
        raise ValueError(f"train:accumulate must be a whole number of at least 1 or empty, got {parts!r}")
    batch = (opt.get("datasets") or {}).get("train", {}).get("batch_size_per_gpu")
    if batch is not None and batch % parts:
        raise ValueError(f"train:accumulate {parts} must divide batch_size_per_gpu {batch}, the batch of a step")
    for name in ("pixel_opt", "perceptual_opt", "wave_opt", "mesa_opt") if parts > 1 else ():
        loss = train.get(name) or {}
        if loss.get("reduction") == "sum" or loss.get("criterion") == "fro":
            raise ValueError(f"train:accumulate needs losses that are means over the batch, train:{name} is none")
