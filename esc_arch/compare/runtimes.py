"""Rows of the comparison that a runtime computes: the network as a graph, in onnxruntime or OpenVINO."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from esc_arch.common.errors import UserError
from esc_arch.common.precision import choose_dtype
from esc_arch.common.whole_files import temporary_name
from esc_arch.compare.job import Job
from esc_arch.compare.options import PYTORCH, Row
from esc_arch.compare.record import digest, key_of
from esc_arch.graphs import runtimes
from esc_arch.graphs.exportable import Exportable
from esc_arch.graphs.formats import cause, write_onnx_at
from esc_arch.layers.attention import set_backend
from esc_arch.version import __version__

RUNTIMES = (PYTORCH, *runtimes.NAMES)
TOLERANCE = 1e-4  # of the range of PyTorch's output
FOLDER = "graphs"  # of the results, until the comparison has ended


def check_runtimes(names: list[str], device: str, scores_only: bool) -> None:
    """Find out whether rows of runtimes can be measured at all.

    Raises:
        UserError: a runtime is not installed, or is asked for what it is not measured at.
    """
    others = [name for name in names if name != PYTORCH]
    if others and scores_only:
        raise UserError(f"--runtime: {others[0]} is timed, and --scores-only leaves timing out; give one of them.")
    if others and device != "cpu":
        raise UserError(f"--runtime: {others[0]} is measured on the CPU; add --device cpu.")
    for name in others:
        try:
            runtimes.require_runtime(name)
        except UserError as error:
            raise UserError(f"--runtime: {error}") from error


def in_every_runtime(rows: list[Row], names: list[str]) -> list[Row]:
    """Repeat the rows for every runtime, one after the other; those that cannot be used at all are not repeated."""
    repeated = []
    for row in rows:
        if not row.content or "" in row.problems:
            repeated.append(row)
            continue
        for name in dict.fromkeys(names):
            if name == PYTORCH:
                repeated.append(row)
                continue
            label = f"{row.label} ({runtimes.NAMES[name]})"
            repeated.append(replace(row, label=label, runtime=name, sets={}, remark="", problems={}))
    return repeated


def leave_out(rows: list[Row], device: str) -> None:
    """Do not time what a runtime has no operators for; a row says so, and where another dtype is computed in."""
    for row in rows:
        if row.runtime == PYTORCH:
            row.remark = "; ".join(part for part in (row.remark, choose_dtype(row.dtype, device)[1]) if part)
        if row.runtime != PYTORCH and not runtimes.takes(row.runtime, row.dtype):
            row.timed, row.remark = False, f"{runtimes.NAMES[row.runtime]} does not compute in {row.dtype} on a CPU"


def circumstances(row: Row) -> list[str | None]:
    """List what the times of a row depend on beyond those of PyTorch: the runtime, its version, and the weights."""
    if row.runtime == PYTORCH:
        return []
    return [runtimes.describe_runtime(row.runtime), row.param_key, digest(row.weights)]


def convention(rows: list[Row], threads: int) -> list[str]:
    """Say what the rows of runtimes mean, where there are any."""
    used = list(dict.fromkeys(row.runtime for row in rows if row.runtime != PYTORCH))
    if not used:
        return []
    named = " and ".join(map(runtimes.describe_runtime, used))
    forced = (
        " OpenVINO is told the dtype (INFERENCE_PRECISION_HINT): as it comes, it takes bf16 on processors that have it."
        if "openvino" in used
        else ""
    )
    return [
        f"Runtimes: {named} run an ONNX graph for exactly this input, with {threads} threads, in the same turns. The "
        "output is compared with PyTorch's in fp32, for the weights that are scored, or else random ones; a difference "
        f"of more than {TOLERANCE:.0e} of the range is told, and below it PSNR is PyTorch's, so it is not scored "
        f"again.{forced}"
    ]


def verdict(row: Row, rounds: list[dict[str, Any]]) -> str:
    """Say how far the outputs of a runtime are from PyTorch's, and in which dtype it computed where not as asked."""
    worst = max((values["difference"] for values in rounds), key=lambda value: (value != value, value))
    if worst != worst:
        compared = "the output differs from PyTorch's: it is not of numbers"
    elif worst > TOLERANCE:
        compared = f"the output differs from PyTorch's by {worst:.1e} of its range, more than {TOLERANCE:.0e}"
    else:
        compared = f"same output as PyTorch's to {worst:.1e} of its range"
    used = rounds[0]["computed_in"]
    return compared if used == row.dtype else f"computed in {used}, as the processor has no {row.dtype}; {compared}"


class Graph:
    """A network as a graph for images of one shape, in the runtime of a row.

    Args:
        job: the row, and how to run it; a graph that another process wrote for it is used again.
        network: with the weights to compare with; window attention in it is materialised, which runtimes can fuse.
        image: (1, 3, H, W).

    Raises:
        UserError: the network does not export, or the runtime cannot run it.
        RuntimeError, ValueError, ...: whatever the network raises at this size.
    """

    def __init__(self, job: Job, network: nn.Module, image: torch.Tensor) -> None:
        row, kind = job.row, job.row.network.get("type")
        self.expected = network(image)
        set_backend(network, "Naive")
        half = row.runtime == "onnxruntime" and row.dtype == "fp16"  # OpenVINO chooses within
        key = key_of(row.network, row.param_key, digest(row.weights), image.shape, half, torch.__version__, __version__)
        file = os.path.join(os.path.dirname(job.log), FOLDER, f"{key}.onnx")
        os.makedirs(os.path.dirname(file), exist_ok=True)
        try:
            if not os.path.isfile(file):
                with temporary_name(file) as partial:
                    write_onnx_at(partial, Exportable(network, half), image)
        except UserError:
            raise
        except Exception as error:  # what a network does that cannot be traced is open
            raise UserError(f"{kind} does not export to ONNX ({cause(error)}).") from error
        self.refusal = f"{runtimes.NAMES[row.runtime]} cannot run {kind}"
        try:
            self.loaded, self.dtype = runtimes.load(row.runtime, file, torch.get_num_threads(), row.dtype)
        except Exception as error:
            raise UserError(f"{self.refusal} ({cause(error)}).") from error
        _return_memory()

    def run(self, image: torch.Tensor) -> torch.Tensor:
        """Enlarge an image of the shape of the graph.

        Raises:
            UserError: the runtime cannot.
        """
        try:
            return self.loaded(image)
        except Exception as error:
            raise UserError(f"{self.refusal} ({cause(error)}).") from error

    def compare(self, image: torch.Tensor) -> dict[str, Any]:
        """Return the largest `difference` to PyTorch's output as a part of its range, and the dtype within."""
        found = self.run(image)
        if found.shape != self.expected.shape:
            return {"difference": float("nan"), "computed_in": self.dtype}
        span = (self.expected.max() - self.expected.min()).clamp(min=torch.finfo(torch.float32).tiny)
        difference = ((found - self.expected).abs().max() / span).item()
        return {"difference": difference, "computed_in": self.dtype}


def fill_zeros(network: nn.Module) -> None:
    """Give random values to parameters that are zero at the start, or what follows them would not be compared."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.is_floating_point() and not parameter.any():
                parameter.normal_(std=0.02)


def _return_memory() -> None:
    """Give back to the system what exporting took, which would hide what the runtime takes."""
    with suppress(OSError, AttributeError):  # where the C library is another
        ctypes.CDLL(None).malloc_trim(0)
