"""A training tried in a minute: what it will need of memory, time and disk."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esc_arch.bridge.run.building import Built
from esc_arch.bridge.run.failures import patch_side
from esc_arch.bridge.run.feed import ValidationImages
from esc_arch.bridge.unreadable import Unreadable
from esc_arch.common.errors import RunError
from esc_arch.common.interruptions import Interruptions, blocked
from esc_arch.common.peak_memory import PeakMemory

Options = dict[str, Any]
AGAIN_BELOW = 60  # seconds of the first step, which is slower than the others, for which a second one is made


@dataclass
class Needs:
    """What a training needs.

    Attributes:
        memory: peak of a step, in MiB; None where the system does not tell.
        step: seconds.
        picture: seconds for the validation of one picture; 0 without validation.
        checkpoint: bytes of network and state.
        network: bytes of the network alone.
        saved_picture: bytes that validation writes for one picture.
    """

    memory: float | None
    step: float
    picture: float
    checkpoint: int
    network: int
    saved_picture: int


def measure(opt: Options, built: Built, interruptions: Interruptions, iteration: int) -> Needs:
    """Make a step, validate a picture and save a checkpoint, all below a temporary folder.

    Args:
        opt: parsed options.
        built: what training would begin with; it is used up.
        interruptions: that `built.model` asks.
        iteration: the one before the first.

    Raises:
        RunError: an image cannot be read.
    """
    model = built.model
    with tempfile.TemporaryDirectory() as name, _below(model.opt["path"], name) as folder, built.log.held():
        with blocked():
            batches = iter(built.train_loader)
        batch = next(batches)
        del batches  # ends the loader processes
        if isinstance(batch, Unreadable):
            raise RunError(batch["sentence"])
        memory = PeakMemory("cuda" if opt["num_gpu"] else "cpu")
        seconds = _step(model, batch, iteration + 1, opt)
        if seconds < AGAIN_BELOW:
            seconds = _step(model, batch, iteration + 2, opt)
        peak = memory.mebibytes()
        picture = 0.0
        if opt.get("val") is not None and built.val_loaders:
            one = ValidationImages(built.val_loaders[0], interruptions, most=1)
            began = time.perf_counter()
            model.validation(one, iteration + 2, None, opt["val"]["save_img"])
            picture = time.perf_counter() - began
        model.save(0, iteration + 2)
        return Needs(
            peak,
            seconds,
            picture,
            _bytes(folder / "models") + _bytes(folder / "training_states"),
            _bytes(folder / "models"),
            _bytes(folder / "visualization"),
        )


def describe(needs: Needs, opt: Options, built: Built, iteration: int) -> Iterator[str]:
    """Say what a training needs, a line for each matter.

    Args:
        needs: what `measure` found.
        opt: parsed options.
        built: what was measured.
        iteration: the one before the first.
    """
    total, train = int(opt["train"]["total_iter"]), opt["datasets"]["train"]
    left = max(total - iteration, 0)
    if needs.memory is not None:
        where = "on the GPU" if opt["num_gpu"] else "besides the network"
        yield (
            f"memory: {needs.memory:,.0f} MiB {where}, with batch_size_per_gpu {train['batch_size_per_gpu']} and "
            f"gt_size {patch_side(opt)}"
        )
    yield f"seconds a step: {needs.step:.3g}"
    pictures = sum(len(loader) for loader in built.val_loaders) if opt.get("val") is not None else 0
    validations = left // opt["val"]["val_freq"] if pictures else 0
    hours = left * needs.step / 3600, validations * pictures * needs.picture / 3600
    yield (
        f"hours in all: {sum(hours):.3g}, of which {hours[0]:.3g} for {left:,} iterations and {hours[1]:.3g} for "
        f"{validations:,} validations of {pictures} pictures, if all take as long as the first"
    )
    checkpoints = left // opt["logger"]["save_checkpoint_freq"]
    size = checkpoints * needs.checkpoint + needs.network + validations * pictures * needs.saved_picture
    free = shutil.disk_usage(os.getcwd()).free
    yield (
        f"size of the experiment: {_show(size)}, mostly {checkpoints:,} checkpoints of {_show(needs.checkpoint)}; "
        f"{_show(free)} are free{'' if size < free else ', WHICH IS NOT ENOUGH: raise logger:save_checkpoint_freq'}"
    )


@contextmanager
def _below(paths: Options, folder: str) -> Iterator[Path]:
    """Let a model write below a folder."""
    for key in ("models", "training_states", "visualization"):
        paths[key] = os.path.join(folder, key)
        os.makedirs(paths[key])
    yield Path(folder)


def _step(model: Any, batch: Options, iteration: int, opt: Options) -> float:
    began = time.perf_counter()
    model.update_learning_rate(iteration, warmup_iter=opt["train"].get("warmup_iter", -1))
    model.feed_data(batch)
    model.optimize_parameters(iteration)  # waits for the GPU, for it logs the loss
    return time.perf_counter() - began


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _show(size: float) -> str:
    from basicsr.utils import sizeof_fmt

    return sizeof_fmt(size)
