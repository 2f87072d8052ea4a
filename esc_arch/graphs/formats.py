"""Writing an exportable network in each format, and running what was written."""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from esc_arch.common.errors import UserError, printable
from esc_arch.graphs.exportable import Exportable

Run = Callable[[torch.Tensor], torch.Tensor]
Metadata = Mapping[str, str]

OPSET = 20  # the first with GELU
EXAMPLE = (2, 3, 20, 24)  # batch, channels, height, width; a batch of one would be taken for a constant
LARGEST_BATCH, LARGEST_SIDE = 4096, 65_536
METADATA_FILE = "metadata.json"  # within the file
INPUT, OUTPUT = "image", "enlarged"


def write_onnx(file: str, network: Exportable, scale: int, metadata: Metadata, opset: int) -> None:
    """Write an ONNX model with dynamic batch, height and width, and the metadata as its properties.

    Raises:
        UserError: the packages of the extra `onnx` are missing, or torch is too old.
    """
    import_extra("onnx")
    import_extra("onnxscript")
    program = _exported_program(network)
    with _quiet():
        converted: Any = torch.onnx.export(program, (), dynamo=True, opset_version=opset, verbose=False)
    model = converted.model_proto
    graph = model.graph
    sides = (("batch", "height", "width"), ("batch", f"{scale}*height", f"{scale}*width"))
    for value, name, (batch, height, width) in zip(
        (graph.input[0], graph.output[0]), (INPUT, OUTPUT), sides, strict=True
    ):
        _rename(graph, value.name, name)
        dimensions = value.type.tensor_type.shape.dim
        for dimension, text in zip((dimensions[0], dimensions[2], dimensions[3]), (batch, height, width), strict=True):
            dimension.dim_param = text
    del graph.value_info[:]  # these shapes bear the old names
    for node in (*graph.node, *(node for function in model.functions for node in function.node)):
        del node.metadata_props[:]  # of the exporter, about where in the source a node comes from
    for key, text in metadata.items():
        model.metadata_props.add(key=key, value=text)
    with open(file, "wb") as stream:
        stream.write(model.SerializeToString())


def write_onnx_at(file: str, network: Exportable, image: torch.Tensor) -> None:
    """Write an ONNX model for images of one shape, in which all that depends on the shape is computed beforehand.

    Raises:
        UserError: the packages of the extra `onnx` are missing.
        Exception: whatever PyTorch's exporter raises where the network cannot be traced.
    """
    import_extra("onnx")
    import_extra("onnxscript")
    with torch.no_grad(), _quiet():
        converted: Any = torch.onnx.export(
            network, (image,), dynamo=True, opset_version=OPSET, verbose=False,
            input_names=[INPUT], output_names=[OUTPUT],
        )  # fmt: skip
    with open(file, "wb") as stream:
        stream.write(converted.model_proto.SerializeToString())


def run_onnx(file: str, threads: int | None = None) -> Run:
    """Load an ONNX model into onnxruntime, on the CPU; `threads` None is its own choice."""
    runtime = import_extra("onnxruntime")
    options = runtime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors: it warns of what it has no kernel for in half precision, and casts
    session = runtime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda image: torch.from_numpy(np.asarray(session.run([OUTPUT], {INPUT: image.numpy()})[0]))


def write_torchscript(file: str, network: Exportable, scale: int, metadata: Metadata, opset: int) -> None:
    """Write a TorchScript module, traced for any batch, height and width, with the metadata beside it."""
    with torch.no_grad(), _quiet():
        traced = torch.jit.trace(network, (torch.rand(EXAMPLE),), check_trace=False)
        extra = {METADATA_FILE: json.dumps(dict(metadata), indent=1)}
        with open(file, "wb") as stream:  # by the name alone torch would not say why it cannot write
            torch.jit.save(traced, stream, _extra_files=extra)


def run_torchscript(file: str) -> Run:
    """Load a TorchScript module."""
    with _quiet():
        return torch.jit.load(file, map_location="cpu")


def write_pt2(file: str, network: Exportable, scale: int, metadata: Metadata, opset: int) -> None:
    """Write an exported program of PyTorch with dynamic batch, height and width, and the metadata beside it.

    Raises:
        UserError: torch is too old.
    """
    with _quiet():
        extra = {METADATA_FILE: json.dumps(dict(metadata), indent=1)}
        program = _exported_program(network)
        with open(file, "wb") as stream:
            torch.export.save(program, stream, extra_files=extra)


def run_pt2(file: str) -> Run:
    """Load an exported program."""
    with _quiet():
        return torch.export.load(file).module()


def cause(error: BaseException) -> str:
    """Name what lies behind an error of an exporter or a runtime, without their advice, for a sentence."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).partition("\n")[0].split())
    return printable(f"{type(error).__name__}: {text[:200]}".rstrip(": ."))


def import_extra(package: str) -> Any:
    """Import a package of the extra `onnx`, or raise UserError with the command that installs it."""
    try:
        return __import__(package)
    except ModuleNotFoundError as error:
        raise UserError(f"{package} is not installed; run pip install 'esc_arch[onnx]'") from error


def _exported_program(network: Exportable) -> torch.export.ExportedProgram:
    """Trace a network for any batch, and any height and width from `smallest_side` on."""
    from torch.fx.experimental import _config

    if not hasattr(_config, "backed_size_oblivious"):
        raise UserError(
            f"torch {torch.__version__} cannot export dynamic sizes; upgrade it, or use --format torchscript"
        )
    sizes = {
        0: torch.export.Dim("batch", min=1, max=LARGEST_BATCH),
        2: torch.export.Dim("height", min=network.smallest_side, max=LARGEST_SIDE),
        3: torch.export.Dim("width", min=network.smallest_side, max=LARGEST_SIDE),
    }
    oblivious: Any = _config
    with torch.no_grad(), oblivious.patch(backed_size_oblivious=True), _quiet():
        program = torch.export.export(
            network,
            (torch.rand(EXAMPLE),),
            dynamic_shapes=[sizes],
            # that a crop is no larger than the whole is true of every size, but not proven
            prefer_deferred_runtime_asserts_over_guards=True,
        )
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine have no place in the file
    return program


def _rename(graph: Any, old: str, new: str) -> None:
    """Rename an input or output of an ONNX graph, wherever it is used."""
    for value in (*graph.input, *graph.output):
        if value.name == old:
            value.name = new
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the remarks of PyTorch's exporters about their own workings from the user; errors are raised anyway."""
    loggers = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir", "torch.onnx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
