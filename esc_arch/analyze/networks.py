"""The networks that are looked at, from option files, checkpoints, or the weights that come with the package."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import nn

from esc_arch.archs import ESCLTE
from esc_arch.archs.scale import SCALE_ARGUMENTS
from esc_arch.checks.checkpoints import load_exactly
from esc_arch.checks.network_file import assign_weights, named_weights, read_network_file, scale_of, short_name
from esc_arch.checks.networks import FAULTS, build_checked
from esc_arch.common.errors import UserError, first_line
from esc_arch.layers.window import pad_to_multiple
from esc_arch.weights import bundled_names
from esc_arch.weights.files import read_recorded
from esc_arch.weights.infer import NotRecognisedError
from esc_arch.weights.loading import identity_in, weights_file

OPTION_FILES = (".yml", ".yaml")
DEFAULT = "ESC_light_x4"
PROBE = 32  # LQ pixels


@dataclass(frozen=True)
class Subject:
    """A network that is looked at.

    Attributes:
        label: its short name.
        network: in evaluation, its parameters without gradients, so that only pictures have some.
        scale: factor S between input and output.
        window: inputs are padded by reflection to a multiple of it, as in evaluation.
        untrained: why it has the weights that it started with, empty for a trained network.
    """

    label: str
    network: nn.Module
    scale: int
    window: int = 1
    untrained: str = ""

    @property
    def title(self) -> str:
        """The label, which says so where the network is untrained."""
        return f"{self.label} (untrained)" if self.untrained else self.label

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters(), torch.zeros(0)).device

    def __call__(self, lq: torch.Tensor) -> torch.Tensor:
        """Enlarge `lq` (B, 3, H, W) in [0, 1] to (B, 3, S * H, S * W), not clamped.

        Raises:
            UserError: the network cannot take such images, or enlarges by another factor than it says.
        """
        height, width = lq.shape[-2:]
        padded = pad_to_multiple(lq, self.window)
        try:
            out = self.network(padded)
        except FAULTS as error:
            kind = f"an LQ picture of {width} x {height} pixels"
            raise UserError(f"{self.label} cannot take {kind} ({first_line(error)}); choose another --side.") from error
        expected = tuple(self.scale * side for side in padded.shape[-2:])
        if not isinstance(out, torch.Tensor) or tuple(out.shape[-2:]) != expected:
            raise UserError(
                f"{self.label}: its scale is {self.scale}, but it does not enlarge by that factor; make scale and the "
                "arguments of network_g agree."
            )
        return out[..., : self.scale * height, : self.scale * width]

    def probe(self, gradients: bool = False) -> None:
        """Run the network once on a small picture.

        Args:
            gradients: it must have gradients with respect to the picture.

        Raises:
            UserError: it cannot take one, enlarges by another factor than it says, or has no gradients.
        """
        side = -(-PROBE // self.window) * self.window
        out = self(torch.full((1, 3, side, side), 0.5, device=self.device, requires_grad=gradients))
        if gradients and not out.requires_grad:
            raise UserError(f"{self.label} has no gradients, which this figure is made of; choose another network.")


def read_subjects(named: list[str], weights: list[str], scale: int | None = None, device: str = "cpu") -> list[Subject]:
    """Build the networks that the command line names.

    Args:
        named: option files of BasicSR, names of weights of this package, and checkpoints; for none, the package's own.
        weights: `FILE=CHECKPOINT`, for option files.
        scale: of networks for any scale.
        device: where they are put.

    Returns:
        the networks, in this order.

    Raises:
        UserError: one cannot be built, its weights do not fit, or something is named twice.
    """
    named = named or [DEFAULT]
    for name in named:
        if named.count(name) > 1:
            raise UserError(f"{name} is given twice; name every network once.")
    files = [name for name in named if _is_option_file(name)]
    checkpoints = assign_weights(weights, files)
    labels = [_label(name) for name in named]
    subjects = []
    for name, label in zip(named, labels, strict=True):
        label = label if labels.count(label) == 1 else name
        found = (
            _of_file(name, label, checkpoints.get(name), scale) if name in files else _of_weights(name, label, scale)
        )
        found.network.eval().requires_grad_(False).to(device)
        subjects.append(found)
    return subjects


def _is_option_file(name: str) -> bool:
    return name.lower().endswith(OPTION_FILES)


def _label(name: str) -> str:
    if _is_option_file(name):
        return short_name(name)
    return name if name in bundled_names() else os.path.splitext(os.path.basename(os.path.normpath(name)))[0]


def _of_file(file: str, label: str, checkpoint: str | None, given: int | None) -> Subject:
    content = read_network_file(file)
    if content["network_g"].get("type") == ESCLTE.__name__ and given is not None:
        content["scale"] = given
    scale, found = scale_of(file, content), named_weights(content, checkpoint)
    torch.manual_seed(0)  # of what stays untrained
    network = build_checked(content["network_g"], f"{file}: network_g")
    if isinstance(network, ESCLTE):
        network.upscaling_factor = scale  # which it is told with each picture
    if found.file is not None:
        strict = (content.get("path") or {}).get("strict_load_g", True)
        load_exactly(network, found.file, found.entry, file, scale, strict=strict)
    has_weights = found.file is not None or not any(True for _ in network.parameters())
    window = 1 if getattr(network, "pads_itself", False) else content["network_g"].get("window_size", 1)
    usable = window if isinstance(window, int) and window > 0 else 1
    return Subject(label, network, scale, usable, "" if has_weights else found.reason)


def _of_weights(name: str, label: str, scale: int | None) -> Subject:
    file = weights_file(name)
    tensors, recorded = read_recorded(file)
    try:
        identity = identity_in(file, tensors, scale, recorded=recorded)
    except NotRecognisedError as error:
        from esc_arch.weights.spandrel_plugin import load_by_spandrel  # which takes long to import

        model = load_by_spandrel(file, tensors, error)
        return Subject(label, model.model, model.scale, model.size_requirements.multiple_of or 1)
    except UserError as error:
        raise error if str(error).startswith(file) else type(error)(f"{file}: {error}") from error
    network = identity.build(tensors)
    if isinstance(network, ESCLTE) and scale is not None:
        network.upscaling_factor = scale
    pads_itself = getattr(network, "pads_itself", False)
    window = 1 if pads_itself or identity.any_scale else identity.arguments.get("window_size", 1)
    factor = next(getattr(network, key) for key in SCALE_ARGUMENTS if hasattr(network, key))
    return Subject(label, network, int(factor), window)
