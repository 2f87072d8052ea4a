"""Checks the checkpoints that option files name."""

from __future__ import annotations

import os
import warnings
from typing import Any

import torch
from torch import nn

from esc_arch.common.errors import UserError
from esc_arch.weights.files import read_recorded
from esc_arch.weights.fitting import load_into
from esc_arch.weights.recorded import differing

Options = dict[str, Any]


def read_checkpoint(file: str, param_key: str | None, where: str, network: nn.Module) -> dict[str, torch.Tensor]:
    """Read the weights that training and testing load from a checkpoint.

    Args:
        file: path of a checkpoint of any kind that `read_weights` reads.
        param_key: entry to take; params, params_ema and None stand for what there is where there is no such entry.
        where: name of the option, for messages.
        network: that the weights are for.

    Returns:
        names and tensors.

    Raises:
        UserError: the file is missing, damaged, or has no such entry.
    """
    return _read(file, param_key, where, network)[0]


def _read(
    file: str, param_key: str | None, where: str, network: nn.Module
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    if isinstance(file, str) and "://" in file:
        raise UserError(f"{where}: {file} is an address; download the checkpoint and give its path.")
    if not isinstance(file, str) or not os.path.exists(file):
        raise UserError(f"{where}: {file} does not exist; give the path of a checkpoint, or ~ for none.")
    try:
        return read_recorded(file, entry=param_key, names=network.state_dict().keys())
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def check_pretrained(path: Options, key: str, network: nn.Module) -> list[str]:
    """Check the checkpoint that a network of an option file starts from.

    Args:
        path: the section `path` of the options.
        key: of the network, `network_g` for example.
        network: built from its section; the weights are loaded into it.

    Returns:
        a sentence where weights were made to fit, which is a start for training and nothing to test, or where they were
        trained with other arguments that their shapes do not tell.

    Raises:
        UserError: the checkpoint cannot be read, or is one of another network.
    """
    where = f"path:pretrain_{key}"
    file = path.get(f"pretrain_{key}")
    if file is None:
        return []
    label = key.removeprefix("network_")
    weights, recorded = _read(file, path.get(f"param_key_{label}", "params"), where, network)
    try:
        load_into(network, weights, strict=path.get(f"strict_load_{label}", True))
    except UserError as error:
        raise UserError(
            f"{where}: {file} does not fit {key} ({type(network).__name__}); choose a checkpoint of this network "
            f"({error})."
        ) from error
    shapes = _other_shape(network, weights)
    if shapes is None:
        others = differing(recorded, network)
        return [f"{where}: {file} was trained with {', '.join(others)}."] if others else []
    return [
        f"{where}: {file} is of another scale, or another network: {shapes}, so it is converted and the results are "
        "not those of what was trained."
    ]


def load_exactly(
    network: nn.Module, file: str, entry: str | None, where: str, scale: int | None = None, *, strict: bool = True
) -> None:
    """Load the weights that a network is measured with, of which none may be missing or converted.

    Args:
        network: built from an option file.
        file: path of a checkpoint.
        entry: of the checkpoint to take.
        where: the option file, for messages.
        scale: of the network, for messages.
        strict: the checkpoint may hold nothing else.

    Raises:
        UserError: it cannot be read, or is not of this network and scale, even where the network would convert it.
    """
    weights, recorded = _read(file, entry, where, network)
    unfit = f"{where}: {file} does not fit {type(network).__name__}{f' x{scale}' if scale else ''}"
    advice = "choose a checkpoint of this network and scale"
    shapes = _other_shape(network, weights)
    if shapes is not None:
        raise UserError(f"{unfit}: {shapes}; {advice}.")
    try:
        # even where too many are allowed, none may be missing, or chance would be measured
        missing = load_into(network, weights, strict=strict)
    except UserError as error:
        raise UserError(f"{unfit}: {str(error).partition(',')[0]}; {advice}.") from error
    if missing:
        raise UserError(f"{unfit}: it lacks {missing[0]}; {advice}.")
    if others := differing(recorded, network):
        warnings.warn(f"{where}: {file} was trained with {', '.join(others)}.", stacklevel=2)


def _other_shape(network: nn.Module, weights: dict[str, torch.Tensor]) -> str | None:
    """Tell of the first of the weights whose shape is not the network's, if there is one."""
    own = network.state_dict()
    for name, tensor in weights.items():
        if name in own and own[name].shape != tensor.shape:
            return f"{name} is {_show(tensor)} in it and {_show(own[name])} in the network"
    return None


def _show(tensor: torch.Tensor) -> str:
    return " x ".join(str(side) for side in tensor.shape) or "a number"
