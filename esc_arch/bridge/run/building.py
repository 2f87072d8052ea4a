"""Builds all that a training needs, before it writes anything."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from esc_arch.bridge import random_states
from esc_arch.bridge.run.held_log import HeldLog
from esc_arch.bridge.run.processes import said_by_first
from esc_arch.bridge.run.resumption import Resumption, names_of, networks_must_fit
from esc_arch.common.errors import UserError, first_line

Options = dict[str, Any]
# What functions of BasicSR and constructors raise for arguments that do not suit them
OF_ARGUMENTS = (ValueError, TypeError, KeyError, AttributeError, AssertionError, NotImplementedError, ImportError)


@dataclass
class Built:
    """What BasicSR's pipeline builds; see its `create_train_val_dataloader` and `build_model`."""

    log: HeldLog
    train_loader: Any
    sampler: Any
    val_loaders: list[Any]
    model: Any
    last_epoch: int

    def more_to_resume(self, opt: Options, place: int, states: list[random_states.States]) -> Options:
        """Return what a training state holds besides BasicSR's.

        Args:
            opt: parsed options.
            place: in the epoch, images of all processes.
            states: random states of all processes.
        """
        from esc_arch.bridge.run.changes import optimizer_types, snapshot

        scaler = getattr(self.model, "scaler", None)
        best = getattr(self.model, "best_metric_results", {})
        return {
            "seed": opt["manual_seed"],
            "random": states,
            "order": {
                "place": place,
                "total": self.sampler.total_size,
                "images": len(self.sampler.dataset),
                "names": names_of(self.sampler.dataset),
            },
            "scaler": scaler.state_dict() if scaler is not None and scaler.is_enabled() else None,
            "best": {
                name: {m: {**r, "val": float(r["val"])} for m, r in record.items()} for name, record in best.items()
            },
            "options": snapshot(opt),
            "types": optimizer_types(self.model),
        }


def build(opt: Options, resumption: Resumption | None, make_loaders: Callable[..., Any]) -> Built:
    """Build loaders and model as BasicSR's pipeline does, and give them what a state holds.

    Args:
        opt: parsed options; `manual_seed` becomes that of the first process.
        resumption: what is resumed.
        make_loaders: `basicsr.train.create_train_val_dataloader`.

    Raises:
        UserError: something cannot be built, the state does not fit, or the data make no batch.
    """
    from basicsr.models import build_model
    from basicsr.utils import get_root_logger, set_random_seed

    _check_loggers(opt["logger"], opt["name"])
    opt["manual_seed"] = said_by_first(lambda: opt["manual_seed"])
    set_random_seed(opt["manual_seed"] + opt["rank"])
    log = HeldLog()
    with log.held():
        loaders = built("datasets", lambda: make_loaders(opt, get_root_logger()))
        train_loader, sampler, val_loaders, _, _ = loaders
        batches = _batches(opt, train_loader, sampler)
        if resumption is None:
            model = built("the options", lambda: build_model(opt))
        else:
            with networks_must_fit(opt):
                model = built("the options", lambda: build_model(opt))
            resumption.put_place(sampler, sampler.dataset)
            resumption.put_into(model)
    first_epoch = resumption.state["epoch"] if resumption else 0
    iterations = int(opt["train"]["total_iter"]) - (resumption.state["iter"] if resumption else 0)
    last_epoch = first_epoch + max(math.ceil(iterations / batches), 0)
    log.correct({"Require iter number per epoch": batches, "Total epochs": max(last_epoch, 1)})
    return Built(log, train_loader, sampler, val_loaders, model, last_epoch)


def built(what: str, make: Callable[[], Any]) -> Any:
    """Return what `make` makes.

    Args:
        what: whose options they are, for the message.
        make: calls constructors with options.

    Raises:
        UserError: they do not suit them.
    """
    try:
        return make()
    except UserError:
        raise
    except OF_ARGUMENTS as error:
        words = f"the option {error} is missing" if isinstance(error, KeyError) else first_line(error)
        raise UserError(f"{what}: this run cannot be built ({words}).") from error


def _batches(opt: Options, loader: Any, sampler: Any) -> int:
    """Return the number of batches of an epoch, whose last one is left out if it is not whole.

    Raises:
        UserError: there is none.
    """
    batches = sampler.num_samples // loader.batch_size
    if batches == 0:
        train = opt["datasets"]["train"]
        ratio = train.get("dataset_enlarge_ratio", 1)
        least = -(-loader.batch_size * opt["world_size"] // len(sampler.dataset))
        share = f" for each of {opt['world_size']} processes" if opt["world_size"] > 1 else ""
        raise UserError(
            f"datasets:train: {len(sampler.dataset)} images times dataset_enlarge_ratio {ratio} are "
            f"{sampler.num_samples}{share}, less than one batch of {loader.batch_size}; lower batch_size_per_gpu or "
            f"raise dataset_enlarge_ratio to at least {least}."
        )
    return batches


def _check_loggers(logger: Options, name: str) -> None:
    """Check that what is to be logged to is installed."""
    if "debug" in name:
        return
    wandb = logger.get("wandb") or {}
    if wandb.get("project") is not None:
        if logger.get("use_tb_logger") is not True:
            raise UserError("logger:wandb needs logger:use_tb_logger true, whose curves it shows.")
        if importlib.util.find_spec("wandb") is None:
            raise UserError("logger:wandb needs the package wandb; pip install wandb, or remove the section.")
    if logger.get("use_tb_logger") and importlib.util.find_spec("tensorboard") is None:
        raise UserError("logger:use_tb_logger needs tensorboard; pip install tensorboard, or set it to false.")
