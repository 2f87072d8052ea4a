"""Tries losses of an option file as models call them, on noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from esc_arch.common.errors import UserError, first_line

SIDE = 32  # pixels
NEAR = 0.5  # a loss that compares with GT is less than this part of itself where there is no difference


def _compare(loss: Callable[..., Any], output: torch.Tensor, gt: torch.Tensor) -> Any:
    return loss(output, gt)


def _judge(loss: Callable[..., Any], output: torch.Tensor, gt: torch.Tensor) -> Any:
    return loss(output, True, is_disc=False)


def _compare_features(loss: Callable[..., Any], output: torch.Tensor, gt: torch.Tensor) -> Any:
    content, style = loss(output, gt)
    given = [part for part in (content, style) if part is not None]
    return sum(given, output.new_zeros(()))


# how models call the losses of these sections
ROLES: dict[str, Callable[..., Any]] = {
    "pixel_opt": _compare,
    "ldl_opt": _compare,
    "perceptual_opt": _compare_features,
    "gan_opt": _judge,
}


def try_loss(loss: Any, kind: str, where: str) -> list[str]:
    """Call a loss as the models do.

    Args:
        loss: as BasicSR builds it.
        kind: name of its class.
        where: name of its section.

    Returns:
        a sentence if it does not teach what its section is for.

    Raises:
        UserError: it cannot be called so, or gives no number.
    """
    name = where.rpartition(":")[2]
    generator = torch.Generator().manual_seed(0)
    gt = torch.rand(2, 3, SIDE, SIDE, generator=generator)
    output = (1 - gt).requires_grad_()
    try:
        far = ROLES[name](loss, output, gt)
        number, near = far.item(), ROLES[name](loss, gt, gt).item()
    except Exception as error:  # whatever a loss makes of what it is not made for
        raise UserError(f"{where}: {kind} is no loss for {name} ({first_line(error)}); choose another type.") from error
    if far.dim():
        raise UserError(
            f"{where}: {kind} is no loss for {name}, as it gives more than one number; choose another type."
        )
    if name != "gan_opt" and number and not near <= NEAR * number:
        return [
            f"{where}: {kind} is not lower where the output is GT, so it does not teach the network to come near it."
        ]
    return []
