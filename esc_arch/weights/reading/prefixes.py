"""Which names of tensors are those of one network, and what stands before them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

import torch

from esc_arch.weights.reading.words import AMID, WRAPPERS, is_ema, is_network, is_other

T = TypeVar("T")

ANYWHERE = ("plk_filter", "lk_spatial")  # by which the ESC family is known, at whatever place it is
BEHIND_WRAPPERS = ("conv_first.weight",)  # of HiT-SR and many peers: common, so that only wrappers may stand before it
OF_LTE = ("encoder", "coef.weight")  # ESC is inside of ESC+LTE, where this entry is beside it
# Counters that lie in one dictionary with the weights, or beside averages
COUNTERS = frozenset(
    ("n_averaged", "step", "initted", "decay", "num_updates", "epoch", "iter", "iteration", "global_step", "best_psnr")
)

PROFILED = ("total_ops", "total_params")  # that thop leaves in every module


def split(tensors: Mapping[str, T], names: Collection[str] | None) -> tuple[dict[str, dict[str, T]], bool]:
    """Sort named tensors into sets, each for one network, with what stands before their names taken off.

    Args:
        tensors: by name.
        names: of the network that is meant, or None: then the ESC family and HiT-SR are known by names of theirs,
            and of others the usual wrappers are taken off.

    Returns:
        the sets, by what stood before their names, without a dot at its end; and whether they are sure to be
        those that are meant, or of this package.
    """
    tensors = _without_wrappers_amid(_without_counters(tensors, names or ()))
    prefixes = _by_names(tensors, names) if names else []
    known = bool(prefixes) or not names
    prefixes = prefixes or _by_marks(tensors)
    if prefixes:
        sets = {prefix: _below(tensors, prefix) for prefix in prefixes}
        for prefix in prefixes:  # one set may lie within another, as an average beside the weights
            within = [other for other in prefixes if other != prefix and _starts(other, prefix)]
            for other in within:
                inner = other.removeprefix(prefix).lstrip(".") + "."
                sets[prefix] = {name: tensor for name, tensor in sets[prefix].items() if not name.startswith(inner)}
        sets = {prefix: _without_others(weights, names or ()) for prefix, weights in sets.items()}
        return {**sets, **_shadows(tensors, max(sets.values(), key=_dots))}, known
    return _by_wrappers(tensors), False


def _without_counters(tensors: Mapping[str, T], names: Collection[str]) -> dict[str, T]:
    def counts(name: str) -> bool:
        return name in COUNTERS or name.rpartition(".")[2] in PROFILED

    return {name: tensor for name, tensor in tensors.items() if name in names or not counts(name)}


def _without_others(weights: Mapping[str, T], names: Collection[str]) -> dict[str, T]:
    """Leave out what lies beside weights: single numbers, which no network here has at its top, losses and metrics."""

    def beside(name: str, tensor: T) -> bool:
        head, dot, _ = name.partition(".")
        return is_other([head]) if dot else _is_number(tensor)

    return {name: tensor for name, tensor in weights.items() if name in names or not beside(name, tensor)}


def _is_number(tensor: object) -> bool:
    """Tell whether this is a single number: one without axes, or a whole one."""
    shape = getattr(tensor, "shape", None)
    if shape is None or len(shape) > 1 or math.prod(shape) != 1:
        return False
    return not shape or not (isinstance(tensor, torch.Tensor) and tensor.is_floating_point())


def _without_wrappers_amid(tensors: Mapping[str, T]) -> dict[str, T]:
    """Take off what compiling or sharding a part of a network puts amid the names."""
    parts = {name: [part for part in name.split(".") if part not in AMID] for name in tensors}
    cleaned = {".".join(parts[name]): tensor for name, tensor in tensors.items()}
    return cleaned if len(cleaned) == len(tensors) else dict(tensors)


def _by_names(tensors: Iterable[str], names: Collection[str]) -> list[str]:
    """Find what stands before at least half of the names of a network."""
    known = set(names)
    counts = Counter(prefix for name in tensors for prefix, rest in _cuts(name) if rest in known)
    return [prefix for prefix, count in counts.items() if 2 * count >= len(known)]


def _by_marks(tensors: Mapping[str, object]) -> list[str]:
    """Find what stands before the names by which networks of this package are known."""
    found: list[str] = []
    for name in tensors:
        for prefix, rest in _cuts(name):
            if rest in ANYWHERE or (rest in BEHIND_WRAPPERS and is_network(filter(None, prefix.split(".")))):
                outer, _, last = prefix.rpartition(".")
                lte = last == OF_LTE[0] and (f"{outer}." if outer else "") + OF_LTE[1] in tensors
                found.append(outer if lte else prefix)
    found = list(dict.fromkeys(found))
    strangers = [prefix for prefix in found if not is_network(filter(None, prefix.split(".")))]
    if strangers and not _explained(tensors, found):
        return []  # a part of a larger network that is not known: it must not be taken for the whole
    return found


def _explained(tensors: Iterable[str], prefixes: list[str]) -> bool:
    """Tell whether all else is known to be no part of the network that is meant."""
    for name in tensors:
        if any(_starts(name, prefix) for prefix in prefixes):
            continue
        head = name.split(".")[:-1]
        if not (is_other(head) or is_ema(head)):
            return False
    return True


def _by_wrappers(tensors: dict[str, T]) -> dict[str, dict[str, T]]:
    """Take off the usual wrappers, as long as all names have one; part where they have several."""
    prefix: list[str] = []
    while True:
        heads = list(dict.fromkeys(name.partition(".")[0] for name in tensors))
        if len(heads) != 1 or not _may_go(heads[0], tensors):
            break
        prefix.append(heads[0])
        tensors = _below(tensors, heads[0])
    networks = [head for head in heads if is_network([head]) and _may_go(head, tensors)]
    if networks and all(head in networks or is_other([head]) for head in heads):
        return {".".join([*prefix, head]): _below(tensors, head) for head in networks}
    return {".".join(prefix): tensors}


def _may_go(head: str, tensors: Iterable[str]) -> bool:
    """Tell whether a word before names is no part of them: some networks are a sequence that is called `model`."""
    below = [name.removeprefix(head + ".") for name in tensors if name.startswith(head + ".")]
    numbered = any(name[:1].isdigit() for name in below)
    return bool(below) and is_network([head]) and (head in WRAPPERS or not numbered)


def _dots(names: Iterable[str]) -> int:
    return sum("." in name for name in names)


def _shadows(tensors: Mapping[str, T], weights: Mapping[str, T]) -> dict[str, dict[str, T]]:
    """Find averages whose names lost their dots, as some programs register them as buffers; what has none is kept."""
    dotted = {name.replace(".", ""): name for name in weights if "." in name}
    found: dict[str, dict[str, T]] = {}
    for name, tensor in tensors.items():
        prefix, _, rest = name.rpartition(".")
        if rest in dotted:
            found.setdefault(prefix, {})[dotted[rest]] = tensor
    averages = {prefix: shadows for prefix, shadows in found.items() if 2 * len(shadows) >= len(dotted)}
    for prefix, shadows in averages.items():
        shadows.update({name: tensor for name, tensor in _below(tensors, prefix).items() if name in weights})
    return {prefix: {**weights, **shadows} for prefix, shadows in averages.items()}


def _cuts(name: str) -> Iterable[tuple[str, str]]:
    """Give every way to cut a name into what may stand before it and the rest."""
    yield "", name
    place = name.find(".")
    while place >= 0:
        yield name[:place], name[place + 1 :]
        place = name.find(".", place + 1)


def _starts(name: str, prefix: str) -> bool:
    return not prefix or name.startswith(prefix + ".")


def _below(tensors: Mapping[str, T], prefix: str) -> dict[str, T]:
    if not prefix:
        return dict(tensors)
    return {name[len(prefix) + 1 :]: tensor for name, tensor in tensors.items() if name.startswith(prefix + ".")}
