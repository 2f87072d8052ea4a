"""Averages that were saved as a list of the parameters, in their order in the network, without names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch

from esc_arch.weights.reading.words import is_ema

T = TypeVar("T")

# Last parts of names of floating point tensors that are no parameters, and that averages of parameters lack
BUFFERS = frozenset(("init_pos", "running_mean", "running_var", "means", "attn_mask"))


def is_list(value: Any, kind: type[T] | tuple[type[T], ...]) -> bool:
    """Tell whether this is a list of such tensors, and of nothing else."""
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(item, kind) for item in value)


def of_optimizers(value: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Find averages that optimizers keep beside their state, as those of NeMo do, and the entries that lead there."""
    if isinstance(value, Mapping):
        yield from (((str(key),), item) for key, item in value.items() if is_ema([str(key)]))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            if isinstance(item, Mapping):
                yield from (((str(index), *words), inner) for words, inner in of_optimizers(item))


def names_for(listed: Sequence[object], weights: Mapping[str, object]) -> list[str] | None:
    """Name listed parameters by the weights of the same network.

    Args:
        listed: parameters in their order in the network.
        weights: the tensors of the network, in their order.

    Returns:
        a name for each, or None where their number or a shape is another.
    """
    shapes = {
        name: getattr(tensor, "shape", None)
        for name, tensor in weights.items()
        if not (isinstance(tensor, torch.Tensor) and not tensor.is_floating_point())
        and name.rpartition(".")[2] not in BUFFERS
    }
    same = list(shapes.values()) == [getattr(item, "shape", None) for item in listed]
    return list(shapes) if same else None
