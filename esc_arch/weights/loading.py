"""Networks that are ready for use, by the name of weights that come with the package or by the path of any others."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from esc_arch.archs import NETWORKS
from esc_arch.common import hub
from esc_arch.common.errors import UserError
from esc_arch.weights.files import read_recorded
from esc_arch.weights.identify import Identity, identify, identify_as, identify_at, with_window

BUNDLED = Path(__file__).parent / "bundled"
SUFFIX = ".safetensors"


def bundled_names() -> list[str]:
    """List the weights that come with the package."""
    return sorted(file.name.removesuffix(SUFFIX) for file in BUNDLED.glob("*" + SUFFIX))


def weights_file(name_or_path: str | os.PathLike[str]) -> str:
    """Find the file of weights.

    Args:
        name_or_path: a name out of `bundled_names`; a path; a folder that `save_pretrained` wrote; or a repository on
            the Hugging Face Hub, "hf:user/name[/file][@revision]", whose weights are downloaded.

    Returns:
        the path.

    Raises:
        UserError: it is none of these, or cannot be had.
    """
    given = os.fspath(name_or_path)
    if not given:
        raise UserError("The name of the weights is empty; name weights or a checkpoint, or leave it out.")
    names = bundled_names()
    if given in names:
        return str(BUNDLED / (given + SUFFIX))
    if given.startswith(hub.PREFIX):
        return hub.download(given.removeprefix(hub.PREFIX))
    file = os.path.expanduser(given)
    if "://" in given:
        raise UserError(f"{given} is an address; download the checkpoint and give its path.")
    if os.path.isdir(file):
        names_there = (hub.WEIGHTS, hub.OTHER_WEIGHTS, *hub.IN_PARTS)
        return next((path for name in names_there if os.path.isfile(path := os.path.join(file, name))), file)
    if os.path.lexists(file):
        return file
    unknown = f"{given} is neither a file nor weights that come with this package ({', '.join(names) or 'none'})"
    if not hub.may_be_repository(given):
        raise UserError(unknown + ".")
    try:
        return hub.download(given)
    except UserError as error:
        raise UserError(f"{unknown}, and as a repository: {error}") from error


def identity_in(
    file: str,
    weights: Mapping[str, torch.Tensor],
    scale: float | None = None,
    window: int | None = None,
    recorded: Mapping[str, Any] | None = None,
    **known: Any,
) -> Identity:
    """Say which network the weights of a file belong to.

    What `save_pretrained` wrote beside them tells it, or what training wrote into the checkpoint, with what no weight
    tells; otherwise see `identify_at`.

    Args:
        file: where the weights are from.
        weights: names and tensors.
        scale, window, known: as for `identify_at`.
        recorded: what `read_recorded` found beside them.

    Returns:
        the network and its arguments.

    Raises:
        UserError: as `identify_at`; or the configuration is not that of the weights.
    """
    configuration = hub.configuration_beside(file)
    if not configuration:
        return _as_recorded(recorded or {}, weights, window, known) or identify_at(weights, scale, window, **known)
    named = configuration.pop(hub.NETWORK)
    network = next((network for network in NETWORKS if network.__name__ == named), None)
    if network is None:
        raise UserError(f"{file}: the {hub.CONFIG} beside it names {named!r}, which is no network of this package.")
    identity = identify_as(network, configuration, weights, **known)
    return identity if window is None else with_window(identity, window, known)


def _as_recorded(
    recorded: Mapping[str, Any], weights: Mapping[str, torch.Tensor], window: int | None, known: dict[str, Any]
) -> Identity | None:
    """Say which network weights belong to by what was written down when they were saved, if they still fit that."""
    network = next((network for network in NETWORKS if network.__name__ == recorded.get(hub.NETWORK)), None)
    if network is None:
        return None
    arguments = {name: value for name, value in recorded.items() if name != hub.NETWORK}
    try:
        identity = identify_as(network, arguments, weights)
    except UserError:  # they were changed since
        return None
    identity = identify_as(network, arguments, weights, **known) if known else identity
    return identity if window is None else with_window(identity, window, known)


def build(weights: Mapping[str, torch.Tensor], **known: Any) -> nn.Module:
    """Build the network that weights belong to, with the weights in single precision, in evaluation mode.

    Args:
        weights: names and tensors of a network of the ESC family or of HiT-SR.
        known: arguments of the network that are to be taken as given.

    Returns:
        the network, on the CPU.

    Raises:
        UserError: no network of this package fits.
    """
    return identify(weights, **known).build(weights)


def load(name_or_path: str | os.PathLike[str], *, window: int | None = None, **known: Any) -> nn.Module:
    """Load a network: what it is, and all its arguments, are found out from the weights.

    Args:
        name_or_path: the name of weights that come with this package (see `bundled_names`), the path of a checkpoint
            of the ESC family or of HiT-SR: `.pth` or `.safetensors`, in single or half precision, or a repository of
            the Hugging Face Hub, "user/name"; see `weights_file`.
        window: side of the windows of ESC-RIB, which no weight tells; None for the published one, 64.
        known: arguments of the network that are to be taken as given, `attn_type="Naive"` for example.

    Returns:
        the network, in single precision, in evaluation mode, on the CPU; from images (B, 3, H, W), RGB in [0, 1], to
        images (B, 3, S * H, S * W), not clamped.

    Raises:
        UserError: there is no such file or name, or no network fits its weights; or they tell another window.
    """
    file = weights_file(name_or_path)
    try:
        weights, recorded = read_recorded(file)
        return identity_in(file, weights, window=window, recorded=recorded, **known).build(weights)
    except UserError as error:
        raise error if str(error).startswith(file) else type(error)(f"{file}: {error}") from error
