"""What the processes of a training tell each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import distributed

from esc_arch.common.errors import UserError

Options = dict[str, Any]


def said_by_first(question: Callable[[], Any]) -> Any:
    """Ask the first process and let all have its answer, or fail as it did.

    Raises:
        UserError: what `question` raised in the first process.
    """
    answer: list[Any] = [None, None]
    many = distributed.is_available() and distributed.is_initialized()
    if not many or distributed.get_rank() == 0:
        try:
            answer[0] = question()
        except UserError as error:
            answer[1] = str(error)
    if many:
        distributed.broadcast_object_list(answer, src=0)
    if answer[1] is not None:
        raise UserError(answer[1])
    return answer[0]


def gathered(opt: Options, mine: Any) -> list[Any]:
    """Return what all processes have, in the order of their ranks."""
    if not opt["dist"]:
        return [mine]
    everyones: list[Any] = [None] * opt["world_size"]
    distributed.all_gather_object(everyones, mine)
    return everyones


def highest(opt: Options, *numbers: int) -> list[int]:
    """Return the highest of each number over all processes."""
    if not opt["dist"]:
        return list(numbers)
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    shared = torch.tensor(numbers, device=device)
    distributed.all_reduce(shared, distributed.ReduceOp.MAX)
    return shared.tolist()
