"""Whether weights fit a network, told in a few words."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from esc_arch.common.errors import UserError

REASONS_OF_TORCH = ("Missing key", "Unexpected key", "size mismatch", "While copying")


def load_into(network: nn.Module, weights: Mapping[str, torch.Tensor], *, strict: bool = True) -> list[str]:
    """Load weights into a network.

    Args:
        network: is changed.
        weights: names and tensors.
        strict: all names must be those of the network; otherwise what fits is loaded, one tensor at least.

    Returns:
        names of the network for which nothing was loaded.

    Raises:
        UserError: they do not fit; the message is the first reason alone.
    """
    own = network.state_dict()
    if not strict and own and not any(name in own and own[name].shape == t.shape for name, t in weights.items()):
        raise UserError("nothing in it has the name and shape of a tensor of the network")
    try:
        return list(network.load_state_dict(weights, strict=strict).missing_keys)
    except (RuntimeError, ValueError, LookupError, TypeError) as error:
        if not strict:
            return _load_what_fits(network, weights)
        raise UserError(first_reason(error)) from error


def first_reason(error: BaseException) -> str:
    """Say why weights do not fit, in one line, without full stop."""
    # torch's first line names the class, the others reasons, of which those of a layer itself say more
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    reasons = lines[1:] or lines
    reason = next((line for line in reasons if not line.startswith(REASONS_OF_TORCH)), reasons[0])
    return reason.rstrip(". ")[:200]


def _load_what_fits(network: nn.Module, weights: Mapping[str, torch.Tensor]) -> list[str]:
    own = network.state_dict()
    fitting = {name: tensor for name, tensor in weights.items() if name in own and own[name].shape == tensor.shape}
    return list(network.load_state_dict(fitting, strict=False).missing_keys)
