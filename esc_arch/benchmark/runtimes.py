"""This package beside the runtimes that its networks can be deployed in instead, on a CPU."""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from esc_arch.archs import ESC
from esc_arch.benchmark.timing import table, take_turns
from esc_arch.fast import kernels
from esc_arch.graphs import runtimes
from esc_arch.graphs.exportable import Exportable
from esc_arch.graphs.formats import write_onnx_at
from esc_arch.layers.attention import set_backend

OURS = "this package, fp32"
AS_IT_COMES = None  # the dtype that a runtime takes by itself


def require_runtimes() -> None:
    """Raise UserError unless all runtimes to compare with are installed."""
    for name in runtimes.NAMES:
        runtimes.require_runtime(name)


def comparison(size: tuple[int, int], arguments: dict[str, Any], rounds: int) -> str:
    """Compare the enlarging of one image of `size` (H, W) with runtimes; return a table in Markdown.

    onnxruntime computes in the dtype of the graph, fp32. OpenVINO is told to, and as it comes, when it takes bf16 on
    processors that have it.

    Raises:
        UserError: a runtime is not installed.
    """
    network = ESC(**arguments).eval()
    image = torch.rand(1, 3, *size)
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        expected = network(image)
        cases: dict[str, Callable[[], torch.Tensor]] = {OURS: lambda: network(image), **_in_bf16(network, image)}
        cases |= _deployed(network, image, os.path.join(folder, "network.onnx"))
        span = expected.max() - expected.min()
        differences = {name: ((case() - expected).abs().max() / span).item() for name, case in cases.items()}
        times = take_turns(cases, rounds, "cpu", f"runtimes {size[0]} x {size[1]}")
    rows = [
        [name, f"{1000 * time:.0f}", f"{time / times[OURS]:.2f}", f"{differences[name]:.1e}"]
        for name, time in times.items()
    ]
    return table([f"runtimes, {size[0]} x {size[1]}", "ms", "of ours in fp32", "difference"], rows)


def _in_bf16(network: nn.Module, image: torch.Tensor) -> dict[str, Callable[[], torch.Tensor]]:
    if not kernels.has_bf16():
        return {}

    def run() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return network(image)

    return {"this package, bf16": run}


def _deployed(network: nn.Module, image: torch.Tensor, file: str) -> dict[str, Callable[[], torch.Tensor]]:
    """Write the network as a graph, its attention materialised, which runtimes can fuse, and load it."""
    plain = copy.deepcopy(network)
    set_backend(plain, "Naive")
    write_onnx_at(file, Exportable(plain), image)
    cases: dict[str, Callable[[], torch.Tensor]] = {}
    for name, dtype in (("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", AS_IT_COMES)):
        loaded = runtimes.load(name, file, torch.get_num_threads(), dtype)
        how = loaded.dtype if dtype else f"as it comes ({loaded.dtype})"
        cases[f"{runtimes.describe_runtime(name)}, {how}"] = lambda run=loaded.run: run(image)  # type: ignore[misc]
    return cases
