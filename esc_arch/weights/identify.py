"""Which network weights belong to, and its arguments, from parameter names and shapes alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from esc_arch.archs import ESC, ESCFP, HiT_SIR, HiT_SRF
from esc_arch.errors import UserError

Shapes = Mapping[str, tuple[int, ...]]
Arguments = dict[str, Any]

PUBLISHED_RATIOS = (0.5, 1, 2, 4, 6, 8)  # `hier_win_ratios` of HiT-SR


@dataclass(frozen=True)
class Identity:
    """A network and the arguments to build it with."""

    network: type[nn.Module]
    arguments: Arguments

    @property
    def scale(self) -> int:
        """How many times larger the network makes images."""
        return int(self.arguments.get("upscaling_factor") or self.arguments["upscale"])

    def build(self, weights: Mapping[str, torch.Tensor]) -> nn.Module:
        """Build the network with these weights in single precision, on the CPU, in evaluation mode."""
        network = self.network(**self.arguments)
        network.load_state_dict(weights, strict=True)
        return network.eval()


class NotRecognisedError(UserError):
    """The weights belong to no network of this package."""


def identify(weights: Mapping[str, torch.Tensor], **known: Any) -> Identity:
    """Recognise weights of the ESC family (ESC, ESC-light, ESC-XL, ESC-FP) and of HiT-SR.

    Every argument that changes parameters is inferred. What shapes do not tell keeps its default: `attn_type`, which
    changes no number, and of HiT-SR `img_range` and `base_win_size`. The windows of HiT-SR are taken as published
    where that fits the shapes.

    Args:
        weights: names and tensors, all that the network has and no others.
        known: arguments that are to be taken as given.

    Returns:
        the network and its arguments; building it gives exactly these names and shapes.

    Raises:
        NotRecognisedError: no network has such parameter names.
        UserError: the names are those of a network, but some are missing, left over, or of another shape.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    network, infer = _recognise(shapes)
    try:
        arguments = {**infer(shapes, known), **known}
        with torch.device("meta"):  # no memory, whatever the shapes are
            expected = {name: tuple(tensor.shape) for name, tensor in network(**arguments).state_dict().items()}
    except KeyError as error:
        raise UserError(f"The weights are not a whole {network.__name__}: {error} is missing.") from error
    except (ValueError, IndexError, TypeError, ZeroDivisionError, RuntimeError) as error:
        raise UserError(f"The weights do not fit {network.__name__}: {str(error).partition(chr(10))[0]}.") from error
    _require_equal(network.__name__, shapes, expected)
    return Identity(network, arguments)


def _recognise(shapes: Shapes) -> tuple[type[nn.Module], Callable[[Shapes, Arguments], Arguments]]:
    """Choose the network by a few names that no other network has."""
    if "blocks.0.attn.relative_position_bias" in shapes:
        if {"skip.0.weight", "to_img.1.weight"} & shapes.keys():
            raise NotRecognisedError("The weights are those of a network for real-world images (ESC-Real), not of ESC.")
        if "lk_spatial" in shapes:
            return ESCFP, _infer_esc_fp
        if "plk_filter" in shapes:
            return ESC, _infer_esc
    if "encoder.plk_filter" in shapes:
        raise NotRecognisedError("The weights are those of a network for arbitrary scales (ESC with LTE), not of ESC.")
    block = "layers.0.residual_group.blocks.0."
    if block + "correlation.spatial_linear.weight" in shapes:
        convolves = block + "mlp.dwconv.depthwise_conv.0.weight" in shapes
        return (HiT_SRF if convolves else HiT_SIR), _infer_hit_sr
    examples = ", ".join(list(shapes)[:3])
    raise NotRecognisedError(f"The weights belong to none of ESC, ESC-FP, HiT-SIR and HiT-SRF (found: {examples}).")


def _infer_esc(shapes: Shapes, _known: Arguments) -> Arguments:
    pdim, _, kernel_size, _ = shapes["plk_filter"]
    return {
        **_infer_trunk(shapes),
        "pdim": pdim,
        "kernel_size": kernel_size,
        "use_ln": "blocks.0.lns.0.weight" in shapes,
    }


def _infer_esc_fp(shapes: Shapes, _known: Arguments) -> Arguments:
    pdim, _, kernel_size, _ = shapes["lk_spatial"]
    return {**_infer_trunk(shapes), "pdim": pdim, "kernel_size": kernel_size}


def _infer_trunk(shapes: Shapes) -> Arguments:
    """Infer what all networks of the ESC family have."""
    dim = shapes["proj.weight"][0]
    num_heads, positions = shapes["blocks.0.attn.relative_position_bias"]
    arguments: Arguments = {
        "dim": dim,
        "n_blocks": _count(shapes, r"blocks\.(\d+)\."),
        "conv_blocks": _count(shapes, r"blocks\.0\.pconvs\.(\d+)\."),
        "window_size": (_root(positions, "the number of relative positions") + 1) // 2,
        "num_heads": num_heads,
        "upscaling_factor": _root(shapes["to_img.weight"][0] / 3, "a third of the channels of to_img"),
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
    cells = prefix.format(longest) + "{}.correlation.spatial_linear.weight"
    return {
        "upscale": _root(shapes["upsample.0.weight"][0] / in_chans, "the channels of upsample.0 for each of the image"),
        "in_chans": in_chans,
        "embed_dim": dim,
        "depths": depths,
        "num_heads": [shapes[heads.format(group)][0] for group in groups],
        "mlp_ratio": _ratio(shapes[prefix.format(0) + "0.mlp.fc1.weight"][0], dim),
        "hier_win_ratios": known.get("hier_win_ratios")
        or _published_ratios([shapes[cells.format(block)][1] for block in range(depths[longest])]),
    }


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


def _require_equal(network: str, found: Shapes, expected: Shapes) -> None:
    problems = [f"{name} is missing" for name in expected if name not in found]
    problems += [f"{name} is left over" for name in found if name not in expected]
    problems += [
        f"{name} has the shape {found[name]} instead of {shape}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    if problems:
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise UserError(
            f"The weights look like {network}, but {problems[0]}{more}; choose a checkpoint of this network."
        )
