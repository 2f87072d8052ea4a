"""An option file as the name of a network: which one, at which scale, with which weights."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from esc_arch.archs.scale import SCALE_ARGUMENTS
from esc_arch.checks.option_file import load
from esc_arch.common.errors import UserError
from esc_arch.common.paths import expand

Options = dict[str, Any]


class NamedWeights(NamedTuple):
    """The weights that an option file names.

    Attributes:
        file: path of the checkpoint, None where there is none.
        entry: of the checkpoint to take.
        reason: why there is no checkpoint, empty where there is one.
    """

    file: str | None
    entry: str | None
    reason: str = ""


def read_network_file(file: str) -> Options:
    """Read an option file that has a section network_g.

    Raises:
        UserError: it cannot be read, or has no such section.
    """
    content = load(file)
    if not isinstance(content.get("network_g"), dict):
        raise UserError(f"{file} has no section network_g; give an option file that names a network.")
    return content


def short_name(file: str) -> str:
    """Name a network by its option file: `options/test_ESC_x2.yml` is `ESC_x2`."""
    stem = os.path.splitext(os.path.basename(file))[0]
    return stem.removeprefix("test_").removeprefix("train_")


def scale_of(file: str, content: Options) -> int:
    """Find the scale of an option file.

    Raises:
        UserError: it is no whole number of at least 1.
    """
    given = [content.get("scale"), *(content["network_g"].get(argument) for argument in SCALE_ARGUMENTS)]
    scale = next((value for value in given if value is not None), None)
    if not isinstance(scale, int) or scale < 1:
        raise UserError(f"{file}: scale must be a whole number of at least 1, got {scale!r}; add it to the file.")
    return scale


def named_weights(content: Options, checkpoint: str | None = None) -> NamedWeights:
    """Choose the checkpoint: the one given, or what training with this file left behind, or what a test file names.

    A training file's `pretrain_network_g` is only where training starts from.

    Args:
        content: the option file.
        checkpoint: path of one that goes before.
    """
    path = content.get("path") or {}
    if checkpoint is not None:
        return NamedWeights(expand(checkpoint), path.get("param_key_g", "params_ema"))
    if "train" in content:
        entry = "params_ema"
        named = os.path.join("experiments", str(content.get("name")), "models", "net_g_latest.pth")
    else:
        entry = path.get("param_key_g", "params")
        named = expand(path.get("pretrain_network_g") or "")
    if named and os.path.isfile(named):
        return NamedWeights(named, entry)
    reason = f"{named} does not exist" if named else "path:pretrain_network_g is empty"
    return NamedWeights(None, entry, reason)


def assign_weights(given: list[str], files: list[str]) -> dict[str, str]:
    """Read the arguments of `--weights`.

    Args:
        given: `FILE=CHECKPOINT`, where FILE is one of `files` or its last part.
        files: paths of option files.

    Returns:
        paths of checkpoints, by option file.

    Raises:
        UserError: one is something else.
    """
    assigned = {}
    for entry in given:
        name, equals, checkpoint = entry.partition("=")
        matches = [file for file in files if name in (file, os.path.basename(file))]
        if not equals or not checkpoint or len(matches) != 1:
            raise UserError(f"--weights: {entry!r} is not OPTION_FILE=CHECKPOINT with one of the option files given.")
        assigned[matches[0]] = checkpoint
    return assigned
