"""Finds what was meant by a name that is unknown."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def meant(name: str, known: Iterable[str], cutoff: float = 0.8) -> str | None:
    """Return the known name of which `name` is a misspelling or the beginning, or None.

    Args:
        name: what was written.
        known: names to choose from.
        cutoff: share of letters in common from which on a name counts as misspelt.
    """
    plain = {_plain(choice): choice for choice in known}
    written = _plain(name)
    close = difflib.get_close_matches(written, plain, n=1, cutoff=cutoff)
    if close:
        return plain[close[0]]
    longer = [choice for key, choice in plain.items() if len(written) >= 6 and key.startswith(f"{written}_")]
    return longer[0] if len(longer) == 1 else None


def hint(name: str, known: Iterable[str]) -> str:
    """Say which known name was meant, or name all of them, as the end of a sentence."""
    choices = sorted({choice.removesuffix("_basicsr") for choice in known})
    close = meant(name, choices)
    return f"; did you mean {close!r}" if close else f"; choose one of {', '.join(choices)}"


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")
