"""Which network weights belong to, by names that no other has, and its arguments, from the shapes of the weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn

from esc_arch.archs import ESC, ESCFP, ESCLTE, ESCReal, ESCRealM, HiT_SIR, HiT_SNG, HiT_SRF
from esc_arch.common.errors import UserError

Shapes = Mapping[str, tuple[int, ...]]
Arguments = dict[str, Any]
Infer = Callable[[Shapes, Arguments], Arguments]

UNIGRAMS = "correlation.ngram_window_partition.ngram_context.unigram_embed.weight"  # of a block of HiT-SNG
PUBLISHED_RATIOS = (0.5, 1, 2, 4, 6, 8)  # `hier_win_ratios` of HiT-SR


class NotRecognisedError(UserError):
    """The weights belong to no network of this package."""


def recognise(shapes: Shapes) -> tuple[type[nn.Module], Infer]:
    """Recognise a network.

    Args:
        shapes: of the weights, by name.

    Returns:
        the network, and a function that infers its arguments from these shapes and from arguments that are known. It
        raises KeyError where a name is missing and other errors where shapes make no sense.

    Raises:
        NotRecognisedError: no network has such names.
    """
    if "blocks.0.attn.relative_position_bias" in shapes:
        if "skip.0.weight" in shapes:
            modular = any(name.startswith("to_img.0.") for name in shapes)
            return (ESCRealM, _infer_esc_real_m) if modular else (ESCReal, _infer_esc_real)
        return (ESCFP if "lk_spatial" in shapes else ESC), _infer_esc
    if "encoder.plk_filter" in shapes:
        return ESCLTE, _infer_esc_lte
    block = "layers.0.residual_group.blocks.0."
    if block + "correlation.spatial_linear.weight" in shapes:
        if block + UNIGRAMS in shapes:
            return HiT_SNG, _infer_hit_sr
        convolves = block + "mlp.dwconv.depthwise_conv.0.weight" in shapes
        return (HiT_SRF if convolves else HiT_SIR), _infer_hit_sr
    examples = ", ".join(list(shapes)[:3])
    raise NotRecognisedError(f"The weights belong to none of the ESC family and HiT-SR (found: {examples}).")


def _infer_esc(shapes: Shapes, _known: Arguments) -> Arguments:
    arguments = {**_infer_trunk(shapes), "upscaling_factor": _pixel_shuffled(shapes, "to_img")}
    return arguments if "lk_spatial" in shapes else {**arguments, "use_ln": _normalised(shapes)}


def _infer_esc_real(shapes: Shapes, _known: Arguments) -> Arguments:
    return {**_infer_trunk(shapes), "upscaling_factor": 4, "use_dysample": "to_img.init_pos" in shapes}


def _infer_esc_real_m(shapes: Shapes, _known: Arguments) -> Arguments:
    first, arguments = shapes.get("to_img.0.weight", ()), _infer_trunk(shapes)
    if "to_img.0.init_pos" in shapes:
        groups, axes = 4, 2
        upsampler, enlarged = "dysample", _root(shapes["to_img.0.init_pos"][1] / (groups * axes), "a place per pixel")
    elif "to_img.2.weight" in shapes:
        upsampler, enlarged = "pixelshuffle", 4 if "to_img.6.weight" in shapes else 3
        arguments["mid_dim"] = first[0]
    elif "to_img.3.weight" in shapes:
        upsampler, enlarged = "nearest+conv", 4 if "to_img.8.weight" in shapes else 3
    elif first[0] == 3:
        upsampler, enlarged = "conv", 1
    else:
        upsampler, enlarged = "pixelshuffledirect", _pixel_shuffled(shapes, "to_img.0")
    shrunk = _root(shapes["proj.weight"][1] / 3, "a third of the channels of the input")  # by pixel-unshuffling
    return {**arguments, "upsampler": upsampler, "upscaling_factor": enlarged // shrunk}


def _infer_esc_lte(shapes: Shapes, _known: Arguments) -> Arguments:
    prefix = "encoder."
    encoder = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
    layers = _count(shapes, r"imnet\.layers\.(\d+)\.")  # every other is a ReLU, the last one gives the colour
    return {
        **_infer_trunk(encoder),
        "upscaling_factor": 4,  # which the weights do not tell
        "use_ln": _normalised(encoder),
        "hidden_dim": shapes["coef.weight"][0],
        "hidden_list": [shapes[f"imnet.layers.{index}.weight"][0] for index in range(0, layers - 1, 2)],
    }


def _normalised(shapes: Shapes) -> bool:
    return "blocks.0.lns.0.weight" in shapes


def _pixel_shuffled(shapes: Shapes, layer: str) -> int:
    return _root(shapes[f"{layer}.weight"][0] / 3, f"a third of the channels of {layer}")


def _infer_trunk(shapes: Shapes) -> Arguments:
    """Infer what all networks of the ESC family have."""
    dim = shapes["proj.weight"][0]
    pdim, _, kernel_size, _ = shapes["lk_spatial" if "lk_spatial" in shapes else "plk_filter"]
    num_heads, positions = shapes["blocks.0.attn.relative_position_bias"]
    arguments: Arguments = {
        "dim": dim,
        "pdim": pdim,
        "kernel_size": kernel_size,
        "n_blocks": _count(shapes, r"blocks\.(\d+)\."),
        "conv_blocks": _count(shapes, r"blocks\.0\.pconvs\.(\d+)\."),
        "window_size": (_root(positions, "the number of relative positions") + 1) // 2,
        "num_heads": num_heads,
    }
    if arguments["conv_blocks"]:
        arguments["exp_ratio"] = _ratio(shapes["blocks.0.convffns.0.proj.weight"][0], dim)
    return arguments


def _infer_hit_sr(shapes: Shapes, known: Arguments) -> Arguments:
    dim, in_chans = shapes["conv_first.weight"][:2]
    groups = range(_count(shapes, r"layers\.(\d+)\."))
    prefix = "layers.{}.residual_group.blocks."
    depths = [_count(shapes, re.escape(prefix.format(group)) + r"(\d+)\.") for group in groups]
    heads = prefix + "0.correlation.pos.pos3.2.weight"
    longest = max(groups, key=lambda group: depths[group])
    blocks = [f"{prefix.format(longest)}{block}." for block in range(depths[longest])]
    pixels = [shapes[block + "correlation.spatial_linear.weight"][1] for block in blocks]
    arguments: Arguments = {
        "upscale": _root(shapes["upsample.0.weight"][0] / in_chans, "the channels of upsample.0 for each of the image"),
        "in_chans": in_chans,
        "embed_dim": dim,
        "depths": depths,
        "num_heads": [shapes[heads.format(group)][0] for group in groups],
        "mlp_ratio": _ratio(shapes[prefix.format(0) + "0.mlp.fc1.weight"][0], dim),
    }
    if blocks[0] + UNIGRAMS in shapes:
        return {**arguments, **_told_windows([shapes[block + UNIGRAMS][2:] for block in blocks], pixels)}
    return {**arguments, "hier_win_ratios": known.get("hier_win_ratios") or _published_ratios(pixels)}


def _told_windows(windows: list[tuple[int, ...]], pixels: list[int]) -> Arguments:
    """Infer the windows of HiT-SNG, whose sides are those of a kernel, and `pixels` to a cell."""
    (height, width), most = max(zip(windows, pixels, strict=True))
    ratio = _root(most, "the pixels of a cell")
    base = height // ratio, width // ratio
    return {"base_win_size": list(base), "hier_win_ratios": [_ratio(window[0], base[0]) for window in windows]}


def _published_ratios(pixels: list[int]) -> list[float]:
    """Return the published ratios where they give cells of this many pixels; windows up to the base size give one."""
    ratios = list(PUBLISHED_RATIOS[: len(pixels)])
    if pixels != [max(int(ratio), 1) ** 2 for ratio in ratios]:
        raise ValueError(
            "the windows are not the published ones, and shapes do not tell them all (the pixels of their cells are "
            f"{pixels}); give them as hier_win_ratios=[...]"
        )
    return ratios


def _count(shapes: Iterable[str], pattern: str) -> int:
    """Count the entries of a list of modules: one more than the largest index."""
    found = (re.match(pattern, name) for name in shapes)
    return max((int(match[1]) + 1 for match in found if match), default=0)


def _root(square: float, what: str) -> int:
    root = round(square**0.5)
    if root < 1 or root**2 != square:
        raise ValueError(f"{what} must be a square number, got {square:g}")
    return root


def _ratio(hidden: int, dim: int) -> float:
    """Find the roundest r with int(dim * r) == hidden."""
    candidates = (round(hidden / dim, digits) for digits in range(8))
    return next((ratio for ratio in candidates if int(dim * ratio) == hidden), (hidden + 0.5) / dim)
