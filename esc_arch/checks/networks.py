"""Builds the networks of an option file, and lets shapes run through them without computing numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from esc_arch.checks.affordable import advice, build_affordable, is_too_much
from esc_arch.checks.arguments import check_arguments
from esc_arch.checks.names import check_registered
from esc_arch.common.errors import UserError, first_line
from esc_arch.weights.blueprint import TooLargeError

Options = dict[str, Any]
Size = tuple[int, int]  # height, width
FAULTS = (ValueError, TypeError, AssertionError, ArithmeticError, RuntimeError, LookupError, AttributeError)
QUICK = 128 * 128  # LQ pixels that even a slow network enlarges in seconds


def build_checked(network_opt: Options, where: str) -> nn.Module:
    """Build a network from its section of the option file.

    Args:
        network_opt: `type` and the constructor arguments.
        where: name of the section, for messages.

    Returns:
        the network.

    Raises:
        UserError: the type is unknown, or an argument is unknown, missing, out of range or too large for the machine.
    """
    from basicsr.utils.registry import ARCH_REGISTRY

    arguments = dict(network_opt)
    name = arguments.pop("type", None)
    check_registered(name, ARCH_REGISTRY, f"{where}:type")
    factory = ARCH_REGISTRY.get(name)
    check_arguments(arguments, factory, where, takes=str(name))
    try:
        return build_affordable(factory, arguments)
    except TooLargeError as error:
        raise UserError(f"{where}: {name} cannot be built: {error}; {advice(arguments)}.") from error
    except (MemoryError, OverflowError, RuntimeError, TypeError) as error:  # the last where torch takes no such number
        if not is_too_much(error, arguments):
            raise UserError(f"{where}: {name} cannot be built: {first_line(error)}") from error
        raise UserError(
            f"{where}: {name} cannot be built: it needs more memory than there is, or numbers of more digits; "
            f"{advice(arguments)}."
        ) from error
    except (ImportError, *FAULTS) as error:
        raise UserError(f"{where}: {name} cannot be built: {first_line(error)}") from error


def check_takes(
    network: nn.Module, section: Options, size: Size, where: str, what: str, channels: int = 3
) -> tuple[int, int, int] | None:
    """Check that a network takes images of a size.

    On the device `meta` it computes no numbers. What fails there is tried again with numbers, if it is quick, because
    an operator may be missing on `meta`.

    Args:
        network: the network in training or in evaluation; it is moved to `meta`.
        section: of the network in the option file.
        size: height and width of the images.
        where: name of the section, for messages.
        what: what the images are, for messages.
        channels: of the images.

    Returns:
        channels, height and width of what comes out, None where it is no image.

    Raises:
        UserError: the network cannot take them.
    """
    for device in ("meta", "cpu"):
        if device == "cpu":
            if size[0] * size[1] > QUICK:
                return None
            network = build_checked(section, where).train(network.training)
        try:
            with torch.no_grad():
                out = network.to(device)(torch.zeros(2, channels, *size, device=device))
        except (NotImplementedError, *FAULTS) as error:
            reason = error
        else:
            is_image = isinstance(out, torch.Tensor) and out.dim() == 4
            return (out.shape[-3], out.shape[-2], out.shape[-1]) if is_image else None
    kind = f"{what} of {size[1]}x{size[0]} pixels{f' and {channels} channel' if channels == 1 else ''}"
    raise UserError(
        f"{where}: {section['type']} cannot take {kind} ({first_line(reason)}); choose another size or other arguments."
    ) from reason
