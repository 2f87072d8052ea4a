"""Files of weights: checkpoints of any kind are read, BasicSR's `.pth` and safetensors are written."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any

import torch

from esc_arch.common.errors import UserError
from esc_arch.common.whole_files import replacing
from esc_arch.weights.reading.choosing import choose
from esc_arch.weights.reading.content import read_content
from esc_arch.weights.reading.reparametrised import merged
from esc_arch.weights.reading.tensors import plain
from esc_arch.weights.recorded import RECORD, entry_of, recorded_in, text_in

Weights = dict[str, torch.Tensor]

SUFFIXES = (".pth", ".safetensors")  # that can be written


def read_weights(file: str, *, entry: str | None = None, names: Collection[str] | None = None) -> Weights:
    """Read the weights of a network out of any checkpoint, without running anything that somebody may have put into it.

    Args:
        file: `.safetensors`, or what `torch.save` wrote, under any suffix: a plain state dictionary, or one that is
            wrapped by BasicSR or any other training program, with whatever stands before its names.
        entry: of the checkpoint to take; "params_ema" (and None) prefer the average of the weights where there is
            none of this name, "params" prefers the weights.
        names: of the tensors of the network that is meant, by which it is found among several.

    Returns:
        names and tensors, dense and finite, on the CPU.

    Raises:
        UserError: the file is missing, damaged, or something else; it holds no weights, or several sets of which none
            is to be preferred; or the weights are quantised, or not finite.
    """
    return find_weights(file, entry=entry, names=names)[0]


def find_weights(file: str, *, entry: str | None = None, names: Collection[str] | None = None) -> tuple[Weights, str]:
    """Read weights as `read_weights` does, and say where in the checkpoint they were, as in "state_dict.net_g"."""
    return _chosen(file, read_content(file), entry, names)


def _chosen(file: str, content: Any, entry: str | None, names: Collection[str] | None) -> tuple[Weights, str]:
    try:
        chosen = choose(content, entry, names)
        return merged(plain(chosen.weights), names or ()), chosen.where
    except UserError as error:
        raise UserError(f"{file} {error}.") from error
    except (RuntimeError, MemoryError, IndexError) as error:  # of tensors whose parts contradict each other
        raise UserError(f"{file} is damaged (its tensors cannot be read); choose another file.") from error


def read_recorded(
    file: str, *, entry: str | None = None, names: Collection[str] | None = None
) -> tuple[Weights, dict[str, Any]]:
    """Read weights as `read_weights` does, and the arguments that were written down beside them (`recorded_in`)."""
    content = read_content(file)
    return _chosen(file, content, entry, names)[0], recorded_in(content)


def write_weights(
    file: str, weights: Weights, metadata: Mapping[str, str] | None = None, record: str | None = None
) -> None:
    """Write weights, under a temporary name first, so that no half a file remains.

    Args:
        file: `.safetensors`, or `.pth`, which gets BasicSR's entry `params`.
        weights: names and tensors.
        metadata: remarks for the header of a safetensors file.
        record: of the network, see `record_of`.

    Raises:
        UserError: the suffix is unknown, or the file cannot be written.
    """
    suffix = os.path.splitext(file)[1].lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{file}: weights are written as {' or '.join(SUFFIXES)}; choose one of these suffixes.")
    weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}
    with replacing(file) as stream:
        if suffix == ".safetensors":
            from safetensors.torch import save

            remarks = {RECORD: record} if record else {}
            stream.write(save(weights, {"format": "pt", **(metadata or {}), **remarks}))
        else:
            torch.save({"params": weights, **entry_of(record)}, stream)


def convert(source: str, target: str, *, half: bool = False) -> None:
    """Convert a file of weights between `.pth` and `.safetensors`.

    Args:
        source: what `read_weights` reads.
        target: what `write_weights` writes.
        half: store floating point numbers in half precision.

    Raises:
        UserError: the source cannot be read, or the target cannot be written.
    """
    content = read_content(source)
    weights = _chosen(source, content, None, None)[0]
    record = text_in(content) if recorded_in(content) else None
    if half:
        weights = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    write_weights(target, weights, record=record)
