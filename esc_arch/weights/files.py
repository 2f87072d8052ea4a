"""Files of weights: BasicSR's `.pth`, plain state dictionaries and safetensors, in and out."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from typing import Any

import torch

from esc_arch.common.errors import UserError

Weights = dict[str, torch.Tensor]

ENTRIES = ("params_ema", "params", "state_dict")  # of BasicSR and others, best first
PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and of torch.compile
SUFFIXES = (".pth", ".safetensors")  # that can be written


def read_file(file: str) -> Any:
    """Read what a file of weights holds, without running anything that a stranger may have put into it.

    Args:
        file: path of a `.safetensors` file, or of anything that `torch.save` wrote.

    Returns:
        the content; of `torch.save` tensors, containers and numbers only.

    Raises:
        UserError: the file is missing, damaged, or holds something else.
    """
    if not os.path.isfile(file):
        raise UserError(f"{file} does not exist; give the path of a checkpoint.")
    try:
        if file.lower().endswith(".safetensors"):
            return _read_safetensors(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError, LookupError) as error:
        # torch's own words advise to load the file without protection
        unsafe = isinstance(error, pickle.UnpicklingError)
        reason = "it holds more than tensors" if unsafe else str(error).partition("\n")[0] or type(error).__name__
        raise UserError(f"{file} is damaged or not a checkpoint ({reason}); choose another file.") from error


def read_weights(file: str) -> Weights:
    """Read the weights of a network.

    Args:
        file: `.safetensors`, or a `.pth` of BasicSR (its EMA is taken where there is one) or with a plain state
            dictionary.

    Returns:
        names and tensors, without the prefix of DataParallel or torch.compile.

    Raises:
        UserError: the file is missing, damaged, or holds no weights.
    """
    content = read_file(file)
    while isinstance(content, Mapping):
        entry = next((name for name in ENTRIES if isinstance(content.get(name), Mapping)), None)
        if entry is None:
            break
        content = content[entry]
    if not isinstance(content, Mapping) or not content or not _all_tensors(content):
        raise UserError(f"{file} does not hold the weights of a network; choose a checkpoint.")
    weights = {str(name): tensor for name, tensor in content.items()}
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    return weights


def write_weights(file: str, weights: Weights, metadata: Mapping[str, str] | None = None) -> None:
    """Write weights, under a temporary name first, so that no half a file remains.

    Args:
        file: `.safetensors`, or `.pth`, which gets BasicSR's entry `params`.
        weights: names and tensors.
        metadata: remarks for the header of a safetensors file.

    Raises:
        UserError: the suffix is unknown, or the file cannot be written.
    """
    suffix = os.path.splitext(file)[1].lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{file}: weights are written as {' or '.join(SUFFIXES)}; choose one of these suffixes.")
    weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}
    partial = file + ".partial"
    try:
        if suffix == ".safetensors":
            from safetensors.torch import save

            with open(partial, "wb") as stream:
                stream.write(save(weights, {"format": "pt", **(metadata or {})}))
        else:
            torch.save({"params": weights}, partial)
        os.replace(partial, file)
    except (OSError, RuntimeError) as error:  # torch reports a full disk by RuntimeError
        raise UserError(f"{file} cannot be written ({str(error).partition(chr(10))[0]}).") from error
    finally:
        if os.path.exists(partial):
            os.remove(partial)


def convert(source: str, target: str, *, half: bool = False) -> None:
    """Convert a file of weights between `.pth` and `.safetensors`.

    Args:
        source: what `read_weights` reads.
        target: what `write_weights` writes.
        half: store floating point numbers in half precision.

    Raises:
        UserError: the source cannot be read, or the target cannot be written.
    """
    weights = read_weights(source)
    if half:
        weights = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    write_weights(target, weights)


def _all_tensors(content: Mapping[Any, Any]) -> bool:
    return all(isinstance(tensor, torch.Tensor) for tensor in content.values())


def _read_safetensors(file: str) -> Weights:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
