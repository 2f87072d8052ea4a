"""Numbers that are written as text, as YAML 1.1 reads 1e-4."""

from __future__ import annotations

from typing import Any


def to_number(value: Any) -> Any:
    """Return the number that a text in a notation such as 1e-4 or -1 is, and anything else as it is."""
    if not isinstance(value, str) or not any(character.isdigit() for character in value):
        return value
    if set(value) - set("0123456789+-.eE"):  # float() takes 1_000 and digits of all scripts
        return value
    try:
        return int(value)
    except ValueError:
        try:
            return float(value)
        except ValueError:
            return value
