"""What a training is resumed with that is not what it was begun with."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from esc_arch.bridge.mends.saving import MORE_IN_STATE
from esc_arch.common.errors import UserError

Options = dict[str, Any]
Groups = list[list[Options]]  # of parameters, without the parameters: one list for each optimizer

# Options that change what is computed. Those of optimizers and schedulers are compared with what the state holds.
COMPARED = ("model_type", "scale", "manual_seed", "amp", "world_size", "network_*", "datasets:train", "train")
NO_MATTER = (  # within these
    "datasets:train:num_worker_per_gpu",
    "datasets:train:prefetch_mode",
    "datasets:train:num_prefetch_queue",
    "datasets:train:pin_memory",
    "datasets:train:persistent_workers",
    "datasets:train:name",
    "datasets:train:phase",
    "datasets:train:scale",
    "train:total_iter",
)
OF_SCHEDULERS = ("milestones", "gamma", "restarts", "restart_weights", "periods", "eta_min")
# Arguments that tell kinds of optimizers apart; others come and go with versions of PyTorch
OF_OPTIMIZERS = ("betas", "momentum", "alpha", "rho", "lambd", "etas", "lr_decay")


class Schedule:
    """The rates and arguments that the options give the optimizers, before a state puts its own in their place.

    Args:
        model: a model of BasicSR that was just built.
    """

    def __init__(self, model: Any) -> None:
        self.groups: Groups = [[_without_parameters(group) for group in o.param_groups] for o in model.optimizers]
        self.types = optimizer_types(model)
        self.schedulers = [copy.deepcopy(scheduler.state_dict()) for scheduler in model.schedulers]

    def put_back(self, model: Any, iteration: int) -> None:
        """Let a resumed model go on with the schedule of the options, from its place at an iteration on."""
        for optimizer, groups in zip(model.optimizers, self.groups, strict=True):
            for group, fresh in zip(optimizer.param_groups, groups, strict=True):
                group.update(copy.deepcopy(fresh))
        for scheduler, fresh in zip(model.schedulers, self.schedulers, strict=True):
            for name in set(OF_SCHEDULERS) - set(fresh):  # of a schedule of another type
                vars(scheduler).pop(name, None)
            scheduler.load_state_dict(copy.deepcopy(fresh))
            groups = scheduler.optimizer.param_groups
            # as `step` does, which warns that the optimizer makes no steps in between
            for scheduler.last_epoch in range(1, iteration):
                for group, rate in zip(groups, scheduler.get_lr(), strict=True):
                    group["lr"] = rate
            scheduler._step_count = iteration
            scheduler._last_lr = [group["lr"] for group in groups]

    def check_types(self, state: Options, sections: list[str], file: str, is_reset: bool) -> None:
        """Check that optimizers and schedulers are of the types that wrote a state.

        Args:
            state: as BasicSR writes it.
            sections: names of the options of the optimizers, such as `train:optim_g`.
            file: its path.
            is_reset: whether the schedule of the state is left out.

        Raises:
            UserError: their figures mean nothing to these ones.
        """
        before = (state.get(MORE_IN_STATE) or {}).get("types", self.types)
        for index, (fresh, stored) in enumerate(zip(self.groups, state["optimizers"], strict=False)):
            now, then = self.types[index], before[index] if index < len(before) else ""
            groups = stored.get("param_groups") or fresh
            if then != now or _named(groups[0], OF_OPTIMIZERS) != _named(fresh[0], OF_OPTIMIZERS):
                raise UserError(
                    f"{sections[index] if index < len(sections) else 'train'}:type is {now}, but {file} was written by "
                    f"{then if then != now else 'another optimizer'}; resume with that, or give its network as "
                    "pretrain_network_g to start anew from it."
                )
        for mine, theirs in zip(self.schedulers, state["schedulers"], strict=False):
            if not is_reset and _named(mine, OF_SCHEDULERS) != _named(theirs, OF_SCHEDULERS):
                raise UserError(
                    f"train:scheduler:type is not that of {file}; give --reset_schedule to use the new schedule, or "
                    "resume with the old one."
                )

    def differences(self, state: Options, sections: list[str]) -> Iterator[tuple[str, Any, Any]]:
        """Yield the options, with their value in a state and now, in which the state has another schedule.

        Args:
            state: as BasicSR writes it.
            sections: names of the options of the optimizers, such as `train:optim_g`.
        """
        for section, fresh, stored in zip(sections, self.groups, state["optimizers"], strict=False):
            for mine, theirs in zip(fresh, stored.get("param_groups", []), strict=False):
                for key, value in mine.items():
                    if key != "lr" and key in theirs and _plain(theirs[key]) != _plain(value):
                        name = "lr" if key == "initial_lr" else key
                        yield f"{section}:{name}", theirs[key], value
                break  # the groups of one optimizer share their options
        for fresh_state, stored in zip(self.schedulers[:1], state["schedulers"], strict=False):
            for key in OF_SCHEDULERS:
                if _plain(fresh_state.get(key)) != _plain(stored.get(key)):
                    yield f"train:scheduler:{key}", _listed(stored.get(key)), _listed(fresh_state.get(key))


def optimizer_types(model: Any) -> list[str]:
    """Return the names of the classes of a model's optimizers, which BasicSR's states lack."""
    return [type(optimizer).__name__ for optimizer in model.optimizers]


def snapshot(opt: Options) -> Options:
    """Return the options that a state keeps to be compared with, as numbers, text and lists by name."""
    flat: Options = {}
    for key, value in opt.items():
        for name in COMPARED:
            section, _, part = name.partition(":")
            if section == key or (section.endswith("*") and key.startswith(section[:-1])):
                _flatten(f"{key}:{part}" if part else key, value.get(part, {}) if part else value, flat)
    return {
        name: value
        for name, value in flat.items()
        if name not in NO_MATTER and not name.startswith(("train:optim_", "train:scheduler"))
    }


def describe(
    schedule: list[tuple[str, Any, Any]], before: Options | None, now: Options, is_reset: bool
) -> Iterator[str]:
    """Say of every option that changed which value is used.

    Args:
        schedule: what `Schedule.differences` found.
        before: the snapshot of the state, None if it has none.
        now: that of the options.
        is_reset: whether `--reset_schedule` was given.
    """
    for name, old, new in schedule:
        used = (
            f"{_show(new)} is used, because of --reset_schedule"
            if is_reset
            else f"{_show(old)} is used; give --reset_schedule to use the new one"
        )
        yield f"{name} was {_show(old)} in the state that is resumed and is {_show(new)} in the options: {used}."
    if before is None:
        return
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if old != new:
            yield f"{name} was {_show(old)} in the state that is resumed and is {_show(new)} now: {_show(new)} is used."


def _named(state: Options, names: tuple[str, ...]) -> set[str]:
    return {name for name in names if name in state}


def _without_parameters(group: Options) -> Options:
    return {key: copy.deepcopy(value) for key, value in group.items() if key != "params"}


def _flatten(name: str, value: Any, flat: Options) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _flatten(f"{name}:{key}", inner, flat)
    else:
        flat[name] = _plain(value)


def _plain(value: Any) -> Any:
    """Make values comparable and readable by `torch.load(weights_only=True)`: tuples are lists, Counters sorted."""
    if isinstance(value, dict):
        return sorted((_plain(key), _plain(inner)) for key, inner in value.items())
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _listed(value: Any) -> Any:
    """Return the milestones as the option file writes them."""
    return sorted(key for key, count in value.items() for _ in range(count)) if isinstance(value, dict) else value


def _show(value: Any) -> str:
    return "empty" if value is None else str(value)
