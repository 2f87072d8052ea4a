"""The seam: the one place where another way to compute the same can step in for a definition.

Definitions that have such a way somewhere are marked `replaceable`. Called without one they are what they say. A way is
handed the definition first and then its arguments, and calls it wherever it has nothing better:

    def way(definition, x, kernel):
        return shortcut(x, kernel) if fits(x) else definition(x, kernel)

Nothing in this folder knows which ways there are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from torch.autograd import forward_ad

P = ParamSpec("P")
R = TypeVar("R")

_WAYS: dict[Callable[..., Any], Callable[..., Any] | None] = {}


def replaceable(definition: Callable[P, R]) -> Callable[P, R]:
    """Mark a function or a method as one that may be computed in another way, see `replace`.

    Graphs that are traced, compiled or exported always hold the definition: they serve many sizes and devices, while
    ways are chosen by size and device. The definition is taken, too, wherever functions are transformed (`torch.func`)
    or derivatives go forward: ways may have none for them, and torch would leave them out without a word.
    """

    @functools.wraps(definition)
    def compute(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch.compiler.is_compiling() or torch.jit.is_tracing() or _transforming():
            return definition(*args, **kwargs)
        way = _WAYS[compute]
        return definition(*args, **kwargs) if way is None else way(definition, *args, **kwargs)

    _WAYS[compute] = None
    return compute


def _transforming() -> bool:
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def replace(marked: Callable[P, R], way: Callable[Concatenate[Callable[P, R], P], R]) -> None:
    """Let `way` compute what `marked` defines, from now on and in the whole process.

    Args:
        marked: a function or a method (taken from its class) that is `replaceable`.
        way: called with the definition and its arguments; computes the same function.

    Raises:
        ValueError: the function is not marked.
    """
    if marked not in _WAYS:
        raise ValueError(f"{getattr(marked, '__qualname__', marked)} is not replaceable")
    _WAYS[marked] = way


@contextmanager
def replaced(marked: Callable[P, R], way: Callable[Concatenate[Callable[P, R], P], R]) -> Iterator[None]:
    """Let `way` take the place of `marked` within a `with` block; `replace` says the rest."""
    before = _WAYS.get(marked)
    replace(marked, way)
    try:
        yield
    finally:
        _WAYS[marked] = before
