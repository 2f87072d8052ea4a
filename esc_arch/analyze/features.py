"""What goes into and comes out of the attention and the ConvAttn of a block."""

from __future__ import annotations

import argparse
import math
import re
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from esc_arch.analyze import style
from esc_arch.analyze.layers import Sizes, find_layers, first_tensor, image_or_none, measured
from esc_arch.analyze.networks import Subject
from esc_arch.analyze.photographs import Array, Photograph, central, to_tensor
from esc_arch.analyze.result import Job, Result, Step
from esc_arch.common.arguments import positive
from esc_arch.common.errors import UserError
from esc_arch.fast import speedups
from esc_arch.fast.speedups import Speedups
from esc_arch.layers.block import ESCBlock

MODULES = ()
OF_GRADIENTS = False
SIDE = 64
# Classes of modules that mix pixels, in the networks to compare with
MIXING = re.compile(r"attention|attn|correlation|ss2d|selectivescan|msa\b|mhsa", re.IGNORECASE)


class Passage(NamedTuple):
    """What goes through a module.

    Attributes:
        name: of the module.
        given, made: (C, h, w), what goes in and what comes out.
    """

    name: str
    given: Array
    made: Array


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this figure can be told."""
    parser.add_argument("--block", type=positive, metavar="N", help="which block, from 1 on (the last)")


def prepare(args: argparse.Namespace, subjects: list[Subject], photographs: list[Photograph]) -> Job:
    """Check what was given.

    Raises:
        UserError: a network has no such block, or the block has neither attention nor ConvAttn.
    """
    photograph = photographs[0]
    mixers = [find_mixers(subject, args.block) for subject in subjects]
    inputs = [central(photograph.lq(subject.scale), args.side) for subject in subjects]

    def run(step: Step) -> Result:
        found = []
        for subject, own, lq in zip(subjects, mixers, inputs, strict=True):
            found.append(passages(subject, own, to_tensor(lq, subject.device)))
            step()
        return _result(subjects, found, photograph)

    return Job(len(subjects), run)


def find_mixers(subject: Subject, block: int | None) -> dict[str, nn.Module]:
    """Find the attention and the ConvAttn of a block of a network, by name.

    Args:
        subject: the network.
        block: which one, from 1 on; None for the last.

    Raises:
        UserError: there is no such block, or it has neither.
    """
    modules = dict(subject.network.named_modules())
    blocks = [name for name, module in modules.items() if isinstance(module, ESCBlock)]
    if not blocks:
        blocks = [layer.name for layer in find_layers(subject)]
    number = len(blocks) if block is None else block
    if number > len(blocks):
        raise UserError(f"--block: {subject.label} has {len(blocks)} blocks, got {number}; choose one of them.")
    name = blocks[number - 1]
    own = modules[name]
    if isinstance(own, ESCBlock):
        return {f"{name}.attn": own.attn} | {f"{name}.pconvs.{i}": module for i, module in enumerate(own.pconvs)}
    mixers: dict[str, nn.Module] = {}
    for below, module in own.named_modules(prefix=name):
        inside = any(below.startswith(f"{outer}.") for outer in mixers)
        if below != name and not inside and MIXING.search(type(module).__name__):
            mixers[below] = module
    if not mixers:
        raise UserError(
            f"Block {number} of {subject.label} ({name}) has neither attention nor ConvAttn; choose another."
        )
    return mixers


def passages(subject: Subject, mixers: dict[str, nn.Module], lq: torch.Tensor) -> list[Passage]:
    """Keep what goes through modules while a network enlarges a picture.

    Raises:
        UserError: it is no image.
    """
    kept: dict[str, tuple[torch.Tensor | None, torch.Tensor | None]] = {}

    def keeper(name: str) -> Any:
        def keep(_module: nn.Module, inputs: Any, output: Any) -> None:
            kept.setdefault(name, (first_tensor(inputs), first_tensor(output)))

        return keep

    handles = [module.register_forward_hook(keeper(name)) for name, module in mixers.items()]
    try:
        with torch.no_grad(), speedups.use(Speedups.none()), measured(subject.network) as sizes:
            subject(lq)
    finally:
        for handle in handles:
            handle.remove()
    found = []
    for name in mixers:
        images = [_image(tensor, sizes, lq) for tensor in kept.get(name, (None, None))]
        if images[0] is not None and images[1] is not None:
            found.append(Passage(name, images[0], images[1]))
    if not found:
        raise UserError(
            f"What goes through {', '.join(mixers)} of {subject.label} is no image; choose another --block."
        )
    return found


def _image(tensor: torch.Tensor | None, sizes: Sizes, lq: torch.Tensor) -> Array | None:
    """Turn features into (C, h, w), without what was padded; windows are put together in their order."""
    if tensor is None:
        return None
    image = image_or_none(tensor, sizes)
    image = _of_windows(tensor, sizes) if image is None else image
    return None if image is None else image[0, :, : lq.shape[-2], : lq.shape[-1]].float().cpu().numpy()


def _of_windows(tensor: torch.Tensor, sizes: Sizes) -> torch.Tensor | None:
    """Put tokens of square windows (windows, w * w, C) together, None if they are nothing of the kind."""
    if tensor.dim() != 3 or tensor.shape[0] * tensor.shape[1] not in sizes:
        return None
    height, width = sizes[tensor.shape[0] * tensor.shape[1]]
    side = math.isqrt(tensor.shape[1])
    if side**2 != tensor.shape[1] or height % side or width % side:
        return None
    windows = tensor.reshape(height // side, width // side, side, side, -1)
    return windows.permute(4, 0, 2, 1, 3).reshape(1, -1, height, width)


def strength(features: Array) -> Array:
    """How strong features (C, h, w) are at each pixel: the root of their mean square, (h, w)."""
    return np.sqrt((features.astype(np.float64) ** 2).mean(axis=0))


def _result(subjects: list[Subject], found: list[list[Passage]], photograph: Photograph) -> Result:
    entries: list[dict[str, Any]] = []
    arrays: dict[str, Array] = {}
    sentences = []
    for number, (subject, own) in enumerate(zip(subjects, found, strict=True)):
        for place, passage in enumerate(own):
            arrays[f"in_{number}_{place}"], arrays[f"out_{number}_{place}"] = passage.given, passage.made
        modules = [
            {"name": passage.name, "rms_in": _rms(passage.given), "rms_out": _rms(passage.made)} for passage in own
        ]
        entries.append({"network": subject.title, "modules": modules})
        sentences.append(f"{subject.title}: {', '.join(passage.name for passage in own)} on {photograph.name}.")
    summary = {"picture": photograph.name, "networks": entries}
    return Result(_draw(subjects, found), arrays, summary, sentences)


def _rms(features: Array) -> float:
    return float(np.sqrt((features.astype(np.float64) ** 2).mean()))


def _draw(subjects: list[Subject], found: list[list[Passage]]) -> Any:
    columns = max(map(len, found))
    width = style.COLUMN if columns <= 4 else style.PAGE
    height, breadth = found[0][0].given.shape[1:]
    figure, axes = style.panels(2 * len(subjects), columns, width / max(columns, 3) * height / breadth + 0.2, width)
    for number, (subject, own) in enumerate(zip(subjects, found, strict=True)):
        goes_in, comes_out = axes[2 * number], axes[2 * number + 1]
        for column, (before, after) in enumerate(zip(goes_in, comes_out, strict=True)):
            if column >= len(own):
                before.axis("off")
                after.axis("off")
                continue
            style.show(before, strength(own[column].given), cmap=style.MAP)
            style.show(after, strength(own[column].made), cmap=style.MAP)
            before.set_title(style.wrapped(_label(own[column].name), width / columns))
        goes_in[0].set_ylabel("in")
        comes_out[0].set_ylabel("out")
        comes_out[0].set_xlabel(style.wrapped(subject.title, width / columns))
    return figure


def _label(name: str) -> str:
    """Call a module what the paper calls it."""
    conv_attn = re.search(r"pconvs\.(\d+)$", name)
    if conv_attn:
        return f"ConvAttn {int(conv_attn[1]) + 1}"
    last = name.rpartition(".")[2]
    return "attention" if last == "attn" else last
