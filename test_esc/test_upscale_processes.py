"""Several processes that share the pictures of one run, as torchrun and srun start them."""

from __future__ import annotations

import itertools
import os
import re
import socket
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, randomise
from PIL import Image
from torch.distributed import HashStore

from esc_arch.archs import ESC
from esc_arch.common.errors import RunError, UserError
from esc_arch.common.launch import Launch, launched, meeting_place, run_name, threads_for
from esc_arch.upscale import crew, handing_out, memory, upscale_image
from esc_arch.upscale.crew import Crew
from esc_arch.upscale.jobs import Job, Plan
from esc_arch.upscale.network import load_enlarger
from esc_arch.upscale.reaching import Networks
from esc_arch.upscale.work import Settings
from esc_arch.weights import write_weights

SIDES = (8, 8)

# a process of the command that writes down what it writes; one may be killed when all have begun
PROCESS = """
import os, signal, time
from esc_arch.upscale import crew, work
from esc_arch.upscale.__main__ import main

crew.BEAT, crew.PATIENCE = 0.2, 3.0
original, rank = work.write_picture, os.environ.get("RANK", os.environ.get("SLURM_PROCID"))

def write(file, *arguments):
    if "KILLED" in os.environ:
        open("begun" + rank, "w").close()
        while not all(os.path.exists(f"begun{other}") for other in range(3)):
            time.sleep(0.05)
        if rank == os.environ.pop("KILLED"):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.5)  # none has done everything before that one is gone
    with open("log", "a") as log:
        log.write(file + "\\n")
    original(file, *arguments)

work.write_picture = write
main()
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = str(tmp_path_factory.mktemp("weights") / "tiny.safetensors")
    write_weights(file, randomise(ESC(**TINY)).state_dict())
    return file


def pictures(folder: Path, number: int) -> dict[str, Any]:
    folder.mkdir()
    rng = np.random.default_rng(0)
    made = {}
    for index in range(number):
        made[f"{index:02}"] = pixels = rng.integers(0, 255, (*SIDES, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:02}.png")
    return made


def environment(killed: int | None = None, **more: str) -> dict[str, str]:
    found = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", **more}
    return {**os.environ, **found, **({} if killed is None else {"KILLED": str(killed)})}


def of_slurm(folder: Path, arguments: list[str], killed: int | None = None) -> list[subprocess.Popen[str]]:
    """Start three processes with the variables of srun."""
    shared = {"SLURM_NTASKS": "3", "SLURM_JOB_ID": "1", "SLURM_STEP_ID": "0", "MASTER_PORT": str(free_port())}
    return [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, *arguments],
            cwd=folder,
            env=environment(killed, SLURM_PROCID=str(rank), **shared),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(3)
    ]


def by_torchrun(folder: Path, arguments: list[str], killed: int | None = None) -> subprocess.CompletedProcess[str]:
    (folder / "process.py").write_text(PROCESS)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=3", f"--master_port={free_port()}"]
    return subprocess.run(
        [*torchrun, "process.py", *arguments],
        cwd=folder,
        env=environment(killed),
        capture_output=True,
        text=True,
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith(".esc-"))


def test_one_that_is_killed_is_told_and_the_others_go_on(tmp_path: Path, weights: str) -> None:
    """As by srun, which leaves the others alone; the same command then does the rest, by torchrun here."""
    made = pictures(tmp_path / "in", 12)
    (tmp_path / "in/broken.png").write_bytes(b"no picture")
    arguments = ["in", "-o", "out", "--weights", weights]
    processes = of_slurm(tmp_path, arguments, killed=1)
    told = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [1, -9, 0]
    assert told[1:] == [("", ""), ("", "")]
    lost = [name for name in made if f"in/{name}.png: the process that had taken it is gone" in told[0][1]]
    assert lost
    assert told[0][1].count("in/broken.png is none of") == 1
    assert told[0][1].count("process 1 of 3: it gives no sign of life") == 1
    left = names(tmp_path / "out")
    assert left == [f"{name}_x2.png" for name in made if name not in lost]
    assert re.fullmatch(rf"{len(left)} enlarged, {len(lost) + 2} failed; out, [\d.]+ s\n", told[0][0])

    (tmp_path / "in/broken.png").unlink()
    times = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in left}
    done = by_torchrun(tmp_path, arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{len(lost)} enlarged, {len(left)} there already")
    assert done.stdout.count("\n") == 1
    assert names(tmp_path / "out") == [f"{name}_x2.png" for name in made]
    assert all((tmp_path / "out" / name).stat().st_mtime_ns == time for name, time in times.items())
    assert sorted((tmp_path / "log").read_text().split()) == [f"out/{name}_x2.png" for name in made]  # each once
    for name, pixels in made.items():
        result = np.asarray(Image.open(tmp_path / "out" / f"{name}_x2.png"))
        assert np.abs(result - upscale_image(pixels, weights).astype(int)).max() <= 1


def test_when_the_first_is_killed_the_others_say_so(tmp_path: Path, weights: str) -> None:
    """As by srun: each ends with a sentence, and what they wrote stays."""
    made = pictures(tmp_path / "in", 12)
    processes = of_slurm(tmp_path, arguments := ["in", "-o", "out", "--weights", weights], killed=0)
    told = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [-9, 1, 1]
    for rank in (1, 2):
        assert told[rank][0] == ""
        assert told[rank][1].splitlines()[-1] == (  # behind what PyTorch may say of its connection
            f"Error: process {rank} of 3: the first process is gone (killed, or out of memory?); "
            "the same command goes on from here."
        )
        assert "Traceback" not in told[rank][1]
    left = names(tmp_path / "out")
    assert left == sorted(Path(file).name for file in (tmp_path / "log").read_text().split())
    assert len(left) < len(made)
    done = subprocess.run(
        [sys.executable, "-m", "esc_arch.upscale", *arguments],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith(f"{12 - len(left)} enlarged, {len(left)} there already"), done.stderr
    assert names(tmp_path / "out") == [f"{name}_x2.png" for name in made]


def test_a_first_process_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handing_out, "JOINING", timedelta(seconds=1))
    port = free_port()
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RunError, match=f"process 1 of 2 does not reach the first one at 127.0.0.1, port {port}"):
        Crew.joined(Launch(1, 2))


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_torchrun_ends_all_when_one_is_killed(tmp_path: Path, weights: str, killed: int) -> None:
    made = pictures(tmp_path / "in", 12)
    arguments = ["in", "-o", "out", "--weights", weights]
    ended = by_torchrun(tmp_path, arguments, killed)
    assert ended.returncode == 1
    assert "enlarged" not in ended.stdout
    assert len(names(tmp_path / "out")) < 12
    done = by_torchrun(tmp_path, arguments)
    assert done.returncode == 0, done.stderr
    assert names(tmp_path / "out") == [f"{name}_x2.png" for name in made]
    assert len(set((tmp_path / "log").read_text().split())) == 12


class Threads:
    """Processes of a crew as threads, each of which reads a picture when it is let."""

    def __init__(self, size: int, jobs: int) -> None:
        store = HashStore()
        self.crews = [Crew(store, Launch(rank, size, rank, size)) for rank in range(size)]
        plan = Plan([Job(f"in/{number}.png", f"out/{number}.png") for number in range(jobs)])
        self.plans = [member.agree(lambda: plan, "-") for member in self.crews]


def test_jobs_are_handed_out_once_whatever_their_names() -> None:
    threads = Threads(3, 2500)
    taken: list[list[int]] = [[], [], []]

    def take(rank: int) -> None:
        for work in threads.crews[rank]._pictures.take():
            assert work.job == Job(f"in/{work.number}.png", f"out/{work.number}.png")
            taken[rank].append(work.number)
            threads.crews[rank]._pictures.mine.discard(work.number)

    running = [threading.Thread(target=take, args=(rank,)) for rank in range(3)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert sorted(itertools.chain(*taken)) == list(range(2500))


def test_names_that_are_no_text_are_sent(tmp_path: Path) -> None:
    name = os.fsdecode(b"in/\xff\n.png")
    store = HashStore()
    first, second = (Crew(store, Launch(rank, 2)) for rank in range(2))
    first.agree(lambda: Plan([Job(name, "a"), Job("b", "c")]), "-")
    second.agree(Plan, "-")
    assert next(second._pictures.take()).job == Job(name, "a")


def test_nobody_takes_all_when_there_are_few() -> None:
    """The thread that reads is some pictures ahead, but not where others would have nothing to do."""
    threads = Threads(4, 5)
    ahead = []

    def take() -> None:
        ahead.extend(threads.crews[1]._pictures.take())

    thread = threading.Thread(target=take)
    thread.start()
    thread.join(0.3)
    assert len(ahead) == 1
    threads.crews[1]._pictures.close()
    thread.join()
    many = Threads(2, 1000)
    assert sum(1 for _, _ in zip(range(100), many.crews[0]._pictures.take(), strict=False)) == 100


def test_a_full_disk_ends_the_run_for_all(tmp_path: Path, weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from esc_arch.common.whole_files import DiskError
    from esc_arch.upscale import work

    pictures(tmp_path / "in", 6)
    plan = Plan([Job(str(tmp_path / f"in/{index:02}.png"), str(tmp_path / f"{index}.png")) for index in range(6)])

    def full(*arguments: Any) -> None:
        raise DiskError("the disk is full")

    monkeypatch.setattr(work, "write_picture", full)
    store = HashStore()
    networks = Networks(weights, load_enlarger)
    first, second = (Crew(store, Launch(rank, 2, rank, 2)) for rank in range(2))
    monkeypatch.setattr(crew, "STARTING", 0.5)
    with first:
        first.agree(lambda: plan, str(tmp_path))
        second.agree(Plan, str(tmp_path))
        summary = first.run(plan, networks, Settings(), None)
    assert list(second._pictures.take()) == []
    assert (len(summary.done), summary.left) == (0, 5)


def test_a_folder_that_others_do_not_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "PAUSE", 0)
    plan = Plan([Job("a", "b"), Job("c", "d")])
    store = HashStore()
    first, second = (Crew(store, Launch(rank, 2)) for rank in range(2))
    with first:
        first.agree(lambda: plan, str(tmp_path))
        (mark,) = tmp_path.iterdir()
        second.agree(Plan, str(tmp_path))
        mark.rename(tmp_path / "elsewhere")
        with second, pytest.raises(UserError, match="does not see what the first one writes"):
            second.agree(Plan, str(tmp_path))
        with Crew(store, Launch(1, 2)) as third:  # its exit code is that of the first one, which tells the mistake
            third.agree(Plan, str(tmp_path))
        assert "does not see" in first._store.get("bye/1")["problem"]


def test_a_plan_that_fails_ends_the_others() -> None:
    store = HashStore()
    first, second = (Crew(store, Launch(rank, 2)) for rank in range(2))

    def fail() -> Plan:
        raise UserError("there are no pictures")

    def other() -> None:
        with second:
            second.agree(Plan, "out")
            ran.append("never")

    ran: list[str] = []
    thread = threading.Thread(target=other)
    thread.start()
    with pytest.raises(UserError, match="there are no pictures"), first:
        first.agree(fail, "out")
    thread.join()
    assert not ran


TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
MEETING = {"MASTER_ADDR": "host", "MASTER_PORT": "1234"}
SRUN = {"SLURM_PROCID": "5", "SLURM_NTASKS": "11", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "77", "SLURM_STEP_ID": "0"}
NODES = {"SLURM_NNODES": "3", "SLURM_NODEID": "2", "SLURM_TASKS_PER_NODE": "4(x2),3", "SLURM_NODELIST": "n1,n2,n3"}

# the third of `srun --nodes=2 --ntasks=3`, as Slurm 22.05 sets them
SRUN_OF_TWO_NODES = {
    "SLURM_CPUS_ON_NODE": "1",
    "SLURM_JOB_ID": "4",
    "SLURM_JOB_CPUS_PER_NODE": "1(x2)",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_LOCALID": "0",
    "SLURM_NNODES": "2",
    "SLURM_NODEID": "1",
    "SLURM_NODELIST": "n[1-2]",
    "SLURM_NTASKS": "3",
    "SLURM_PROCID": "2",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NODELIST": "n[1-2]",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NUM_TASKS": "3",
    "SLURM_STEP_TASKS_PER_NODE": "2,1",
    "SLURM_TASKS_PER_NODE": "2,1",
}
SRUN_OF_ONE_NODE = {
    **SRUN_OF_TWO_NODES,
    "SLURM_LOCALID": "2",
    "SLURM_NNODES": "1",
    "SLURM_NODEID": "0",
    "SLURM_NODELIST": "vm",
    "SLURM_STEP_NODELIST": "vm",
    "SLURM_STEP_NUM_NODES": "1",
    "SLURM_STEP_TASKS_PER_NODE": "3",
    "SLURM_TASKS_PER_NODE": "3",
}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, Launch()),
        ({**TORCHRUN, **MEETING}, Launch(5, 8, 1, 4)),
        ({**TORCHRUN, **MEETING, **SRUN}, Launch(5, 8, 1, 4)),  # torchrun within srun
        (TORCHRUN, Launch()),  # nowhere to meet
        ({**SRUN, **NODES}, Launch(5, 11, 1, 3)),
        (SRUN_OF_TWO_NODES, Launch(2, 3, 0, 1)),
        ({**SRUN_OF_TWO_NODES, "SLURM_NODEID": "0", "SLURM_PROCID": "1", "SLURM_LOCALID": "1"}, Launch(1, 3, 1, 2)),
        (SRUN_OF_ONE_NODE, Launch(2, 3, 2, 3)),
        (SRUN, Launch(5, 11, 1, 11)),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "3", "SLURM_LOCALID": "1"}, Launch(1, 3, 1, 3)),
        ({"SLURM_PROCID": "2", "SLURM_NTASKS": "3", "SLURM_JOB_ID": "77"}, Launch(2, 3, 2, 3)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_JOB_ID": "77", "ENVIRONMENT": "BATCH"}, Launch()),  # sbatch
        ({**SRUN, "ENVIRONMENT": "BATCH"}, Launch(5, 11, 1, 11)),
        ({**SRUN, "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, Launch()),  # a shell within a job
        ({"SLURM_PROCID": "0", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "many"}, Launch()),
    ],
)
def test_launchers_are_known_by_their_variables(variables: dict[str, str], expected: Launch) -> None:
    assert launched(variables) == expected


def test_meeting_places() -> None:
    assert meeting_place({**TORCHRUN, **MEETING}) == ("host", 1234)
    assert meeting_place(SRUN) == ("127.0.0.1", 20_539)
    assert meeting_place({**SRUN, **MEETING, **NODES}) == ("host", 1234)
    assert meeting_place(SRUN_OF_TWO_NODES) == ("n1", 20_028)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node[01-04,07],other", "node01"),
        ("node7", "node7"),
        ("a,b", "a"),
        ("gpu-a[3,5-8].site,z[1-2]", "gpu-a3.site"),
        ("rack[2-3]n[010-012]", "rack2n010"),
    ],
)
def test_the_first_node_is_found_without_tools_of_slurm(
    nodes: str, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As within a container, which has its variables and not its programs."""
    monkeypatch.setenv("PATH", "")
    assert meeting_place({**SRUN, **NODES, "SLURM_STEP_NODELIST": nodes})[0] == first


def test_runs_that_meet_at_the_same_place_do_not_mix() -> None:
    """Ports are made of the numbers of job and step, and so may be those of two runs."""
    one, other = ({**SRUN, "SLURM_JOB_ID": job, "SLURM_STEP_ID": step} for job, step in (("1", "7"), ("2", "0")))
    assert meeting_place(one) == meeting_place(other)
    assert run_name(one) != run_name(other)
    again = {**TORCHRUN, **MEETING, "TORCHELASTIC_RUN_ID": "a", "TORCHELASTIC_RESTART_COUNT": "1"}
    assert len({run_name(again), run_name({**again, "TORCHELASTIC_RESTART_COUNT": "0"}), run_name({})}) == 3
    # two torchruns of one run, each within a job of its own
    assert run_name({**again, **SRUN}) == run_name({**again, **SRUN, "SLURM_JOB_ID": "78"})


def test_a_store_that_is_gone_is_not_asked_again() -> None:
    """PyTorch prints its stack for each question, and every thread has some."""

    class Gone:
        asked = 0

        def add(self, *arguments: Any) -> int:
            self.asked += 1
            raise torch.distributed.DistNetworkError("Broken pipe")

    store = Gone()
    shared = handing_out.SharedStore(store, Launch(1, 3))  # type: ignore[arg-type]
    for _ in range(3):
        with pytest.raises(RunError, match="process 1 of 3: the first process is gone"):
            shared.add("next", 1)
    assert store.asked == 1


def test_cores_are_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)), raising=False)
    assert threads_for(Launch(), {}) is None
    assert threads_for(Launch(0, 8, 0, 4), {"OMP_NUM_THREADS": "1"}) == 4  # of torchrun
    assert threads_for(Launch(0, 8, 0, 4), {"OMP_NUM_THREADS": "3"}) is None
    assert threads_for(Launch(0, 64, 0, 64), {}) == 1
    assert threads_for(Launch(0, 8, 0, 4), {"SLURM_CPUS_PER_TASK": "6"}) == 6


@pytest.fixture
def four_on_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**TORCHRUN, **MEETING}.items():
        monkeypatch.setenv(name, value)


def test_memory_is_divided(monkeypatch: pytest.MonkeyPatch, four_on_a_node: None) -> None:
    monkeypatch.setattr(memory, "_field", lambda file, name: 4000 if name == "MemAvailable" else None)
    monkeypatch.setattr(memory, "CGROUPS", ())
    assert memory.free_memory() == 1000
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (600, 800))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert memory.free_memory("cuda:1") == 300
    monkeypatch.delenv("RANK")
    monkeypatch.delenv("MASTER_PORT")
    assert memory.free_memory() == 4000


def test_each_has_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    from esc_arch.upscale.__main__ import _choose_device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    assert _choose_device("auto", Launch()) == "cuda"
    assert [_choose_device("auto", Launch(rank, 8, rank, 8)) for rank in (0, 3, 5)] == ["cuda:0", "cuda:3", "cuda:1"]
    assert _choose_device("cpu", Launch(1, 8, 1, 8)) == "cpu"
    with pytest.raises(UserError, match="one GPU for 8 processes"):
        _choose_device("cuda:0", Launch(1, 8, 1, 8))
