"""Which of the tensors of a checkpoint are the weights that are meant."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from esc_arch.common.errors import UserError
from esc_arch.weights.reading.prefixes import split
from esc_arch.weights.reading.stand_ins import ArrayStandIn, StandIn
from esc_arch.weights.reading.unnamed import is_list, names_for, of_optimizers
from esc_arch.weights.reading.words import CALLBACKS, averages, class_name, is_bookkeeping, is_ema, is_network, is_other
from esc_arch.weights.recorded import RECORD

DEEPEST = 8
LONGEST_LIST = 100
USUAL = ("params_ema", "params")  # of BasicSR, its average first
Value = torch.Tensor | ArrayStandIn


@dataclass(frozen=True)
class Candidate:
    """Tensors that may be the weights.

    Attributes:
        words: entries of the checkpoint that lead to them, and then what stood before their names.
        weights: by name.
        known: whether the names are those of the network that is meant, or of one of this package.
        average: whether these are averages of weights.
        listed: whether they have numbers for names.
    """

    words: tuple[str, ...]
    weights: dict[str, Value]
    known: bool
    average: bool
    listed: bool = False

    @property
    def where(self) -> str:
        """The place, for messages."""
        return ".".join(self.words) or "the top"

    def claim(self, average: bool, largest: int) -> tuple[bool, bool, bool, bool, int]:
        """Say how likely these are the weights that are meant: the smaller, the likelier.

        Args:
            average: the average of weights is preferred to the weights.
            largest: number of tensors of the largest candidate; a few tensors beside it are counters.
        """
        place = 0 if self.words[-1:] and self.words[-1] in USUAL else 1 if self.words and is_network(self.words) else 2
        if self.words and place == 2:
            place = 3
        few = 10 * len(self.weights) < largest
        return not self.known, few, is_other(self.words), self.average is not average, place


def choose(content: Any, entry: str | None, names: Collection[str] | None) -> Candidate:
    """Find the weights that are meant, however deep they are.

    Sets whose names are known come before others, those called discriminator, loss and the like after all others;
    averages (`params_ema`, `model_ema`, ...) before the weights, or behind them where `entry` is "params"; then the
    entries `params_ema` and `params`, the usual names of networks, the top of the checkpoint, and any others.

    Args:
        content: of a checkpoint.
        entry: to take, where there is one of this name; "params_ema", "params" and None otherwise tell only what is
            preferred.
        names: of the tensors of the network that is meant, if that is known.

    Returns:
        the weights.

    Raises:
        UserError: there are none, or different ones of the same claim, or not the entry; the message lacks the file.
    """
    candidates = _named(list(_candidates(content, entry, names)))
    if not candidates or (_is_training_state(content) and not any(candidate.known for candidate in candidates)):
        raise UserError(_why_none(content))
    if entry is not None:
        named = [candidate for candidate in candidates if entry in candidate.words]
        if not named and entry not in USUAL:
            found = ", ".join(dict.fromkeys(candidate.where for candidate in candidates))
            raise UserError(f"has no entry {entry!r} with weights (found: {found}); set param_key accordingly")
        candidates = named or candidates
    average, largest = entry != "params", max(len(candidate.weights) for candidate in candidates)
    claims = [candidate.claim(average, largest) for candidate in candidates]
    chosen, *others = (candidate for candidate, claim in zip(candidates, claims, strict=True) if claim == min(claims))
    for other in others:
        if not _equal(chosen.weights, other.weights):
            raise UserError(
                f"holds different weights in {chosen.where} and in {other.where}, and nothing says which are meant; "
                "save those alone"
            )
    if average and not chosen.average and not is_other(chosen.words):
        _tell_of_averages(chosen, candidates, largest)
    return _completed(chosen, candidates) if chosen.average else chosen


def _named(candidates: list[Candidate]) -> list[Candidate]:
    """Give averages that were saved without names the names of the weights beside them that they fit."""
    known = [candidate for candidate in candidates if candidate.known and not candidate.average]
    found = []
    for candidate in candidates:
        if candidate.listed:
            listed = list(candidate.weights.values())
            names = next((names for other in known if (names := names_for(listed, other.weights))), None)
            if names:
                candidate = replace(candidate, weights=dict(zip(names, listed, strict=True)), known=True)
        found.append(candidate)
    return found


def _tell_of_averages(chosen: Candidate, candidates: list[Candidate], largest: int) -> None:
    """Warn of averages that cannot be used, where they would be preferred to the weights."""
    for other in candidates:
        few = 10 * len(other.weights) < largest
        if other.average and not other.known and not few and not is_other(other.words):
            warnings.warn(
                f"The average of weights in {other.where} of the checkpoint does not fit the network and is left "
                f"aside: the weights in {chosen.where} are taken.",
                stacklevel=2,
            )


def _completed(average: Candidate, candidates: list[Candidate]) -> Candidate:
    """Add to an average of the parameters what is not averaged, as buffers are not, from the weights beside it."""
    for other in candidates:
        if other.known and not other.average and average.weights.keys() < other.weights.keys():
            return replace(average, weights={**other.weights, **average.weights})
    return average


def _candidates(content: Any, entry: str | None, names: Collection[str] | None) -> Iterator[Candidate]:
    for words, tensors in _dictionaries(content, entry):
        if isinstance(tensors, list):
            yield Candidate(words, {str(index): tensor for index, tensor in enumerate(tensors)}, False, True, True)
            continue
        sets, known = split(tensors, names)
        for prefix, weights in sets.items():
            if weights:
                path = (*words, *filter(None, prefix.split(".")))
                yield Candidate(path, weights, known, is_ema(path) or _stands_for_average(content, words))


def _stands_for_average(content: Any, words: tuple[str, ...]) -> bool:
    """Tell whether these are the averages that Lightning saves in the place of the weights, which it puts beside."""
    aside = isinstance(content, Mapping) and isinstance(content.get("current_model_state"), Mapping)
    return aside and words[:1] == ("state_dict",)


def _dictionaries(content: Any, entry: str | None) -> Iterator[tuple[tuple[str, ...], dict[str, Value] | list[Value]]]:
    """Find all dictionaries of named tensors, the outer ones first, but for those of optimizers and the like.

    Of lists of tensors those are given that are averages.
    """
    level: list[tuple[tuple[str, ...], Any]] = [((), content)]
    seen: set[int] = set()
    for _ in range(DEEPEST):
        below: list[tuple[tuple[str, ...], Any]] = []
        for words, value in level:
            if id(value) in seen:
                continue
            seen.add(id(value))
            value = _as_container(value)
            if is_ema(words) and is_list(value, (torch.Tensor, ArrayStandIn)):
                yield words, list(value)
            elif isinstance(value, list | tuple):
                below += [((*words, str(index)), item) for index, item in enumerate(value[:LONGEST_LIST])]
            elif isinstance(value, Mapping) and "param_groups" not in value:
                items = [(_text(key), item) for key, item in value.items() if words or key != RECORD]
                if words == (CALLBACKS,):
                    items = [(class_name(key), item) for key, item in items if averages(class_name(key))]
                tensors = {key: item for key, item in items if key and isinstance(item, Value)}
                if tensors:
                    yield words, tensors
                below += [
                    ((*words, key, *inner), item)
                    for key, optimizers in items
                    if "optim" in key.lower()
                    for inner, item in of_optimizers(optimizers)
                ]
                numbered = [(str(key), item) for key, item in value.items() if type(key) is int]  # of folds or steps
                below += [
                    ((*words, key), item)
                    for key, item in (*items, *numbered)
                    if key and (key == entry or not is_bookkeeping(key) or (not words and key == CALLBACKS))
                ]
        level = [(words, value) for words, value in below if isinstance(value, Mapping | list | tuple | StandIn)]


def _as_container(value: Any) -> Any:
    """Return pairs of a name and a tensor as a dictionary, and what an object of another class holds."""
    if isinstance(value, list | tuple) and value:
        pairs = all(isinstance(item, list | tuple) and len(item) == 2 for item in value)
        if pairs and all(_text(name) and isinstance(item, Value) for name, item in value):
            named = dict(value)
            return named if len(named) == len(value) else value
    if isinstance(value, StandIn) and not isinstance(value, ArrayStandIn) and not _is_module(value):
        return [*value.arguments, *value.state] if isinstance(value.state, tuple) else value.state or value.arguments
    return value


def _text(key: Any) -> str:
    """Return a key that is a text, or nothing."""
    if isinstance(key, bytes):
        return key.decode("utf-8", "replace")
    return key if isinstance(key, str) else ""


def _why_none(content: Any) -> str:
    """Say what a checkpoint without weights holds instead, and what to do."""
    if isinstance(content, Mapping):
        if _is_training_state(content):
            return "is a training state, which holds no weights of a network; choose net_g_....pth in the folder models"
        whole = next((value for value in (*content.values(),) if _is_module(value)), None)
    else:
        whole = content if _is_module(content) else None
    if whole is not None:
        return (
            f"holds a whole module of Python ({whole.path}), more than tensors, and is not loaded since that runs its "
            "code; save the network's state_dict() instead"
        )
    return "does not hold the weights of a network; choose a checkpoint"


def _is_training_state(content: Any) -> bool:
    return isinstance(content, Mapping) and {"optimizers", "schedulers", "iter"} <= content.keys()


def _is_module(value: Any) -> bool:
    return isinstance(value, StandIn) and isinstance(value.state, Mapping) and "_modules" in value.state


def _equal(a: Mapping[str, Value], b: Mapping[str, Value]) -> bool:
    return a.keys() == b.keys() and all(_same(a[name], b[name]) for name in a)


def _same(a: Value, b: Value) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a is b or (a.shape == b.shape and a.dtype == b.dtype and a.layout == b.layout and bool((a == b).all()))
    return a is b
