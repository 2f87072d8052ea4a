"""What goes wrong in a training, in a sentence."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch

from esc_arch.checks.table import ESC_MODELS, PARTS_MODELS
from esc_arch.common.errors import RunError, UserError

IN_A_ROW = 10  # losses that are no numbers, after which a training stops
_OUT_OF_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory|alloc_cpu", re.IGNORECASE)
_OTHER_PROCESS = re.compile(r"connection (closed|reset)|gloo|nccl|socket|peer", re.IGNORECASE)


class Losses:
    """Watches losses and gradients: a step with one that is infinite or not a number is left out, as GradScaler does.

    The weights so stay what they were, whether it passes or ends the training.

    Args:
        model: a model of BasicSR.
    """

    def __init__(self, model: Any) -> None:
        self.in_a_row = self.in_all = 0
        self.first: str = ""  # what was said of the first in a row
        self._left_out = False
        scaler = getattr(model, "scaler", None)
        if not (scaler is not None and scaler.is_enabled()):
            for optimizer in model.optimizers:
                optimizer.step = self._guarded(optimizer)

    def look(self, iteration: int, log: dict[str, float], rates: list[float]) -> None:
        """Look at the losses of an iteration that was just made, and warn."""
        bad = [f"{name} is {value}" for name, value in log.items() if not math.isfinite(value)]
        if not bad and self._left_out:
            bad = ["the gradient is not finite"]
        self._left_out = False
        if not bad:
            self.in_a_row = 0
            return
        self.in_a_row += 1
        self.in_all += 1
        if self.in_a_row == 1:
            self.first = f"iteration {iteration}: {', '.join(bad)} at learning rate {rates[0]:.3e}"
            logging.getLogger("basicsr").warning(
                f"In {self.first}; the step is left out, so the weights stay as they were (training stops after "
                f"{IN_A_ROW} such iterations in a row)."
            )

    def _guarded(self, optimizer: torch.optim.Optimizer) -> Callable[..., Any]:
        step = optimizer.step

        @functools.wraps(step)  # with the mark of the schedulers, which count the steps
        def guarded(*args: Any, **kwargs: Any) -> Any:
            gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            if gradients and not _are_finite(gradients):
                self._left_out = True
                optimizer._opt_called = True  # type: ignore[attr-defined]  # nor shall they warn of a missing one
                return None
            return step(*args, **kwargs)

        return guarded


def check_finite(model: Any) -> None:
    """Check the weights that are about to be written.

    Raises:
        RunError: one is infinite or not a number.
    """
    for name, network in vars(model).items():
        if isinstance(network, torch.nn.Module) and name.startswith("net_"):
            tensors = [t for t in network.state_dict().values() if t.is_floating_point() and t.numel()]
            if tensors and not _are_finite(tensors):
                raise RunError(f"the weights of {name} are not numbers any more, and are not written")


def _are_finite(tensors: list[torch.Tensor]) -> bool:
    with torch.no_grad():
        largest = torch._foreach_norm(tensors, math.inf)
        return bool(torch.stack([value.float().to(largest[0].device) for value in largest]).max().isfinite())


@contextlib.contextmanager
def told(
    opt: Callable[[], dict[str, Any]], where: Callable[[], str], in_validation: Callable[[], bool]
) -> Iterator[None]:
    """Turn what BasicSR and torch raise in a training into a sentence, where it is known what it means.

    Args:
        opt: gives the options.
        where: says where the training is, such as "at iteration 7", and what to go on from.
        in_validation: tells whether whole images are enlarged just then.

    Raises:
        RunError: in place of what was raised.
    """
    try:
        yield
    except UserError:
        raise
    except (RuntimeError, MemoryError) as error:
        words = str(error)
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or _OUT_OF_MEMORY.search(words):
            raise RunError(f"out of memory {where()}: {_less_memory(opt(), in_validation())}.") from error
        if "DataLoader worker" in words:
            raise RunError(
                f"a loader process ended {where()} ({words.partition(chr(10))[0].rstrip('. ')}), as they do where "
                "memory, or shared memory, runs out; lower num_worker_per_gpu."
            ) from error
        if opt().get("dist") and (isinstance(error, torch.distributed.DistError) or _OTHER_PROCESS.search(words)):
            raise RunError(f"another process of this training ended, and this one {where()} with it.") from error
        raise
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        raise RunError(f"{named}{error.strerror or error} ({where()}).") from error


def _less_memory(opt: dict[str, Any], in_validation: bool) -> str:
    """Say what takes the memory, and how it would be less with the model of the options."""
    train, model = opt.get("datasets", {}).get("train", {}), opt.get("model_type")
    if in_validation:
        tiles = "tile: {tile_size: 256, tile_pad: 32}"
        if model not in PARTS_MODELS:
            return f"set model_type ESCModel and {tiles}, which enlarges in parts, or remove the largest images"
        side = (opt.get("tile") or {}).get("tile_size")
        return f"lower tile:tile_size {side}" if side else f"set {tiles}, which enlarges in parts"
    sizes = f"batch_size_per_gpu is {train.get('batch_size_per_gpu')} and gt_size {patch_side(opt)}; lower one of them"
    return f"{sizes}, or set amp: bf16 or train: accumulate" if model in ESC_MODELS else sizes


def patch_side(opt: dict[str, Any]) -> Any:
    """Return `gt_size`, which models that degrade GT themselves read at the top level."""
    return opt.get("gt_size") or opt.get("datasets", {}).get("train", {}).get("gt_size")
