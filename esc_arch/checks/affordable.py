"""Tells of arguments of networks that are of the right kind, and far too large, before memory is taken for them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from numbers import Real
from typing import Any

from torch import nn

from esc_arch.common.machine import memory_of_machine
from esc_arch.weights.blueprint import TooLargeError, blueprint, counted

LARGE = 10_000  # above this no side, number of channels or of layers is in any network
PART = 4  # of the memory: what weights may take before it is found out how much they need
# words of torch about numbers that are too large
TOO_MUCH = re.compile("memory|alloc|overflow|too (large|big)|out of range|invalid combination|tuple of ints", re.I)


def build_affordable(factory: Callable[..., nn.Module], arguments: Mapping[str, Any]) -> nn.Module:
    """Build a network no further than a machine can hold it, at first without numbers if it seems large.

    Others are built at once: a constructor may keep tensors for all networks of its kind, which would stay without
    numbers then.

    Args:
        factory: the class of the network, or a function that builds it.
        arguments: of the network, of the right kinds.

    Returns:
        the network.

    Raises:
        TooLargeError: its weights need more memory than the machine has, or it has more parts than can be built.
        Exception: what the constructor raises.
    """
    if not is_absurd(arguments):
        with suppress(TooLargeError), counted(memory_of_machine() // PART):
            return factory(**arguments)
    with suppress(_UnfitError), counted():
        try:
            blueprint(factory, dict(arguments))  # type: ignore[arg-type]
        except TooLargeError:
            raise
        except Exception as error:  # of any kind: what cannot be built without numbers may be built with them
            raise _UnfitError from error
    with counted():
        return factory(**arguments)


class _UnfitError(Exception):
    """Ends a constructor that cannot do without numbers."""


def advice(arguments: Mapping[str, Any]) -> str:
    """Name the argument that is most likely too large, and say what to do."""
    name, size, is_list = max(_sizes(arguments), key=lambda found: found[1], default=("", 0.0, False))
    if not name:
        return "choose smaller arguments"
    shown = f"a list of {size:g} values" if is_list else f"{size:g}"
    return f"choose smaller arguments (the largest is {name}, {shown})"


def is_absurd(arguments: Mapping[str, Any]) -> bool:
    """Tell whether an argument is larger than any network has it."""
    return any(size > LARGE for _, size, _ in _sizes(arguments))


def is_too_much(error: Exception, arguments: Mapping[str, Any]) -> bool:
    """Tell whether what a constructor raised is about the size of its arguments."""
    if isinstance(error, MemoryError | OverflowError):
        return True
    return is_absurd(arguments) and TOO_MUCH.search(str(error)) is not None


def _sizes(arguments: Mapping[str, Any]) -> Iterator[tuple[str, float, bool]]:
    """Give names of numbers and lists, their size, and whether it is that of a list."""
    for name, value in arguments.items():
        if isinstance(value, Mapping):
            yield from _sizes(value)
        elif isinstance(value, list | tuple):
            yield name, float(len(value)), True
            yield from ((name, _size(item), False) for item in value if _is_number(item))
        elif _is_number(value):
            yield name, _size(value), False


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _size(number: Any) -> float:
    return float(min(abs(number), 10**308))  # there are whole numbers that no float holds
