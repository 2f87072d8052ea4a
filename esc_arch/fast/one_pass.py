"""What is computed once in a forward pass, and used by many layers."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

Result = TypeVar("Result")

_RESULTS: WeakKeyDictionary[object, dict[Hashable, Any]] = WeakKeyDictionary()


def once(owner: object, key: Hashable, compute: Callable[[], Result]) -> Result:
    """Return what `compute` makes for `owner`, computed at the first call with this `key`.

    Args:
        owner: lives as long as one forward pass, as the large kernel or the bias of a network do; results go with it,
            so they cannot become outdated.
        key: what is computed.
        compute: makes it out of the weights of that pass.
    """
    results = _RESULTS.setdefault(owner, {})
    if key not in results:
        results[key] = compute()
    return results[key]
