"""Which network weights belong to, by names that no other has, and its arguments, from the shapes of the weights."""

from __future__ import annotations

import re

from torch import nn

from esc_arch.archs import ESC, ESCFP, ESCLTE, ESCRIB, HiT_SIR, HiT_SNG, HiT_SRF
from esc_arch.common.errors import UserError
from esc_arch.layers.upsample_head import Mark
from esc_arch.weights.infer_real import recognise_real
from esc_arch.weights.infer_rib import infer_esc_rib
from esc_arch.weights.infer_rivals import recognise_rival
from esc_arch.weights.shapes import Arguments, Infer, Shapes, count, infer_trunk, ratio_of, root

UNIGRAMS = "correlation.ngram_window_partition.ngram_context.unigram_embed.weight"  # of a block of HiT-SNG
PUBLISHED_RATIOS = (0.5, 1, 2, 4, 6, 8)  # `hier_win_ratios` of HiT-SR


class NotRecognisedError(UserError):
    """The weights belong to no network of this package."""


def recognise(shapes: Shapes, mark: Mark | None = None) -> tuple[type[nn.Module], Infer]:
    """Recognise a network.

    Args:
        shapes: of the weights, by name.
        mark: what `to_img.MetaUpsample` tells, where it is among the weights.

    Returns:
        the network, and a function that infers its arguments from these shapes, from arguments that are known, and from
        the mark. It raises KeyError where a name is missing and other errors where shapes make no sense.

    Raises:
        NotRecognisedError: no network has such names.
        UnsupportedFormError: they are those of a relative of these networks that this package does not have.
    """
    if any(name.startswith("blocks.0.attn.") for name in shapes):
        if any(name.startswith("upsampler.") for name in shapes):
            return ESCRIB, infer_esc_rib
        return recognise_real(shapes, mark) or (ESCFP if "lk_spatial" in shapes else ESC, _infer_esc)
    if "encoder.plk_filter" in shapes:
        return ESCLTE, _infer_esc_lte
    block = "layers.0.residual_group.blocks.0."
    if block + "correlation.spatial_linear.weight" in shapes:
        if block + UNIGRAMS in shapes:
            return HiT_SNG, _infer_hit_sr
        convolves = block + "mlp.dwconv.depthwise_conv.0.weight" in shapes
        return (HiT_SRF if convolves else HiT_SIR), _infer_hit_sr
    if (rival := recognise_rival(shapes)) is not None:
        return rival
    examples = ", ".join(list(shapes)[:3])
    raise NotRecognisedError(
        "The weights belong to none of the ESC family, HiT-SR, MambaIR, MambaIRv2-light, ASID and CATANet (found: "
        f"{examples})."
    )


def _infer_esc(shapes: Shapes, _known: Arguments, _mark: Mark | None) -> Arguments:
    arguments = {**infer_trunk(shapes), "upscaling_factor": _pixel_shuffled(shapes, "to_img")}
    return arguments if "lk_spatial" in shapes else {**arguments, "use_ln": _normalised(shapes)}


def _infer_esc_lte(shapes: Shapes, _known: Arguments, _mark: Mark | None) -> Arguments:
    prefix = "encoder."
    encoder = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
    layers = count(shapes, r"imnet\.layers\.(\d+)\.")  # every other is a ReLU, the last one gives the colour
    return {
        **infer_trunk(encoder),
        "upscaling_factor": 4,  # which the weights do not tell
        "use_ln": _normalised(encoder),
        "hidden_dim": shapes["coef.weight"][0],
        "hidden_list": [shapes[f"imnet.layers.{index}.weight"][0] for index in range(0, layers - 1, 2)],
    }


def _normalised(shapes: Shapes) -> bool:
    return "blocks.0.lns.0.weight" in shapes


def _pixel_shuffled(shapes: Shapes, layer: str) -> int:
    return root(shapes[f"{layer}.weight"][0] / 3, f"a third of the channels of {layer}")


def _infer_hit_sr(shapes: Shapes, known: Arguments, _mark: Mark | None) -> Arguments:
    dim, in_chans = shapes["conv_first.weight"][:2]
    groups = range(count(shapes, r"layers\.(\d+)\."))
    prefix = "layers.{}.residual_group.blocks."
    depths = [count(shapes, re.escape(prefix.format(group)) + r"(\d+)\.") for group in groups]
    heads = prefix + "0.correlation.pos.pos3.2.weight"
    longest = max(groups, key=lambda group: depths[group])
    blocks = [f"{prefix.format(longest)}{block}." for block in range(depths[longest])]
    pixels = [shapes[block + "correlation.spatial_linear.weight"][1] for block in blocks]
    arguments: Arguments = {
        "upscale": root(shapes["upsample.0.weight"][0] / in_chans, "the channels of upsample.0 for each of the image"),
        "in_chans": in_chans,
        "embed_dim": dim,
        "depths": depths,
        "num_heads": [shapes[heads.format(group)][0] for group in groups],
        "mlp_ratio": ratio_of(shapes[prefix.format(0) + "0.mlp.fc1.weight"][0], dim),
    }
    if blocks[0] + UNIGRAMS in shapes:
        return {**arguments, **_told_windows([shapes[block + UNIGRAMS][2:] for block in blocks], pixels)}
    return {**arguments, "hier_win_ratios": known.get("hier_win_ratios") or _published_ratios(pixels)}


def _told_windows(windows: list[tuple[int, ...]], pixels: list[int]) -> Arguments:
    """Infer the windows of HiT-SNG, whose sides are those of a kernel, and `pixels` to a cell."""
    (height, width), most = max(zip(windows, pixels, strict=True))
    ratio = root(most, "the pixels of a cell")
    base = height // ratio, width // ratio
    return {"base_win_size": list(base), "hier_win_ratios": [ratio_of(window[0], base[0]) for window in windows]}


def _published_ratios(pixels: list[int]) -> list[float]:
    """Return the published ratios where they give cells of this many pixels; windows up to the base size give one."""
    ratios = list(PUBLISHED_RATIOS[: len(pixels)])
    if pixels != [max(int(ratio), 1) ** 2 for ratio in ratios]:
        raise ValueError(
            "the windows are not the published ones, and shapes do not tell them all (the pixels of their cells are "
            f"{pixels}); give them as hier_win_ratios=[...]"
        )
    return ratios
