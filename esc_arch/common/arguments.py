"""What the commands read from the command line."""

from __future__ import annotations

import argparse
import math


def positive(text: str) -> int:
    """Read a whole number of at least 1, as a `type` of argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def factor(text: str) -> float:
    """Read a number of at least 1, as a `type` of argparse."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 1 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return number


def count(text: str) -> int:
    """Read a whole number of at least 0, as a `type` of argparse."""
    return 0 if text == "0" else positive(text)


def size(text: str) -> tuple[int, int]:
    """Read two sides, "128x96", in the order given, as a `type` of argparse."""
    first, _, second = text.lower().partition("x")
    return positive(first), positive(second)
