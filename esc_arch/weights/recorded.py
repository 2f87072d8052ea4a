"""The arguments that a network was trained with, beside its weights, which do not tell all of them."""

from __future__ import annotations

import contextlib
import inspect
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from esc_arch.common.hub import NETWORK, OnHub
from esc_arch.layers.backend import ATTN_TYPES

RECORD = "esc_arch"  # the entry of a checkpoint, or of the remarks in the header of a safetensors file
ARGUMENTS = "arguments"  # what is in the entry
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


def entry_of(record: str | None) -> dict[str, dict[str, torch.Tensor]]:
    """Return the entry of a checkpoint that holds a record, or none.

    It is a dictionary of a tensor, as all entries of a checkpoint of BasicSR are, for programs that go through these.
    """
    return {RECORD: {ARGUMENTS: torch.tensor(list(record.encode()), dtype=torch.uint8)}} if record else {}


def text_in(content: Any) -> str | None:
    """Return the record in the content of a checkpoint, if there is one."""
    entry = content.get(RECORD) if isinstance(content, Mapping) else None
    if isinstance(entry, Mapping) and isinstance(letters := entry.get(ARGUMENTS), torch.Tensor) and letters.dim() == 1:
        with contextlib.suppress(ValueError, RuntimeError, TypeError):
            return bytes(letters.to(torch.uint8).tolist()).decode()
    return entry if isinstance(entry, str) else None


def recorded_in(content: Any) -> dict[str, Any]:
    """Read the record in a checkpoint.

    Args:
        content: of a checkpoint.

    Returns:
        arguments of the network, and under NETWORK the name of its class; {} where nothing was written down. A back-end
        of the attention is left out, which belongs to a machine.
    """
    try:
        found = json.loads(text_in(content) or "{}")
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
    named = inspect.signature(type(network)).parameters  # others are ignored
    return [
        f"{name} {recorded[name]} and not {value}"
        for name, value in own.items()
        if name in recorded and recorded[name] != value and name in named and name not in HARMLESS
    ]
