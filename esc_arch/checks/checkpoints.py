"""Checks the checkpoints that option files name."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import nn

from esc_arch.common.errors import UserError
from esc_arch.weights.files import read_file

Options = dict[str, Any]


def read_checkpoint(file: str, param_key: str | None, where: str) -> dict[str, torch.Tensor]:
    """Read the weights that BasicSR would load from a checkpoint.

    Args:
        file: path of a `.pth` file; only tensors are read, never other pickled objects.
        param_key: entry to take, with BasicSR's fall-back to `params`; None takes the whole file.
        where: name of the option, for messages.

    Returns:
        names and tensors, without the prefix of DataParallel.

    Raises:
        UserError: the file is missing, damaged, or has no such entry.
    """
    if not os.path.isfile(file):
        raise UserError(f"{where}: {file} does not exist; give the path of a checkpoint, or ~ for none.")
    try:
        content = read_file(file)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    if param_key is not None:
        keys = list(content) if isinstance(content, dict) else []
        param_key = "params" if param_key not in keys and "params" in keys else param_key
        if param_key not in keys:
            found = ", ".join(str(key) for key in keys[:5]) or "nothing"
            raise UserError(f"{where}: {file} has no entry {param_key!r} (found: {found}); set param_key accordingly.")
        content = content[param_key]
    if not isinstance(content, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in content.values()):
        raise UserError(f"{where}: {file} does not hold the weights of a network; set param_key to the right entry.")
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}


def check_pretrained(path: Options, key: str, network: nn.Module) -> None:
    """Check the checkpoint that a network of an option file starts from.

    Args:
        path: the section `path` of the options.
        key: of the network, `network_g` for example.
        network: built from its section; the weights are loaded into it.

    Raises:
        UserError: the checkpoint cannot be read, or is one of another network.
    """
    where = f"path:pretrain_{key}"
    file = path.get(f"pretrain_{key}")
    if file is None:
        return
    label = key.removeprefix("network_")
    weights = read_checkpoint(file, path.get(f"param_key_{label}", "params"), where)
    if not path.get(f"strict_load_{label}", True):
        return
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        first = next((line.strip() for line in str(error).splitlines()[1:] if line.strip()), str(error))
        raise UserError(
            f"{where}: {file} does not fit {key} ({type(network).__name__}); choose a checkpoint of this network "
            f"({first[:200]})."
        ) from error
