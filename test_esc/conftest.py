"""Shared helpers of the tests."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from esc_arch.fast import kernels
from esc_arch.fast.kernels import loading

# A runner in the background has these ignored, and so would have the processes that are to answer them in the tests
for _number in (getattr(signal, name) for name in ("SIGHUP", "SIGINT", "SIGQUIT") if hasattr(signal, name)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)

GOLDEN = Path(__file__).parent / "golden"
OPTIONS = Path(__file__).parent.parent / "options"


def option_file(stem: str) -> Path:
    """The option file of this name, in whichever folder of options/ it is."""
    (found,) = OPTIONS.rglob(f"{stem}.yml")
    return found


# A network of every kind, small enough for hundreds of forward passes
TINY: dict[str, Any] = {"dim": 16, "pdim": 4, "n_blocks": 1, "conv_blocks": 2, "window_size": 8, "num_heads": 2}


def randomise(network: nn.Module, seed: int = 0) -> nn.Module:
    """Draw all parameters at random, also those that start at zero or one, so that every part shows in the output."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        spread = 0.5 if "relative_position_bias" in name else 0.15
        parameter.data = spread * torch.randn(parameter.shape, generator=generator)
    return network


def relative_difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """Largest difference, as a part of the range of `b`."""
    return ((a - b).abs().max() / b.abs().max()).item()


needs_kernels = pytest.mark.skipif(not kernels.available(), reason="the kernels were not compiled at installation")


@pytest.fixture(params=[16, 8])
def lanes(request: pytest.FixtureRequest) -> Iterator[int]:
    """Take every kind of vector that the processor has."""
    library = loading.required()
    chosen = library.esc_lanes(request.param)
    if chosen > request.param:
        pytest.skip("the processor has vectors of one kind only")
    yield chosen
    library.esc_lanes(loading.WIDEST)


class Watch(TorchDispatchMode):
    """Keeps the names of the operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is remembered of pictures stays out of the user's own cache."""
    from esc_arch.checks import remembered

    folder = str(tmp_path_factory.mktemp("cache"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remembered, "cache_folder", lambda: folder)
        yield


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def official_counts() -> dict[str, Any]:
    """Parameters and FLOPs of the published configurations."""
    return json.loads((GOLDEN / "official_counts.json").read_text())


@pytest.fixture(scope="session")
def family_counts() -> dict[str, Any]:
    """The same of the later networks of the family."""
    return json.loads((GOLDEN / "family_counts.json").read_text())


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training LMDB and a validation folder of small pieces of a photograph, for scale 2."""
    import cv2
    from basicsr.utils.lmdb_util import make_lmdb_from_imgs
    from basicsr.utils.matlab_functions import imresize
    from skimage import data

    root = tmp_path_factory.mktemp("data")
    photograph = data.astronaut()[..., ::-1]
    for part, corners in {"train": [(0, 0), (0, 200), (150, 100), (300, 300)], "val": [(400, 50)]}.items():
        for index, (top, left) in enumerate(corners):
            hr = photograph[top : top + 48, left : left + 40]
            lr = (imresize(hr / 255.0, 0.5) * 255).round().clip(0, 255).astype("uint8")
            for kind, image, template in (("HR", hr, "p{}"), ("LR", lr, "p{}x2" if part == "val" else "p{}")):
                folder = root / part / kind
                folder.mkdir(parents=True, exist_ok=True)
                assert cv2.imwrite(str(folder / f"{template.format(index)}.png"), image)
    for kind in ("HR", "LR"):
        names = sorted(file.name for file in (root / "train" / kind).iterdir())
        keys = [name.removesuffix(".png") for name in names]
        make_lmdb_from_imgs(str(root / "train" / kind), str(root / f"train_{kind}.lmdb"), names, keys)
    return root


@pytest.fixture
def tiny_options(tiny_data: Path) -> dict[str, Any]:
    """Options that train a tiny ESC x2 for 4 iterations on `tiny_data`, in well under a second."""
    metrics = {"psnr": {"type": "calculate_psnr", "crop_border": 2, "test_y_channel": True}}
    return {
        "name": "tiny",
        "model_type": "ESCModel",
        "scale": 2,
        "num_gpu": 0,
        "manual_seed": 0,
        "datasets": {
            "train": {
                "name": "tiny",
                "type": "PairedImageDataset",
                "dataroot_gt": str(tiny_data / "train_HR.lmdb"),
                "dataroot_lq": str(tiny_data / "train_LR.lmdb"),
                "io_backend": {"type": "lmdb"},
                "gt_size": 32,
                "use_hflip": True,
                "use_rot": True,
                "num_worker_per_gpu": 0,
                "batch_size_per_gpu": 2,
                "dataset_enlarge_ratio": 50,
            },
            "val_1": {
                "name": "tiny",
                "type": "PairedImageDataset",
                "dataroot_gt": str(tiny_data / "val" / "HR"),
                "dataroot_lq": str(tiny_data / "val" / "LR"),
                "filename_tmpl": "{}x2",
                "io_backend": {"type": "disk"},
            },
        },
        "network_g": {"type": "ESC", **TINY, "upscaling_factor": 2},
        "path": {"pretrain_network_g": None, "strict_load_g": True, "resume_state": None},
        "train": {
            "ema_decay": 0.9,
            "optim_g": {"type": "Adam", "lr": 1e-3, "betas": [0.9, 0.99]},
            "scheduler": {"type": "MultiStepLR", "milestones": [3], "gamma": 0.5},
            "total_iter": 4,
            "warmup_iter": 2,
            "pixel_opt": {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"},
        },
        "val": {"val_freq": 2, "save_img": False, "suffix": None, "metrics": metrics},
        "logger": {"print_freq": 1, "save_checkpoint_freq": 2, "use_tb_logger": True},
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def options(tiny_options: dict[str, Any], folder: Path) -> dict[str, Any]:
    """dict[str, Any] of a test file with a tiny ESC x2 and its checkpoint."""
    from esc_arch.archs import ESC

    torch.save({"params": ESC(**TINY, upscaling_factor=2).state_dict()}, folder / "x2.pth")
    tiny_options["datasets"] = {"test_1": tiny_options["datasets"]["val_1"]}
    tiny_options["path"] = {"pretrain_network_g": "x2.pth"}
    del tiny_options["train"]
    return tiny_options
