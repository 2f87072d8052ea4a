"""Every mend of BasicSR: what is broken without it, and that it works with it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY

from esc_arch.archs import ESC
from esc_arch.bridge.mends import resuming
from esc_arch.bridge.mends.saving import CheckpointError
from esc_arch.bridge.mends.warnings import drop_vgg_warnings
from esc_arch.common import torchvision_operators
from esc_arch.common.errors import UserError
from esc_arch.weights.files import read_recorded

# Removes one mend before BasicSR is imported
WITHOUT = """
import esc_arch.bridge.mends as c
for mends in (c.BEFORE_IMPORT, c.AFTER_IMPORT):
    mends[:] = [mend for mend in mends if mend.__name__ != "{}"]
"""


def run(code: str, without: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    code = (WITHOUT.format(without) if without else "") + "import esc_arch\n" + code
    env = {**os.environ, **environment}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env)


@pytest.fixture
def broken_torchvision(tmp_path: Path) -> str:
    """A torchvision whose operators are missing: it registers a shape function for one of them on import."""
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(
        "import torch\n"
        "for name in ('nms', 'qnms'):\n"
        "    torch.library.register_fake('torchvision::' + name)(lambda *args: None)\n"
    )
    return str(tmp_path)


def test_torchvision_operators(broken_torchvision: str) -> None:
    code = "import esc_arch.bridge.mends as c\nfor mend in c.BEFORE_IMPORT[:1]: mend()\nimport torchvision\n"
    done = run(code, PYTHONPATH=broken_torchvision)
    assert done.returncode == 0, done.stderr
    without = run("import torchvision", PYTHONPATH=broken_torchvision)
    assert "operator torchvision::nms does not exist" in without.stderr


def test_a_working_torchvision_is_left_alone() -> None:
    """A second call finds nothing to do, whatever the first found."""
    torchvision_operators.define_torchvision_operators()
    kept = len(torchvision_operators._KEPT_ALIVE)
    torchvision_operators.define_torchvision_operators()
    assert len(torchvision_operators._KEPT_ALIVE) == kept


def test_functional_tensor() -> None:
    without = run("import basicsr", without="restore_functional_tensor")
    assert "functional_tensor" in without.stderr
    assert without.returncode != 0
    done = run(
        "import torch, basicsr.data.degradations as d\n"
        "assert d.rgb_to_grayscale(torch.rand(3, 4, 4)).shape == (1, 4, 4)\n"
    )
    assert done.returncode == 0, done.stderr


no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without a GPU")
RENDEZVOUS = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29577"}


@no_gpu
def test_process_group_without_cuda() -> None:
    code = (
        "from basicsr.utils.dist_util import init_dist, get_dist_info\n"
        "init_dist('pytorch'); assert get_dist_info() == (0, 1)\n"
        "import torch; assert torch.distributed.get_backend() == 'gloo'\n"
    )
    assert run(code, **RENDEZVOUS).returncode == 0
    assert run(code, without="initialise_process_group_without_cuda", **RENDEZVOUS).returncode != 0


@no_gpu
def test_distributed_network_on_the_cpu() -> None:
    code = (
        "import torch\n"
        "from basicsr.models.base_model import BaseModel\n"
        "torch.distributed.init_process_group('gloo')\n"
        "model = BaseModel(dict(num_gpu=0, is_train=True, dist=True))\n"
        "net = model.model_to_device(torch.nn.Linear(2, 2))\n"
        "assert isinstance(net, torch.nn.parallel.DistributedDataParallel)\n"
        "net(torch.rand(1, 2)).sum().backward()\n"
    )
    done = run(code, **{**RENDEZVOUS, "MASTER_PORT": "29578"})
    assert done.returncode == 0, done.stderr
    assert run(code, without="distribute_on_cpu", **{**RENDEZVOUS, "MASTER_PORT": "29579"}).returncode != 0


def checkpoint(root: Path, iteration: int, network: bytes | None = None, state: bytes | None = None) -> None:
    for folder in ("models", "training_states"):
        (root / folder).mkdir(exist_ok=True)
    model_file, state_file = root / f"models/net_g_{iteration}.pth", root / f"training_states/{iteration}.state"
    torch.save({"params": {"weight": torch.ones(50)}}, model_file)
    torch.save({"iter": iteration, "epoch": 0, "optimizers": [], "schedulers": []}, state_file)
    for file, content in ((model_file, network), (state_file, state)):
        if content is not None:
            file.write_bytes(content)


def resume_options(root: Path, **changes: Any) -> dict[str, Any]:
    path = {
        "models": str(root / "models"),
        "training_states": str(root / "training_states"),
        "resume_state": None,
        "pretrain_network_g": None,
        "param_key_g": "params_ema",
    }
    return {"name": "x", "auto_resume": True, "network_g": {}, "path": path, **changes}


@pytest.mark.parametrize("damaged", ["network", "state", "missing network"])
def test_resume_takes_the_newest_whole_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damaged: str
) -> None:
    checkpoint(tmp_path, 5)
    checkpoint(tmp_path, 10)
    checkpoint(tmp_path, 15, **({damaged: b"PK half"} if damaged != "missing network" else {}))
    if damaged == "missing network":
        (tmp_path / "models/net_g_15.pth").unlink()
    opt = resume_options(tmp_path)
    state = resuming.load_resume_state(opt)
    assert state is not None
    assert state["iter"] == 10
    assert opt["path"]["pretrain_network_g"].endswith("net_g_10.pth")
    assert opt["path"]["param_key_g"] == "params"
    warning = capsys.readouterr().out
    assert "15.state is not whole" in warning
    assert "5.state is" not in warning.replace("15.state is", "")


def test_nothing_to_resume_from(tmp_path: Path) -> None:
    assert resuming.load_resume_state(resume_options(tmp_path)) is None
    checkpoint(tmp_path, 5, state=b"")
    with pytest.raises(UserError, match=r"none of the states .* can be used .*5\.state is not whole"):
        resuming.load_resume_state(resume_options(tmp_path))


def test_a_named_state_that_is_damaged_is_an_error(tmp_path: Path) -> None:
    checkpoint(tmp_path, 5, state=b"half")
    opt = resume_options(tmp_path, auto_resume=False)
    opt["path"]["resume_state"] = str(tmp_path / "training_states/5.state")
    with pytest.raises(ValueError, match=r"path:resume_state: .*5\.state is not whole"):
        resuming.load_resume_state(opt)


@no_gpu
def test_basicsrs_own_resume_needs_a_gpu(tmp_path: Path) -> None:
    checkpoint(tmp_path, 5)
    state = str(tmp_path / "training_states/5.state")
    code = (
        "import basicsr.train\n"
        f"opt = dict(auto_resume=False, path=dict(resume_state={state!r}, models=''))\n"
        "print(basicsr.train.load_resume_state(opt)['iter'])\n"
    )
    assert run(code).stdout.endswith("5\n")
    assert run(code, without="resume_from_newest_whole_checkpoint").returncode != 0


def test_checkpoints_without_an_average(tmp_path: Path) -> None:
    """Of a network whose weights are averaged BasicSR asks for `params_ema`, whatever the options say."""
    file = str(tmp_path / "plain.pth")
    torch.save({"module.weight": torch.ones(2, 2), "module.bias": torch.ones(2)}, file)
    code = (
        "import torch\n"
        "from basicsr.models.base_model import BaseModel\n"
        "net = torch.nn.Linear(2, 2)\n"
        f"BaseModel(dict(num_gpu=0, is_train=True)).load_network(net, {file!r}, True, 'params_ema')\n"
        "assert all((p == 1).all() for p in net.parameters())\n"
    )
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert "KeyError: 'params_ema'" in run(code, without="load_any_checkpoint").stderr


def model_that_saves(root: Path) -> Any:
    from basicsr.models.base_model import BaseModel

    paths = {"models": str(root / "models"), "training_states": str(root / "states")}
    for folder in paths.values():
        os.makedirs(folder)
    return BaseModel({"num_gpu": 0, "is_train": True, "dist": False, "path": paths})


def test_checkpoints_are_written_in_place_whole(tmp_path: Path) -> None:
    model = model_that_saves(tmp_path)
    net = torch.nn.Linear(2, 2)
    model.save_network(net, "net_g", 7)
    model.save_training_state(0, 7)
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()) == [
        "models/net_g_7.pth",
        "states/7.state",
    ]
    loaded = torch.load(tmp_path / "models/net_g_7.pth", weights_only=True)
    assert torch.equal(loaded["params"]["weight"], net.weight)


def test_models_of_ones_own_may_name_what_they_save(tmp_path: Path) -> None:
    model = model_that_saves(tmp_path)
    model.save_network(current_iter=7, net_label="net_g", net=[ESC(**TINY)])
    model.save_training_state(current_iter=7, epoch=0)
    assert read_recorded(str(tmp_path / "models/net_g_7.pth"))[1]["network"] == "ESC"
    assert torch.load(tmp_path / "states/7.state", weights_only=True)["iter"] == 7


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError("No space left on device")])
def test_a_write_that_stops_half_way_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Any
) -> None:
    """KeyboardInterrupt stands for a kill, after which nothing can clean up; a full disk raises OSError each time."""
    model = model_that_saves(tmp_path)
    net = torch.nn.Linear(2, 2)
    model.save_network(net, "net_g", 7)
    before = (tmp_path / "models/net_g_7.pth").read_bytes()

    def half(content: Any, file: Any) -> None:
        file.write(before[: len(before) // 2])
        raise failure

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", half)
        patch.setattr("time.sleep", lambda seconds: None)
        with pytest.raises(KeyboardInterrupt if failure is KeyboardInterrupt else CheckpointError):
            model.save_network(net, "net_g", 7)
    assert (tmp_path / "models/net_g_7.pth").read_bytes() == before
    assert model.opt["path"]["models"] == str(tmp_path / "models")
    model.save_network(net, "net_g", 8)
    assert sorted(p.name for p in (tmp_path / "models").iterdir()) == ["net_g_7.pth", "net_g_8.pth"]


def test_one_lmdb_for_two_datasets(tiny_data: Path) -> None:
    code = (
        "import numpy\n"
        "from basicsr.utils.file_client import FileClient\n"
        f"paths = [{str(tiny_data / 'train_LR.lmdb')!r}, {str(tiny_data / 'train_HR.lmdb')!r}]\n"
        "clients = [FileClient('lmdb', db_paths=list(paths), client_keys=['lq', 'gt']) for _ in range(2)]\n"
        "assert clients[0].get('p0', 'gt') == clients[1].get('p0', 'gt') != clients[1].get('p0', 'lq')\n"
    )
    done = run(code)
    assert done.returncode == 0, done.stderr
    forked = run(
        code + "import os\n"
        "process = os.fork()\n"
        "if not process:\n"
        "    reader = FileClient('lmdb', db_paths=list(paths), client_keys=['lq', 'gt'])\n"
        "    os._exit(0 if reader.get('p1', 'gt') else 1)\n"
        "assert os.waitpid(process, 0)[1] == 0 and clients[0].get('p1', 'gt')\n"
    )
    assert forked.returncode == 0, forked.stderr
    import lmdb

    if lmdb.version()[0] >= 1 and int(lmdb.__version__.split(".")[0]) >= 3:
        assert "already open" in run(code, without="share_lmdb_environments").stderr


def test_no_warning_about_several_validation_sets(caplog: pytest.LogCaptureFixture) -> None:
    import basicsr  # noqa: F401  the mends run with the import

    logger = logging.getLogger("basicsr")
    records: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    try:
        logger.warning("Multiple validation datasets are *only* supported by SRModel.")
        logger.warning("something else")
    finally:
        logger.removeHandler(handler)
    assert records == ["something else"]


@no_gpu
def test_no_warning_about_strides_of_depthwise_gradients() -> None:
    code = (
        "import torch, basicsr\n"
        "torch.distributed.init_process_group('gloo')\n"
        "net = esc_arch.ESC(dim=32, pdim=8, n_blocks=1, conv_blocks=1, window_size=16, num_heads=2)\n"
        "net = torch.nn.parallel.DistributedDataParallel(net)\n"
        "net(torch.rand(8, 3, 32, 32)).sum().backward()\n"
    )
    for port, without in (("29580", None), ("29582", "drop_stride_warning")):
        done = run(code, without=without, **{**RENDEZVOUS, "MASTER_PORT": port})
        assert done.returncode == 0, done.stderr
        assert ("Grad strides do not match" in done.stderr) == (without is not None)


def test_no_warning_about_how_vgg_is_asked_for() -> None:
    models = pytest.importorskip("torchvision.models")
    with warnings.catch_warnings(record=True) as caught:
        models.squeezenet1_0(pretrained=False)
        count = len(caught)
        drop_vgg_warnings()
        models.squeezenet1_0(pretrained=False)
    assert count
    assert len(caught) == count


def test_earlier_folders_are_renamed_to_names_that_are_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from basicsr.utils import misc

    times = iter(["now", "now", "now", "later", "later"])
    monkeypatch.setattr(misc, "get_time_str", lambda: next(times))
    for name in ("a", "a_archived_now"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    misc.mkdir_and_rename(str(tmp_path / "a"))
    assert [file.name for file in (tmp_path / "a_archived_later").iterdir()] == ["a"]
    assert not list((tmp_path / "a").iterdir())


def test_parts_of_basicsr_are_found_without_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    from basicsr.data.realesrgan_dataset import RealESRGANDataset
    from basicsr.utils.registry import Registry

    registry = Registry("of a test")
    registry.register(RealESRGANDataset, suffix="basicsr")
    assert registry.get("RealESRGANDataset") is RealESRGANDataset
    assert capsys.readouterr().out == ""
    registry._obj_map["RealESRGANDataset"] = int  # somebody's own goes before
    assert registry.get("RealESRGANDataset") is int
    with pytest.raises(KeyError, match="No object named 'Nothing'"):
        registry.get("Nothing")
