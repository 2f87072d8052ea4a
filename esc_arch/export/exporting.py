"""Exporting a network: written, compared with the network at several sizes, and only then put in its place."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn

from esc_arch.common.errors import UserError
from esc_arch.common.whole_files import temporary_name, try_folder
from esc_arch.graphs import formats
from esc_arch.graphs.exportable import Exportable
from esc_arch.graphs.formats import OPSET
from esc_arch.version import __version__
from esc_arch.weights import convert
from esc_arch.weights.files import read_recorded
from esc_arch.weights.loading import identity_in, weights_file

TOLERANCE = {False: 1e-4, True: 5e-2}  # of the largest number of the output, in single and in half precision
WEIGHTS = {"pth": ".pth", "safetensors": ".safetensors"}


@dataclass(frozen=True)
class Format:
    """A format: its suffix, how it is written and run, and the attention that suits it."""

    suffix: str
    write: Callable[[str, Exportable, int, formats.Metadata, int], None]
    run: Callable[[str], formats.Run]
    attn_type: str


FORMATS = {
    "onnx": Format(".onnx", formats.write_onnx, formats.run_onnx, "Naive"),
    "torchscript": Format(".pt", formats.write_torchscript, formats.run_torchscript, "SDPA"),
    "pt2": Format(".pt2", formats.write_pt2, formats.run_pt2, "SDPA"),
}


@dataclass(frozen=True)
class Report:
    """What was written, and the largest difference to the network, as a part of the largest number of its output."""

    file: str
    difference: float
    shapes: list[tuple[int, ...]]


def export(
    weights: str,
    name: str,
    file: str | None = None,
    *,
    half: bool = False,
    opset: int = OPSET,
    overwrite: bool = False,
    scale: int | None = None,
    window: int | None = None,
) -> Report:
    """Export a network for any batch, height and width; convert its weights where `name` is pth or safetensors.

    Args:
        weights: the name of weights that come with this package, or the path of a checkpoint of the ESC family or of
            HiT-SR.
        name: a key of FORMATS or of WEIGHTS.
        file: where to; None takes the name of the weights, in the current folder.
        half: compute, or store weights, in half precision; images remain float32.
        opset: operator set of ONNX.
        overwrite: replace a file that is there.
        scale: of a network whose weights do not tell it, or that is for any; one that they contradict is a mistake.
        window: side of the windows of ESC-RIB, which no weight tells; None for the published one.

    Returns:
        what was written. A model takes images (B, 3, H, W), float32, RGB in [0, 1], and gives (B, 3, S * H, S * W),
        not clamped.

    Raises:
        UserError: the weights or the file cannot be used, a package is missing, or the result differs from the network;
            then nothing is written.
    """
    source = weights_file(weights)
    suffix = WEIGHTS.get(name) or FORMATS[name].suffix
    target = file or os.path.splitext(os.path.basename(source))[0] + suffix
    if os.path.splitext(target)[1].lower() != suffix:
        raise UserError(f"-o: {target} must end with {suffix}, as {name} files do.")
    if os.path.exists(target) and (not overwrite or os.path.samefile(source, target)):
        raise UserError(f"-o: {target} is there already; choose another name, or add --overwrite.")
    folder = os.path.dirname(target) or "."
    if not os.path.isdir(folder):
        raise UserError(f"-o: the folder {folder} does not exist; make it first.")
    try_folder(folder)
    if name in WEIGHTS:
        convert(source, target, half=half)
        return Report(target, 0.0, [])
    return _export_network(source, FORMATS[name], target, half, opset, scale, window)


def _export_network(
    source: str, chosen: Format, target: str, half: bool, opset: int, scale: int | None, window: int | None
) -> Report:
    tensors, recorded = read_recorded(source)
    try:
        identity = identity_in(source, tensors, scale, window, recorded)
        if scale is not None and identity.any_scale:
            identity.arguments["upscaling_factor"] = scale
        elif scale is not None and scale != identity.scale:
            raise UserError(f"--scale is {scale}, but the network enlarges {identity.scale} times.")
        if identity.channels != 3:
            raise UserError(
                f"the network is for images of {identity.channels} channels, not for RGB; choose one that is."
            )
        identity = replace(identity, backend=chosen.attn_type)
        network = identity.build(tensors)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    exportable = Exportable(network, half)
    metadata = {
        "network": identity.network.__name__,
        "arguments": json.dumps(identity.arguments),
        "scale": str(identity.scale),
        "input": "float32 (batch, 3, height, width), RGB in the range [0, 1]",
        "input_range": "[0, 1]",
        "smallest_side": str(exportable.smallest_side),
        "precision": "float16" if half else "float32",
        "made_by": f"esc_arch {__version__}, torch {torch.__version__}",
    }
    if chosen.suffix == ".onnx":
        metadata["opset"] = str(opset)
    try:
        with temporary_name(target) as partial:
            chosen.write(partial, exportable, identity.scale, metadata, opset)
            return _compare(chosen.run(partial), exportable, network, target, identity.arguments, TOLERANCE[half])
    except (UserError, OSError):
        raise
    except Exception as error:  # what a network does that cannot be traced, and a runtime cannot run, is open
        kind = identity.network.__name__
        raise UserError(
            f"{target} is not written: {kind} does not export to {chosen.suffix} for images of every size "
            f"({formats.cause(error)}); try another --format."
        ) from error


def _compare(
    run: formats.Run,
    exportable: Exportable,
    network: nn.Module,
    target: str,
    arguments: dict[str, object],
    tolerance: float,
) -> Report:
    """Compare with the network in single precision, on random images.

    Raises:
        UserError: it is not the same.
    """
    window = arguments.get("window_size", 16)
    assert isinstance(window, int)
    smallest = exportable.smallest_side
    sizes = [(1, window, window), (2, window + 5, 2 * window - 3), (3, 7, window + 1), (1, smallest, smallest + 3)]
    shapes = [(batch, 3, height, width) for batch, height, width in sizes]
    generator, largest = torch.Generator().manual_seed(0), 0.0
    for shape in shapes:
        image = torch.rand(shape, generator=generator)
        with torch.no_grad():
            expected, found = network(image), run(image)
        if found.shape != expected.shape:
            raise UserError(
                f"{target} is not written: for images {shape} it gives {tuple(found.shape)} instead of "
                f"{tuple(expected.shape)}."
            )
        difference = ((found - expected).abs().max() / expected.abs().max()).item()
        if not difference <= tolerance:  # NaN is no match either
            raise UserError(
                f"{target} is not written: for images {shape} it differs from the network by {difference:.1e} of the "
                f"largest number, more than {tolerance:.0e}."
            )
        largest = max(largest, difference)
    return Report(target, largest, list(shapes))
