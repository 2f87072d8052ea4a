"""Heads of real-world networks: the ways from features to an image, their names in option files, and their mark.

Layers stand at the places that they have in the common upsampler of the authors and of traiNNer-redux, so that
checkpoints fit. A buffer, `MetaUpsample`, tells which upsampler it is, and for which factor: shapes alone do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from esc_arch.layers.arguments import require, require_scale
from esc_arch.layers.dysample import DySample
from esc_arch.layers.lda import LocalDeformableUpsampler

AUTHORS = ("conv", "pixelshuffledirect", "pixelshuffle", "nearest+conv", "dysample")
UPSAMPLERS = (*AUTHORS, "transpose+conv", "lda", "pa_up")  # in the order of their numbers in the mark
VERSIONS = (2, 3)  # of the mark: the authors', and traiNNer-redux's, which knows the last three
GROUPS = 4  # of DySample
MARK = "MetaUpsample"


@dataclass(frozen=True)
class Mark:
    """What `MetaUpsample` tells.

    Attributes:
        upsampler: one of `UPSAMPLERS`.
        scale: factor of the upsampler, which is not that of a network that pixel-unshuffles.
        dim: channels before the upsampler; with "pa_up" between its convolutions.
        mid_dim: channels of the convolutions of some upsamplers.
    """

    upsampler: str
    scale: int
    dim: int
    mid_dim: int

    @classmethod
    def read(cls, numbers: Sequence[float]) -> Mark:
        """Read the seven numbers: version, upsampler, factor, channels before, after and between, groups.

        Whole numbers of any type: what halves all tensors of a checkpoint halves them too.

        Raises:
            ValueError: they are not those of a known version.
        """
        whole = [int(number) for number in numbers]
        known = whole == list(numbers) and len(whole) == 7 and whole[0] in VERSIONS and whole[4::2] == [3, GROUPS]
        count = len(AUTHORS) if known and whole[0] == VERSIONS[0] else len(UPSAMPLERS)
        require(known and 0 <= whole[1] < count, f"{MARK} {list(numbers)} is of no known version (2 and 3 are)")
        return cls(UPSAMPLERS[whole[1]], whole[2], whole[3], whole[5])

    def numbers(self) -> list[int]:
        """Return the seven numbers."""
        version = VERSIONS[self.upsampler not in AUTHORS]
        return [version, UPSAMPLERS.index(self.upsampler), self.scale, self.dim, 3, self.mid_dim, GROUPS]

    def enlarges_like(self, other: Mark) -> bool:
        """Whether both are the same upsampler; for factor 1 all are a convolution."""
        return self.scale == other.scale and (self.scale == 1 or self.upsampler == other.upsampler)


def _convolution(dim: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(dim, out_channels, 3, padding=1)


def nearest_conv(dim: int, doublings: int, convolutions: int = 1) -> nn.Sequential:
    """Create the head of ESC-Real, (B, C, H, W) -> (B, 3, S * H, S * W), S = 2^doublings.

    Args:
        dim: number of channels C.
        doublings: each is followed by convolutions and activations.
        convolutions: after each doubling. 1 for ESC-Real, which has another convolution at the end; 2 for neosr's.
    """
    layers: list[nn.Module] = []
    for _ in range(doublings):
        layers.append(nn.Upsample(scale_factor=2))
        for _ in range(convolutions):
            layers += [_convolution(dim, dim), nn.LeakyReLU(0.2)]
    if convolutions == 1:
        layers += [_convolution(dim, dim), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, _convolution(dim, 3))


class PixelAttention(nn.Module):
    """Multiplies features by a sigmoid of their own 1x1 convolution ("Efficient Image SR Using Pixel Attention", 2020).

    Args:
        dim: number of channels C.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(dim, dim, 1), nn.Sigmoid())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Weight `x` (B, C, H, W)."""
        return x * self.conv(x)


class UpsampleHead(nn.Sequential):
    """Maps features (B, C, H, W) to an image (B, 3, S * H, S * W) by one of several ways.

    Unlike in ESC-Real's own head, nearest enlargement comes after its convolution. The state dictionary holds the mark
    `MetaUpsample` (unless a number of channels does not fit into its bytes); where that of loaded weights tells another
    upsampler or another factor, loading fails.

    Args:
        upsampler: one of `UPSAMPLERS`. "conv" is a single convolution, as all are for S = 1, and does not enlarge.
        dim: number of channels C.
        scale: factor S: 1 for "conv"; 1, 3 or a power of two for "pixelshuffle", "nearest+conv" and "pa_up"; 1 to 4
            for "transpose+conv"; any for the others.
        mid_dim: channels of the convolutions of "pixelshuffle", "dysample", "lda" and "pa_up".

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, upsampler: str, dim: int, scale: int, mid_dim: int = 48) -> None:
        require(upsampler in UPSAMPLERS, f"upsampler must be one of {', '.join(UPSAMPLERS)}, got {upsampler!r}")
        require_scale(scale)
        require(mid_dim >= 1, f"mid_dim must be positive, got {mid_dim}")
        require(upsampler != "conv" or scale == 1, f"upsampler 'conv' does not enlarge, but is to enlarge x{scale}")
        super().__init__(*(_LAYERS[upsampler](dim, scale, mid_dim) if scale > 1 else [_convolution(dim, 3)]))
        doubles = upsampler == "pa_up" and scale > 1 and scale & (scale - 1) == 0
        self.mark = Mark(upsampler, scale, mid_dim if doubles else dim, mid_dim)
        numbers = self.mark.numbers()
        fits = max(numbers) < 2**8
        self.register_buffer(MARK, torch.tensor(numbers, dtype=torch.uint8) if fits else None)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Compare the mark, and accept weights without it; torch hands over a copy of the caller's dictionary."""
        found = state_dict.pop(prefix + MARK, None)
        if isinstance(found, torch.Tensor) and not found.is_meta:
            try:
                mark = Mark.read(found.flatten().tolist())
                require(
                    mark.enlarges_like(self.mark),
                    f"the weights enlarge by {mark.upsampler!r} x{mark.scale} (so says {prefix}{MARK}), the network by "
                    f"{self.mark.upsampler!r} x{self.mark.scale}",
                )
            except (ValueError, OverflowError) as error:
                error_msgs.append(str(error))
        own = self.get_buffer(MARK) if MARK in self.state_dict() else None
        if own is not None:
            device = found.device if isinstance(found, torch.Tensor) else own.device
            device = torch.device("cpu") if device.type == "meta" else device
            state_dict[prefix + MARK] = torch.tensor(self.mark.numbers(), dtype=torch.uint8, device=device)
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


def _factors(upsampler: str, scale: int) -> list[int]:
    """Divide an enlargement into steps of 2, or one of 3."""
    require(
        scale == 3 or scale & (scale - 1) == 0,
        f"upsampler {upsampler!r} enlarges by 3 and by powers of two, not x{scale}: choose another upsampling factor",
    )
    return [3] if scale == 3 else [2] * (scale.bit_length() - 1)


def _sub_pixels(dim: int, scale: int, _mid_dim: int) -> list[nn.Module]:
    return [_convolution(dim, 3 * scale**2), nn.PixelShuffle(scale)]


def _shuffled(dim: int, scale: int, mid_dim: int) -> list[nn.Module]:
    layers: list[nn.Module] = [_convolution(dim, mid_dim), nn.LeakyReLU(0.01)]
    for factor in _factors("pixelshuffle", scale):
        layers += [_convolution(mid_dim, mid_dim * factor**2), nn.PixelShuffle(factor)]
    return [*layers, _convolution(mid_dim, 3)]


def _nearest(dim: int, scale: int, _mid_dim: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for factor in _factors("nearest+conv", scale):
        layers += [_convolution(dim, dim), nn.Upsample(scale_factor=factor), nn.LeakyReLU(0.2)]
    return [*layers, _convolution(dim, dim), nn.LeakyReLU(0.2), _convolution(dim, 3)]


def _narrowed(dim: int, mid_dim: int) -> list[nn.Module]:
    return [_convolution(dim, mid_dim), nn.LeakyReLU(0.01)] if mid_dim != dim else []


def _sampled(dim: int, scale: int, mid_dim: int) -> list[nn.Module]:
    require(mid_dim % GROUPS == 0, f"mid_dim must be divisible by the {GROUPS} groups of 'dysample', got {mid_dim}")
    return [*_narrowed(dim, mid_dim), DySample(mid_dim, 3, scale, GROUPS)]


def _transposed(dim: int, scale: int, _mid_dim: int) -> list[nn.Module]:
    require(scale in (2, 3, 4), f"upsampler 'transpose+conv' enlarges by 2, 3 and 4, not x{scale}")
    if scale == 3:
        layers: list[nn.Module] = [nn.ConvTranspose2d(dim, 3, 3, stride=3)]
    else:
        layers = [nn.ConvTranspose2d(dim, dim, 4, stride=2, padding=1), nn.GELU()] if scale == 4 else []
        layers += [nn.ConvTranspose2d(dim, 3, 4, stride=2, padding=1)]
    return [*layers, _convolution(3, 3)]


def _attended(dim: int, scale: int, mid_dim: int) -> list[nn.Module]:
    return [*_narrowed(dim, mid_dim), LocalDeformableUpsampler(mid_dim, scale), _convolution(mid_dim, 3)]


def _gated(dim: int, scale: int, mid_dim: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for factor in _factors("pa_up", scale):
        layers += [nn.Upsample(scale_factor=factor), _convolution(dim, mid_dim), PixelAttention(mid_dim)]
        layers += [nn.LeakyReLU(0.2), _convolution(mid_dim, mid_dim), nn.LeakyReLU(0.2)]
        dim = mid_dim
    return [*layers, _convolution(mid_dim, 3)]


_LAYERS = {
    "pixelshuffledirect": _sub_pixels,
    "pixelshuffle": _shuffled,
    "nearest+conv": _nearest,
    "dysample": _sampled,
    "transpose+conv": _transposed,
    "lda": _attended,
    "pa_up": _gated,
}
