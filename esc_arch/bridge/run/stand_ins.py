"""Other functions in the place of those of a module, for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any


@contextlib.contextmanager
def standing_in(module: ModuleType, stand_ins: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """Put functions into a module, and its own back at the end.

    Args:
        module: one of BasicSR's.
        stand_ins: by the names that the module calls them by.
    """
    before = {name: getattr(module, name) for name in stand_ins}
    for name, stand_in in stand_ins.items():
        setattr(module, name, stand_in)
    try:
        yield
    finally:
        for name, original in before.items():
            setattr(module, name, original)
