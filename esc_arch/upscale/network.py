"""Networks as the upscale command sees them: a function from one image to a larger one."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import nn

from esc_arch.archs import ESCRIB
from esc_arch.archs.esc_lte_arch import LARGEST_TRAINED_SCALE
from esc_arch.archs.scale import SCALE_ARGUMENTS
from esc_arch.common.errors import UserError
from esc_arch.layers.window import pad_to_multiple
from esc_arch.upscale.tiles import Place
from esc_arch.weights import Identity, bundled_names, identify_at
from esc_arch.weights.files import read_recorded
from esc_arch.weights.infer import NotRecognisedError
from esc_arch.weights.loading import identity_in, weights_file

LARGEST_WINDOW_OF_HIT_SR = 64
_SCALE_IN_NAME = re.compile(r"_x([2-9])$")


@dataclass(frozen=True)
class Enlarger:
    """Enlarges images.

    Args:
        network: from (1, 3, H, W) in [0, 1] to (1, 3, S * H, S * W), or with the arguments of `ESCLTE.forward`.
        scale: S.
        any_scale: whether the network takes coordinates, so that S may be any number from 1 on.
        window: inputs are padded by reflection to a multiple of it, and outputs cropped, as in evaluation.
        grid: where tiles should start, so that the network divides them into windows as it divides the image.
        self_ensemble: average over the eight symmetries of the square.
        bf16: run under autocast to bf16, with weights in single precision.
    """

    network: nn.Module
    scale: float
    window: int = 1
    grid: int = 1
    self_ensemble: bool = False
    any_scale: bool = False
    bf16: bool = False

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self._weight().device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights and of what lies between the layers."""
        return self._weight().dtype

    @cached_property
    def widest(self) -> int:
        """Channels of the widest layer."""
        return max((weight.shape[0] for weight in self.network.parameters() if weight.dim() > 1), default=3)

    def _weight(self) -> torch.Tensor:
        return next(self.network.parameters(), torch.zeros(0))

    def to(self, device: str, dtype: str) -> Enlarger:
        """Move the network to a device, to compute in `fp32`, `bf16` or `fp16`."""
        self.network.to(device=device, dtype=torch.float16 if dtype == "fp16" else torch.float32)
        return replace(self, bf16=dtype == "bf16")

    def at_scale(self, scale: float | None) -> Enlarger:
        """Return the enlarger for a scale; None takes that of the network.

        Raises:
            UserError: the network has another scale.
        """
        if scale is None or scale == self.scale:
            return self
        if not self.any_scale:
            raise UserError(f"The scale is {scale:g}, but the network of the weights enlarges {self.scale:g} times.")
        if scale < 1:
            raise UserError(f"The scale must be at least 1, got {scale:g}.")
        return replace(self, scale=scale)

    def enlarged(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of the result for those of an image."""
        return round(self.scale * height), round(self.scale * width)

    @torch.inference_mode()
    def __call__(self, image: torch.Tensor, place: Place | None = None) -> torch.Tensor:
        """Enlarge an image, or a part of one; or several of one size.

        Args:
            image: (N, 3, H, W) in [0, 1]; N is 1 with a network of any scale.
            place: where the pixels of the result are; None for a whole image.

        Returns:
            (N, 3, H', W'), float32, clamped to [0, 1].

        Raises:
            UserError: the network's numbers overflowed.
        """
        image = image.to(device=self.device, dtype=self.dtype)
        if place is None:
            sides = image.shape[-2], image.shape[-1]
            place = Place.of_whole(sides, self.enlarged(*sides))
        with torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else nullcontext():
            results = self._all_symmetries(image, place) if self.self_ensemble else [self._enlarge(image, place)]
        mean = torch.stack(results).mean(dim=0) if len(results) > 1 else results[0]
        if not torch.isfinite(mean).all():
            half = self.dtype == torch.float16
            reason = "it overflows in half precision, take fp32 or bf16" if half else "its weights are broken"
            raise UserError(f"the network gave no numbers: {reason}")
        return mean.clamp(0, 1)

    def _enlarge(self, image: torch.Tensor, place: Place) -> torch.Tensor:
        height, width = len(place.rows), len(place.columns)
        if not self.any_scale:
            return self.network(pad_to_multiple(image, self.window))[..., :height, :width].float()
        rows, columns = (
            (2 * centres / side - 1).float()
            for centres, side in zip((place.rows, place.columns), image.shape[-2:], strict=True)
        )
        coord = torch.cartesian_prod(rows, columns)[None].to(self.device)  # (1, H' * W', 2)
        steps = [max(step, 1 / LARGEST_TRAINED_SCALE) for step in place.steps]
        cell = coord.new_tensor([2 * step / side for step, side in zip(steps, image.shape[-2:], strict=True)])
        colours = self.network(image, coord=coord, cell=cell.expand_as(coord))
        return colours.float().transpose(1, 2).reshape(1, -1, height, width)

    def _all_symmetries(self, image: torch.Tensor, place: Place) -> list[torch.Tensor]:
        results = []
        for turns in range(4):
            width = image.shape[-1]
            mirrored = self._enlarge(image.flip(-1), place.mirrored(width)).flip(-1)
            results += [result.rot90(-turns, (-2, -1)) for result in (self._enlarge(image, place), mirrored)]
            image, place = image.rot90(1, (-2, -1)), place.turned(width)
        return results


def load_enlarger(
    weights: str | os.PathLike[str] | nn.Module,
    *,
    self_ensemble: bool = False,
    dtype: str = "fp32",
    scale: float | None = None,
    window: int | None = None,
) -> Enlarger:
    """Make an enlarger.

    Args:
        weights: the name of weights that come with this package, the path of a checkpoint of the ESC family, of HiT-SR,
            or of any network for RGB images that spandrel recognises; or a network itself.
        self_ensemble: average over the eight symmetries of the square.
        dtype: what the network will compute in, `fp32`, `bf16` or `fp16`; `Enlarger.to` lets it.
        scale: of a network whose weights do not tell it; otherwise nothing depends on it.
        window: side of the windows of ESC-RIB, which no weight tells; None for the published one. A network knows its
            own.

    Returns:
        the enlarger, on the CPU in single precision, or where the given network is.

    Raises:
        UserError: there are no such weights, or they are not those of a network for RGB images.
    """
    if isinstance(weights, nn.Module):
        if window is not None and window != getattr(weights, "window_size", None):
            raise UserError(f"The window is {window}, but a network has its own; build it with window_size={window}.")
        return replace(_of_module(weights), self_ensemble=self_ensemble)
    file = weights_file(weights)
    tensors, recorded = read_recorded(file)
    try:
        identity = identity_in(file, tensors, scale, window, recorded)
    except NotRecognisedError as error:
        if window is not None:
            raise UserError(f"{file}: a window is given, which is for ESC-RIB; leave it out.") from error
        enlarger = _of_spandrel(file, tensors, error, dtype)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
    else:
        if identity.channels != 3:
            raise UserError(f"{file}: the network is not for RGB images; choose one that is.")
        enlarger = _of_identity(identity.build(tensors), identity)
    return replace(enlarger, self_ensemble=self_ensemble)


def bundled_of_scale(scale: float) -> str:
    """Name the weights for a scale that come with this package, the largest network where there are several.

    Where there are none of that very scale, those are taken that reach it in the fewest steps, and of them those that
    go the least beyond it. Weights for pictures of a kind, whose names go on behind the scale, are taken by name only.

    Raises:
        UserError: none come with this package.
    """
    scales = {name: int(found[1]) for name in bundled_names() if (found := _SCALE_IN_NAME.search(name))}
    if not scales:
        raise UserError("--weights: no weights come with this package as it is installed; name a checkpoint.")

    def cost(name: str) -> tuple[int, int, int]:
        reached, steps = scales[name], 1
        while reached < scale:
            reached, steps = reached * scales[name], steps + 1
        return steps, reached, -os.path.getsize(weights_file(name))

    return min(scales, key=cost)


def _of_identity(network: nn.Module, identity: Identity) -> Enlarger:
    """Make the enlarger of a network of this package."""
    window = identity.arguments.get("window_size")
    if window is None:
        return Enlarger(network, identity.scale, 1, LARGEST_WINDOW_OF_HIT_SR)
    if identity.any_scale:
        scale = network.upscaling_factor
        assert isinstance(scale, int | float)
        return Enlarger(network, scale, 1, window, any_scale=True)
    return Enlarger(network, identity.scale, window, window * getattr(network, "unshuffle", 1))


def _of_module(network: nn.Module) -> Enlarger:
    network = network.eval()
    # neither may be among the weights
    window = network.window_size if isinstance(network, ESCRIB) else None
    scale = getattr(network, "upscaling_factor", None)
    try:
        identity = identify_at(network.state_dict(), scale, window)
    except UserError:
        scale = next((getattr(network, name) for name in SCALE_ARGUMENTS if hasattr(network, name)), None)
        if not isinstance(scale, int):
            raise UserError(
                f"{type(network).__name__} does not say its scale; give it an attribute upscaling_factor."
            ) from None
        return Enlarger(network, scale)
    return _of_identity(network, identity)


def _of_spandrel(file: str, tensors: dict[str, torch.Tensor], reason: UserError, dtype: str) -> Enlarger:
    from esc_arch.weights.spandrel_plugin import load_by_spandrel

    model = load_by_spandrel(file, tensors, reason)
    if (dtype == "fp16" and not model.supports_half) or (dtype == "bf16" and not model.supports_bfloat16):
        raise UserError(f"--dtype {dtype}: {model.architecture.name} does not work in it; take fp32.")
    return Enlarger(_Described(model), model.scale, grid=model.size_requirements.multiple_of)


class _Described(nn.Module):
    """A network of spandrel, called through its descriptor, which pads as the network needs it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.network: Callable[[torch.Tensor], torch.Tensor] = model.model.eval()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)
