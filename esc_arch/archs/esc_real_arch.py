"""ESC-Real: ESC for photographs with unknown degradations, at scale 4, or at other scales by a choice of upsamplers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from esc_arch.common.hub import OnHub
from esc_arch.layers.arguments import require, require_image, require_scale
from esc_arch.layers.conv_attn import ConvAttn, averaged_kernel, new_large_kernel
from esc_arch.layers.dysample import DySample
from esc_arch.layers.flash_bias import factored_attention
from esc_arch.layers.reflect import ReflectConv2d
from esc_arch.layers.trunk import ESCTrunk
from esc_arch.layers.upsample_head import UpsampleHead, nearest_conv
from esc_arch.layers.window import pad_to_multiple


class ESCRealTrunk(ESCTrunk):
    """The trunk of the real-world networks: that of ESC, normalised, plus a branch from the image.

    Args:
        channels: of the input; more than 3 where the image was pixel-unshuffled.
        dim: this and all that is not listed as in `esc_arch.layers.trunk.ESCTrunk`.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        channels: int,
        dim: int,
        pdim: int,
        kernel_size: int,
        n_blocks: int,
        conv_blocks: int,
        window_size: int,
        num_heads: int,
        exp_ratio: float,
        attn_type: str,
        flashbias_rank: int | None,
    ) -> None:
        super().__init__(
            dim,
            lambda: ConvAttn(dim, pdim, kernel_size, owns_kernel=False),
            n_blocks=n_blocks,
            conv_blocks=conv_blocks,
            channels=channels,
            window_size=window_size,
            num_heads=num_heads,
            proj_ratio=2,
            exp_ratio=exp_ratio,
            attn_type=attn_type,
            use_ln=True,
            attention=factored_attention(attn_type, flashbias_rank, dim, window_size, num_heads),
        )
        self.plk_filter = new_large_kernel(pdim, kernel_size)
        # in published names, what comes first in both is to unshuffle; here that is done once, before them
        first = 1 if channels > 3 else 0
        if first:
            self.proj = _numbered(first, self.proj)
        self.skip = _numbered(
            first,
            nn.Conv2d(channels, 2 * dim, 1),
            ReflectConv2d(2 * dim, 2 * dim, 7, groups=2 * dim),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * dim, dim, 1),
        )

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the features (B, C, H, W) of `x` (B, channels, H, W)."""
        return self.extract(x, averaged_kernel(self.plk_filter)) + self.skip(x)


def _numbered(first: int, *layers: nn.Module) -> nn.Sequential:
    """Put layers in a row, under numbers from `first` on."""
    return nn.Sequential(OrderedDict((str(first + place), layer) for place, layer in enumerate(layers)))


class ESCReal(ESCRealTrunk, OnHub):
    """Real-world super-resolution at scale 4 (ESC-Real in the paper, Sec. 4.3).

    Arguments, parameter names and shapes are those of the published checkpoints, which load strictly. neosr's `esc` is
    this network too, at other scales: with DySample as here, or with another head.

    Args:
        dim: a multiple of 4 with DySample; this and all that is not listed as in `esc_arch.layers.trunk.ESCTrunk`.
        upscaling_factor: 4, the only scale of the published network; any with DySample, a power of two with
            `neosr_head`.
        use_dysample: enlarge by DySample instead of nearest neighbours and convolutions.
        flashbias_rank: as in `ESC`.
        neosr_head: enlarge as neosr's `esc` does without DySample: two convolutions after every doubling.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        dim: int = 64,
        pdim: int = 16,
        kernel_size: int = 13,
        n_blocks: int = 10,
        conv_blocks: int = 5,
        window_size: int = 32,
        num_heads: int = 4,
        upscaling_factor: int = 4,
        exp_ratio: float = 2,
        attn_type: str = "auto",
        use_dysample: bool = False,
        flashbias_rank: int | None = None,
        neosr_head: bool = False,
    ) -> None:
        require_scale(upscaling_factor)
        require(not (use_dysample and neosr_head), "use_dysample and neosr_head exclude each other")
        doublings = int(upscaling_factor).bit_length() - 1
        require(
            not neosr_head or upscaling_factor == 2**doublings,
            f"upscaling_factor must be a power of two with neosr_head, got {upscaling_factor}",
        )
        require(
            use_dysample or neosr_head or upscaling_factor == 4,
            f"upscaling_factor of ESCReal must be 4, got {upscaling_factor}; ESCRealM has other scales",
        )
        super().__init__(
            3,
            dim,
            pdim,
            kernel_size,
            n_blocks,
            conv_blocks,
            window_size,
            num_heads,
            exp_ratio,
            attn_type,
            flashbias_rank,
        )
        self.upscaling_factor = upscaling_factor
        self.to_img: nn.Module = (
            DySample(dim, 3, upscaling_factor)
            if use_dysample
            else nearest_conv(dim, doublings, convolutions=2 if neosr_head else 1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Enlarge images.

        Args:
            x: LQ images (B, 3, H, W), RGB in [0, 1]; any H, W >= 1.

        Returns:
            (B, 3, S * H, S * W), not clamped.

        Raises:
            ValueError: `x` has another shape.
        """
        return self.to_img(self.features(x))


class ESCRealM(ESCRealTrunk, OnHub):
    """Real-world super-resolution and restoration at several scales, with a choice of upsamplers.

    At scales 1 and 2 the image is pixel-unshuffled by 4 or 2 first, unless that is switched off, and the network
    enlarges by 4: it then sees a larger part of the image at the cost of x4. Arguments, parameter names and shapes are
    the authors'; with the upsamplers "transpose+conv", "lda" and "pa_up" it is the `escrealm` of traiNNer-redux.

    Args:
        dim: this and all that is not listed as in `esc_arch.layers.trunk.ESCTrunk`.
        upscaling_factor: scale S, a whole number that the upsampler is for, see `UpsampleHead`.
        mid_dim: channels of the convolutions of "pixelshuffle", "dysample", "lda" and "pa_up"; a multiple of 4 with
            "dysample", of 8 with "lda".
        upsampler: "nearest+conv", "pixelshuffle", "pixelshuffledirect", "dysample", "transpose+conv", "lda", "pa_up",
            or "conv", which does not enlarge: for scale 1 without `unshuffle_mod`.
        unshuffle_mod: pixel-unshuffle the image at scales 1 and 2.
        flashbias_rank: as in `ESC`.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        dim: int = 64,
        pdim: int = 16,
        kernel_size: int = 13,
        n_blocks: int = 10,
        conv_blocks: int = 5,
        window_size: int = 32,
        num_heads: int = 4,
        upscaling_factor: int = 4,
        exp_ratio: float = 2,
        attn_type: str = "auto",
        mid_dim: int = 48,
        upsampler: str = "nearest+conv",
        unshuffle_mod: bool = True,
        flashbias_rank: int | None = None,
    ) -> None:
        require_scale(upscaling_factor)
        upscaling_factor = int(upscaling_factor)
        unshuffle = 4 // upscaling_factor if unshuffle_mod and upscaling_factor < 3 else 1
        require(
            upsampler != "conv" or upscaling_factor == 1,
            f"upsampler 'conv' does not enlarge: it needs upscaling_factor 1, got {upscaling_factor}",
        )
        require(
            upsampler != "conv" or unshuffle == 1,
            "upsampler 'conv' does not enlarge, so the image must not be made smaller: set unshuffle_mod to false",
        )
        super().__init__(
            3 * unshuffle**2,
            dim,
            pdim,
            kernel_size,
            n_blocks,
            conv_blocks,
            window_size,
            num_heads,
            exp_ratio,
            attn_type,
            flashbias_rank,
        )
        self.upscaling_factor = upscaling_factor
        self.unshuffle = unshuffle
        self.to_img = UpsampleHead(upsampler, dim, upscaling_factor * unshuffle, mid_dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Enlarge images.

        Args:
            x: LQ images (B, 3, H, W), RGB in [0, 1]; any H, W >= 1.

        Returns:
            (B, 3, S * H, S * W), not clamped.

        Raises:
            ValueError: `x` has another shape.
        """
        require_image(x, 3)
        height, width = (side * self.upscaling_factor for side in x.shape[2:])
        x = pad_to_multiple(x, self.unshuffle)
        x = self.to_img(self.features(F.pixel_unshuffle(x, self.unshuffle)))
        return x[..., :height, :width]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Take this package's former names too; torch hands over a copy of the caller's dictionary."""
        renamed = published_names(state_dict, prefix)
        if list(renamed) != list(state_dict):
            state_dict.clear()
            state_dict.update(renamed)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def published_names(weights: Mapping[str, torch.Tensor], prefix: str = "") -> dict[str, torch.Tensor]:
    """Rename the weights of a pixel-unshuffling ESCRealM that this package wrote before it had the published names.

    Args:
        weights: by name.
        prefix: before the names.

    Returns:
        them, with published names; those of other networks as they are.
    """
    first = weights.get(prefix + "proj.weight")
    unshuffled = isinstance(first, torch.Tensor) and tuple(first.shape[1:2]) in ((12,), (48,))
    if prefix + "skip.0.weight" not in weights or not unshuffled:
        return dict(weights)
    layers = {"proj": "proj.1", "skip.0": "skip.1", "skip.1": "skip.2", "skip.3": "skip.4"}
    renamed = {
        f"{prefix}{old}.{kind}": f"{prefix}{new}.{kind}" for old, new in layers.items() for kind in ("weight", "bias")
    }
    return {renamed.get(name, name): tensor for name, tensor in weights.items()}
