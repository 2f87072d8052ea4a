"""Tries losses of an option file as models call them, on noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from esc_arch.common.errors import UserError, first_line

SIDE = 32  # pixels
NEAR = 0.5  # a loss that compares with GT is less than this part of itself where there is no difference


Predictions = Any  # of a discriminator: one tensor, or its features at several scales


def _compare(loss: Callable[..., Any], output: torch.Tensor, gt: torch.Tensor) -> Any:
    return loss(output, gt)


def _compare_perceived(loss: Callable[..., Any], output: torch.Tensor, gt: torch.Tensor) -> Any:
    content, style = loss(output, gt)
    given = [part for part in (content, style) if part is not None]
    return sum(given, output.new_zeros(()))


def _judge(loss: Callable[..., Any], prediction: Predictions, real: Predictions) -> Any:
    return (
        loss(real, True, is_disc=True) + loss(prediction, False, is_disc=True) + loss(prediction, True, is_disc=False)
    )


def _judge_features(loss: Callable[..., Any], output: torch.Tensor, gt: torch.Tensor) -> Any:
    return _judge(loss, _features(output), _features(gt))


def _compare_features(loss: Callable[..., Any], output: torch.Tensor, gt: torch.Tensor) -> Any:
    return loss(_features(output), _features(gt))


def _features(image: torch.Tensor) -> list[list[torch.Tensor]]:
    """Return what a discriminator that looks at two scales makes of an image: features of every layer for each."""
    return [[image[..., ::step, ::step], image[:, :1, ::step, ::step]] for step in (1, 2)]


# how models call the losses of these sections
ROLES: dict[str, Callable[..., Any]] = {
    "pixel_opt": _compare,
    "wave_opt": _compare,
    "mesa_opt": _compare,
    "ldl_opt": _compare,
    "perceptual_opt": _compare_perceived,
    "gan_opt": _judge,
    "feature_matching_opt": _compare_features,
}
# where the discriminator looks at several scales
ROLES_OF_SCALES = {**ROLES, "gan_opt": _judge_features}


def try_loss(loss: Any, kind: str, where: str, has_scales: bool = False) -> list[str]:
    """Call a loss as the models do.

    Args:
        loss: as BasicSR builds it.
        kind: name of its class.
        where: name of its section.
        has_scales: the discriminator looks at several scales.

    Returns:
        a sentence if it does not teach what its section is for.

    Raises:
        UserError: it cannot be called so, or gives no number.
    """
    name = where.rpartition(":")[2]
    call = (ROLES_OF_SCALES if has_scales else ROLES)[name]
    generator = torch.Generator().manual_seed(0)
    gt = torch.rand(2, 3, SIDE, SIDE, generator=generator)
    output = (1 - gt).requires_grad_()
    try:
        far = call(loss, output, gt)
        number, near = far.item(), call(loss, gt, gt).item()
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
