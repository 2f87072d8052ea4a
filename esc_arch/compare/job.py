"""What a measuring process is told to do."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from esc_arch.common.precision import choose_dtype
from esc_arch.compare.options import PYTORCH, Row
from esc_arch.compare.pictures import Album

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Protocol:
    """How networks are run.

    Attributes:
        device: `cpu` or `cuda`.
        compile: time the network under torch.compile.
        warmup: forward passes that are not timed, in every round; one more comes before them.
        repeats: forward passes that are timed, in every round.
        threads: CPU threads of PyTorch, None for its own choice.
        cpu_time: latency is the time that the one thread computed, without that in which others had the processor.
    """

    device: str
    compile: bool
    warmup: int
    repeats: int
    threads: int | None
    cpu_time: bool = False


@dataclass(frozen=True)
class Job:
    """What one process does.

    Attributes:
        row: the network.
        size: height and width of the input.
        protocol: how to run the network.
        tasks: `parameters`, `speed`, `macs`, and names of data sets of the row.
        folder: working directory, to which the paths in option files relate.
        log: file that takes what the process prints.
        modules: modules to import first, which register networks.
        albums: what keeps result pictures, by data set.
    """

    row: Row
    size: tuple[int, int]
    protocol: Protocol
    tasks: tuple[str, ...]
    folder: str
    log: str
    modules: tuple[str, ...]
    albums: dict[str, Album]

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context in which the network runs."""
        dtype, _ = choose_dtype(self.row.dtype, self.protocol.device)
        if self.row.runtime != PYTORCH or dtype == "fp32":
            return nullcontext()
        return torch.autocast(self.protocol.device, DTYPES[dtype])
