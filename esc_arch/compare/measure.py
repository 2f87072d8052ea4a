"""Measures one network; runs in a process of its own, so that memory is clean and a crash harms nothing else."""

from __future__ import annotations

import copy
import faulthandler
import functools
import importlib
import os
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import torch
from torch import nn

from esc_arch.archs.merging import merge_branches
from esc_arch.checks.options import build_checked
from esc_arch.common.errors import UserError
from esc_arch.common.peak_memory import PeakMemory
from esc_arch.compare.flops import count_macs
from esc_arch.compare.job import Job
from esc_arch.compare.options import PYTORCH
from esc_arch.compare.quality import score, with_weights
from esc_arch.compare.runtimes import Graph, fill_zeros
from esc_arch.layers.attention import WindowAttention, set_backend

T = TypeVar("T")
Size = tuple[int, int]  # height, width
Run = Callable[[torch.Tensor], torch.Tensor]

# What networks raise at a size they cannot take
REFUSALS = (RuntimeError, ValueError, IndexError, AssertionError, TypeError, ArithmeticError)


def work(connection: Connection, job: Job) -> None:
    """Do the tasks of a job.

    Args:
        connection: takes ("started", task, None) and then ("done", task, values) or ("failed", task, sentence) for
            each task, up to a failure of "parameters"; when the process dies, nothing more comes.
        job: what to do.
    """
    log = os.open(job.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    faulthandler.enable(log)
    worker = Worker(job)
    for task in job.tasks:
        connection.send(("started", task, None))
        try:
            connection.send(("done", task, worker.do(task)))
        except Exception as error:  # whatever goes wrong with a network belongs into its cell
            traceback.print_exc()
            connection.send(("failed", task, sentence(error)))
            if task == "parameters":
                break  # there is no network
    connection.close()


def sentence(error: BaseException) -> str:
    """Say in one sentence what an exception means."""
    text = " ".join(str(error).partition("\n")[0].split())
    if isinstance(error, UserError):
        return str(error)
    if _is_out_of_memory(error):
        return f"out of memory ({text[:120]})." if text else "out of memory."
    return f"{type(error).__name__}: {text[:300]}"


def _is_out_of_memory(error: BaseException) -> bool:
    """Tell whether memory ran out: on a CPU PyTorch raises a plain RuntimeError then."""
    known = MemoryError, torch.OutOfMemoryError
    return isinstance(error, known) or any(part in str(error) for part in ("allocate memory", "enough memory"))


class Worker:
    """Does the tasks of a job, with a network that is built once.

    Args:
        job: what to do.
    """

    def __init__(self, job: Job) -> None:
        self.job = job

    def do(self, task: str) -> dict[str, Any]:
        """Do one task and return its values.

        Raises:
            UserError: the option file, its checkpoint, its data or the size of the input cannot be used.
        """
        self._set_up()
        tasks: dict[str, Callable[[], dict[str, Any]]] = {
            "parameters": self._parameters,
            "speed": self._speed,
            "macs": self._macs,
        }
        if task in tasks:
            return tasks[task]()
        return score(self.job, task)

    def _set_up(self) -> None:
        os.chdir(self.job.folder)
        if self.job.folder not in sys.path:
            sys.path.insert(0, self.job.folder)
        for module in self.job.modules:
            try:
                importlib.import_module(module)
            except ImportError as error:
                raise UserError(f"--import: {module} cannot be imported ({error}).") from error
        if self.job.protocol.threads is not None:
            torch.set_num_threads(self.job.protocol.threads)
        torch.backends.cudnn.benchmark = True  # as BasicSR does; all inputs of a job have one size

    @functools.cached_property
    def _network(self) -> nn.Module:
        torch.manual_seed(0)
        return self._build(self.job.row.network)

    @property
    def _exported(self) -> nn.Module:
        """The network whose graph is compared with it, with the weights that are scored."""
        torch.manual_seed(0)
        network = merge_branches(with_weights(self.job.row).eval())
        if self.job.row.weights is None:
            fill_zeros(network)
        return network

    def _build(self, network: dict[str, Any]) -> nn.Module:
        """Build the network as it is deployed."""
        return merge_branches(build_checked(network, f"{self.job.row.file}: network_g").eval())

    def _parameters(self) -> dict[str, Any]:
        return {"parameters": sum(parameter.numel() for parameter in self._network.parameters())}

    def _macs(self) -> dict[str, Any]:
        network = self._network
        if any(isinstance(module, WindowAttention) for module in network.modules()):
            # all back-ends compute the same; what Flex generates cannot be counted
            network = copy.deepcopy(network)
            set_backend(network, "SDPA")
        macs, (height, width) = self._at_usable_size(lambda size: count_macs(network, *size))
        return {"macs": macs, "input": [height, width]}

    def _speed(self) -> dict[str, Any]:
        protocol, device = self.job.protocol, torch.device(self.job.protocol.device)
        network = (self._network if self.job.row.runtime == PYTORCH else self._exported).to(device)
        graph: Graph | None = None
        with torch.no_grad(), self.job.autocast():

            def first(size: Size) -> tuple[Run, PeakMemory, torch.Tensor, tuple[int, ...]]:
                nonlocal graph
                image = torch.rand(1, 3, *size, device=device)
                run: Run = torch.compile(network) if protocol.compile else network
                if self.job.row.runtime != PYTORCH:
                    graph = Graph(self.job, network, image)
                    run = graph.run
                memory = PeakMemory(protocol.device)
                return run, memory, image, tuple(run(image).shape[-2:])

            (run, memory, image, output), size = self._at_usable_size(first)
            expected = tuple(side * self.job.row.scale for side in size)
            if output != expected:
                raise UserError(
                    f"{self.job.row.file}: scale is {self.job.row.scale}, but the network enlarges {_show(size)} to "
                    f"{_show(output)}; make scale and the arguments of network_g agree."
                )
            for _ in range(protocol.warmup):
                run(image)
            if image.is_cuda:
                memory = PeakMemory(protocol.device)  # without what choosing algorithms and compiling took
            clock = time.process_time if protocol.cpu_time else time.perf_counter
            times = [_time(run, image, clock) for _ in range(protocol.repeats)]
        values = {"times_ms": times, "memory_mib": memory.mebibytes(), "input": list(size), "output": list(output)}
        return values if graph is None else {**values, **graph.compare(image)}

    def _at_usable_size(self, function: Callable[[Size], T]) -> tuple[T, Size]:
        """Call a function that runs the network with the size asked for, or else with whole windows.

        Networks that need whole windows leave the padding to the model around them (BasicSR's SwinIRModel).
        """
        height, width = self.job.size
        window = self.job.row.network.get("window_size")
        sizes = [(height, width)]
        if isinstance(window, int) and window > 0 and (height % window or width % window):
            sizes.append((-(-height // window) * window, -(-width // window) * window))
        reasons: list[str] = []
        for size in sizes:
            try:
                return function(size), size
            except REFUSALS as error:
                if _is_out_of_memory(error) or isinstance(error, UserError):
                    raise
                reasons.append(sentence(error).rstrip("."))
        name = self.job.row.network.get("type")
        raise UserError(f"{name} cannot take an input of {_show(self.job.size)} ({reasons[0]}).")


def _time(run: Run, image: torch.Tensor, clock: Callable[[], float]) -> float:
    """Run once and return the milliseconds it took by a clock of seconds, to the end of the work on a GPU."""
    _synchronize(image)
    start = clock()
    run(image)
    _synchronize(image)
    return 1000 * (clock() - start)


def _synchronize(image: torch.Tensor) -> None:
    if image.is_cuda:
        torch.cuda.synchronize()


def _show(size: tuple[int, ...]) -> str:
    return f"{size[0]} x {size[1]}"
