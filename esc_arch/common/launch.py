"""Which of several processes this is that were started together, by torchrun, Slurm's srun, or what works alike."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

FIRST_PORT, PORTS = 20_000, 20_000  # where processes of Slurm meet, by the numbers of their job and step
_BEHIND_FIRST = re.compile(r",(?![^\[]*\])")  # a comma that is not within brackets
_RANGES = re.compile(r"\[(\w+)[^\]]*\]")
_TASKS = re.compile(r"(\d+)(?:\(x(\d+)\))?")


@dataclass(frozen=True)
class Launch:
    """This process among those that were started together; one that was started alone is the first of one.

    Attributes:
        rank: its number, from 0 on.
        size: how many there are.
        local_rank: its number on this node.
        local_size: how many there are on this node.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


def launched(environ: Mapping[str, str] | None = None) -> Launch:
    """Read the variables of torchrun, or those of srun.

    A script of sbatch has most variables of srun, but is alone: what it starts by srun has a step.

    Args:
        environ: variables; None for those of this process.
    """
    variables = os.environ if environ is None else environ
    if "MASTER_ADDR" in variables and "MASTER_PORT" in variables and "RANK" in variables:
        rank, size = _number(variables, "RANK"), _number(variables, "WORLD_SIZE")
        return _checked(rank, size, _number(variables, "LOCAL_RANK"), _number(variables, "LOCAL_WORLD_SIZE"))
    if variables.get("ENVIRONMENT") == "BATCH" and "SLURM_STEP_ID" not in variables:
        return Launch()
    rank, size = _number(variables, "SLURM_PROCID"), _number(variables, "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS")
    one_node = _number(variables, "SLURM_STEP_NUM_NODES", "SLURM_NNODES") in (None, 1)
    local_rank = _number(variables, "SLURM_LOCALID")
    tasks = variables.get("SLURM_STEP_TASKS_PER_NODE") or variables.get("SLURM_TASKS_PER_NODE") or ""
    here = size if one_node else _tasks_of(tasks, _number(variables, "SLURM_NODEID") or 0)
    return _checked(rank, size, rank if one_node and local_rank is None else local_rank, here)


def meeting_place(environ: Mapping[str, str] | None = None) -> tuple[str, int]:
    """Return address and port of the first process: MASTER_ADDR and MASTER_PORT, or what Slurm's variables lead to."""
    variables = os.environ if environ is None else environ
    job, step = _number(variables, "SLURM_JOB_ID") or 0, _number(variables, "SLURM_STEP_ID") or 0
    port = _number(variables, "MASTER_PORT") or FIRST_PORT + (7 * job + step) % PORTS
    if address := variables.get("MASTER_ADDR"):
        return address, port
    if _number(variables, "SLURM_STEP_NUM_NODES", "SLURM_NNODES") in (None, 1):
        return "127.0.0.1", port
    nodes = variables.get("SLURM_STEP_NODELIST") or variables.get("SLURM_NODELIST") or ""
    return _first_node(nodes), port


def run_name(environ: Mapping[str, str] | None = None) -> str:
    """Return what tells this run from others whose processes meet at the same place."""
    variables = os.environ if environ is None else environ
    if "RANK" in variables:
        return f"{variables.get('TORCHELASTIC_RUN_ID', '')}/{variables.get('TORCHELASTIC_RESTART_COUNT', 0)}"
    return f"{_number(variables, 'SLURM_JOB_ID') or 0}/{_number(variables, 'SLURM_STEP_ID') or 0}"


def threads_for(launch: Launch, environ: Mapping[str, str] | None = None) -> int | None:
    """Return how many threads a process should compute with, None where that was chosen already.

    torchrun sets OMP_NUM_THREADS to 1 where nobody did. The cores are divided instead, unless Slurm has done so.
    """
    variables = os.environ if environ is None else environ
    if launch.size == 1 or variables.get("OMP_NUM_THREADS", "1") != "1":
        return None
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    bound = None if "RANK" in variables else _number(variables, "SLURM_CPUS_PER_TASK")
    return max(available // launch.local_size if bound is None else min(bound, available), 1)


def _number(variables: Mapping[str, str], *names: str) -> int | None:
    """Return the first of some variables that is a whole number."""
    texts = (variables.get(name, "") for name in names)
    return next((int(text) for text in texts if text.isdecimal()), None)


def _checked(rank: int | None, size: int | None, local_rank: int | None, local_size: int | None) -> Launch:
    """Return what was read; where it does not fit together, this process is alone."""
    if rank is None or size is None or size == 1 or not rank < size:
        return Launch()
    local_rank = local_rank or 0
    return Launch(rank, size, local_rank, max(local_size or 1, local_rank + 1))


def _first_node(nodes: str) -> str:
    """Return the first name of a list such as "rack[1-2]node[01-04,07],other"; Slurm's own tools may not be there."""
    first = _BEHIND_FIRST.split(nodes, maxsplit=1)[0]
    return _RANGES.sub(r"\1", first)


def _tasks_of(text: str, node: int) -> int | None:
    """Read how many tasks are on a node: 3 on the third of "4(x2),3"."""
    counts = [int(tasks) for tasks, times in _TASKS.findall(text) for _ in range(int(times or 1))]
    return counts[node] if node < len(counts) else None
