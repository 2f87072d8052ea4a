"""The layers of a network, whatever it is, and the features behind each of them while it runs."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from esc_arch.analyze.networks import Subject
from esc_arch.common.errors import UserError
from esc_arch.fast import speedups
from esc_arch.fast.speedups import Speedups
from esc_arch.layers.block import ESCBlock

Sizes = dict[int, tuple[int, int]]  # heights and widths of images within a network, by their number of pixels


@dataclass(frozen=True)
class Layer:
    """A place in a network where features are looked at.

    Attributes:
        name: of the module that computes them.
        module: whose input or output they are.
        before: whether it is the input.
    """

    name: str
    module: nn.Module
    before: bool = False


@dataclass
class _Call:
    """What went through a module the first time, and how often each had been changed in place when it ended."""

    order: int
    given: torch.Tensor | None
    made: torch.Tensor | None

    def __post_init__(self) -> None:
        self.versions = [None if tensor is None else tensor._version for tensor in (self.given, self.made)]


@dataclass
class Features:
    """The features of one picture.

    Attributes:
        images: (1, C, h, w) for each layer, in the order of the layers.
    """

    images: list[torch.Tensor] = field(default_factory=list)


def add_layers_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the layers by a pattern, see `find_layers`."""
    parser.add_argument(
        "--layers", metavar="PATTERN", help="names of modules whose outputs are taken instead of those found"
    )


def find_layers(subject: Subject, pattern: str | None = None) -> list[Layer]:
    """Find the layers of a network.

    Of ESC and its relatives, each attention and each ConvAttn; of others, the modules of one class that run one
    behind the other and make images of one shape, with nothing else as complex between them, the innermost of such
    chains: the transformer blocks of SwinIR, the residual blocks of EDSR. What is looked at is the residual stream
    behind each.

    Args:
        subject: the network.
        pattern: names of modules as `fnmatch` reads them, whose outputs are taken instead.

    Returns:
        the layers, in the order in which they run.

    Raises:
        UserError: none or only one is found.
    """
    if pattern is not None:
        calls, _ = _calls(subject)
        named = dict(subject.network.named_modules())
        layers = [Layer(name, named[name]) for name in calls if name and fnmatchcase(name, pattern)]
        if len(layers) < 2:
            raise UserError(
                f"--layers: {pattern!r} names {len(layers)} of the modules that run in {subject.label}; give a pattern "
                "of at least two, as network.named_modules() calls them."
            )
        return layers
    layers = _of_esc(subject.network) or _chained(subject)
    if len(layers) < 2:
        raise UserError(
            f"No layers that run one behind the other were found in {subject.label}; name them by --layers."
        )
    return layers


def _of_esc(network: nn.Module) -> list[Layer]:
    """Place a layer behind each attention and each ConvAttn, where the residual stream enters the next one."""
    layers = []
    for name, block in network.named_modules():
        if isinstance(block, ESCBlock):
            mixers = [f"{name}.attn", *(f"{name}.pconvs.{number}" for number in range(len(block.pconvs)))]
            entries = [*block.lns, block.ln_out]
            layers += [Layer(mixer, entry, before=True) for mixer, entry in zip(mixers, entries, strict=True)]
    return layers


def _calls(subject: Subject) -> tuple[dict[str, _Call], Sizes]:
    """Run a network once and note what goes through its modules, in the order in which they end."""
    calls: dict[str, _Call] = {}
    handles = []

    def watch(name: str, module: nn.Module) -> None:
        def note(_module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if name not in calls:
                calls[name] = _Call(len(calls), first_tensor(inputs), first_tensor(output))

        handles.append(module.register_forward_hook(note))

    for name, module in subject.network.named_modules():
        watch(name, module)
    try:
        with torch.no_grad(), speedups.use(Speedups.none()), measured(subject.network) as sizes:
            subject.probe()
    finally:
        for handle in handles:
            handle.remove()
    return calls, sizes


@contextmanager
def measured(network: nn.Module) -> Iterator[Sizes]:
    """Note the heights and widths of the images within a network."""
    sizes: Sizes = {}

    def measure(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
        height, width = inputs[0].shape[-2:]
        sizes[height * width] = (height, width)

    # the whole, too: its convolutions may be functions, as those of networks that merge branches
    images = [network, *(module for module in network.modules() if isinstance(module, nn.Conv2d))]
    handles = [module.register_forward_pre_hook(measure) for module in images]
    try:
        yield sizes
    finally:
        for handle in handles:
            handle.remove()


def _chained(subject: Subject) -> list[Layer]:
    calls, sizes = _calls(subject)
    modules = dict(subject.network.named_modules())
    groups: list[list[str]] = []
    apart: list[list[str]] = []  # of one class, but something is computed between them
    for parent, container in modules.items():
        children = [f"{parent}.{child}" if parent else child for child, _ in container.named_children()]
        run = sorted((name for name in children if name in calls), key=lambda name: calls[name].order)
        composite = [name for name in run if _is_composite(modules[name])]
        classes: dict[type, list[str]] = {}
        for name in composite:
            if _keeps_shape(calls[name], sizes):
                classes.setdefault(type(modules[name]), []).append(name)
        for names in classes.values():
            if len(names) > 1:
                (groups if _is_stream(names, composite, calls) else apart).append(names)
    inner = _innermost(groups)
    if not inner and apart:
        largest = max(len(names) for names in apart)
        inner = [next(names for names in apart if len(names) == largest)]
    if not inner:
        inner = [
            [
                name
                for name, module in modules.items()
                if isinstance(module, nn.Conv2d) and name in calls and _keeps_shape(calls[name], sizes)
            ]
        ]
    inner = [_parts(names, modules, calls) for names in inner]
    found = sorted((name for names in inner for name in names), key=lambda name: calls[name].order)
    return [Layer(name, modules[name]) for name in found]


def _is_stream(names: list[str], siblings: list[str], calls: dict[str, _Call]) -> bool:
    """Whether modules repeat each other along one residual stream, rather than being parts of something.

    Args:
        names: of modules of one class within one other, in the order in which they run.
        siblings: all that are made of others there, in that order.
        calls: what went through them.
    """
    between = siblings[siblings.index(names[0]) : siblings.index(names[-1]) + 1]
    links = sum(_follows(calls[before], calls[after]) for before, after in pairwise(names))
    return between == names and _have_one_shape(names, calls) and 2 * links >= len(names) - 1


def _have_one_shape(names: list[str], calls: dict[str, _Call]) -> bool:
    shapes = {made.shape for name in names if (made := calls[name].made) is not None}
    return len(shapes) == 1


def _parts(names: list[str], modules: dict[str, nn.Module], calls: dict[str, _Call]) -> list[str]:
    """Put in the place of plain sequences the layers that they are made of, where the stream goes through all."""
    parts: list[str] = []
    for name in names:
        children = [f"{name}.{child}" for child, _ in modules[name].named_children()]
        is_plain = type(modules[name]) is nn.Sequential and all(_is_composite(modules[child]) for child in children)
        if not is_plain or not _have_one_shape([name, *children], calls):
            return names
        parts += children
    return parts


def _innermost(groups: list[list[str]]) -> list[list[str]]:
    """Leave out the groups within whose members there is another one."""

    def holds_another(names: list[str]) -> bool:
        return any(other is not names and other[0].startswith(f"{name}.") for name in names for other in groups)

    return [names for names in groups if not holds_another(names)]


def _is_composite(module: nn.Module) -> bool:
    """Whether a module may be a layer: it is made of others, and more than a sequence of single operations."""
    children = list(module.children())
    return any(map(_is_composite, children)) if type(module) is nn.Sequential else bool(children)


def _keeps_shape(call: _Call, sizes: Sizes) -> bool:
    """Whether a module turns an image into one of the same shape."""
    if call.given is None or call.made is None or call.given.shape != call.made.shape:
        return False
    return image_or_none(call.made, sizes) is not None


def _follows(before: _Call, after: _Call) -> bool:
    """Whether one module takes just what another has made."""
    assert before.made is not None
    assert after.given is not None
    return before.made.data_ptr() == after.given.data_ptr() and before.versions[1] == after.versions[0]


def first_tensor(value: Any) -> torch.Tensor | None:
    """The first tensor of a module's inputs or outputs, None where there is none."""
    if isinstance(value, torch.Tensor):
        return value
    return next((part for part in value if isinstance(part, torch.Tensor)), None) if isinstance(value, tuple) else None


def without_padding(image: torch.Tensor, lq: torch.Tensor, window: int) -> torch.Tensor:
    """Take off features what belongs to the padding of the input.

    Args:
        image: (1, C, h, w).
        lq: (1, 3, H, W), the input before it was padded.
        window: that it was padded to a multiple of.

    Returns:
        (1, C, H, W) where the image is as large as the padded input, else the image.
    """
    height, width = lq.shape[-2:]
    padded = tuple(-(-side // window) * window for side in (height, width))
    return image[..., :height, :width] if tuple(image.shape[-2:]) == padded else image


@contextmanager
def watched(subject: Subject, layers: Sequence[Layer]) -> Iterator[Features]:
    """Keep the features behind layers while the network runs once within this block, by the plain definitions."""
    features = Features()
    kept: dict[int, torch.Tensor] = {}
    handles = []

    def place(number: int, layer: Layer) -> None:
        def before(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            kept.setdefault(number, _required(inputs, layer))

        def after(_module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> None:
            kept.setdefault(number, _required(output, layer))

        module = layer.module
        handles.append(
            module.register_forward_pre_hook(before) if layer.before else module.register_forward_hook(after)
        )

    for number, layer in enumerate(layers):
        place(number, layer)
    try:
        with speedups.use(Speedups.none()), measured(subject.network) as sizes:
            yield features
    finally:
        for handle in handles:
            handle.remove()
    features.images = [as_image(kept[number], sizes, layer.name) for number, layer in enumerate(layers)]


def _required(value: Any, layer: Layer) -> torch.Tensor:
    tensor = first_tensor(value)
    if tensor is None:
        raise UserError(f"--layers: {layer.name} hands on no tensor; name other modules.")
    return tensor.detach()


def as_image(tensor: torch.Tensor, sizes: Sizes, name: str) -> torch.Tensor:
    """Turn features into an image.

    Args:
        tensor: (1, C, h, w), (1, h, w, C), or tokens (1, h * w, C).
        sizes: of the images within the network.
        name: of the layer.

    Returns:
        (1, C, h, w).

    Raises:
        UserError: it is nothing of the kind.
    """
    image = image_or_none(tensor, sizes)
    if image is None:
        raise UserError(f"What {name} computes, {tuple(tensor.shape)}, is no image; choose other modules by --layers.")
    return image


def image_or_none(tensor: torch.Tensor, sizes: Sizes) -> torch.Tensor | None:
    """Turn features into an image as `as_image` does, None where they are none."""
    known = set(sizes.values())
    if tensor.dim() == 4 and tuple(tensor.shape[2:]) in known:
        return tensor
    if tensor.dim() == 4 and tuple(tensor.shape[1:3]) in known:
        return tensor.permute(0, 3, 1, 2)
    if tensor.dim() == 3 and tensor.shape[1] in sizes:
        return tensor.transpose(1, 2).unflatten(2, sizes[tensor.shape[1]])
    return None
