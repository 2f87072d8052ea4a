"""The arguments that a network was trained with, beside its weights, which do not tell all of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from torch import nn

from esc_arch.common.hub import NETWORK, OnHub
from esc_arch.layers.backend import ATTN_TYPES

RECORD = "esc_arch"  # the entry of a checkpoint, or of the remarks in the header of a safetensors file
# Arguments that change no result: of initialisation, of training, or for counting
HARMLESS = ("img_size", "drop_path_rate")


def record_of(network: nn.Module) -> str | None:
    """Write down what a network is, as JSON, or return None where it is not of this package."""
    if not isinstance(network, OnHub):
        return None
    try:
        return json.dumps({NETWORK: type(network).__name__, **network.hub_arguments})
    except (TypeError, ValueError):  # arguments that are no plain values
        return None


def recorded_in(content: Any) -> dict[str, Any]:
    """Read what `record_of` wrote into a checkpoint.

    Args:
        content: of a checkpoint.

    Returns:
        arguments of the network, and under NETWORK the name of its class; {} where nothing was written down. A back-end
        of the attention is left out, which belongs to a machine.
    """
    record = content.get(RECORD) if isinstance(content, Mapping) else None
    try:
        found = json.loads(record) if isinstance(record, str) else {}
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict) or not isinstance(found.get(NETWORK), str):
        return {}
    return {name: "auto" if name == "attn_type" and value in ATTN_TYPES else value for name, value in found.items()}


def differing(recorded: Mapping[str, Any], network: nn.Module) -> list[str]:
    """Tell in what the network that a checkpoint was trained with differs from another one that its weights fit.

    Args:
        recorded: by `recorded_in`.
        network: that the weights are for.

    Returns:
        "name VALUE and not VALUE" for each that changes results.
    """
    own = recorded_in({RECORD: record_of(network)})
    if not own or NETWORK not in recorded:
        return []
    if recorded[NETWORK] != own[NETWORK]:  # ESC and ESCAblation may have the same weights
        return [f"{NETWORK} {recorded[NETWORK]} and not {own[NETWORK]}"]
    return [
        f"{name} {recorded[name]} and not {value}"
        for name, value in own.items()
        if name in recorded and recorded[name] != value and name not in HARMLESS
    ]
