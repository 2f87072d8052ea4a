"""Going on from a training state, as if the training had not ended."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from esc_arch.bridge import random_states
from esc_arch.bridge.mends.saving import MORE_IN_STATE
from esc_arch.bridge.run import pool
from esc_arch.bridge.run.changes import Schedule, describe, snapshot
from esc_arch.bridge.run.processes import highest
from esc_arch.checks.option_file import parse
from esc_arch.common.errors import UserError

Options = dict[str, Any]


class Resumption:
    """A state, and what goes on from it.

    Args:
        state: as BasicSR writes it, with more where this package did.
        opt: parsed options; the seed is that of the state where they have none.
        option_file: its content.
        reset_schedule: rate and schedule are those of the options.
    """

    def __init__(self, state: Options, opt: Options, option_file: bytes, reset_schedule: bool) -> None:
        self.state, self.opt, self.reset_schedule = state, opt, reset_schedule
        self.more: Options = state.get(MORE_IN_STATE) or {}
        self.warnings: list[str] = []
        if self.more and not _names_a_seed(option_file):
            opt["manual_seed"] = self.more["seed"]

    def put_place(self, sampler: Any, dataset: Any) -> None:
        """Let the sampler, and the epoch of the state, go on where training ended."""
        order, images = self.more.get("order"), len(dataset)
        if order is None:
            self.warnings.append(
                "The state was written by BasicSR: it lacks the random states, the place within the epoch and the best "
                "figures, so training goes on with the next epoch, and differs from one that was not interrupted."
            )
        elif order["total"] == sampler.total_size and order["images"] == images:
            if order.get("names") not in (None, names_of(dataset)):
                self.warnings.append(
                    "datasets:train: the names of the images, or their order, are not those of the state that is "
                    "resumed, so the rest of the epoch is one of other images."
                )
            sampler.resume(self.state["epoch"], order["place"])
            return
        else:
            self.warnings.append(
                f"The epoch had {order['total']} places for {order['images']} images in the state that is resumed, and "
                f"has {sampler.total_size} for {images} now: training goes on with the next epoch."
            )
        self.state["epoch"] += 1

    def put_into(self, model: Any) -> None:
        """Give the model what the state holds.

        Raises:
            UserError: the state is of other optimizers or weights.
        """
        schedule = Schedule(model)
        sections = [f"train:{key}" for key in self.opt["train"] if key.startswith("optim_")]
        # in the order in which BasicSR's models set them up
        sections.sort(key=lambda name: (name != "train:optim_g", name))
        schedule.check_types(self.state, sections, self.opt["path"]["resume_state"], self.reset_schedule)
        changed = list(schedule.differences(self.state, sections))
        try:
            _check_shapes(model, self.state)
            model.resume_training(self.state)
        except (AssertionError, ValueError, KeyError) as error:
            raise UserError(
                f"{self.opt['path']['resume_state']} does not fit the optimizers of the options ({error}); resume with "
                "those it was trained with."
            ) from error
        model.resume_training = lambda state: None  # the pipeline asks for it again
        if self.reset_schedule:
            schedule.put_back(model, self.state["iter"])
        lines = describe(changed, self.more.get("options"), snapshot(self.opt), self.reset_schedule)
        self.warnings += lines
        scaler = getattr(model, "scaler", None)
        if scaler is not None and scaler.is_enabled() and self.more.get("scaler"):
            scaler.load_state_dict(self.more["scaler"])
        if pool.has_pool(model):
            found = pool.put_back(model, self.opt["path"]["resume_state"], self.state["iter"])
            if any(highest(self.opt, not found)):
                self.warnings.append(
                    "The pool of pairs that batches are drawn from is that of no other than the newest state, and of "
                    "the same queue_size, gt_size, scale and processes: it fills anew, so training differs from one "
                    "that was not interrupted."
                )
        if self.more.get("best"):
            model.best_metric_results = _for_these_metrics(self.more["best"], self.opt)

    def put_random_states(self) -> None:
        """Set the generators of this process."""
        states = self.more.get("random", [])
        if self.opt["rank"] < len(states):
            random_states.put(states[self.opt["rank"]])


def names_of(dataset: Any) -> str | None:
    """Return what tells the images of a data set and their order, wherever they lie; None where it has no list."""
    paths = getattr(dataset, "paths", None)
    if not isinstance(paths, list):
        return None
    files = (path.values() if isinstance(path, dict) else [path] for path in paths)
    names = "\n".join("/".join(os.path.basename(str(file)) for file in pair) for pair in files)
    return hashlib.sha256(names.encode(errors="surrogateescape")).hexdigest()[:16]


def _names_a_seed(option_file: bytes) -> bool:
    named = parse(option_file, "").get("manual_seed") is not None
    return named or any(argument.startswith("manual_seed=") for argument in sys.argv)


def _check_shapes(model: Any, state: Options) -> None:
    for optimizer, stored in zip(model.optimizers, state["optimizers"], strict=False):
        mine = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for index, values in stored.get("state", {}).items():
            average = values.get("exp_avg", values.get("momentum_buffer"))
            if average is not None and (index >= len(mine) or average.shape != mine[index].shape):
                raise ValueError("their weights are of another network")


def _for_these_metrics(best: Options, opt: Options) -> Options:
    """Leave out metrics that are not asked for any more, and data sets to which metrics were added."""
    metrics = (opt.get("val") or {}).get("metrics") or {}
    kept = {name: {m: record[m] for m in metrics if m in record} for name, record in best.items()}
    return {name: record for name, record in kept.items() if len(record) == len(metrics)}


@contextlib.contextmanager
def networks_must_fit(opt: Options) -> Iterator[None]:
    """Say in a sentence that the network of a state is not that of the options.

    Raises:
        UserError: it is not.
    """
    try:
        yield
    except UserError as error:
        raise UserError(
            f"the network of {opt['path']['resume_state']} is not that of the options ({str(error).rstrip('.')}); "
            "resume with the options that it was trained with, or give it as pretrain_network_g to start anew from it."
        ) from error
