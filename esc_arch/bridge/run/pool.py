"""The pool of pairs that Real-ESRGAN's models draw batches from, kept beside the newest training state.

A pool of the published size is 40 MB and more for each process, so it is not part of the states, which are all kept.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Any

import torch

from esc_arch.bridge.mends.saving import CheckpointError, reason_of, write_whole

Options = dict[str, Any]
SUFFIX = ".pool"
LEVELS = 256  # values of a picture of 8 bits
TRIES = 3  # a second apart, as BasicSR's for the other files of a checkpoint


def has_pool(model: Any) -> bool:
    """Tell whether a model draws its batches from a pool."""
    return hasattr(model, "queue_size") and bool(model.opt.get("high_order_degradation", True))


@contextlib.contextmanager
def kept_beside(model: Any, iteration: int) -> Iterator[None]:
    """Write the pool of this process before the state that is written in the block, and then remove older ones.

    Raises:
        CheckpointError: it cannot be written.
    """
    if iteration < 0 or not hasattr(model, "queue_lr"):  # -1 is the end, of which no state is written
        yield
        return
    folder, rank = model.opt["path"]["training_states"], model.opt["rank"]
    path = _path(folder, iteration, rank)
    _write(model, path)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(path)
        raise
    for name in os.listdir(folder):
        if name.endswith(f"_{rank}{SUFFIX}") and name != os.path.basename(path):
            with contextlib.suppress(OSError):
                os.remove(os.path.join(folder, name))


def put_back(model: Any, state: str, iteration: int) -> bool:
    """Give a model the pool that belongs to a state.

    Args:
        model: before its first batch.
        state: path of the state.
        iteration: of the state.

    Returns:
        whether there is one, whole and of these options.
    """
    opt = model.opt
    try:
        content = torch.load(
            _path(os.path.dirname(state), iteration, opt["rank"]), map_location="cpu", weights_only=True
        )
        lq, gt, filled = _unpacked(content["lq"]), _unpacked(content["gt"]), content["filled"]
    except Exception:  # a damaged pickle may raise anything at all
        return False
    side, batch = opt["gt_size"], opt["datasets"]["train"]["batch_size_per_gpu"]
    fits = filled == len(lq) == len(gt) and gt.shape[2:] == (side, side) and lq.shape[2:] == (side // opt["scale"],) * 2
    if not fits or content["size"] != model.queue_size or (model.queue_size - filled) % batch:
        return False
    for name, pairs in (("queue_lr", lq), ("queue_gt", gt)):
        pool = torch.zeros(model.queue_size, *pairs.shape[1:], device=model.device)
        pool[:filled] = pairs.to(model.device)
        setattr(model, name, pool)
    model.queue_ptr = filled
    return True


def _write(model: Any, path: str) -> None:
    filled = model.queue_ptr
    pairs = {"lq": _packed(model.queue_lr[:filled]), "gt": _packed(model.queue_gt[:filled])}
    for left in reversed(range(TRIES)):
        try:
            write_whole({**pairs, "filled": filled, "size": model.queue_size}, path)
            return
        except Exception as error:
            if not left:
                raise CheckpointError(reason_of(error)) from error
            time.sleep(1)


def _packed(images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Write images as indices of the values that they have, where these are those of 8 bits; nothing is rounded."""
    images = images.cpu()
    index = (images * (LEVELS - 1)).round().clamp(0, LEVELS - 1).long()
    values = torch.zeros(LEVELS).scatter_(0, index.flatten(), images.flatten())
    return {"values": values, "index": index.byte()} if torch.equal(values[index], images) else {"images": images}


def _unpacked(content: dict[str, torch.Tensor]) -> torch.Tensor:
    return content["images"] if "images" in content else content["values"][content["index"].long()]


def _path(folder: str, iteration: int, rank: int) -> str:
    return os.path.join(folder, f"{iteration}_{rank}{SUFFIX}")
