"""Mistakes of the user, told in one sentence instead of a stack trace."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class UserError(ValueError):
    """Something that the user gave cannot be used; the message names it and says what to do."""


def one_sentence(main: Callable[P, T]) -> Callable[P, T]:
    """Make a command end with exit code 1 and the message alone when it raises UserError.

    In distributed training every process finds the same mistake; only the first one tells it.
    """

    @functools.wraps(main)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return main(*args, **kwargs)
        except UserError as error:
            if _is_first_process():
                print(f"Error: {error}", file=sys.stderr, flush=True)
            sys.exit(1)

    return wrapper


def _is_first_process() -> bool:
    from torch import distributed

    if distributed.is_initialized():
        return distributed.get_rank() == 0
    return "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("RANK", "0") == "0"  # of torchrun
