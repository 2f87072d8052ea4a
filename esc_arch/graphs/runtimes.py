"""Runtimes that people deploy networks with, on the CPU: which there are, and a graph run by one of them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from importlib.metadata import version
from typing import NamedTuple

import torch

from esc_arch.common.errors import UserError
from esc_arch.graphs.formats import INPUT, run_onnx

Run = Callable[[torch.Tensor], torch.Tensor]
NAMES = {"onnxruntime": "onnxruntime", "openvino": "OpenVINO"}
_EXTRAS = {"onnxruntime": "onnx", "openvino": "openvino"}
_HINTS = {"fp32": "f32", "fp16": "f16", "bf16": "bf16"}  # in OpenVINO's words
_DTYPES = {hint: name for name, hint in _HINTS.items()}


class Loaded(NamedTuple):
    """A graph in a runtime: what runs it, and the dtype that it computes in, which may not be the one asked for."""

    run: Run
    dtype: str


def require_runtime(name: str) -> None:
    """Raise UserError unless a runtime is installed, with all that writes a graph for it."""
    for package in ("onnx", "onnxscript", name):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"{package} is not installed; run pip install 'esc_arch[{_EXTRAS[name]}]'")


def describe_runtime(name: str) -> str:
    """Return the name and version of a runtime that is installed."""
    return f"{NAMES[name]} {version(name)}"


def takes(name: str, dtype: str) -> bool:
    """Tell whether a runtime can be asked to compute in a dtype: `fp32`, `fp16` or `bf16`."""
    return (name, dtype) != ("onnxruntime", "bf16")  # it has no operators for it on a CPU


def load(name: str, file: str, threads: int, dtype: str | None = "fp32") -> Loaded:
    """Load an ONNX graph into a runtime.

    Args:
        name: `onnxruntime` or `openvino`.
        file: a graph with one input and one output, both float32; for onnxruntime the dtype within is the graph's own.
        threads: CPU threads.
        dtype: `fp32`, `fp16` or `bf16`; None leaves it to the runtime, and OpenVINO takes bf16 where the processor has
            it.

    Returns:
        a function from images (B, 3, H, W) to enlarged images, both float32, and its dtype.

    Raises:
        UserError: the runtime is not installed.
    """
    if name == "onnxruntime":
        return Loaded(run_onnx(file, threads), dtype or "fp32")
    return _load_openvino(file, threads, dtype)


def _load_openvino(file: str, threads: int, dtype: str | None) -> Loaded:
    require_runtime("openvino")
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    if dtype is not None:
        settings["INFERENCE_PRECISION_HINT"] = _HINTS[dtype]
    compiled = openvino.Core().compile_model(file, "CPU", settings)
    used = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    request = compiled.create_infer_request()

    def run(image: torch.Tensor) -> torch.Tensor:
        found = request.infer({INPUT: image.numpy()}, share_inputs=True, share_outputs=True)
        return torch.from_numpy(found[compiled.output(0)])

    return Loaded(run, _DTYPES.get(used, used))
